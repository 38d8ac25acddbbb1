//! Feature flags.

use crate::{
    domain::{Error, Result, Tx},
    store::flags::{self as store, FlagRow},
};

/// Names in the order of the list, with what holds until somebody changes it.
///
/// Source: cloud_controller_ng, `app/models/runtime/feature_flag.rb`.
pub const FLAGS: [(&str, bool); 19] = [
    ("app_bits_upload", true),
    ("app_scaling", true),
    ("diego_cnb", false),
    ("diego_docker", false),
    ("env_var_visibility", true),
    ("hash_based_routing", false),
    ("hide_marketplace_from_unauthenticated_users", false),
    ("private_domain_creation", true),
    ("resource_matching", true),
    ("route_creation", true),
    ("route_sharing", false),
    ("service_instance_creation", true),
    ("service_instance_sharing", false),
    ("set_roles_by_username", true),
    ("space_developer_env_var_visibility", true),
    ("space_scoped_private_broker_creation", true),
    ("task_creation", true),
    ("unset_roles_by_username", true),
    ("user_org_creation", false),
];

/// A flag as it holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    pub name: &'static str,
    pub enabled: bool,
    pub custom_error_message: Option<String>,
    /// None: never changed.
    pub updated_at: Option<i64>,
}

fn merged(default: (&'static str, bool), row: Option<FlagRow>) -> Flag {
    match row {
        Some(row) => Flag {
            name: default.0,
            enabled: row.enabled,
            custom_error_message: row.custom_error_message,
            updated_at: Some(row.updated_at),
        },
        None => Flag { name: default.0, enabled: default.1, custom_error_message: None, updated_at: None },
    }
}

/// All flags, by name.
pub fn all(tx: &mut Tx<'_>) -> Result<Vec<Flag>> {
    let mut rows = store::all(tx.conn)?;
    let mut flags: Vec<Flag> = FLAGS.iter().map(|flag| merged(*flag, rows.remove(flag.0))).collect();
    flags.sort_by_key(|flag| flag.name);
    Ok(flags)
}

/// One flag.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(tx: &mut Tx<'_>, name: &str) -> Result<Flag> {
    let default = FLAGS.iter().find(|flag| flag.0 == name).ok_or(Error::NotFound("Feature flag"))?;
    Ok(merged(*default, store::find(tx.conn, name)?))
}

/// True when the flag is on.
pub fn enabled(tx: &mut Tx<'_>, name: &str) -> Result<bool> {
    Ok(find(tx, name)?.enabled)
}

/// Lets administrators on, others only while the flag is on.
///
/// # Errors
/// "Feature Disabled" with the flag's name or the operator's own words.
pub fn require(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    if tx.who.admin() { Ok(()) } else { require_for_all(tx, name) }
}

/// As [`require`], for administrators too.
pub fn require_for_all(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    let flag = find(tx, name)?;
    if flag.enabled { Ok(()) } else { Err(Error::feature_disabled(flag.custom_error_message.as_deref().unwrap_or(name))) }
}

/// Changes a flag (A). The message stays where `message` is `None`.
pub fn update(tx: &mut Tx<'_>, name: &str, enabled: Option<bool>, message: Option<Option<String>>) -> Result<Flag> {
    let mut flag = find(tx, name)?;
    tx.who.require_admin()?;
    flag.enabled = enabled.unwrap_or(flag.enabled);
    flag.custom_error_message = message.unwrap_or(flag.custom_error_message);
    flag.updated_at = Some(tx.micros());
    let row = FlagRow {
        name: flag.name.to_owned(),
        enabled: flag.enabled,
        custom_error_message: flag.custom_error_message.clone(),
        updated_at: tx.micros(),
    };
    store::put(tx.conn, &row)?;
    Ok(flag)
}
