//! Who is calling, and what that allows. The sets are those of the contract's permission matrix.
//!
//! Source: cloud_controller_ng, `lib/cloud_controller/permissions.rb`.

use crate::{
    domain::{Error, Result},
    store::{Conn, roles},
};
use std::collections::BTreeMap;

/// Who is calling: what a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's id; for a client its name.
    pub guid: String,
    /// The user's name; for a client its name.
    pub name: String,
    /// The user's mail address, if the token carries one.
    pub email: Option<String>,
    /// The identity provider; none for a client.
    pub origin: Option<String>,
    /// Scope `cloud_controller.admin`.
    pub admin: bool,
    /// Scope `cloud_controller.admin_read_only`.
    pub admin_read_only: bool,
    /// Scope `cloud_controller.global_auditor`.
    pub global_auditor: bool,
    /// May send reading requests at all.
    pub reads: bool,
    /// May send writing requests at all.
    pub writes: bool,
}

impl Caller {
    /// The platform itself, for unattended work.
    pub fn system() -> Self {
        Self {
            guid: "system".into(),
            name: "system".into(),
            email: None,
            origin: None,
            admin: true,
            admin_read_only: false,
            global_auditor: false,
            reads: true,
            writes: true,
        }
    }
    /// Somebody without a token: sees what everybody sees.
    pub fn anybody() -> Self {
        Self { guid: String::new(), name: String::new(), admin: false, writes: false, ..Self::system() }
    }
    /// True for the platform itself.
    pub fn is_system(&self) -> bool {
        self.guid == "system" && self.origin.is_none()
    }
    /// Reads everything (G).
    pub fn global_reader(&self) -> bool {
        self.admin || self.admin_read_only || self.global_auditor
    }
}

/// A role in an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrgRole {
    /// OU
    User,
    /// OM
    Manager,
    /// OA
    Auditor,
    /// OB
    BillingManager,
}

/// A role in a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpaceRole {
    /// SM
    Manager,
    /// SD
    Developer,
    /// SA
    Auditor,
    /// SS
    Supporter,
}

