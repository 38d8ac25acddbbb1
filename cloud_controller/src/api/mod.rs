//! HTTP: one file for each resource. Handlers parse, make one domain call, and shape the answer.

pub mod auth;
pub mod body;
pub mod error;
pub mod internal;
pub mod page;
pub mod query;
pub mod routing;

pub mod apps;
pub mod domains;
pub mod download;
pub mod include;
pub mod organizations;
pub mod routes;
pub mod service_credential_bindings;
pub mod service_instances;
pub mod service_offerings;
pub mod spaces;
pub mod upload;
pub mod usage;
pub mod users;

mod absent;
mod app_env;
mod app_features;
mod app_usage_events;
mod audit_events;
mod buildpacks;
mod builds;
mod droplets;
mod env_groups;
mod feature_flags;
mod internal_apps;
mod internal_workloads;
mod jobs;
mod manifests;
mod middleware;
mod packages;
mod processes;
mod quotas;
mod resource_matches;
mod roles;
mod root;
mod service_brokers;
mod service_instance_backups;
mod service_instance_shares;
mod service_plan_visibility;
mod service_plans;
mod service_route_bindings;
mod service_usage_events;
mod stacks;
mod stats;

pub use error::{Answer, Failure};
pub use middleware::around;

use crate::{
    app_log::AppLog,
    blobs::Blobs,
    brokers::Brokers,
    bus::Actual,
    config::Config,
    domain::{Access, Caller, Error, Hint, Result, Rule, Tx, policy::Policy},
    outside::Identities,
    reconcile::{operations::Engine, workloads::Strangers},
    store::{self, Store, jobs::Job},
    vault::Vault,
};
use actix_web::{HttpResponse, http::header};
use bus::Bus;
use foundation::Shutdown;
use messages::hints::{DropletUpdated, RoutesUpdated, StagingStop};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::sync::Notify;
use types::{Clock, Timestamp};
use uaa_client::TokenVerifier;

/// The largest JSON body.
pub const MAX_BODY: usize = 15 << 20;
/// How many users are remembered as known; more are looked up again.
const KNOWN_USERS: usize = 10_000;
/// How long a request waits for the work at brokers that it began.
const PATIENCE: Duration = Duration::from_secs(2);

/// What every handler has. Shared by all workers of both listeners.
pub struct Api {
    /// The tables.
    pub store: Store,
    /// Settings.
    pub config: Arc<Config>,
    /// The bus.
    pub bus: Bus,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Packages, droplets, buildpacks.
    pub blobs: Blobs,
    /// What rules depend on.
    pub policy: Arc<Policy>,
    /// Lines in the logs of apps.
    pub log: AppLog,
    /// Work that goes on when its request is gone.
    pub tasks: Shutdown,
    /// Told when blobs were let go of.
    pub sweep: Notify,
    /// What really runs.
    pub actual: Actual,
    /// Who checks tokens.
    pub verifier: TokenVerifier,
    /// Who knows users.
    pub identities: Arc<dyn Identities>,
    /// Sends requests to service brokers.
    pub brokers: Arc<dyn Brokers>,
    /// Work at brokers that is under way.
    pub operations: Engine,
    /// Seals and opens values.
    pub vault: Vault,
    /// Where ids come from.
    pub rng: Mutex<StdRng>,
    /// Volumes that nobody knows.
    pub strangers: Strangers,
    /// Users that have a row: name and origin as written there.
    pub known_users: Mutex<HashSet<(String, String, Option<String>)>>,
}

