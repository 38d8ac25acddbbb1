//! Who sees which plans, and who may change that.

use crate::{
    domain::{Access, Error, Result, Tx, audit},
    store::{
        self,
        orgs::Org,
        query::List,
        service_brokers,
        service_plans::{self as plans, Grant, Offered, Plan, Reach},
        spaces::Space,
    },
};
use serde_json::{Value, json};

/// As what a plan is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To everybody.
    Public,
    /// To administrators.
    Admin,
    /// To those organizations that are named.
    Organization,
    /// In the space of its broker.
    Space,
}

impl Kind {
    /// As the API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Admin => "admin",
            Self::Organization => "organization",
            Self::Space => "space",
        }
    }

    /// Of a plan; `named`: organizations are named for it.
    pub fn of(plan: &Plan, broker_space: Option<&str>, named: bool) -> Self {
        match (broker_space, plan.public, named) {
            (Some(_), _, _) => Self::Space,
            (None, true, _) => Self::Public,
            (None, false, true) => Self::Organization,
            (None, false, false) => Self::Admin,
        }
    }
}

/// What the caller sees of what a list asks for: filters on organizations and spaces leave public plans in.
pub fn reach(tx: &mut Tx<'_>, list: &List) -> Result<Reach> {
    let who = tx.who.clone();
    let (orgs, spaces) = (list.values("organization_guids"), list.values("space_guids"));
    if orgs.is_none() && spaces.is_none() {
        return Ok(match who.global_reader() {
            true => Reach::Everything,
            false => Reach::Some { orgs: who.own_orgs(), spaces: who.own_spaces() },
        });
    }
    let own_spaces = who.own_spaces();
    let enters = |space: &str| who.global_reader() || own_spaces.iter().any(|own| own == space);
    let asked = |all: &Option<Vec<String>>, one: &String| all.as_ref().is_none_or(|all| all.contains(one));
    let mut of_spaces = None;
    if let Some(spaces) = &spaces {
        let found = store::spaces::find_all(tx.conn, spaces)?;
        of_spaces = Some(found.into_iter().filter(|space| enters(&space.guid)).map(|space| space.org_guid).collect());
    }
    let seen_orgs = match (&orgs, &of_spaces) {
        (Some(orgs), _) => orgs.iter().filter(|org| who.reads_org(org) && asked(&of_spaces, org)).cloned().collect(),
        (None, Some(of_spaces)) => of_spaces.clone(),
        (None, None) => vec![],
    };
    let with_brokers = service_brokers::spaces(tx.conn)?;
    let seen_spaces = with_brokers.into_iter().filter(|(space, org)| enters(space) && asked(&spaces, space) && asked(&orgs, org));
    Ok(Reach::Some { orgs: seen_orgs, spaces: seen_spaces.map(|(space, _)| space).collect() })
}

/// True when the caller sees the plan.
pub fn sees(tx: &mut Tx<'_>, offered: &Offered) -> Result<bool> {
    let who = tx.who.clone();
    if who.global_reader() || offered.plan.public {
        return Ok(true);
    }
    match &offered.broker.space_guid {
        Some(space) => Ok(who.own_spaces().contains(space)),
        None => plans::is_granted(tx.conn, &offered.plan.guid, &who.own_orgs()),
    }
}

/// True when the caller may change what the broker in this space (none: the platform) offers: A, W.
pub fn may_write(who: &Access, broker_space: Option<&str>) -> bool {
    who.admin() || broker_space.is_some_and(|space| who.writes_space(space))
}

/// A plan that the caller sees.
///
/// # Errors
/// [`Error::NotFound`].
pub fn seen(tx: &mut Tx<'_>, plan: &str) -> Result<Offered> {
    let found = plans::find_offered(tx.conn, plan)?.ok_or(Error::NotFound("Service plan"))?;
    if sees(tx, &found)? { Ok(found) } else { Err(Error::NotFound("Service plan")) }
}

/// Who sees a plan, as far as the caller may know.
#[derive(Clone, Debug)]
pub struct Visibility {
    pub kind: Kind,
    pub orgs: Vec<Org>,
    pub space: Option<Space>,
}

/// Who sees a plan.
pub fn show(tx: &mut Tx<'_>, plan: &str) -> Result<Visibility> {
    let offered = seen(tx, plan)?;
    of(tx, &offered)
}

