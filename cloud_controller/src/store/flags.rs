//! Feature flags that somebody changed.

use crate::{
    domain::Result,
    store::{Conn, schema::feature_flags},
};
use diesel::prelude::*;
use std::collections::BTreeMap;

/// A flag as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = feature_flags, primary_key(name), treat_none_as_null = true)]
pub struct FlagRow {
    pub name: String,
    pub enabled: bool,
    pub custom_error_message: Option<String>,
    pub updated_at: i64,
}

/// All rows by name.
pub fn all(conn: &mut Conn) -> Result<BTreeMap<String, FlagRow>> {
    let rows: Vec<FlagRow> = feature_flags::table.select(FlagRow::as_select()).load(conn)?;
    Ok(rows.into_iter().map(|row| (row.name.clone(), row)).collect())
}

/// One row.
pub fn find(conn: &mut Conn, name: &str) -> Result<Option<FlagRow>> {
    Ok(feature_flags::table.find(name).select(FlagRow::as_select()).first(conn).optional()?)
}

/// Writes a row.
pub fn put(conn: &mut Conn, row: &FlagRow) -> Result<()> {
    if diesel::update(feature_flags::table.find(&row.name)).set(row).execute(conn)? == 0 {
        diesel::insert_into(feature_flags::table).values(row).execute(conn)?;
    }
    Ok(())
}
