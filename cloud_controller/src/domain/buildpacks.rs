//! Admin buildpacks: an ordered list that administrators keep.

use crate::{
    domain::{
        Error, Result, Rule, Tx,
        audit::{self, Event},
        metadata::MetadataChange,
        taken,
    },
    store::{
        buildpacks::{self, Buildpack},
        garbage, metadata as metadata_store, stack_state,
    },
};
use serde_json::{Value, json};

/// A new buildpack.
#[derive(Clone, Debug, Default)]
pub struct NewBuildpack {
    pub name: String,
    pub stack: Option<String>,
    pub lifecycle: String,
    pub position: Option<i32>,
    pub enabled: bool,
    pub locked: bool,
    pub metadata: MetadataChange,
}

/// A change of a buildpack; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct BuildpackChange {
    pub name: Option<String>,
    pub stack: Option<String>,
    pub position: Option<i32>,
    pub enabled: Option<bool>,
    pub locked: Option<bool>,
    pub metadata: MetadataChange,
}

/// Finds a buildpack; everybody reads all.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(tx: &mut Tx<'_>, guid: &str) -> Result<Buildpack> {
    buildpacks::find(tx.conn, guid)?.ok_or(Error::NotFound("Buildpack"))
}

/// Makes a buildpack that waits for its bits (A).
///
/// # Errors
/// [`Error::Invalid`] for a taken name or an unknown stack.
pub fn create(tx: &mut Tx<'_>, new: NewBuildpack, request: Value) -> Result<Buildpack> {
    tx.who.require_admin()?;
    check_stack(tx, new.stack.as_deref())?;
    let now = tx.micros();
    let buildpack = Buildpack {
        guid: tx.guid(),
        created_at: now,
        updated_at: now,
        name: new.name,
        stack_key: new.stack.clone().unwrap_or_default(),
        stack: new.stack,
        lifecycle: new.lifecycle,
        position: i32::MAX,
        enabled: new.enabled,
        locked: new.locked,
        state: "AWAITING_UPLOAD".into(),
        filename: None,
        sha256: None,
        size_bytes: None,
    };
    taken(buildpacks::insert(tx.conn, &buildpack), || name_taken(&buildpack))?;
    new.metadata.apply(tx, buildpacks::KIND, &buildpack.guid)?;
    place(tx, &buildpack, new.position.unwrap_or(1))?;
    record(tx, "audit.buildpack.create", &buildpack, json!({ "request": request }))?;
    find(tx, &buildpack.guid)
}

fn check_stack(tx: &mut Tx<'_>, stack: Option<&str>) -> Result<()> {
    let Some(stack) = stack else { return Ok(()) };
    match stack_state::of(tx.conn, stack)? {
        Some(_) => Ok(()),
        None => Err(Error::invalid(format!("Stack '{stack}' does not exist"))),
    }
}

fn name_taken(buildpack: &Buildpack) -> Error {
    let (name, lifecycle) = (&buildpack.name, &buildpack.lifecycle);
    Error::invalid(match &buildpack.stack {
        Some(stack) => format!("Buildpack with name '{name}', stack '{stack}' and lifecycle '{lifecycle}' already exists"),
        None => format!("Buildpack with name '{name}' and an unassigned stack already exists"),
    })
}

/// Puts a buildpack at a position, from 1; past the end is the end. The others move.
fn place(tx: &mut Tx<'_>, buildpack: &Buildpack, position: i32) -> Result<()> {
    let all = buildpacks::all(tx.conn, &buildpack.lifecycle)?;
    let mut order: Vec<&Buildpack> = all.iter().filter(|other| other.guid != buildpack.guid).collect();
    let at = usize::try_from(position.max(1) - 1).unwrap_or(0).min(order.len());
    let ours = all.iter().find(|other| other.guid == buildpack.guid).unwrap_or(buildpack);
    order.insert(at, ours);
    for (index, one) in order.into_iter().enumerate() {
        let position = i32::try_from(index + 1).unwrap_or(i32::MAX);
        if one.position != position {
            buildpacks::set_position(tx.conn, &one.guid, position)?;
        }
    }
    Ok(())
}

