//! Giving and taking roles.

use crate::{
    domain::{Access, Error, OrgRole, Result, Scope, SpaceRole, Tx, audit, check_org, flags, orgs, taken},
    outside::Identity,
    store::{
        self,
        jobs::{self, Job},
        orgs::Org,
        roles::RoleRow,
        users::{self, User},
    },
};
use serde_json::{Value, json};

/// Which role, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In an organization.
    Org(OrgRole, String),
    /// In a space.
    Space(SpaceRole, String),
}

impl Place {
    /// As the API names the role.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Org(role, _) => role.name(),
            Self::Space(role, _) => role.name(),
        }
    }
}

/// Who is to get it.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A user that is known here, or that UAA knows by this id.
    Guid(String, Option<Identity>),
    /// A user that was found by name in UAA.
    Found(Identity),
}

/// Where a role is given: organization, and space for roles in a space.
struct Target {
    org: Org,
    space: Option<store::spaces::Space>,
}

/// Checks that the caller may give this role. Done before a user is looked up, and again when it is given.
pub fn check(tx: &mut Tx<'_>, place: &Place, by_name: bool) -> Result<()> {
    target(tx, place)?;
    if by_name { flags::require(tx, "set_roles_by_username") } else { Ok(()) }
}

fn target(tx: &mut Tx<'_>, place: &Place) -> Result<Target> {
    match place {
        Place::Org(_, guid) => {
            let text = "Invalid organization. Ensure that the organization exists and you have access to it.";
            // An organization that exists but is foreign is 403.
            let org = store::orgs::find(tx.conn, guid)?.ok_or_else(|| Error::invalid(text))?;
            check_org(tx, &org, tx.who.writes_org(guid))?;
            Ok(Target { org, space: None })
        }
        Place::Space(_, guid) => {
            let text = "Invalid space. Ensure that the space exists and you have access to it.";
            let scope = Scope::find(tx, guid)?.ok_or_else(|| Error::invalid(text))?;
            scope.check(tx, tx.who.updates_space(guid, &scope.org.guid))?;
            Ok(Target { org: scope.org, space: Some(scope.space) })
        }
    }
}

/// Gives a role.
pub fn create(tx: &mut Tx<'_>, place: &Place, subject: &Subject, request: Value) -> Result<RoleRow> {
    let target = target(tx, place)?;
    let user = subject_user(tx, subject)?;
    let name = user.username.clone().unwrap_or_else(|| user.guid.clone());
    if target.space.is_some() && !store::roles::has(tx.conn, &user.guid, &target.org.guid, OrgRole::User.name())? {
        let text = "Users cannot be assigned roles in a space if they do not have a role in that space's organization.";
        return Err(Error::invalid(text));
    }
    let role = row(tx, place.kind(), &user.guid, &target.org, target.space.as_ref().map(|s| s.guid.as_str()));
    let place_text = match &target.space {
        Some(space) => format!("space '{}'", space.name),
        None => format!("organization '{}'", target.org.name),
    };
    let text = || Error::invalid(format!("User '{name}' already has '{}' role in {place_text}.", place.kind()));
    // Asked first, because on PostgreSQL a broken key ends the transaction; the key itself decides races.
    if store::roles::has(tx.conn, &user.guid, &role.scope_guid, place.kind())? {
        return Err(text());
    }
    taken(store::roles::insert(tx.conn, &role), text)?;
    record(tx, &role, "add", &name, request)?;
    Ok(role)
}

fn subject_user(tx: &mut Tx<'_>, subject: &Subject) -> Result<User> {
    let unknown = || Error::invalid("Invalid user. Ensure that the user exists and you have access to it.");
    let identity = match subject {
        Subject::Guid(guid, identity) => {
            let who = tx.who.clone();
            if let Some(user) = users::find_visible(tx.conn, &who, guid)? {
                return Ok(user);
            }
            // Somebody who is known to UAA alone: only administrators may bring them in by id.
            identity.as_ref().filter(|_| who.admin()).ok_or_else(unknown)?
        }
        Subject::Found(identity) => identity,
    };
    let now = tx.micros();
    users::know(tx.conn, &identity.guid, Some(&identity.username), Some(&identity.origin), now)?;
    users::find(tx.conn, &identity.guid)?.ok_or_else(unknown)
}

fn row(tx: &mut Tx<'_>, kind: &str, user: &str, org: &Org, space: Option<&str>) -> RoleRow {
    RoleRow {
        guid: tx.guid(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        kind: kind.to_owned(),
        user_guid: user.to_owned(),
        org_guid: org.guid.clone(),
        space_guid: space.map(str::to_owned),
        scope_guid: space.unwrap_or(&org.guid).to_owned(),
    }
}

/// Gives a role in an organization without asking whether the caller may.
pub fn grant_org(tx: &mut Tx<'_>, role: OrgRole, user: &str, org: &Org) -> Result<()> {
    let row = row(tx, role.name(), user, org, None);
    store::roles::insert(tx.conn, &row)?;
    let name = tx.who.caller.name.clone();
    record(tx, &row, "add", &name, json!({}))
}

/// Takes a role away.
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Job> {
    let who = tx.who.clone();
    let role = store::roles::find(tx.conn, &who, guid)?.ok_or(Error::NotFound("Role"))?;
    match &role.space_guid {
        Some(space) => {
            let scope = Scope::find(tx, space)?.ok_or(Error::NotFound("Role"))?;
            scope.check(tx, who.updates_space(space, &scope.org.guid))?;
        }
        None => {
            let org = orgs::readable(tx, &role.org_guid)?;
            Access::require(who.writes_org(&org.guid))?;
            check_org(tx, &org, true)?;
            if role.kind == OrgRole::User.name() && store::roles::in_spaces_of(tx.conn, &role.user_guid, &org.guid)? {
                return Err(Error::invalid(
                    "Cannot delete organization_user role while user has roles in spaces in that organization.",
                ));
            }
        }
    }
    store::roles::delete(tx.conn, guid)?;
    let user = users::find(tx.conn, &role.user_guid)?;
    let name = user.and_then(|user| user.username).unwrap_or_else(|| role.user_guid.clone());
    record(tx, &role, "remove", &name, json!({}))?;
    jobs::done(tx, "role.delete", Some(("roles", guid)))
}

fn record(tx: &mut Tx<'_>, role: &RoleRow, what: &str, name: &str, request: Value) -> Result<()> {
    let kind = format!("audit.user.{}_{what}", role.kind);
    let target = ("user", role.user_guid.as_str(), name);
    let data = json!({ "request": request });
    audit::record(tx, audit::Event { kind: &kind, target, space: role.space_guid.as_deref(), org: Some(&role.org_guid), data })
}
