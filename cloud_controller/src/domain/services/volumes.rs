//! Volumes that brokers offer with their bindings: kept and shown, and not mounted yet, which users are told.

use crate::{
    domain::{
        Error, Result, Tx,
        services::vcap::{self, Bound},
    },
    store::{apps::App, service_bindings::Binding},
};
use serde_json::Value;

/// Seals what the broker of a binding sent: `mount_config` may hold passwords.
pub fn seal(tx: &mut Tx<'_>, binding: &str, mounts: &Value) -> Result<Vec<u8>> {
    tx.seal(&Binding::place_of_mounts(binding), mounts.to_string().as_bytes())
}

/// The volumes of a binding, as the broker sent them.
pub fn of(tx: &mut Tx<'_>, binding: &Binding) -> Result<Vec<Value>> {
    let Some(sealed) = &binding.volume_mounts else { return Ok(vec![]) };
    let plain = tx.open(&Binding::place_of_mounts(&binding.guid), sealed)?;
    serde_json::from_slice(&plain).map_err(|e| Error::internal("reading volume mounts", e))
}

/// What to tell whoever starts an app that has volumes bound; none: it has none.
pub fn missing(tx: &mut Tx<'_>, app: &App) -> Result<Option<String>> {
    let bound = vcap::of_app(tx, &app.guid)?;
    let each: Vec<String> = bound.iter().flat_map(|bound| folders(&bound.volume_mounts, bound)).collect();
    Ok((!each.is_empty()).then(|| text(&app.name, &each)))
}

fn folders(mounts: &[Value], bound: &Bound) -> Vec<String> {
    mounts.iter().map(|mount| folder(mount, &bound.instance.1)).collect()
}

/// One folder, for [`text`].
pub fn folder(mount: &Value, instance: &str) -> String {
    format!("{} of service instance '{instance}'", mount["container_dir"].as_str().unwrap_or_default())
}

/// Says what an app lacks.
pub fn text(app: &str, folders: &[String]) -> String {
    format!("This platform does not mount volumes yet: app '{app}' runs without {}.", folders.join(", "))
}
