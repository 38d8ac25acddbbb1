//! Instances.

use super::Tx;
use crate::{Failure, Instance};
use diesel::prelude::*;
use osb::{CloneFrom, Context, InstanceMetadata, Parameters, PrivateObject};
use serde::{Deserialize, Serialize};
use types::Timestamp;

diesel::table! {
    instances (id) {
        id -> Text,
        service_id -> Text,
        plan_id -> Text,
        complete -> Bool,
        sealed -> Binary,
        created_at -> BigInt,
    }
}

/// An instance.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) service_id: String,
    pub(crate) plan_id: String,
    /// False while it is being made, and after that has failed.
    pub(crate) complete: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) data: Data,
}

/// The sealed part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Data {
    pub(crate) service_name: String,
    pub(crate) plan_name: String,
    pub(crate) context: Context,
    pub(crate) organization_guid: String,
    pub(crate) space_guid: String,
    pub(crate) parameters: Parameters,
    pub(crate) clone_from: Option<CloneFrom>,
    pub(crate) state: PrivateObject,
    pub(crate) metadata: Option<InstanceMetadata>,
    pub(crate) maintenance_version: Option<String>,
}

type Row = (String, String, String, bool, Vec<u8>, i64);

impl Record {
    /// As the broker sees it.
    pub(crate) fn view(&self) -> Instance {
        let data = self.data.clone();
        Instance {
            id: self.id.clone(),
            service_id: self.service_id.clone(),
            service_name: data.service_name,
            plan_id: self.plan_id.clone(),
            plan_name: data.plan_name,
            context: data.context,
            organization_guid: data.organization_guid,
            space_guid: data.space_guid,
            parameters: data.parameters,
            state: data.state,
            created_at: self.created_at,
            complete: self.complete,
        }
    }

    /// Whether this is the instance that a provision with these values makes.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.data, &other.data);
        self.service_id == other.service_id
            && self.plan_id == other.plan_id
            && mine.organization_guid == theirs.organization_guid
            && mine.space_guid == theirs.space_guid
            && mine.parameters == theirs.parameters
            && mine.clone_from == theirs.clone_from
    }
}

fn place(id: &str) -> String {
    format!("instances:{id}")
}

fn read(tx: &Tx<'_>, (id, service_id, plan_id, complete, sealed, created_at): Row) -> Result<Record, Failure> {
    let data = tx.vault.unseal(&place(&id), &sealed)?;
    Ok(Record { id, service_id, plan_id, complete, created_at: Timestamp(created_at.cast_unsigned()), data })
}

/// Finds one.
pub(crate) fn find(tx: &mut Tx<'_>, id: &str) -> Result<Option<Record>, Failure> {
    let row: Option<Row> = instances::table.find(id).first(tx.conn).optional()?;
    row.map(|row| read(tx, row)).transpose()
}

/// All of them.
pub(crate) fn all(tx: &mut Tx<'_>) -> Result<Vec<Record>, Failure> {
    let rows: Vec<Row> = instances::table.order(instances::id).load(tx.conn)?;
    rows.into_iter().map(|row| read(tx, row)).collect()
}

/// How many there are.
pub(crate) fn count(tx: &mut Tx<'_>) -> Result<i64, Failure> {
    Ok(instances::table.count().get_result(tx.conn)?)
}

/// Keeps one, new or changed.
pub(crate) fn put(tx: &mut Tx<'_>, record: &Record) -> Result<(), Failure> {
    let sealed = tx.vault.seal(&place(&record.id), &record.data)?;
    let set = (
        instances::service_id.eq(&record.service_id),
        instances::plan_id.eq(&record.plan_id),
        instances::complete.eq(record.complete),
        instances::sealed.eq(sealed),
    );
    // not "replace": that would take the bindings along
    if diesel::update(instances::table.find(&record.id)).set(set.clone()).execute(tx.conn)? == 0 {
        let first = (instances::id.eq(&record.id), instances::created_at.eq(record.created_at.0.cast_signed()));
        diesel::insert_into(instances::table).values((first, set)).execute(tx.conn)?;
    }
    Ok(())
}

/// Forgets one with all that belongs to it.
pub(crate) fn delete(tx: &mut Tx<'_>, id: &str) -> Result<(), Failure> {
    diesel::delete(instances::table.find(id)).execute(tx.conn)?;
    Ok(())
}
