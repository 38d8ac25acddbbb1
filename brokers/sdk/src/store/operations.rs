//! Operations: what was begun, and how it ended.

use super::Tx;
use crate::{Failure, Kind};
use diesel::{dsl::max, prelude::*};
use osb::{Context, LastOperation, OperationState, Parameters};
use serde::{Deserialize, Serialize};
use types::Timestamp;

diesel::table! {
    operations (id) {
        id -> Text,
        number -> BigInt,
        instance_id -> Text,
        binding_id -> Nullable<Text>,
        backup_id -> Nullable<Text>,
        kind -> Text,
        state -> Text,
        description -> Nullable<Text>,
        instance_usable -> Nullable<Bool>,
        update_repeatable -> Nullable<Bool>,
        sealed -> Binary,
        attempt -> Integer,
        started_at -> BigInt,
        finished_at -> Nullable<BigInt>,
    }
}

/// What an operation is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) instance_id: String,
    pub(crate) binding_id: Option<String>,
    pub(crate) backup_id: Option<String>,
}

/// An operation.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) subject: Subject,
    pub(crate) kind: Kind,
    pub(crate) last: LastOperation,
    pub(crate) attempt: u32,
    pub(crate) started_at: Timestamp,
    pub(crate) data: Data,
}

/// The sealed part: what the request said and no other record holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Data {
    /// The header of the originating identity.
    pub(crate) identity: Option<String>,
    /// The request's id: a repeat has the same.
    #[serde(default)]
    pub(crate) request: Option<String>,
    pub(crate) update: Option<UpdateData>,
}

/// What an update changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct UpdateData {
    pub(crate) plan_id: Option<String>,
    pub(crate) parameters: Option<Parameters>,
    pub(crate) context: Option<Context>,
    pub(crate) maintenance_version: Option<String>,
}

type Row = (
    String,
    i64,
    String,
    Option<String>,
    Option<String>,
    String,
    String,
    Option<String>,
    Option<bool>,
    Option<bool>,
    Vec<u8>,
    i32,
    i64,
    Option<i64>,
);

const RUNNING: &str = "in progress";

const STATES: [(OperationState, &str); 3] =
    [(OperationState::InProgress, RUNNING), (OperationState::Succeeded, "succeeded"), (OperationState::Failed, "failed")];

fn word(state: OperationState) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).map_or(RUNNING, |(_, word)| word)
}

fn place(id: &str) -> String {
    format!("operations:{id}")
}

fn read(tx: &Tx<'_>, row: Row) -> Result<Record, Failure> {
    let (id, _, instance_id, binding_id, backup_id, kind, state, description, usable, repeatable, sealed, attempt, started_at, _) =
        row;
    let unknown = |what: &str| std::io::Error::other(format!("operation {id} has an unknown {what}"));
    let kind = Kind::parse(&kind).ok_or_else(|| unknown("kind"))?;
    let state = STATES.iter().find(|(_, word)| *word == state).map(|(state, _)| *state).ok_or_else(|| unknown("state"))?;
    let data = tx.vault.unseal(&place(&id), &sealed)?;
    Ok(Record {
        id,
        subject: Subject { instance_id, binding_id, backup_id },
        kind,
        last: LastOperation { state, description, instance_usable: usable, update_repeatable: repeatable },
        attempt: attempt.unsigned_abs(),
        started_at: Timestamp(started_at.cast_unsigned()),
        data,
    })
}

/// Begins one; returns its id.
pub(crate) fn begin(tx: &mut Tx<'_>, kind: Kind, subject: &Subject, data: &Data, now: Timestamp) -> Result<String, Failure> {
    let id = tx.vault.id();
    let last: Option<i64> = operations::table.select(max(operations::number)).first(tx.conn)?;
    let row = (
        operations::id.eq(&id),
        operations::number.eq(last.unwrap_or_default() + 1),
        operations::instance_id.eq(&subject.instance_id),
        operations::binding_id.eq(&subject.binding_id),
        operations::backup_id.eq(&subject.backup_id),
        operations::kind.eq(kind.as_str()),
        operations::state.eq(RUNNING),
        operations::sealed.eq(tx.vault.seal(&place(&id), data)?),
        operations::attempt.eq(0),
        operations::started_at.eq(now.0.cast_signed()),
    );
    diesel::insert_into(operations::table).values(row).execute(tx.conn)?;
    Ok(id)
}

/// Counts one more try; returns the operation.
pub(crate) fn attempt(tx: &mut Tx<'_>, id: &str) -> Result<Option<Record>, Failure> {
    diesel::update(operations::table.find(id)).set(operations::attempt.eq(operations::attempt + 1)).execute(tx.conn)?;
    find(tx, id)
}

/// Finds one.
pub(crate) fn find(tx: &mut Tx<'_>, id: &str) -> Result<Option<Record>, Failure> {
    let row: Option<Row> = operations::table.find(id).first(tx.conn).optional()?;
    row.map(|row| read(tx, row)).transpose()
}

/// Those of an instance that run.
pub(crate) fn running(tx: &mut Tx<'_>, instance_id: &str) -> Result<Vec<Record>, Failure> {
    let rows = operations::table.filter(operations::instance_id.eq(instance_id)).filter(operations::state.eq(RUNNING));
    let rows: Vec<Row> = rows.order(operations::number).load(tx.conn)?;
    rows.into_iter().map(|row| read(tx, row)).collect()
}

/// The ids of all that run.
pub(crate) fn unfinished(tx: &mut Tx<'_>) -> Result<Vec<String>, Failure> {
    let rows = operations::table.filter(operations::state.eq(RUNNING)).order(operations::number);
    Ok(rows.select(operations::id).load(tx.conn)?)
}

/// The newest operation on the instance itself, or on one binding of it.
pub(crate) fn latest(tx: &mut Tx<'_>, instance_id: &str, binding_id: Option<&str>) -> Result<Option<Record>, Failure> {
    let rows = operations::table.filter(operations::instance_id.eq(instance_id)).order(operations::number.desc());
    let row: Option<Row> = match binding_id {
        Some(id) => rows.filter(operations::binding_id.eq(id)).first(tx.conn).optional()?,
        None => {
            let kinds = [Kind::Provision, Kind::Update, Kind::Deprovision, Kind::Restore].map(Kind::as_str);
            rows.filter(operations::kind.eq_any(kinds)).first(tx.conn).optional()?
        }
    };
    row.map(|row| read(tx, row)).transpose()
}

/// Keeps a text for whoever polls.
pub(crate) fn describe(tx: &mut Tx<'_>, id: &str, text: &str) -> Result<(), Failure> {
    diesel::update(operations::table.find(id)).set(operations::description.eq(text)).execute(tx.conn)?;
    Ok(())
}

/// Keeps how it ended.
pub(crate) fn finish(tx: &mut Tx<'_>, id: &str, last: &LastOperation, now: Timestamp) -> Result<(), Failure> {
    let set = (
        operations::state.eq(word(last.state)),
        operations::description.eq(&last.description),
        operations::instance_usable.eq(last.instance_usable),
        operations::update_repeatable.eq(last.update_repeatable),
        operations::finished_at.eq(now.0.cast_signed()),
    );
    diesel::update(operations::table.find(id)).set(set).execute(tx.conn)?;
    Ok(())
}

/// Forgets those that ended before this moment.
pub(crate) fn purge(tx: &mut Tx<'_>, before: Timestamp) -> Result<usize, Failure> {
    Ok(diesel::delete(operations::table.filter(operations::finished_at.lt(before.0.cast_signed()))).execute(tx.conn)?)
}
