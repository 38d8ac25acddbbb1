//! Names that nobody may take: those of the platform's own hosts, and those that would stand in another owner's way.

use crate::{
    domain::{Error, Result, Tx},
    store,
};

/// Hosts of the platform on its system domain.
///
/// Source: cloud_controller_ng, `config/cloud_controller.yml`, `system_hostnames`; and our own.
const HOSTS: [&str; 14] = [
    "api",
    "uaa",
    "login",
    "log-cache",
    "log-stream",
    "doppler",
    "console",
    "ssh",
    "credhub",
    "proxy",
    "blobstore",
    "routing",
    "loggregator",
    "policy-server",
];

/// True for a host of the platform itself.
pub fn is_system_host(system_domain: &str, host: &str, domain: &str) -> bool {
    domain.eq_ignore_ascii_case(system_domain) && HOSTS.iter().any(|reserved| reserved.eq_ignore_ascii_case(host))
}

/// Checks the name of a new domain (in lower case) of `owner`; `None` for a shared one.
///
/// # Errors
/// [`Error::Invalid`] naming who has it.
pub fn check_domain(tx: &mut Tx<'_>, system_domain: &str, name: &str, owner: Option<&str>) -> Result<()> {
    check_system(system_domain, name, owner.is_some())?;
    let parents: Vec<String> =
        name.match_indices('.').map(|(at, _)| name[at + 1..].to_owned()).filter(|p| p.contains('.')).collect();
    let above = store::domains::find_all_named(tx.conn, &parents)?;
    let stands_in_way = above.into_iter().find(|parent| parent.org_guid.is_some() && parent.org_guid.as_deref() != owner);
    let taken_by = |other: &str, whom: &str| {
        Error::invalid(format!("The domain name \"{name}\" cannot be created because \"{other}\" is already reserved by {whom}"))
    };
    if let Some(parent) = stands_in_way {
        return Err(taken_by(&parent.name, "another domain"));
    }
    if owner.is_some() {
        let below = store::domains::find_below(tx.conn, name)?;
        if let Some(child) = below.into_iter().find(|child| child.org_guid.as_deref() != owner) {
            return Err(taken_by(&child.name, "another domain"));
        }
    }
    if let Some((host, parent)) = name.split_once('.') {
        let parent = store::domains::find_named(tx.conn, parent)?;
        if let Some(parent) = parent
            && store::routes::has_host(tx.conn, &parent.guid, host)?
        {
            return Err(taken_by(name, "a route"));
        }
    }
    Ok(())
}

fn check_system(system_domain: &str, name: &str, private: bool) -> Result<()> {
    let by_system = |other: &str| {
        let text = format!("The domain name \"{name}\" cannot be created because \"{other}\" is already reserved by the system");
        Err(Error::invalid(text))
    };
    let host = HOSTS
        .iter()
        .map(|host| format!("{host}.{system_domain}"))
        .find(|full| name == full || name.ends_with(&format!(".{full}")));
    if let Some(full) = host {
        return by_system(&full);
    }
    if private && name == system_domain {
        return Err(Error::invalid(format!("The \"{name}\" domain is reserved and cannot be used for org-scoped domains.")));
    }
    // A private domain above or below the system domain could speak for hosts that the platform is yet to have.
    if private && (system_domain.ends_with(&format!(".{name}")) || name.ends_with(&format!(".{system_domain}"))) {
        return by_system(system_domain);
    }
    Ok(())
}