macro_rules! role_names {
    ($kind:ident: $($variant:ident = $name:literal,)*) => {
        impl $kind {
            /// As the API names it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
            /// Reads the API's name.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}
role_names! { OrgRole: User = "organization_user", Manager = "organization_manager", Auditor = "organization_auditor",
BillingManager = "organization_billing_manager", }
role_names! { SpaceRole: Manager = "space_manager", Developer = "space_developer", Auditor = "space_auditor",
Supporter = "space_supporter", }

/// A caller with the roles that the database has for it, read at the beginning of each operation.
#[derive(Clone, Debug)]
pub struct Access {
    /// Who it is.
    pub caller: Caller,
    orgs: BTreeMap<String, Vec<OrgRole>>,
    spaces: BTreeMap<String, (String, Vec<SpaceRole>)>,
}

impl Access {
    /// Reads the roles of a caller: one query, none for those who may do or read everything.
    pub fn load(conn: &mut Conn, caller: Caller) -> Result<Self> {
        let mut access = Self { orgs: BTreeMap::new(), spaces: BTreeMap::new(), caller };
        if access.caller.admin {
            return Ok(access);
        }
        for role in roles::of_user(conn, &access.caller.guid)? {
            match &role.space_guid {
                Some(space) => {
                    let entry = access.spaces.entry(space.clone()).or_insert_with(|| (role.org_guid.clone(), vec![]));
                    entry.1.extend(SpaceRole::parse(&role.kind));
                }
                None => access.orgs.entry(role.org_guid.clone()).or_default().extend(OrgRole::parse(&role.kind)),
            }
        }
        Ok(access)
    }

    /// A caller that may do everything: its rights were checked before.
    pub fn unlimited(caller: Caller) -> Self {
        Self { orgs: BTreeMap::new(), spaces: BTreeMap::new(), caller: Caller { admin: true, ..caller } }
    }

    /// The platform itself.
    #[cfg(test)]
    pub fn system() -> Self {
        Self { caller: Caller::system(), orgs: BTreeMap::new(), spaces: BTreeMap::new() }
    }

    /// A
    pub fn admin(&self) -> bool {
        self.caller.admin
    }
    /// G
    pub fn global_reader(&self) -> bool {
        self.caller.global_reader()
    }
    /// True with this role in this organization.
    pub fn has_org(&self, org: &str, role: OrgRole) -> bool {
        self.orgs.get(org).is_some_and(|roles| roles.contains(&role))
    }
    /// True with this role in this space.
    pub fn has_space(&self, space: &str, role: SpaceRole) -> bool {
        self.spaces.get(space).is_some_and(|(_, roles)| roles.contains(&role))
    }

    /// May see the organization: G, or any role in it or in one of its spaces.
    pub fn reads_org(&self, org: &str) -> bool {
        self.global_reader() || self.orgs.contains_key(org) || self.spaces.values().any(|(of, _)| of == org)
    }
    /// O: A, OM.
    pub fn writes_org(&self, org: &str) -> bool {
        self.admin() || self.has_org(org, OrgRole::Manager)
    }
    /// R: G, OM, any role in the space.
    pub fn reads_space(&self, space: &str, org: &str) -> bool {
        self.global_reader() || self.has_org(org, OrgRole::Manager) || self.spaces.contains_key(space)
    }
    /// RR: R, OA.
    pub fn reads_routes(&self, space: &str, org: &str) -> bool {
        self.reads_space(space, org) || self.has_org(org, OrgRole::Auditor)
    }
    /// W: A, SD.
    pub fn writes_space(&self, space: &str) -> bool {
        self.admin() || self.has_space(space, SpaceRole::Developer)
    }
    /// M: A, SD, SS.
    pub fn manages_apps(&self, space: &str) -> bool {
        self.writes_space(space) || self.has_space(space, SpaceRole::Supporter)
    }
    /// S: A, RO, SD.
    pub fn reads_secrets(&self, space: &str) -> bool {
        self.writes_space(space) || self.caller.admin_read_only
    }
    /// E: A, RO, SD, SS.
    pub fn reads_env(&self, space: &str) -> bool {
        self.reads_secrets(space) || self.has_space(space, SpaceRole::Supporter)
    }
    /// U: A, OM, SM.
    pub fn updates_space(&self, space: &str, org: &str) -> bool {
        self.writes_org(org) || self.has_space(space, SpaceRole::Manager)
    }

    /// Guids of organizations in which the caller has one of these roles.
    pub fn orgs_with(&self, roles: &[OrgRole]) -> Vec<String> {
        self.orgs.iter().filter(|(_, has)| has.iter().any(|r| roles.contains(r))).map(|(org, _)| org.clone()).collect()
    }
    /// Guids of spaces in which the caller has one of these roles.
    pub fn spaces_with(&self, roles: &[SpaceRole]) -> Vec<String> {
        self.spaces.iter().filter(|(_, (_, has))| has.iter().any(|r| roles.contains(r))).map(|(space, _)| space.clone()).collect()
    }
    /// Guids of spaces in which the caller has any role.
    pub fn own_spaces(&self) -> Vec<String> {
        self.spaces.keys().cloned().collect()
    }
    /// Guids of organizations that the caller sees, by a role in them or in one of their spaces.
    pub fn own_orgs(&self) -> Vec<String> {
        let mut all: Vec<String> = self.orgs.keys().cloned().chain(self.spaces.values().map(|(org, _)| org.clone())).collect();
        all.sort();
        all.dedup();
        all
    }
    /// Guids of organizations in which the caller has a role in a space.
    pub fn orgs_of_own_spaces(&self) -> Vec<String> {
        let mut all: Vec<String> = self.spaces.values().map(|(org, _)| org.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// `Ok` when allowed, else 403.
    pub fn require(allowed: bool) -> Result<()> {
        if allowed { Ok(()) } else { Err(Error::Forbidden) }
    }
    /// A or 403.
    pub fn require_admin(&self) -> Result<()> {
        Self::require(self.admin())
    }
}
