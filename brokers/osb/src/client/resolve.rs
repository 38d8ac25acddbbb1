//! Names to addresses, with the guard in between.

use super::guard::{Policy, Refusal};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{net::SocketAddr, sync::Arc};

/// Looks at every address that a name has; all must be good, so that the answer does not depend on which is tried.
pub(super) struct Guarded(pub(super) Arc<Policy>);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &addresses {
                policy.check(address.ip())?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Sends every name of the platform to its router.
pub(super) struct ToRouter {
    pub(super) policy: Arc<Policy>,
    pub(super) https: bool,
}

impl Resolve for ToRouter {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().trim_end_matches('.').to_ascii_lowercase();
        let domain = self.policy.domain(&name);
        let router = domain.and_then(|domain| if self.https { domain.https } else { domain.http });
        let addresses = router.map(|router| Box::new(std::iter::once(router)) as Addrs);
        Box::pin(std::future::ready(addresses.ok_or_else(|| Refusal::Shape("this is not a name of the platform").into())))
    }
}
