//! OAuth clients of brokers' dashboards: brought to UAA with the catalog that names them, and taken away with their broker.
//!
//! Stands in front of the way to brokers, so that a catalog is good only once UAA has taken its clients. UAA keeps which broker
//! a client belongs to, in the client's name: whatever was interrupted is found and put right the next time.
//!
//! Source: cloud_controller_ng, `lib/services/sso/dashboard_client_manager.rb`.

use crate::{
    brokers::{Address, Brokers, Call, Failure, FailureKind, Object, Reply, Request},
    domain::services::{brokers::invalid_catalog, catalog::clients_taken},
    outside::LookupError,
    store::{Store, service_brokers},
};
use async_trait::async_trait;
use osb::Catalog;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use uaa_client::{ClientChange, KnownClient, LoginClient};

/// What users of dashboards let them see.
///
/// Source: cloudfoundry/docs-services, `dashboard-sso.html.md.erb`.
const SCOPES: [&str; 2] = ["openid", "cloud_controller_service_permissions.read"];

/// Keeps OAuth clients.
#[async_trait]
pub trait DashboardClients: Send + Sync + 'static {
    /// All clients.
    ///
    /// # Errors
    /// When UAA cannot be asked.
    async fn all(&self) -> Result<Vec<KnownClient>, LookupError>;

    /// Carries out all of these changes, or none.
    ///
    /// # Errors
    /// When UAA cannot be asked, or refuses.
    async fn change(&self, changes: &[ClientChange]) -> Result<(), LookupError>;
}

#[async_trait]
impl DashboardClients for uaa_client::Client {
    async fn all(&self) -> Result<Vec<KnownClient>, LookupError> {
        self.clients().await.map_err(|e| LookupError(e.into()))
    }
    async fn change(&self, changes: &[ClientChange]) -> Result<(), LookupError> {
        self.change_clients(changes).await.map_err(|e| LookupError(e.into()))
    }
}

/// The way to brokers, with their dashboards.
pub(crate) struct WithDashboards {
    pub(crate) brokers: Arc<dyn Brokers>,
    pub(crate) clients: Arc<dyn DashboardClients>,
    pub(crate) store: Store,
}

#[async_trait]
impl Brokers for WithDashboards {
    async fn call(&self, call: Call) -> Reply {
        let broker = call.broker.clone();
        match call.request {
            Request::Catalog { has_dashboards } => match self.brokers.call(call).await {
                Reply::Done(body) => self.with_catalog(&broker, body, has_dashboards).await.unwrap_or_else(Reply::Failed),
                other => other,
            },
            Request::ForgetDashboards => match self.bring(&broker, &Catalog::default()).await {
                Ok(()) => Reply::Done(Object::new()),
                Err(failure) => Reply::Failed(failure),
            },
            _ => self.brokers.call(call).await,
        }
    }
}

impl WithDashboards {
    async fn with_catalog(&self, broker: &Address, body: Object, has_dashboards: bool) -> Result<Reply, Failure> {
        // What is wrong with it otherwise is said by those who take it over.
        if let Ok(catalog) = osb::catalog::validate(&Value::Object(body.clone()))
            && (has_dashboards || catalog.services.iter().any(|service| service.dashboard_client.is_some()))
        {
            self.bring(broker, &catalog).await?;
        }
        Ok(Reply::Done(body))
    }

    /// Makes the clients of a broker what its catalog says.
    async fn bring(&self, broker: &Address, catalog: &Catalog) -> Result<(), Failure> {
        let known: BTreeMap<String, KnownClient> =
            self.clients.all().await.map_err(failed)?.into_iter().map(|client| (client.id.clone(), client)).collect();
        let taken = self.taken(broker, catalog, &known).await?;
        if !taken.is_empty() {
            return Err(invalid_catalog(&clients_taken(catalog, &taken)));
        }
        let mut wanted = vec![];
        let mut changes = vec![];
        for service in &catalog.services {
            let Some(client) = &service.dashboard_client else { continue };
            let whole = LoginClient {
                id: client.id.clone(),
                secret: client.secret.clone(),
                name: name(&service.name, &broker.guid),
                redirect_uri: client.redirect_uri.clone().unwrap_or_default(),
                scopes: SCOPES.iter().map(|scope| (*scope).to_owned()).collect(),
            };
            wanted.push(&client.id);
            changes.push(if known.contains_key(&client.id) { ClientChange::Update(whole) } else { ClientChange::Add(whole) });
        }
        let old = known.values().filter(|client| owner(client) == Some(&broker.guid) && !wanted.contains(&&client.id));
        changes.extend(old.map(|client| ClientChange::Delete(client.id.clone())));
        if changes.is_empty() {
            return Ok(());
        }
        self.clients.change(&changes).await.map_err(failed)
    }

    /// Ids that belong to somebody else: to UAA's own, or to another broker that is still there.
    async fn taken(
        &self,
        broker: &Address,
        catalog: &Catalog,
        known: &BTreeMap<String, KnownClient>,
    ) -> Result<Vec<String>, Failure> {
        let mut taken = vec![];
        for service in &catalog.services {
            let Some(found) = service.dashboard_client.as_ref().and_then(|client| known.get(&client.id)) else { continue };
            let free = match owner(found).map(str::to_owned) {
                None => false,
                Some(owner) if owner == broker.guid => true,
                Some(owner) => {
                    let other = self.store.read(move |conn| service_brokers::find(conn, &owner)).await;
                    other.map_err(|e| Failure::new(FailureKind::Platform, e.to_string()))?.is_none()
                }
            };
            if !free {
                taken.push(found.id.clone());
            }
        }
        Ok(taken)
    }
}

fn failed(error: LookupError) -> Failure {
    let mut text = "Service broker dashboard clients could not be modified".to_owned();
    let mut cause: Option<&dyn std::error::Error> = Some(&*error.0);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    Failure::new(FailureKind::Dashboards, text)
}

fn name(offering: &str, broker: &str) -> String {
    // Names in UAA are bounded.
    let offering: String = offering.chars().take(100).collect();
    format!("Dashboard of {offering} (service broker {broker})")
}

/// The broker that a client belongs to.
fn owner(client: &KnownClient) -> Option<&str> {
    client.name.strip_prefix("Dashboard of ")?.rsplit_once("(service broker ")?.1.strip_suffix(')')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_tells_whose_it_is() {
        let client = |name: &str| KnownClient { id: "c".into(), name: name.into() };
        assert_eq!(owner(&client(&name("db (service broker x)", "b-1"))), Some("b-1"));
        assert_eq!(owner(&client("cf")), None);
        assert_eq!(owner(&client("(service broker b-1)")), None);
    }
}
