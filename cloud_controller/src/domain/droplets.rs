//! Droplets: made by stagings, uploaded, copied.

use crate::{
    domain::{
        Error, Result, Scope, Tx,
        apps::{self as app_domain, event},
        metadata::MetadataChange,
    },
    store::{
        apps::App,
        droplets::{self, Droplet},
        garbage, metadata as metadata_store,
    },
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Finds a droplet that the caller reads.
///
/// # Errors
/// [`Error::NotFound`] about the droplet.
pub fn readable(tx: &mut Tx<'_>, guid: &str) -> Result<(Droplet, App, Scope)> {
    let not_found = || Error::NotFound("Droplet");
    let droplet = droplets::find(tx.conn, guid)?.ok_or_else(not_found)?;
    match app_domain::readable(tx, &droplet.app_guid) {
        Err(Error::NotFound(_)) => Err(not_found()),
        other => other.map(|(app, scope)| (droplet, app, scope)),
    }
}

/// Finds a droplet that the caller may change (W).
pub fn writable(tx: &mut Tx<'_>, guid: &str) -> Result<(Droplet, App, Scope)> {
    let (droplet, app, scope) = readable(tx, guid)?;
    scope.check(tx, scope.writes(tx))?;
    Ok((droplet, app, scope))
}

/// The droplet that an app starts with.
///
/// # Errors
/// [`Error::NotFound`] about the app, or about the droplet when there is none.
pub fn current(tx: &mut Tx<'_>, app: &str) -> Result<(Droplet, App, Scope)> {
    let (app, scope) = app_domain::readable(tx, app)?;
    let found = match &app.droplet_guid {
        Some(guid) => droplets::find(tx.conn, guid)?,
        None => None,
    };
    found.map(|droplet| (droplet, app, scope)).ok_or(Error::NotFound("Droplet"))
}

/// Makes a droplet that waits for its bits.
pub fn create(
    tx: &mut Tx<'_>,
    app: &str,
    process_types: &BTreeMap<String, String>,
    metadata: &MetadataChange,
    request: Value,
) -> Result<Droplet> {
    let text = format!("App with guid \"{app}\" does not exist, or you do not have access to it.");
    let (app, scope) = app_domain::referred(tx, app, &text)?;
    let droplet = Droplet { process_types: json!(process_types).to_string(), ..blank(tx, &app, "AWAITING_UPLOAD") };
    droplets::insert(tx.conn, &droplet)?;
    metadata.apply(tx, droplets::KIND, &droplet.guid)?;
    let data = json!({ "droplet_guid": droplet.guid, "package_guid": null, "request": request });
    event(tx, "audit.app.droplet.create", &app, &scope, data)?;
    Ok(droplet)
}

fn blank(tx: &mut Tx<'_>, app: &App, state: &str) -> Droplet {
    let now = tx.micros();
    Droplet {
        guid: tx.guid(),
        created_at: now,
        updated_at: now,
        app_guid: app.guid.clone(),
        package_guid: None,
        build_guid: None,
        state: state.into(),
        error: None,
        stack: app.stack.clone(),
        sha256: None,
        size_bytes: None,
        process_types: "{}".into(),
        buildpacks: "[]".into(),
        execution_metadata: String::new(),
    }
}

/// Makes a droplet of another app's; the blob is copied afterwards. Returns the source too.
pub fn copy(tx: &mut Tx<'_>, source: &str, app: &str) -> Result<(Droplet, Droplet)> {
    let text = format!("Droplet with guid \"{source}\" does not exist, or you do not have access to it.");
    let (source, ..) = match readable(tx, source) {
        Err(Error::NotFound(_)) => return Err(Error::invalid(text)),
        other => other?,
    };
    let text = format!("App with guid \"{app}\" does not exist, or you do not have access to it.");
    let (app, scope) = app_domain::referred(tx, app, &text)?;
    if source.state != "STAGED" {
        return Err(Error::invalid("source droplet is not staged"));
    }
    let droplet = Droplet {
        stack: source.stack.clone(),
        process_types: source.process_types.clone(),
        buildpacks: source.buildpacks.clone(),
        execution_metadata: source.execution_metadata.clone(),
        ..blank(tx, &app, "COPYING")
    };
    droplets::insert(tx.conn, &droplet)?;
    let data = json!({ "droplet_guid": droplet.guid, "package_guid": null, "request": { "source_droplet_guid": source.guid } });
    event(tx, "audit.app.droplet.create", &app, &scope, data)?;
    Ok((droplet, source))
}

fn uploaded_before() -> Error {
    Error::invalid("Droplet may be uploaded only once. Create a new droplet to upload bits.")
}

/// Checks that bits may be uploaded now; nothing changes.
pub fn check_upload(tx: &mut Tx<'_>, guid: &str) -> Result<Droplet> {
    let (droplet, ..) = writable(tx, guid)?;
    if droplet.state == "AWAITING_UPLOAD" { Ok(droplet) } else { Err(uploaded_before()) }
}

/// Takes a droplet whose bits have arrived: from here on nobody else can upload to it.
pub fn begin_upload(tx: &mut Tx<'_>, guid: &str) -> Result<Droplet> {
    let (mut droplet, app, scope) = writable(tx, guid)?;
    droplet.state = "PROCESSING_UPLOAD".into();
    droplet.updated_at = tx.micros();
    if !droplets::update_from(tx.conn, &droplet, "AWAITING_UPLOAD")? {
        return Err(uploaded_before());
    }
    event(tx, "audit.app.droplet.upload", &app, &scope, json!({ "droplet_guid": droplet.guid, "package_guid": null }))?;
    Ok(droplet)
}

/// Notes how an upload or a copy ended: digest and size, or what went wrong.
pub fn end(tx: &mut Tx<'_>, guid: &str, from: &str, ended: &Result<(String, u64), String>) -> Result<Option<Droplet>> {
    let Some(mut droplet) = droplets::find(tx.conn, guid)?.filter(|droplet| droplet.state == from) else {
        garbage::add(tx, &droplets::blob(guid))?;
        return Ok(None);
    };
    droplet.updated_at = tx.micros();
    match ended {
        Ok((sha256, size)) => {
            droplet.state = "STAGED".into();
            droplet.sha256 = Some(sha256.clone());
            droplet.size_bytes = i64::try_from(*size).ok();
        }
        Err(why) => {
            droplet.state = "FAILED".into();
            droplet.error = Some(why.clone());
            garbage::add(tx, &droplets::blob(guid))?;
        }
    }
    droplets::update_from(tx.conn, &droplet, from)?;
    Ok(Some(droplet))
}

/// Deletes a droplet that is not current.
///
/// # Errors
/// [`Error::Invalid`] for the current one.
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Droplet> {
    let (droplet, app, scope) = writable(tx, guid)?;
    if droplets::current_of(tx.conn, guid)?.is_some() {
        return Err(Error::invalid(format!("The droplet is currently used by app with guid \"{}\".", app.guid)));
    }
    droplets::delete(tx.conn, guid)?;
    metadata_store::forget(tx.conn, droplets::KIND, std::slice::from_ref(&droplet.guid))?;
    garbage::add(tx, &droplets::blob(guid))?;
    let data = json!({ "droplet_guid": droplet.guid, "package_guid": droplet.package_guid });
    event(tx, "audit.app.droplet.delete", &app, &scope, data)?;
    Ok(droplet)
}

/// Checks that the caller may download a droplet, and notes it.
pub fn download(tx: &mut Tx<'_>, guid: &str) -> Result<Droplet> {
    use crate::domain::SpaceRole;
    let (droplet, app, scope) = readable(tx, guid)?;
    let space = scope.space.guid.as_str();
    let roles = [SpaceRole::Manager, SpaceRole::Developer, SpaceRole::Auditor];
    let only_supports = !tx.who.global_reader()
        && !tx.who.has_org(&scope.org.guid, crate::domain::OrgRole::Manager)
        && !roles.into_iter().any(|role| tx.who.has_space(space, role));
    if only_supports {
        return Err(Error::Forbidden);
    }
    if droplet.state != "STAGED" {
        return Err(Error::invalid("Only staged droplets can be downloaded."));
    }
    let data = json!({ "droplet_guid": droplet.guid, "package_guid": droplet.package_guid });
    event(tx, "audit.app.droplet.download", &app, &scope, data)?;
    Ok(droplet)
}

/// Takes over the start command that an uploaded droplet carries, where the request named none.
pub fn take_command(tx: &mut Tx<'_>, droplet: &mut Droplet, info: Option<&[u8]>) -> Result<()> {
    let mut commands = droplet.commands();
    let wanted = commands.values().all(String::is_empty);
    let read = |info: &[u8]| serde_saphyr::from_slice::<Value>(info).ok();
    let command = info.and_then(read).and_then(|info| info.get("start_command")?.as_str().map(str::to_owned));
    let Some(command) = command.filter(|command| wanted && !command.is_empty()) else { return Ok(()) };
    commands.insert(crate::domain::process::WEB.into(), command);
    droplet.process_types = json!(commands).to_string();
    let state = droplet.state.clone();
    droplets::update_from(tx.conn, droplet, &state).map(drop)
}
