//! Spaces.

use crate::{
    domain::{
        Access, Error, Result, Rule, Scope, Tx, apps, audit, check_org, metadata::MetadataChange, orgs, routes,
        services::teardown, taken,
    },
    store::{
        self,
        jobs::Job,
        metadata::{self, Described},
        orgs::Org,
        query::key,
        spaces::{KIND, Space},
    },
};
use serde_json::{Value, json};

/// What a new space is to be.
#[derive(Clone, Debug)]
pub struct NewSpace {
    pub name: String,
    pub org: String,
    pub suspended: bool,
    pub metadata: MetadataChange,
    /// The request, for the event.
    pub request: Value,
}

/// What a space is to become.
#[derive(Clone, Debug)]
pub struct SpaceChange {
    pub name: Option<String>,
    pub suspended: Option<bool>,
    pub metadata: MetadataChange,
    pub request: Value,
}

/// Makes a space; its maker gets no role in it.
pub fn create(tx: &mut Tx<'_>, new: &NewSpace) -> Result<Described<Space>> {
    let text = "Invalid organization. Ensure the organization exists and you have access to it.";
    let org = orgs::referred(tx, &new.org, text)?;
    check_org(tx, &org, tx.who.writes_org(&org.guid))?;
    let space = Space {
        guid: tx.guid(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        name: new.name.clone(),
        name_key: key(&new.name),
        org_guid: org.guid.clone(),
        suspended: new.suspended,
        deleting: false,
        allow_ssh: true,
        quota_guid: None,
    };
    taken(store::spaces::insert(tx.conn, &space), || Error::invalid("Name must be unique per organization"))?;
    let metadata = new.metadata.apply(tx, KIND, &space.guid)?;
    record(tx, "audit.space.create", &space, new.request.clone())?;
    Ok(Described { row: space, metadata })
}

/// Renames, suspends, describes (U).
pub fn update(tx: &mut Tx<'_>, guid: &str, change: &SpaceChange) -> Result<Described<Space>> {
    let scope = Scope::readable(tx, guid, "Space")?;
    scope.check(tx, tx.who.updates_space(guid, &scope.org.guid))?;
    let Scope { mut space, org } = scope;
    if change.suspended.is_some_and(|suspended| suspended != space.suspended) {
        Access::require(tx.who.writes_org(&org.guid))?;
    }
    if let Some(name) = &change.name {
        space.name.clone_from(name);
        space.name_key = key(name);
    }
    space.suspended = change.suspended.unwrap_or(space.suspended);
    space.updated_at = tx.micros();
    let text = || Error::invalid(format!("Organization '{}' already contains a space with name '{}'.", org.name, space.name));
    taken(store::spaces::save(tx.conn, &space), text)?;
    let metadata = change.metadata.apply(tx, KIND, &space.guid)?;
    record(tx, "audit.space.update", &space, change.request.clone())?;
    Ok(Described { row: space, metadata })
}

/// Allows or forbids ssh into the space's apps (U).
pub fn allow_ssh(tx: &mut Tx<'_>, guid: &str, allow: bool) -> Result<()> {
    let scope = Scope::readable(tx, guid, "Space")?;
    scope.check(tx, tx.who.updates_space(guid, &scope.org.guid))?;
    let space = Space { allow_ssh: allow, updated_at: tx.micros(), ..scope.space };
    Ok(store::spaces::save(tx.conn, &space)?)
}

/// Deletes a space with all that is in it (O).
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Job> {
    let scope = Scope::readable(tx, guid, "Space")?;
    check_org(tx, &scope.org, tx.who.writes_org(&scope.org.guid))?;
    teardown::delete_space(tx, &scope)
}

/// Deletes a space: its apps, its routes, its roles, the row.
pub fn delete_with_all(tx: &mut Tx<'_>, space: &Space, org: &Org) -> Result<()> {
    let failed = |why: Error| match why {
        why @ (Error::Internal(..) | Error::Contention(_) | Error::Unavailable(..)) => why,
        why => {
            let lead =
                format!("Deletion of space {} failed because one or more resources within could not be deleted.", space.name);
            Error::rule(Rule::SpaceDeletionFailed, format!("{lead}\n\n{why}"))
        }
    };
    let scope = Scope { space: space.clone(), org: org.clone() };
    for app in store::spaces::apps_of(tx.conn, &space.guid)? {
        apps::delete_in(tx, &app, &scope).map_err(failed)?;
    }
    routes::delete_of_space(tx, &space.guid)?;
    metadata::forget(tx.conn, KIND, std::slice::from_ref(&space.guid))?;
    store::spaces::delete(tx.conn, &space.guid)?;
    let target = ("space", space.guid.as_str(), space.name.as_str());
    let data = json!({ "request": { "recursive": true } });
    let event = audit::Event { kind: "audit.space.delete-request", target, space: Some(&space.guid), org: Some(&org.guid), data };
    audit::record(tx, event)
}

fn record(tx: &mut Tx<'_>, kind: &str, space: &Space, request: Value) -> Result<()> {
    let target = ("space", space.guid.as_str(), space.name.as_str());
    let data = json!({ "request": request });
    audit::record(tx, audit::Event { kind, target, space: Some(&space.guid), org: Some(&space.org_guid), data })
}
