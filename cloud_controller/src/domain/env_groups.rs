//! Environment variable groups: what all apps get while running or staging, unless they say otherwise.

use crate::{
    domain::{Error, Result, Tx},
    store::{env_group, env_groups as store},
};
use std::collections::BTreeMap;

/// The groups there are.
pub const GROUPS: [&str; 2] = ["running", "staging"];

/// A group with its variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub vars: BTreeMap<String, String>,
    /// None: never set.
    pub updated_at: Option<i64>,
}

/// Reads a group.
///
/// # Errors
/// [`Error::NotFound`] when there is none of that name.
pub fn find(tx: &mut Tx<'_>, name: &str) -> Result<Group> {
    if !GROUPS.contains(&name) {
        return Err(Error::NotFound("Environment variable group"));
    }
    let vars = env_group::vars(tx, name)?.into_iter().collect();
    Ok(Group { name: name.to_owned(), vars, updated_at: store::updated_at(tx.conn, name)? })
}

/// Sets variables, removes those that are `None` (A).
pub fn update(tx: &mut Tx<'_>, name: &str, change: &BTreeMap<String, Option<String>>) -> Result<Group> {
    let mut group = find(tx, name)?;
    tx.who.require_admin()?;
    for (key, value) in change {
        match value {
            Some(value) => drop(group.vars.insert(key.clone(), value.clone())),
            None => drop(group.vars.remove(key)),
        }
    }
    let plain = serde_json::to_vec(&group.vars).map_err(|e| Error::internal("writing a variable group", e))?;
    let sealed = tx.seal(&env_group::place(name), &plain)?;
    store::put(tx.conn, name, &sealed, tx.now)?;
    group.updated_at = Some(tx.micros());
    Ok(group)
}
