//! Workloads: what makes an app a server of a broker, and where their volumes may be.

use crate::{
    domain::Result,
    store::{
        Conn,
        schema::{workload_volumes, workloads},
    },
};
use diesel::prelude::*;

/// A workload as the table has it.
#[derive(Clone, Debug, PartialEq, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = workloads, primary_key(guid), treat_none_as_null = true)]
pub struct Workload {
    /// Also its app's.
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    /// `postgres_broker`, ...
    pub owner: String,
    pub name: String,
    pub volume_id: String,
    pub volume_mb: i32,
    pub volume_path: String,
    pub service_port: i32,
    pub container_port: i32,
    /// The DEA that has its volume, for good.
    pub cell: Option<String>,
    pub deleting: bool,
    /// A sealed JSON object.
    pub spec: Vec<u8>,
}

/// A DEA that may have a volume.
#[derive(Clone, Debug, PartialEq, Queryable, Insertable, Selectable)]
#[diesel(table_name = workload_volumes)]
pub struct VolumePlace {
    pub volume_id: String,
    pub dea: String,
    /// Whose volume it is, or was.
    pub app_guid: String,
    /// The newest start that this DEA was told of.
    pub version: String,
}

/// Adds a workload; port, volume, and name of an owner are unique keys.
pub fn insert(conn: &mut Conn, row: &Workload) -> QueryResult<()> {
    diesel::insert_into(workloads::table).values(row).execute(conn).map(drop)
}

/// Writes all columns of a workload; the unique keys are as those of [`insert`].
pub fn save(conn: &mut Conn, row: &Workload) -> QueryResult<()> {
    diesel::update(workloads::table.find(&row.guid)).set(row).execute(conn).map(drop)
}

/// Finds a workload.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Workload>> {
    Ok(workloads::table.find(guid).select(Workload::as_select()).first(conn).optional()?)
}

/// Other workloads that have this port, this volume, or this name of this owner.
pub fn in_the_way(conn: &mut Conn, row: &Workload) -> Result<Vec<Workload>> {
    let same_name = workloads::owner.eq(&row.owner).and(workloads::name.eq(&row.name));
    let taken = workloads::service_port.eq(row.service_port).or(workloads::volume_id.eq(&row.volume_id)).or(same_name);
    let query = workloads::table.filter(workloads::guid.ne(&row.guid)).filter(taken).order(workloads::guid);
    Ok(query.select(Workload::as_select()).load(conn)?)
}

/// The workloads that have one of these volumes.
pub fn of_volumes(conn: &mut Conn, volumes: &[String]) -> Result<Vec<Workload>> {
    let query = workloads::table.filter(workloads::volume_id.eq_any(volumes)).order(workloads::guid);
    Ok(query.select(Workload::as_select()).load(conn)?)
}

/// The workloads that something is awaited of: a first instance that runs, or the end.
pub fn unsettled(conn: &mut Conn) -> Result<Vec<Workload>> {
    let query = workloads::table.filter(workloads::cell.is_null().or(workloads::deleting.eq(true))).order(workloads::guid);
    Ok(query.select(Workload::as_select()).load(conn)?)
}

/// The workloads that are being deleted and whose volume is on this DEA.
pub fn going_on(conn: &mut Conn, dea: &str) -> Result<Vec<Workload>> {
    let query = workloads::table.filter(workloads::deleting.eq(true).and(workloads::cell.eq(dea))).order(workloads::guid);
    Ok(query.select(Workload::as_select()).load(conn)?)
}

/// Notes that a DEA may have a volume from now on.
pub fn put_place(conn: &mut Conn, place: &VolumePlace) -> Result<()> {
    diesel::delete(workload_volumes::table.find((&place.volume_id, &place.dea))).execute(conn)?;
    diesel::insert_into(workload_volumes::table).values(place).execute(conn)?;
    Ok(())
}

/// The volumes that a DEA may have.
pub fn places_on(conn: &mut Conn, dea: &str) -> Result<Vec<VolumePlace>> {
    let query = workload_volumes::table.filter(workload_volumes::dea.eq(dea)).order(workload_volumes::volume_id);
    Ok(query.select(VolumePlace::as_select()).load(conn)?)
}

/// Where the volume of an app may be.
pub fn places_of(conn: &mut Conn, app: &str) -> Result<Vec<VolumePlace>> {
    let query = workload_volumes::table.filter(workload_volumes::app_guid.eq(app)).order(workload_volumes::dea);
    Ok(query.select(VolumePlace::as_select()).load(conn)?)
}

/// Forgets that a DEA may have a volume.
pub fn forget_place(conn: &mut Conn, place: &VolumePlace) -> Result<()> {
    diesel::delete(workload_volumes::table.find((&place.volume_id, &place.dea))).execute(conn)?;
    Ok(())
}