impl Api {
    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
    /// The seed of the generator of one operation: a transaction that runs again draws the same ids.
    fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.lock().fill_bytes(&mut seed);
        seed
    }
    /// Has blobs that were let go of removed soon.
    pub fn sweep_blobs(&self) {
        self.sweep.notify_one();
    }
    /// A fresh guid.
    pub fn guid(&self) -> String {
        types::AppId::random(&mut *self.rng.lock() as &mut dyn Rng).to_string()
    }
    /// An absolute URL of this API; `path` begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.config.urls.api)
    }

    /// Runs an operation that changes nothing.
    pub async fn read<T, F>(&self, caller: &Caller, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (caller, now, seed, vault) = (caller.clone(), self.now(), self.seed(), self.vault.clone());
        let max_polling = self.config.broker_max_polling;
        let run = move |conn: &mut _| {
            let who = Arc::new(Access::load(conn, caller)?);
            work(&mut Tx { conn, who, now, rng: StdRng::from_seed(seed), vault: &vault, max_polling, hints: vec![] })
        };
        self.store.read(run).await
    }

    /// Runs an operation in a transaction, then sends its hints. `work` may run several times.
    pub async fn write<T, F>(&self, caller: &Caller, mut work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (caller, now, seed, vault) = (caller.clone(), self.now(), self.seed(), self.vault.clone());
        let max_polling = self.config.broker_max_polling;
        let run = move |conn: &mut _| {
            let who = Arc::new(Access::load(conn, caller.clone())?);
            let mut tx = Tx { conn, who, now, rng: StdRng::from_seed(seed), vault: &vault, max_polling, hints: vec![] };
            let value = work(&mut tx)?;
            Ok((value, tx.hints))
        };
        let (value, hints) = self.store.write(run).await?;
        self.tell(hints).await;
        Ok(value)
    }

    /// As [`Api::write`], for unattended work.
    pub async fn write_as_system<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.write(&Caller::system(), work).await
    }

    /// Runs a recursive deletion; when one part of it cannot go, nothing does, and the job tells why.
    pub async fn write_job<F>(&self, caller: &Caller, operation: &'static str, work: F) -> Result<Job>
    where
        F: FnMut(&mut Tx<'_>) -> Result<Job> + Send + 'static,
    {
        match self.write(caller, work).await {
            Err(why @ Error::Rule(Rule::SpaceDeletionFailed | Rule::OrgDeletionFailed, _)) => {
                let record = move |tx: &mut Tx<'_>| {
                    let job = store::jobs::begin(tx, operation, None, None)?;
                    store::jobs::fail(tx, &job.guid, &why)?;
                    Ok(job)
                };
                self.write(caller, record).await
            }
            other => {
                self.sweep_blobs();
                other
            }
        }
    }

    /// As [`Api::write`], for operations that begin work at brokers: waits a little for that work, so that most clients need not
    /// ask for the job again.
    pub async fn write_and_wait<F>(&self, caller: &Caller, work: F) -> Result<Job>
    where
        F: FnMut(&mut Tx<'_>) -> Result<Job> + Send + 'static,
    {
        self.write_and_wait_for(caller, work, |job| Some(job)).await
    }

    /// As [`Api::write_and_wait`], for operations that may have nothing to wait for.
    pub async fn write_and_wait_for<T, F>(&self, caller: &Caller, work: F, job: impl Fn(&T) -> Option<&Job>) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let mut news = self.operations.news();
        let made = self.write(caller, work).await?;
        if let Some(job) = job(&made).filter(|job| job.state == "PROCESSING") {
            let moved = async {
                // Whoever is behind has missed something: that ends the waiting too.
                while news.recv().await.is_ok_and(|guid| guid != job.guid) {}
            };
            // It goes on, whether or not somebody waits.
            let _ = tokio::time::timeout(PATIENCE, moved).await;
        }
        Ok(made)
    }

    /// Has the work at brokers looked at now.
    pub fn kick_operations(&self) {
        self.operations.kick();
    }

    /// Sends hints. A lost one costs time, never truth: failures are only noted.
    async fn tell(&self, hints: Vec<Hint>) {
        for hint in hints {
            let sent = match hint {
                Hint::Desired(change) => self.bus.publish(&DropletUpdated { change }).await,
                Hint::Routes(app) => self.bus.publish(&RoutesUpdated { app }).await,
                Hint::Operations => {
                    self.kick_operations();
                    Ok(())
                }
                Hint::StagingStop(app_id) => self.bus.publish(&StagingStop { app_id }).await,
            };
            if let Err(e) = sent {
                tracing::debug!(error = &e as &dyn std::error::Error, "a hint was not sent");
            }
        }
    }

    /// Makes the row of a user who comes for the first time, or under a new name.
    pub async fn know_user(&self, caller: &Caller) -> Result<()> {
        let key = (caller.guid.clone(), caller.name.clone(), caller.origin.clone());
        if self.known_users.lock().contains(&key) {
            return Ok(());
        }
        let now = crate::domain::micros(self.now());
        let user = key.clone();
        // A client has no user name.
        let name = caller.origin.as_ref().map(|_| caller.name.clone());
        self.store.write(move |conn| store::users::know(conn, &user.0, name.as_deref(), user.2.as_deref(), now)).await?;
        let mut known = self.known_users.lock();
        if known.len() >= KNOWN_USERS {
            known.clear();
        }
        known.insert(key);
        Ok(())
    }

    /// Forgets that users are known: one was deleted, and comes back with its next request.
    pub fn forget_known_users(&self) {
        self.known_users.lock().clear();
    }
}

/// 200 with a body.
pub fn ok(body: Value) -> Answer {
    Ok(HttpResponse::Ok().json(body))
}
/// 201 with a body.
pub fn created(body: Value) -> Answer {
    Ok(HttpResponse::Created().json(body))
}
/// 204
pub fn no_content() -> Answer {
    Ok(HttpResponse::NoContent().finish())
}
/// 202 and where the job is.
pub fn accepted(api: &Api, job: &Job) -> Answer {
    Ok(HttpResponse::Accepted().insert_header((header::LOCATION, api.url(&format!("/v3/jobs/{}", job.guid)))).finish())
}

/// Adds something that clients show to the user besides what they asked for.
///
/// Source: cloud_controller_ng, `app/controllers/v3/application_controller.rb`, `add_warning_headers`.
pub fn warn(answer: &mut HttpResponse, text: &str) {
    let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    if let Ok(value) = header::HeaderValue::from_str(&text) {
        answer.headers_mut().append(header::HeaderName::from_static("x-cf-warnings"), value);
    }
}

/// A moment of a row, as the API writes it.
pub fn time(micros: i64) -> String {
    Timestamp(micros.unsigned_abs()).rfc3339()
}
