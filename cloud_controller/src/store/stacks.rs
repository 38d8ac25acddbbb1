//! Stacks.

use crate::{
    domain::Result,
    store::{
        Conn, Db,
        query::{self, List, Listed},
        schema::{apps, stacks},
    },
};
use diesel::prelude::*;

/// The kind under which their metadata is kept.
pub const KIND: &str = "stacks";

/// A stack as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = stacks, primary_key(guid))]
pub struct Stack {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub name: String,
    pub description: String,
    pub state: String,
    pub state_reason: String,
    pub is_default: bool,
}

/// Adds a stack; the name is a unique key.
pub fn insert(conn: &mut Conn, stack: &Stack) -> QueryResult<()> {
    diesel::insert_into(stacks::table).values(stack).execute(conn).map(drop)
}
/// Writes all columns.
pub fn save(conn: &mut Conn, stack: &Stack) -> QueryResult<()> {
    diesel::update(stacks::table.find(&stack.guid)).set(stack).execute(conn).map(drop)
}
/// Removes a stack.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(stacks::table.find(guid)).execute(conn)?;
    Ok(())
}
/// Finds a stack.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Stack>> {
    Ok(stacks::table.find(guid).select(Stack::as_select()).first(conn).optional()?)
}
/// Finds a stack by name; case counts.
pub fn find_named(conn: &mut Conn, name: &str) -> Result<Option<Stack>> {
    Ok(stacks::table.filter(stacks::name.eq(name)).select(Stack::as_select()).first(conn).optional()?)
}
/// True when an app asks for this stack.
pub fn in_use(conn: &mut Conn, name: &str) -> Result<bool> {
    let found: i64 = apps::table.filter(apps::stack.eq(name)).count().get_result(conn)?;
    Ok(found > 0)
}
/// A page of stacks: everybody sees all.
pub fn list(conn: &mut Conn, list: &List) -> Result<Listed<Stack>> {
    let filtered = || -> stacks::BoxedQuery<'static, Db> {
        let mut query = stacks::table.into_boxed();
        query::filter_common!(query, stacks, list, KIND);
        if let Some(names) = list.values("names") {
            query = query.filter(stacks::name.eq_any(names));
        }
        if let Some(default) = list.first("default") {
            query = query.filter(stacks::is_default.eq(default == "true"));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, stacks, list, "updated_at" => stacks::updated_at, "name" => stacks::name);
    Ok(Listed { rows: query.select(Stack::as_select()).load(conn)?, total })
}
