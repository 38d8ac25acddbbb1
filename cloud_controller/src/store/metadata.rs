//! Labels and annotations of every kind of resource.

use crate::{
    domain::Result,
    store::{
        Conn,
        query::Listed,
        schema::{annotations, labels},
    },
};
use diesel::prelude::*;
use std::collections::BTreeMap;

/// Labels and annotations of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// The metadata of many resources of one kind, in two statements.
pub fn load(conn: &mut Conn, kind: &str, guids: &[String]) -> Result<BTreeMap<String, Metadata>> {
    let mut found: BTreeMap<String, Metadata> = BTreeMap::new();
    if guids.is_empty() {
        return Ok(found);
    }
    let rows: Vec<(String, String, String)> = labels::table
        .filter(labels::kind.eq(kind).and(labels::resource_guid.eq_any(guids)))
        .select((labels::resource_guid, labels::key, labels::value))
        .load(conn)?;
    for (guid, key, value) in rows {
        found.entry(guid).or_default().labels.insert(key, value);
    }
    let rows: Vec<(String, String, String)> = annotations::table
        .filter(annotations::kind.eq(kind).and(annotations::resource_guid.eq_any(guids)))
        .select((annotations::resource_guid, annotations::key, annotations::value))
        .load(conn)?;
    for (guid, key, value) in rows {
        found.entry(guid).or_default().annotations.insert(key, value);
    }
    Ok(found)
}

/// The metadata of one resource.
pub fn of(conn: &mut Conn, kind: &str, guid: &str) -> Result<Metadata> {
    Ok(load(conn, kind, &[guid.to_owned()])?.remove(guid).unwrap_or_default())
}

/// Sets a label, or removes it.
pub fn set_label(conn: &mut Conn, kind: &str, guid: &str, key: &str, value: Option<&str>) -> Result<()> {
    let of_key = labels::kind.eq(kind).and(labels::resource_guid.eq(guid)).and(labels::key.eq(key));
    diesel::delete(labels::table.filter(of_key)).execute(conn)?;
    if let Some(value) = value {
        let row = (labels::kind.eq(kind), labels::resource_guid.eq(guid), labels::key.eq(key), labels::value.eq(value));
        diesel::insert_into(labels::table).values(row).execute(conn)?;
    }
    Ok(())
}

/// Sets an annotation, or removes it.
pub fn set_annotation(conn: &mut Conn, kind: &str, guid: &str, key: &str, value: Option<&str>) -> Result<()> {
    let of_key = annotations::kind.eq(kind).and(annotations::resource_guid.eq(guid)).and(annotations::key.eq(key));
    diesel::delete(annotations::table.filter(of_key)).execute(conn)?;
    if let Some(value) = value {
        let row = (
            annotations::kind.eq(kind),
            annotations::resource_guid.eq(guid),
            annotations::key.eq(key),
            annotations::value.eq(value),
        );
        diesel::insert_into(annotations::table).values(row).execute(conn)?;
    }
    Ok(())
}

/// Removes all metadata of these resources; for when they are deleted.
pub fn forget(conn: &mut Conn, kind: &str, guids: &[String]) -> Result<()> {
    diesel::delete(labels::table.filter(labels::kind.eq(kind).and(labels::resource_guid.eq_any(guids)))).execute(conn)?;
    let of_these = annotations::kind.eq(kind).and(annotations::resource_guid.eq_any(guids));
    diesel::delete(annotations::table.filter(of_these)).execute(conn)?;
    Ok(())
}

/// A row with its metadata.
#[derive(Clone, Debug)]
pub struct Described<T> {
    pub row: T,
    pub metadata: Metadata,
}

/// Adds the metadata to rows, in two statements.
pub fn describe<T>(conn: &mut Conn, kind: &str, rows: Vec<T>, guid: impl Fn(&T) -> &str) -> Result<Vec<Described<T>>> {
    let guids: Vec<String> = rows.iter().map(|row| guid(row).to_owned()).collect();
    let mut all = load(conn, kind, &guids)?;
    let with = |row: T| {
        let metadata = all.remove(guid(&row)).unwrap_or_default();
        Described { row, metadata }
    };
    Ok(rows.into_iter().map(with).collect())
}

/// As [`describe`], for a page.
pub fn describe_page<T>(conn: &mut Conn, kind: &str, page: Listed<T>, guid: impl Fn(&T) -> &str) -> Result<Listed<Described<T>>> {
    Ok(Listed { total: page.total, rows: describe(conn, kind, page.rows, guid)? })
}

/// Adds the metadata to one row.
pub fn describe_one<T>(conn: &mut Conn, kind: &str, row: T, guid: &str) -> Result<Described<T>> {
    Ok(Described { metadata: of(conn, kind, guid)?, row })
}
