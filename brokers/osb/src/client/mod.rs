//! The platform's side: calls to a broker, each with an outcome that says what to do next.
//!
//! - [`Clients`] are the connections of a platform: limits, the guard of addresses ([`guard`]). - [`BrokerClient`] is one broker.
//! - [`outcome`]: what a call may come to. - `interpret`: from an answer to an outcome, without I/O. - `transport`: the exchange
//!   of one request, bounded in time and size. - `texts`: what users read. - [`retry_after`]: the header of that name.
//!
//! It does not retry, poll or mitigate: it says whether mitigation is due ([`Failure::orphan`]), and the caller remembers.

pub mod guard;
pub mod outcome;
pub mod retry_after;

mod binding;
mod interpret;
mod resolve;
mod shape;
mod texts;
mod transport;

#[cfg(test)]
mod tests;

pub use guard::{PlatformDomain, Policy};
pub use outcome::{Failure, FailureKind, Outcome, Poll};

use crate::{
    AcceptedResponse, Backup, BackupList, BackupRequest, BindRequest, Binding, FetchedBinding, FetchedInstance,
    OriginatingIdentity, ProvisionRequest, ProvisionResponse, Requirement, RestoreRequest, UpdateRequest, UpdateResponse, paths,
};
use foundation::Secret;
use interpret::Op;
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use types::Clock;
use url::Url;

/// How a platform calls brokers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For connecting.
    pub connect_timeout: Duration,
    /// For a whole exchange.
    pub timeout: Duration,
    /// Largest catalog, in bytes.
    pub max_catalog_bytes: usize,
    /// Largest other answer, in bytes.
    pub max_answer_bytes: usize,
    /// Which addresses may be reached.
    pub policy: Policy,
    /// Authorities besides the machine's, PEM: the platform's own.
    pub authorities: Vec<Vec<u8>>,
    /// Host (lower case) and port of brokers whose certificate is believed without a check, whatever their [`Address`] says.
    pub skip_tls_verify: BTreeSet<(String, u16)>,
    /// `X-Api-Info-Location`: where a dashboard finds the platform, without scheme.
    pub info_location: Option<String>,
}

impl Default for Settings {
    /// 60 seconds, 5 MiB for catalogs and 1 MiB for the rest, no address of the machine itself.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
            max_catalog_bytes: 5 << 20,
            max_answer_bytes: 1 << 20,
            policy: Policy::default(),
            authorities: vec![],
            skip_tls_verify: BTreeSet::new(),
            info_location: None,
        }
    }
}

/// The platform's connections to all brokers. Clones share them.
#[derive(Clone)]
pub struct Clients {
    transport: Arc<transport::Transport>,
}

/// Where a broker is and how to get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its name on the platform, for texts.
    pub name: String,
    /// Its base address.
    pub url: Url,
    /// The user of basic authentication.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// Whether its certificate is believed without a check.
    pub skip_tls_verify: bool,
}

/// One broker.
#[derive(Clone)]
pub struct BrokerClient {
    transport: Arc<transport::Transport>,
    address: Address,
}

/// What accompanies one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// One for each request; a UUID.
    pub request_id: String,
    /// Who caused it; absent for work of the platform itself.
    pub identity: Option<OriginatingIdentity>,
    /// The plan's name, for texts.
    pub plan: Option<String>,
}

/// Which operation is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// A provision, a bind, a backup.
    Create,
    /// An update or a restore.
    Update,
    /// A deprovision or an unbind: 410 is its success.
    Delete,
}

/// What a poll or a delete sends along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids<'a> {
    /// The offering.
    pub service_id: &'a str,
    /// The plan; while a change of plan is polled, the old one.
    pub plan_id: &'a str,
}

impl Clients {
    /// Makes them.
    ///
    /// # Errors
    /// When an authority is not a certificate, or there is no TLS.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        Ok(Self { transport: Arc::new(transport::Transport::new(settings, clock)?) })
    }

    /// One broker over these connections; cheap.
    pub fn broker(&self, address: Address) -> BrokerClient {
        BrokerClient { transport: self.transport.clone(), address }
    }

    /// Whether a broker may be at this address, as far as that can be said before its name is resolved.
    ///
    /// # Errors
    /// The reason, for the user.
    pub fn check_url(&self, url: &Url) -> Result<(), String> {
        self.transport.policy().way(url).map(|_| ()).map_err(|refusal| refusal.to_string())
    }
}

