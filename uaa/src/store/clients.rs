//! OAuth clients.

use super::Db;
use crate::domain::Result;
use diesel::prelude::*;

diesel::table! {
    clients (id) {
        id -> Text,
        secret_hash -> Text,
        name -> Text,
        grants -> Text,
        scopes -> Text,
        authorities -> Text,
        redirect_uris -> Text,
        autoapprove -> Text,
        access_validity_s -> Nullable<BigInt>,
        refresh_validity_s -> Nullable<BigInt>,
        salt -> Text,
        updated_at -> BigInt,
    }
}

/// A client.
#[derive(Clone, Debug, PartialEq, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = clients, treat_none_as_null = true)]
pub(crate) struct Client {
    pub(crate) id: String,
    /// See `domain::passwords`.
    pub(crate) secret_hash: String,
    pub(crate) name: String,
    pub(crate) grants: String,
    pub(crate) scopes: String,
    pub(crate) authorities: String,
    pub(crate) redirect_uris: String,
    pub(crate) autoapprove: String,
    pub(crate) access_validity_s: Option<i64>,
    pub(crate) refresh_validity_s: Option<i64>,
    pub(crate) salt: String,
    pub(crate) updated_at: i64,
}

/// Finds a client.
pub(crate) fn find(conn: &mut Db, id: &str) -> Result<Option<Client>> {
    Ok(clients::table.find(id).first(conn).optional()?)
}

/// All clients by id.
pub(crate) fn list(conn: &mut Db) -> Result<Vec<Client>> {
    Ok(clients::table.order(clients::id.asc()).load(conn)?)
}

/// Makes a client, or changes it to this.
pub(crate) fn put(conn: &mut Db, client: &Client) -> Result<()> {
    if diesel::update(clients::table.find(&client.id)).set(client).execute(conn)? == 0 {
        diesel::insert_into(clients::table).values(client).execute(conn)?;
    }
    Ok(())
}

/// Removes a client.
pub(crate) fn delete(conn: &mut Db, id: &str) -> Result<()> {
    diesel::delete(clients::table.find(id)).execute(conn)?;
    Ok(())
}
