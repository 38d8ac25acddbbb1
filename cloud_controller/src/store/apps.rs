//! Apps.

use crate::{
    domain::{Result, Tx},
    store::{schema::apps, spaces},
};
use diesel::prelude::*;

/// True when the caller reads (R) the space of this app.
pub fn is_readable(tx: &mut Tx<'_>, guid: &str) -> Result<bool> {
    let query = apps::table.filter(apps::guid.eq(guid)).filter(apps::space_guid.eq_any(spaces::readable(&tx.who)));
    Ok(query.select(apps::guid).first::<String>(tx.conn).optional()?.is_some())
}

/// True when the caller reads this app.
pub fn is_readable(tx: &mut crate::domain::Tx<'_>, guid: &str) -> Result<bool> {
    let found = find_with_scope(tx.conn, guid)?;
    Ok(found.is_some_and(|(_, space, org)| tx.who.reads_space(&space.guid, &org.guid)))
}