impl BrokerClient {
    /// `GET /v2/catalog`: as it came, for [`crate::catalog::validate`].
    ///
    /// # Errors
    /// Whatever kept it from coming.
    pub async fn catalog(&self, call: &Call) -> Result<Value, Failure> {
        self.get(call, Op::Catalog, paths::CATALOG.into()).await
    }

    /// Makes an instance.
    pub async fn provision(
        &self,
        call: &Call,
        instance_id: &str,
        request: &ProvisionRequest,
        accepts_incomplete: bool,
    ) -> Outcome<ProvisionResponse> {
        let path = with_async(paths::instance(instance_id), accepts_incomplete);
        self.change(call, Op::Provision, Method::PUT, path, Some(request), accepts_incomplete).await
    }

    /// Changes an instance.
    pub async fn update(
        &self,
        call: &Call,
        instance_id: &str,
        request: &UpdateRequest,
        accepts_incomplete: bool,
    ) -> Outcome<UpdateResponse> {
        let path = with_async(paths::instance(instance_id), accepts_incomplete);
        self.change(call, Op::Update, Method::PATCH, path, Some(request), accepts_incomplete).await
    }

    /// Removes an instance.
    pub async fn deprovision(
        &self,
        call: &Call,
        instance_id: &str,
        ids: Ids<'_>,
        accepts_incomplete: bool,
    ) -> Outcome<AcceptedResponse> {
        let path = with_ids(paths::instance(instance_id), ids, accepts_incomplete);
        self.change(call, Op::Deprovision, Method::DELETE, path, None::<&()>, accepts_incomplete).await
    }

    /// Makes a binding. `requires` is what the offering declares: an answer with more than that is refused.
    pub async fn bind(
        &self,
        call: &Call,
        instance_id: &str,
        binding_id: &str,
        request: &BindRequest,
        requires: &[Requirement],
        accepts_incomplete: bool,
    ) -> Outcome<Binding> {
        let path = with_async(paths::binding(instance_id, binding_id), accepts_incomplete);
        let outcome = self.change(call, Op::Bind, Method::PUT, path, Some(request), accepts_incomplete).await;
        binding::checked(outcome, requires, &texts::Names { broker: &self.address.name, call })
    }

    /// Removes a binding.
    pub async fn unbind(
        &self,
        call: &Call,
        instance_id: &str,
        binding_id: &str,
        ids: Ids<'_>,
        accepts_incomplete: bool,
    ) -> Outcome<AcceptedResponse> {
        let path = with_ids(paths::binding(instance_id, binding_id), ids, accepts_incomplete);
        self.change(call, Op::Unbind, Method::DELETE, path, None::<&()>, accepts_incomplete).await
    }

    /// What an instance's operation is at.
    pub async fn poll_instance(
        &self,
        call: &Call,
        instance_id: &str,
        ids: Ids<'_>,
        operation: Option<&str>,
        polled: Polled,
    ) -> Poll {
        self.poll(call, paths::instance_operation(instance_id), ids, operation, polled).await
    }

    /// What a binding's operation is at.
    pub async fn poll_binding(
        &self,
        call: &Call,
        instance_id: &str,
        binding_id: &str,
        ids: Ids<'_>,
        operation: Option<&str>,
        polled: Polled,
    ) -> Poll {
        self.poll(call, paths::binding_operation(instance_id, binding_id), ids, operation, polled).await
    }

    /// An instance as the broker sees it; only if the offering is `instances_retrievable`.
    ///
    /// # Errors
    /// Whatever kept it from coming; [`FailureKind::NotFound`] also while it is being made.
    pub async fn fetch_instance(&self, call: &Call, instance_id: &str, ids: Ids<'_>) -> Result<FetchedInstance, Failure> {
        self.get(call, Op::FetchInstance, with_hints(paths::instance(instance_id), ids)).await
    }

    /// A binding as the broker sees it; only if the offering is `bindings_retrievable`.
    ///
    /// # Errors
    /// Whatever kept it from coming, or made it unusable; [`FailureKind::NotFound`] also while it is being made.
    pub async fn fetch_binding(
        &self,
        call: &Call,
        instance_id: &str,
        binding_id: &str,
        ids: Ids<'_>,
        requires: &[Requirement],
    ) -> Result<FetchedBinding, Failure> {
        let fetched: FetchedBinding =
            self.get(call, Op::FetchBinding, with_hints(paths::binding(instance_id, binding_id), ids)).await?;
        match binding::problem(&fetched.binding, requires) {
            None => Ok(fetched),
            Some(problem) => Err(texts::Names { broker: &self.address.name, call }.unusable_binding(problem, Some(200), false)),
        }
    }

