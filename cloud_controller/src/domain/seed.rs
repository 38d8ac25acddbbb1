//! What a new platform has.

use crate::{
    config::Config,
    domain::{Result, Tx, orgs::DEFAULT_QUOTA, stacks},
    store::{
        domains::{self, Domain},
        quotas::{self, OrgQuota},
        stacks as stack_store,
    },
};

/// Makes what is missing: the default quota, the apps domain, the stacks. What an operator changed stays.
pub fn first_boot(tx: &mut Tx<'_>, config: &Config) -> Result<()> {
    if quotas::find_org_quota_named(tx.conn, DEFAULT_QUOTA)?.is_none() {
        let mut quota = OrgQuota::unlimited(tx.guid(), tx.micros(), DEFAULT_QUOTA);
        quota.total_memory_mb = Some(102_400);
        quota.total_routes = Some(1000);
        quota.total_reserved_ports = Some(100);
        quotas::insert_org_quota(tx.conn, &quota)?;
    }
    if domains::find_named(tx.conn, &config.apps_domain)?.is_none() {
        let domain = Domain {
            guid: tx.guid(),
            created_at: tx.micros(),
            updated_at: tx.micros(),
            name: config.apps_domain.clone(),
            internal: false,
            org_guid: None,
        };
        domains::insert(tx.conn, &domain)?;
    }
    for stack in &config.stacks {
        if stack_store::find_named(tx.conn, &stack.name)?.is_none() {
            let new = stacks::NewStack {
                name: stack.name.clone(),
                description: stack.description.clone(),
                state: stack.disabled.is_some().then(|| "DISABLED".to_owned()),
                state_reason: stack.disabled.clone().unwrap_or_default(),
                is_default: stack.name == config.default_stack(),
                ..stacks::NewStack::default()
            };
            stacks::create(tx, &new)?;
        }
    }
    Ok(())
}
