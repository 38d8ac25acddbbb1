//! The space and organization that something belongs to, and the order of checks before a write.

use crate::{
    domain::{Error, Result, Rule, Tx, workloads},
    store::{
        orgs::Org,
        spaces::{self, Space},
    },
};

/// A space with its organization.
#[derive(Clone, Debug)]
pub struct Scope {
    pub space: Space,
    pub org: Org,
}

impl Scope {
    /// The scope of a space, whoever asks.
    pub fn find(tx: &mut Tx<'_>, space: &str) -> Result<Option<Self>> {
        Ok(spaces::find_with_org(tx.conn, space)?.map(|(space, org)| Self { space, org }))
    }

    /// The scope of a space in which `what` lies.
    ///
    /// # Errors
    /// [`Error::NotFound`] about `what` when the caller does not read the space (R).
    pub fn readable(tx: &mut Tx<'_>, space: &str, what: &'static str) -> Result<Self> {
        let scope = Self::find(tx, space)?.filter(|scope| tx.who.reads_space(&scope.space.guid, &scope.org.guid));
        scope.ok_or(Error::NotFound(what))
    }

    /// The scope of a space that a body refers to.
    ///
    /// # Errors
    /// [`Error::Invalid`] with `text` when the caller does not read the space (R).
    pub fn referred(tx: &mut Tx<'_>, space: &str, text: &str) -> Result<Self> {
        match Self::readable(tx, space, "Space") {
            Err(Error::NotFound(_)) => Err(Error::invalid(text)),
            other => other,
        }
    }

    /// What follows after something was found: the role, then the states of organization and space.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when not `allowed`; else the rule of a state that forbids writing; [`Error::Invalid`] for what belongs
    /// to the platform itself.
    pub fn check(&self, tx: &Tx<'_>, allowed: bool) -> Result<()> {
        if !allowed {
            return Err(Error::Forbidden);
        }
        workloads::check_foreign(tx, self)?;
        if tx.who.admin() {
            return Ok(());
        }
        let manager = tx.who.writes_org(&self.org.guid);
        check_org(tx, &self.org, true)?;
        if self.space.deleting && !manager {
            return Err(Error::rule(Rule::BeingDeleted, "The space is being deleted"));
        }
        if self.space.suspended && !manager {
            return Err(Error::rule(Rule::SpaceSuspended, "The space is suspended"));
        }
        Ok(())
    }

    /// True when the caller may write here (W): create, edit, delete.
    pub fn writes(&self, tx: &Tx<'_>) -> bool {
        tx.who.writes_space(&self.space.guid)
    }
    /// True when the caller may run apps here (M).
    pub fn manages(&self, tx: &Tx<'_>) -> bool {
        tx.who.manages_apps(&self.space.guid)
    }
}

/// The role in an organization, then its state.
///
/// # Errors
/// As [`Scope::check`].
pub fn check_org(tx: &Tx<'_>, org: &Org, allowed: bool) -> Result<()> {
    if !allowed {
        return Err(Error::Forbidden);
    }
    workloads::check_foreign_org(tx, org)?;
    if tx.who.admin() {
        return Ok(());
    }
    if org.deleting {
        return Err(Error::rule(Rule::BeingDeleted, "The organization is being deleted"));
    }
    if org.suspended {
        return Err(Error::rule(Rule::OrgSuspended, "The organization is suspended"));
    }
    Ok(())
}