    /// Our extension: makes a backup.
    pub async fn create_backup(&self, call: &Call, instance_id: &str, backup_id: &str) -> Outcome<Backup> {
        let body = BackupRequest { id: backup_id.to_owned() };
        let path = with_async(paths::backups(instance_id), true);
        self.change(call, Op::CreateBackup, Method::POST, path, Some(&body), true).await
    }

    /// Our extension: the backups of an instance.
    ///
    /// # Errors
    /// Whatever kept them from coming.
    pub async fn list_backups(&self, call: &Call, instance_id: &str) -> Result<BackupList, Failure> {
        self.get(call, Op::FetchBackup, paths::backups(instance_id)).await
    }

    /// Our extension: one backup; its `state` is polled while it is made.
    ///
    /// # Errors
    /// Whatever kept it from coming; [`FailureKind::NotFound`] if there is none.
    pub async fn fetch_backup(&self, call: &Call, instance_id: &str, backup_id: &str) -> Result<Backup, Failure> {
        self.get(call, Op::FetchBackup, paths::backup(instance_id, backup_id)).await
    }

    /// Our extension: deletes a backup.
    pub async fn delete_backup(&self, call: &Call, instance_id: &str, backup_id: &str) -> Outcome<AcceptedResponse> {
        let path = with_async(paths::backup(instance_id, backup_id), true);
        self.change(call, Op::DeleteBackup, Method::DELETE, path, None::<&()>, true).await
    }

    /// Our extension: makes the data of an instance that of a backup. Polled as an update of the instance.
    pub async fn restore(&self, call: &Call, instance_id: &str, backup_id: &str) -> Outcome<AcceptedResponse> {
        let body = RestoreRequest { backup_id: backup_id.to_owned() };
        let path = with_async(paths::restore(instance_id), true);
        self.change(call, Op::Restore, Method::POST, path, Some(&body), true).await
    }

    async fn get<T: interpret::Shaped>(&self, call: &Call, op: Op, path: String) -> Result<T, Failure> {
        let request = transport::Request { op, method: Method::GET, path, body: None, call };
        let names = texts::Names { broker: &self.address.name, call };
        match self.transport.exchange(&self.address, request).await {
            Ok(answer) => interpret::fetched(op, &answer, &names),
            Err(broken) => Err(interpret::broken(op, &broken, &names)),
        }
    }

    async fn change<T: interpret::Shaped>(
        &self,
        call: &Call,
        op: Op,
        method: Method,
        path: String,
        body: Option<&impl Serialize>,
        accepts_incomplete: bool,
    ) -> Outcome<T> {
        let names = texts::Names { broker: &self.address.name, call };
        let body = match body.map(serde_json::to_vec).transpose() {
            Ok(body) => body,
            Err(e) => return Outcome::Failed(names.unsendable(&e)),
        };
        let request = transport::Request { op, method, path, body, call };
        match self.transport.exchange(&self.address, request).await {
            Ok(answer) => interpret::changed(op, &answer, accepts_incomplete, &names),
            Err(broken) => Outcome::Failed(interpret::broken(op, &broken, &names)),
        }
    }

    async fn poll(&self, call: &Call, path: String, ids: Ids<'_>, operation: Option<&str>, polled: Polled) -> Poll {
        let mut path = with_hints(path, ids);
        if let Some(operation) = operation {
            path = format!("{path}&operation={}", paths::encode(operation));
        }
        let names = texts::Names { broker: &self.address.name, call };
        let request = transport::Request { op: Op::Poll, method: Method::GET, path, body: None, call };
        match self.transport.exchange(&self.address, request).await {
            Ok(answer) => interpret::polled(polled, &answer, &names),
            Err(broken) => Poll::Unclear(interpret::broken(Op::Poll, &broken, &names)),
        }
    }
}

fn with_async(path: String, accepts_incomplete: bool) -> String {
    match accepts_incomplete {
        true => format!("{path}?accepts_incomplete=true"),
        false => path,
    }
}

fn with_hints(path: String, ids: Ids<'_>) -> String {
    format!("{path}?service_id={}&plan_id={}", paths::encode(ids.service_id), paths::encode(ids.plan_id))
}

fn with_ids(path: String, ids: Ids<'_>, accepts_incomplete: bool) -> String {
    let path = with_hints(path, ids);
    match accepts_incomplete {
        true => format!("{path}&accepts_incomplete=true"),
        false => path,
    }
}