fn of(tx: &mut Tx<'_>, offered: &Offered) -> Result<Visibility> {
    let all = plans::orgs_of(tx.conn, &offered.plan.guid)?;
    let kind = Kind::of(&offered.plan, offered.broker.space_guid.as_deref(), !all.is_empty());
    let space = match &offered.broker.space_guid {
        Some(space) => store::spaces::find(tx.conn, space)?,
        None => None,
    };
    Ok(Visibility { kind, orgs: all.into_iter().filter(|org| tx.who.reads_org(&org.guid)).collect(), space })
}

/// Who is to see a plan.
#[derive(Clone, Debug)]
pub struct Change {
    /// Anything but [`Kind::Space`].
    pub kind: Kind,
    pub orgs: Vec<String>,
    /// The organizations come to those that are named already.
    pub append: bool,
    pub request: Value,
}

/// Changes who sees a plan (A).
pub fn change(tx: &mut Tx<'_>, plan: &str, change: &Change) -> Result<Visibility> {
    let mut offered = writable(tx, plan)?;
    if offered.broker.space_guid.is_some() {
        return Err(Error::invalid("cannot update plans with visibility type 'space'"));
    }
    if change.kind != Kind::Organization || !change.append {
        plans::revoke(tx.conn, plan, None)?;
    }
    if change.kind == Kind::Organization {
        open(tx, plan, &change.orgs)?;
    }
    let now = tx.micros();
    offered.plan.public = change.kind == Kind::Public;
    offered.plan.updated_at = now;
    plans::save(tx.conn, &offered.plan)?;
    record(tx, "audit.service_plan_visibility.update", &offered.plan, None, json!({ "request": change.request }))?;
    of(tx, &offered)
}

fn open(tx: &mut Tx<'_>, plan: &str, orgs: &[String]) -> Result<()> {
    let known: Vec<String> = store::orgs::find_all(tx.conn, orgs)?.into_iter().map(|org| org.guid).collect();
    if let Some(missing) = orgs.iter().find(|org| !known.contains(org)) {
        return Err(Error::invalid(format!("Could not find Organization with guid: {missing}")));
    }
    let named: Vec<String> = plans::orgs_of(tx.conn, plan)?.into_iter().map(|org| org.guid).collect();
    let new = known.into_iter().filter(|org| !named.contains(org));
    let rows: Vec<Grant> = new.map(|org_guid| Grant { plan_guid: plan.to_owned(), org_guid }).collect();
    Ok(plans::grant(tx.conn, &rows)?)
}

/// Closes a plan to one organization (A).
pub fn revoke(tx: &mut Tx<'_>, plan: &str, org: &str) -> Result<()> {
    let offered = writable(tx, plan)?;
    if of(tx, &offered)?.kind != Kind::Organization {
        return Err(Error::invalid("Cannot delete visibilities from non-org-restricted plans"));
    }
    let org = store::orgs::find(tx.conn, org)?.ok_or(Error::NotFound("Organization"))?;
    if plans::revoke(tx.conn, plan, Some(&org.guid))? == 0 {
        return Err(Error::NotFound("Service plan visibility"));
    }
    let data = json!({ "organization_guid": org.guid });
    record(tx, "audit.service_plan_visibility.delete", &offered.plan, Some(&org.guid), data)
}

fn writable(tx: &mut Tx<'_>, plan: &str) -> Result<Offered> {
    let offered = seen(tx, plan)?;
    Access::require(may_write(&tx.who, offered.broker.space_guid.as_deref()))?;
    Ok(offered)
}

fn record(tx: &mut Tx<'_>, kind: &str, plan: &Plan, org: Option<&str>, data: Value) -> Result<()> {
    let target = ("service_plan_visibility", plan.guid.as_str(), plan.name.as_str());
    audit::record(tx, audit::Event { kind, target, space: None, org, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(public: bool) -> Plan {
        Plan {
            guid: "p".into(),
            created_at: 0,
            updated_at: 0,
            offering_guid: "o".into(),
            catalog_id: "c".into(),
            name: "small".into(),
            description: String::new(),
            free: true,
            available: true,
            public,
            bindable: None,
            plan_updateable: None,
            binding_rotatable: false,
            extra: None,
            create_schema: None,
            update_schema: None,
            bind_schema: None,
            maximum_polling_s: None,
            maintenance_info: None,
        }
    }

    #[test]
    fn a_plan_of_a_spaces_broker_is_of_that_space_whatever_else_is_said() {
        assert_eq!(Kind::of(&plan(true), Some("s"), true), Kind::Space);
        assert_eq!(Kind::of(&plan(true), None, true), Kind::Public);
        assert_eq!(Kind::of(&plan(false), None, true), Kind::Organization);
        assert_eq!(Kind::of(&plan(false), None, false), Kind::Admin);
    }
}
