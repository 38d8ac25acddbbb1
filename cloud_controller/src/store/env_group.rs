//! The platform's variable groups, opened.

use crate::{
    domain::{Error, Result, Tx, environment::Vars},
    store::schema::env_groups,
};
use diesel::prelude::*;

/// Variables of a group (`running`, `staging`); none when it was never set.
pub fn vars(tx: &mut Tx<'_>, name: &str) -> Result<Vars> {
    let sealed: Option<Vec<u8>> = env_groups::table.find(name).select(env_groups::env).first(tx.conn).optional()?;
    let Some(sealed) = sealed else { return Ok(Vars::new()) };
    let plain = tx.open(&place(name), &sealed)?;
    serde_json::from_slice(&plain).map_err(|e| Error::internal("reading a variable group", e))
}

/// Where a group's variables belong.
pub fn place(name: &str) -> String {
    format!("env_groups.env:{name}")
}
