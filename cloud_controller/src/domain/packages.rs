//! Packages: what users upload, and its way from `AWAITING_UPLOAD` to `READY` or `FAILED`.

use crate::{
    domain::{
        Error, Result, Rule, Scope, Tx,
        apps::{self as app_domain, event},
        metadata::MetadataChange,
    },
    store::{
        apps::App,
        builds, garbage, metadata as metadata_store,
        packages::{self, Package},
        resources::{self, Resource},
    },
};
use serde_json::{Value, json};

/// How many usable packages of an app are kept.
const KEPT: usize = 5;

/// Finds a package that the caller reads.
///
/// # Errors
/// [`Error::NotFound`] about the package.
pub fn readable(tx: &mut Tx<'_>, guid: &str) -> Result<(Package, App, Scope)> {
    let not_found = || Error::NotFound("Package");
    let package = packages::find(tx.conn, guid)?.ok_or_else(not_found)?;
    match app_domain::readable(tx, &package.app_guid) {
        Err(Error::NotFound(_)) => Err(not_found()),
        other => other.map(|(app, scope)| (package, app, scope)),
    }
}

/// Finds a package that the caller may change (W).
pub fn writable(tx: &mut Tx<'_>, guid: &str) -> Result<(Package, App, Scope)> {
    let (package, app, scope) = readable(tx, guid)?;
    scope.check(tx, scope.writes(tx))?;
    Ok((package, app, scope))
}

/// Makes a package that waits for its bits.
///
/// # Errors
/// [`Error::Invalid`] for an app that the caller cannot see.
pub fn create(tx: &mut Tx<'_>, app: &str, metadata: &MetadataChange, request: Value) -> Result<Package> {
    let (app, scope) = app_domain::referred(tx, app, "App is invalid. Ensure it exists and you have access to it.")?;
    let package = blank(tx, &app, "AWAITING_UPLOAD");
    packages::insert(tx.conn, &package)?;
    metadata.apply(tx, packages::KIND, &package.guid)?;
    event(tx, "audit.app.package.create", &app, &scope, json!({ "package_guid": package.guid, "request": request }))?;
    Ok(package)
}

fn blank(tx: &mut Tx<'_>, app: &App, state: &str) -> Package {
    let now = tx.micros();
    Package {
        guid: tx.guid(),
        created_at: now,
        updated_at: now,
        app_guid: app.guid.clone(),
        kind: "bits".into(),
        state: state.into(),
        sha1: None,
        sha256: None,
        size_bytes: None,
        error: None,
    }
}

/// Makes a package of another app's bits; the blob is copied afterwards. Returns the source too.
pub fn copy(tx: &mut Tx<'_>, source: &str, app: &str) -> Result<(Package, Package)> {
    let invalid = "Source package is invalid. Ensure it exists and you have access to it.";
    let (source, from, source_scope) = match readable(tx, source) {
        Err(Error::NotFound(_)) => return Err(Error::invalid(invalid)),
        other => other?,
    };
    source_scope.check(tx, source_scope.writes(tx))?;
    let (app, scope) = app_domain::referred(tx, app, "App is invalid. Ensure it exists and you have access to it.")?;
    if from.guid == app.guid {
        return Err(Error::invalid("Source and destination app cannot be the same"));
    }
    if source.state != "READY" {
        return Err(Error::invalid(invalid));
    }
    let package = blank(tx, &app, "COPYING");
    packages::insert(tx.conn, &package)?;
    let data = json!({ "package_guid": package.guid, "request": { "source_package_guid": source.guid } });
    event(tx, "audit.app.package.create", &app, &scope, data)?;
    Ok((package, source))
}

/// Checks that bits may be uploaded now; nothing changes.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Forbidden`], or the rule that bits are uploaded once.
pub fn check_upload(tx: &mut Tx<'_>, guid: &str) -> Result<(Package, App)> {
    let (package, app, _) = writable(tx, guid)?;
    check_awaiting(&package)?;
    Ok((package, app))
}

fn check_awaiting(package: &Package) -> Result<()> {
    if package.kind != "bits" {
        return Err(Error::invalid("Package type must be bits."));
    }
    if package.state != "AWAITING_UPLOAD" {
        return Err(uploaded_before());
    }
    Ok(())
}

fn uploaded_before() -> Error {
    Error::rule(Rule::BitsAlreadyUploaded, "Bits may be uploaded only once. Create a new package to upload different bits.")
}

/// Takes a package whose bits have arrived: from here on nobody else can upload to it.
///
/// # Errors
/// As [`check_upload`]; of two uploads at once one loses here.
pub fn begin_upload(tx: &mut Tx<'_>, guid: &str) -> Result<Package> {
    let (mut package, app, scope) = writable(tx, guid)?;
    check_awaiting(&package)?;
    package.state = "PROCESSING_UPLOAD".into();
    package.updated_at = tx.micros();
    if !packages::update_from(tx.conn, &package, "AWAITING_UPLOAD")? {
        return Err(uploaded_before());
    }
    event(tx, "audit.app.package.upload", &app, &scope, json!({ "package_guid": package.guid }))?;
    Ok(package)
}