/// Changes a buildpack (A).
pub fn update(tx: &mut Tx<'_>, guid: &str, change: BuildpackChange, request: Value) -> Result<Buildpack> {
    let mut buildpack = find(tx, guid)?;
    tx.who.require_admin()?;
    if let Some(stack) = change.stack {
        if buildpack.stack.as_ref().is_some_and(|own| *own != stack) {
            return Err(Error::invalid("Buildpack stack cannot be changed"));
        }
        check_stack(tx, Some(&stack))?;
        buildpack.stack_key.clone_from(&stack);
        buildpack.stack = Some(stack);
    }
    buildpack.name = change.name.unwrap_or(buildpack.name);
    buildpack.enabled = change.enabled.unwrap_or(buildpack.enabled);
    buildpack.locked = change.locked.unwrap_or(buildpack.locked);
    buildpack.updated_at = tx.micros();
    taken(buildpacks::update(tx.conn, &buildpack), || name_taken(&buildpack))?;
    change.metadata.apply(tx, buildpacks::KIND, guid)?;
    if let Some(position) = change.position {
        place(tx, &buildpack, position)?;
    }
    record(tx, "audit.buildpack.update", &buildpack, json!({ "request": request }))?;
    find(tx, guid)
}

/// Deletes a buildpack (A).
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Buildpack> {
    let buildpack = find(tx, guid)?;
    tx.who.require_admin()?;
    buildpacks::delete(tx.conn, guid)?;
    metadata_store::forget(tx.conn, buildpacks::KIND, std::slice::from_ref(&buildpack.guid))?;
    garbage::add(tx, &buildpacks::blob(guid))?;
    for (index, other) in buildpacks::all(tx.conn, &buildpack.lifecycle)?.iter().enumerate() {
        buildpacks::set_position(tx.conn, &other.guid, i32::try_from(index + 1).unwrap_or(i32::MAX))?;
    }
    record(tx, "audit.buildpack.delete", &buildpack, json!({}))?;
    Ok(buildpack)
}

/// Checks that bits may be uploaded now (A); nothing changes.
///
/// # Errors
/// [`Error::Invalid`] for a locked one.
pub fn check_upload(tx: &mut Tx<'_>, guid: &str) -> Result<Buildpack> {
    let buildpack = find(tx, guid)?;
    tx.who.require_admin()?;
    if buildpack.locked { Err(Error::invalid("Buildpack is locked")) } else { Ok(buildpack) }
}

/// Bits that were kept as a buildpack's blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    pub filename: String,
    pub sha256: String,
    pub size_bytes: u64,
    /// The stack that the archive's own `manifest.yml` names.
    pub stack: Option<String>,
}

/// What stack a buildpack has once it holds these bits.
///
/// # Errors
/// The rules of the contract: another stack than it has, one that does not exist, one that makes its name taken.
pub fn check_bits(tx: &mut Tx<'_>, guid: &str, stack: Option<&str>) -> Result<Option<String>> {
    let buildpack = find(tx, guid)?;
    let Some(stack) = stack else { return Ok(buildpack.stack) };
    if let Some(own) = buildpack.stack.as_deref().filter(|own| *own != stack) {
        let text = format!("Uploaded buildpack stack ({stack}) does not match {own}");
        return Err(Error::rule(Rule::BuildpackStacksDontMatch, text));
    }
    if stack_state::of(tx.conn, stack)?.is_none() {
        return Err(Error::rule(Rule::BuildpackStackDoesNotExist, format!("Uploaded buildpack stack ({stack}) does not exist")));
    }
    Ok(Some(stack.to_owned()))
}

/// Notes bits whose blob is there.
pub fn uploaded(tx: &mut Tx<'_>, guid: &str, bits: &Bits) -> Result<Buildpack> {
    let stack = check_bits(tx, guid, bits.stack.as_deref())?;
    let mut buildpack = find(tx, guid)?;
    buildpack.stack_key = stack.clone().unwrap_or_default();
    buildpack.stack = stack;
    buildpack.state = "READY".into();
    buildpack.filename = Some(bits.filename.clone());
    buildpack.sha256 = Some(bits.sha256.clone());
    buildpack.size_bytes = i64::try_from(bits.size_bytes).ok();
    buildpack.updated_at = tx.micros();
    let text = format!(
        "The buildpack name {} is already in use for the stack {} and the lifecycle {}",
        buildpack.name, buildpack.stack_key, buildpack.lifecycle
    );
    taken(buildpacks::update(tx.conn, &buildpack), || Error::rule(Rule::BuildpackNameTaken, text))?;
    record(tx, "audit.buildpack.upload", &buildpack, json!({}))?;
    Ok(buildpack)
}

fn record(tx: &mut Tx<'_>, kind: &str, buildpack: &Buildpack, data: Value) -> Result<()> {
    let target = ("buildpack", buildpack.guid.as_str(), buildpack.name.as_str());
    audit::record(tx, Event { kind, target, space: None, org: None, data })
}
