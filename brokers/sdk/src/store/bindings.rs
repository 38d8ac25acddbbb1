//! Bindings.

use super::Tx;
use crate::{BoundTo, Failure};
use diesel::prelude::*;
use osb::{BindResource, Binding, Context, Parameters, PrivateObject};
use serde::{Deserialize, Serialize};
use types::Timestamp;

diesel::table! {
    bindings (instance_id, id) {
        instance_id -> Text,
        id -> Text,
        complete -> Bool,
        sealed -> Binary,
        created_at -> BigInt,
    }
}

/// A binding.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) instance_id: String,
    pub(crate) id: String,
    /// False while it is being made, and after that has failed.
    pub(crate) complete: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) data: Data,
}

/// The sealed part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Data {
    pub(crate) service_id: String,
    pub(crate) plan_id: String,
    pub(crate) context: Context,
    pub(crate) resource: BindResource,
    pub(crate) parameters: Parameters,
    pub(crate) predecessor: Option<String>,
    /// What was answered.
    pub(crate) answer: Binding,
    pub(crate) state: PrivateObject,
}

type Row = (String, String, bool, Vec<u8>, i64);

impl Record {
    /// As the broker sees it.
    pub(crate) fn view(&self) -> BoundTo {
        let data = self.data.clone();
        BoundTo {
            id: self.id.clone(),
            resource: data.resource,
            parameters: data.parameters,
            credentials: data.answer.credentials.unwrap_or_default(),
            state: data.state,
            created_at: self.created_at,
            complete: self.complete,
        }
    }

    /// Whether this is the binding that a bind with these values makes.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.data, &other.data);
        mine.service_id == theirs.service_id
            && mine.plan_id == theirs.plan_id
            && mine.resource == theirs.resource
            && mine.parameters == theirs.parameters
            && mine.predecessor == theirs.predecessor
    }
}

fn place(instance_id: &str, id: &str) -> String {
    format!("bindings:{}:{instance_id}:{id}", instance_id.len())
}

fn read(tx: &Tx<'_>, (instance_id, id, complete, sealed, created_at): Row) -> Result<Record, Failure> {
    let data = tx.vault.unseal(&place(&instance_id, &id), &sealed)?;
    Ok(Record { instance_id, id, complete, created_at: Timestamp(created_at.cast_unsigned()), data })
}

/// Finds one.
pub(crate) fn find(tx: &mut Tx<'_>, instance_id: &str, id: &str) -> Result<Option<Record>, Failure> {
    let row: Option<Row> = bindings::table.find((instance_id, id)).first(tx.conn).optional()?;
    row.map(|row| read(tx, row)).transpose()
}

/// How many there are.
pub(crate) fn count(tx: &mut Tx<'_>) -> Result<i64, Failure> {
    Ok(bindings::table.count().get_result(tx.conn)?)
}

/// Keeps one, new or changed.
pub(crate) fn put(tx: &mut Tx<'_>, record: &Record) -> Result<(), Failure> {
    let sealed = tx.vault.seal(&place(&record.instance_id, &record.id), &record.data)?;
    let row = (
        bindings::instance_id.eq(&record.instance_id),
        bindings::id.eq(&record.id),
        bindings::complete.eq(record.complete),
        bindings::sealed.eq(sealed),
        bindings::created_at.eq(record.created_at.0.cast_signed()),
    );
    diesel::replace_into(bindings::table).values(row).execute(tx.conn)?;
    Ok(())
}

/// Forgets one.
pub(crate) fn delete(tx: &mut Tx<'_>, instance_id: &str, id: &str) -> Result<(), Failure> {
    diesel::delete(bindings::table.find((instance_id, id))).execute(tx.conn)?;
    Ok(())
}