/// What an upload or a copy came to.
#[derive(Clone, Debug)]
pub enum Ended {
    /// The blob is there.
    Ready {
        /// sha256 in hex.
        sha256: String,
        /// Its size.
        size_bytes: u64,
    },
    /// It cannot be used, and why.
    Failed(String),
    /// It was our fault: the bits may be uploaded again.
    Again,
}

/// Notes how an upload or a copy ended. A package that was deleted meanwhile leaves its blob to be removed.
pub fn end(tx: &mut Tx<'_>, guid: &str, from: &str, ended: &Ended) -> Result<Option<Package>> {
    let Some(mut package) = packages::find(tx.conn, guid)?.filter(|package| package.state == from) else {
        garbage::add(tx, &packages::blob(guid))?;
        return Ok(None);
    };
    package.updated_at = tx.micros();
    match ended {
        Ended::Ready { sha256, size_bytes } => {
            package.state = "READY".into();
            package.sha256 = Some(sha256.clone());
            package.size_bytes = i64::try_from(*size_bytes).ok();
        }
        Ended::Failed(why) => {
            package.state = "FAILED".into();
            package.error = Some(why.clone());
            garbage::add(tx, &packages::blob(guid))?;
        }
        Ended::Again => {
            package.state = "AWAITING_UPLOAD".into();
            garbage::add(tx, &packages::blob(guid))?;
        }
    }
    packages::update_from(tx.conn, &package, from)?;
    if package.state == "READY" {
        expire_old(tx, &package.app_guid)?;
    }
    Ok(Some(package))
}

/// Lets go of the blobs of packages beyond those that are kept, unless something stages them.
fn expire_old(tx: &mut Tx<'_>, app: &str) -> Result<()> {
    let staging = builds::staging(tx.conn, Some(app))?;
    let ready = packages::of_app(tx.conn, app)?.into_iter().filter(|package| package.state == "READY");
    for mut package in ready.skip(KEPT) {
        if staging.iter().any(|build| build.package_guid == package.guid) {
            continue;
        }
        package.state = "EXPIRED".into();
        packages::update_from(tx.conn, &package, "READY")?;
        garbage::add(tx, &packages::blob(&package.guid))?;
    }
    Ok(())
}

/// Deletes a package; droplets made of it stay.
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Package> {
    let (package, app, scope) = writable(tx, guid)?;
    packages::delete(tx.conn, &package.guid)?;
    metadata_store::forget(tx.conn, packages::KIND, std::slice::from_ref(&package.guid))?;
    garbage::add(tx, &packages::blob(&package.guid))?;
    event(tx, "audit.app.package.delete", &app, &scope, json!({ "package_guid": package.guid }))?;
    Ok(package)
}

/// Checks that the caller may download a package (S), and notes it.
pub fn download(tx: &mut Tx<'_>, guid: &str) -> Result<Package> {
    let (package, app, scope) = readable(tx, guid)?;
    if !tx.who.reads_secrets(&scope.space.guid) {
        return Err(Error::Forbidden);
    }
    if package.kind != "bits" {
        return Err(Error::invalid("Package type must be bits."));
    }
    if package.state != "READY" {
        return Err(Error::invalid("Package has no bits to download."));
    }
    event(tx, "audit.app.package.download", &app, &scope, json!({ "package_guid": package.guid }))?;
    Ok(package)
}

/// Which of the caller's spaces files are matched with: those in which the caller could read them anyway. `None`: all.
fn matching_spaces(tx: &Tx<'_>) -> Option<Vec<String>> {
    use crate::domain::SpaceRole;
    if tx.who.admin() { None } else { Some(tx.who.spaces_with(&[SpaceRole::Developer])) }
}

/// The known ones among these (sha1, size): nobody learns what a space has in which they develop nothing.
///
/// Files of one sha1 and size but two contents are never matched.
pub fn known_resources(tx: &mut Tx<'_>, wanted: &[(String, i64)]) -> Result<Vec<Resource>> {
    let sha1s: Vec<String> = wanted.iter().map(|(sha1, _)| sha1.clone()).collect();
    let spaces = matching_spaces(tx);
    let found = resources::find(tx.conn, spaces.as_deref(), &sha1s)?;
    let mut known: std::collections::BTreeMap<(String, i64), Option<Resource>> = std::collections::BTreeMap::new();
    for resource in found {
        let key = (resource.sha1.clone(), resource.size_bytes);
        let entry = known.entry(key).or_insert_with(|| Some(resource.clone()));
        if entry.as_ref().is_some_and(|first| first.sha256 != resource.sha256) {
            *entry = None;
        }
    }
    let asked: std::collections::BTreeSet<&(String, i64)> = wanted.iter().collect();
    Ok(known.into_iter().filter(|(key, _)| asked.contains(key)).filter_map(|(_, resource)| resource).collect())
}

/// Notes that files were matched now, so that they are kept a while longer.
pub fn touch_resources(tx: &mut Tx<'_>, used: &[Resource]) -> Result<()> {
    let now = tx.micros();
    let mut by_space: std::collections::BTreeMap<&str, Vec<String>> = std::collections::BTreeMap::new();
    for resource in used {
        by_space.entry(&resource.space_guid).or_default().push(resource.sha1.clone());
    }
    for (space, sha1s) in by_space {
        resources::touch(tx.conn, space, &sha1s, now)?;
    }
    Ok(())
}
