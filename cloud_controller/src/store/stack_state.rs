//! Stacks as far as apps are concerned.

use crate::{
    domain::Result,
    store::{Conn, schema::stacks},
};
use diesel::prelude::*;

/// State of a stack, and its reason.
pub fn of(conn: &mut Conn, name: &str) -> Result<Option<(String, String)>> {
    let query = stacks::table.filter(stacks::name.eq(name)).select((stacks::state, stacks::state_reason));
    Ok(query.first(conn).optional()?)
}

/// Names of all stacks.
pub fn names(conn: &mut Conn) -> Result<Vec<String>> {
    Ok(stacks::table.order(stacks::created_at).select(stacks::name).load(conn)?)
}
