//! A broker that does what its requests say, its server on loopback, and a platform that checks every exchange against the
//! server's own OpenAPI document.

#![expect(dead_code, reason = "every suite uses a part of this")]
#![expect(clippy::unwrap_used, reason = "a world that cannot be built fails its test")]

use broker_sdk::osb::{
    Catalog, DashboardClient, InstanceMetadata, MaintenanceInfo, Plan, ServiceOffering, VERSION_HEADER, backup::METADATA_KEY,
};
use broker_sdk::{
    BackedUp, Bind, Bound, BoundTo, Broker, Failure, Instance, Kind, Mode, Operation, Outside, Provision, Provisioned,
    RawCredential, RawSettings, Removed, Secret, Settings, StoredBackup, Task, Update, Updated, async_trait, start,
};
use foundation::{Shutdown, SystemClock};
use parking_lot::Mutex;
use rand::{SeedableRng, rngs::StdRng};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

pub(crate) const SERVICE: &str = "service-1";
pub(crate) const NOW: &str = "plan-now";
pub(crate) const LATER: &str = "plan-later";
pub(crate) const OTHER: &str = "service-2";
pub(crate) const OTHER_PLAN: &str = "plan-other";
pub(crate) const USER: &str = "platform";
pub(crate) const PASSWORD: &str = "p:ss";

/// What the broker was asked to do, and what it does.
pub(crate) struct Things {
    pub(crate) journal: Mutex<Vec<String>>,
    /// Instances, bindings and backups that there are: what a broker must not leak.
    pub(crate) there: Mutex<BTreeSet<String>>,
    /// Work in the background waits for this.
    pub(crate) open: watch::Sender<bool>,
    pub(crate) catalog: Catalog,
}

impl Things {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { journal: Mutex::default(), there: Mutex::default(), open: watch::Sender::new(true), catalog: catalog() })
    }

    pub(crate) fn journal(&self) -> Vec<String> {
        self.journal.lock().clone()
    }

    async fn work(&self, operation: &Operation, about: &str, parameters: &Value) -> Result<(), Failure> {
        let again = if operation.is_resumed() { " again" } else { "" };
        self.journal.lock().push(format!("{} {about}{again}", operation.kind().as_str()));
        operation.describe("half way").await?;
        if parameters["slow"] == true || matches!(operation.kind(), Kind::Restore | Kind::Unbind | Kind::DeleteBackup) {
            let _ = self.open.subscribe().wait_for(|open| *open).await;
        }
        match parameters["fail"].as_str() {
            None => Ok(()),
            Some("refuse") => Err(Failure::refused("I will not")),
            Some("panic") => panic!("the broker has a fault"),
            Some("error") => Err(std::io::Error::other("secret detail").into()),
            Some("unusable") => Err(Failure::internal("broken").instance_unusable().not_repeatable()),
            Some(_) => Err(Failure::requires_app()),
        }
    }
}

pub(crate) fn catalog() -> Catalog {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": false,
        "properties": {
            "size": { "type": "integer", "maximum": 10 }, "fail": { "type": "string" }, "slow": { "type": "boolean" },
            "password": { "type": "string", "maxLength": 5 }
        }
    });
    let input = json!({ "parameters": schema });
    let schemas = json!({ "service_instance": { "create": input, "update": input }, "service_binding": { "create": input } });
    let plan = |id: &str, name: &str| Plan {
        id: id.into(),
        name: name.into(),
        description: "A plan".into(),
        binding_rotatable: true,
        plan_updateable: Some(true),
        schemas: serde_json::from_value(schemas.clone()).unwrap(),
        maintenance_info: Some(MaintenanceInfo { version: "1.2.3".into(), description: None }),
        ..Plan::default()
    };
    let service = ServiceOffering {
        id: SERVICE.into(),
        name: "things".into(),
        description: "Things".into(),
        bindable: true,
        instances_retrievable: true,
        bindings_retrievable: true,
        allow_context_updates: true,
        metadata: json!({ METADATA_KEY: true }).as_object().cloned(),
        dashboard_client: Some(DashboardClient {
            id: "dash".into(),
            secret: Secret::new("s"),
            redirect_uri: Some("https://dash.example.com".into()),
        }),
        plans: vec![plan(NOW, "now"), plan(LATER, "later")],
        ..ServiceOffering::default()
    };
    let other = ServiceOffering {
        id: OTHER.into(),
        name: "others".into(),
        description: "Others".into(),
        bindable: false,
        plans: vec![Plan { id: OTHER_PLAN.into(), name: "only".into(), description: "One".into(), ..Plan::default() }],
        ..ServiceOffering::default()
    };
    Catalog { services: vec![service, other] }
}

#[async_trait]
impl Broker for Things {
    fn catalog(&self) -> Catalog {
        self.catalog.clone()
    }
    fn mode(&self, task: &Task<'_>) -> Mode {
        if task.plan == "later" || task.new_plan == Some("later") { Mode::Background } else { Mode::Now }
    }
    fn dashboard_url(&self, instance_id: &str) -> Option<String> {
        Some(format!("https://dash.example.com/{}", instance_id.len()))
    }
    async fn provision(&self, operation: &Operation, request: &Provision) -> Result<Provisioned, Failure> {
        let mut state = request.state.clone();
        let port = state.get("port").cloned().unwrap_or_else(|| json!(operation.id()));
        state.insert("port".into(), port);
        operation.save(&state).await?;
        let from = request.clone_from.as_ref().map(|from| format!(" from {}", from.instance.id)).unwrap_or_default();
        self.work(operation, &format!("{}{from}", request.instance_id), &request.parameters.to_value()).await?;
        self.there.lock().insert(request.instance_id.clone());
        let metadata = InstanceMetadata {
            attributes: json!({ "who": operation.identity().and_then(|identity| identity.user_id()) })
                .as_object()
                .cloned()
                .unwrap(),
            ..InstanceMetadata::default()
        };
        Ok(Provisioned { state, metadata: Some(metadata), description: Some("made".into()) })
    }
    async fn update(&self, operation: &Operation, instance: &Instance, change: &Update) -> Result<Updated, Failure> {
        let parameters = change.parameters.clone().unwrap_or_default().to_value();
        let plan = change.plan.as_ref().map(|plan| format!(" to {}", plan.name)).unwrap_or_default();
        self.work(operation, &format!("{}{plan}", instance.id), &parameters).await?;
        Ok(Updated::default())
    }
    async fn deprovision(&self, operation: &Operation, instance: &Instance) -> Result<Removed, Failure> {
        let parameters = if instance.complete { instance.parameters.to_value() } else { json!({}) };
        let slow = json!({ "slow": parameters["slow"] });
        self.work(operation, &instance.id, &slow).await?;
        self.there.lock().retain(|name| !name.starts_with(&instance.id));
        Ok(Removed { description: Some("a thing was removed".into()) })
    }
    async fn bind(&self, operation: &Operation, instance: &Instance, request: &Bind) -> Result<Bound, Failure> {
        let after = request.predecessor.as_ref().map(|before| format!(" after {}", before.id)).unwrap_or_default();
        self.work(operation, &format!("{}/{}{after}", instance.id, request.binding_id), &request.parameters.to_value()).await?;
        self.there.lock().insert(format!("{}/{}", instance.id, request.binding_id));
        let password = format!("secret-{}", operation.id());
        let app = request.resource.app_guid.clone().unwrap_or_default();
        Ok(Bound { credentials: Some([("password", password), ("app", app)].into_iter().collect()), ..Bound::default() })
    }
    async fn unbind(&self, operation: &Operation, instance: &Instance, binding: &BoundTo) -> Result<(), Failure> {
        self.work(operation, &format!("{}/{}", instance.id, binding.id), &json!({})).await?;
        self.there.lock().remove(&format!("{}/{}", instance.id, binding.id));
        Ok(())
    }
    async fn backup(&self, operation: &Operation, instance: &Instance, backup_id: &str) -> Result<BackedUp, Failure> {
        let slow = json!({ "slow": instance.parameters.get("slow") });
        self.work(operation, &format!("{}@{backup_id}", instance.id), &slow).await?;
        self.there.lock().insert(format!("{}@{backup_id}", instance.id));
        Ok(BackedUp { size_bytes: 7, ..BackedUp::default() })
    }
    async fn delete_backup(&self, operation: &Operation, instance: &Instance, backup: &StoredBackup) -> Result<(), Failure> {
        self.work(operation, &format!("{}@{}", instance.id, backup.id), &json!({})).await?;
        self.there.lock().remove(&format!("{}@{}", instance.id, backup.id));
        Ok(())
    }
    async fn restore(&self, operation: &Operation, instance: &Instance, backup: &StoredBackup) -> Result<(), Failure> {
        self.work(operation, &format!("{}@{}", instance.id, backup.id), &json!({})).await
    }
}

pub(crate) fn settings(folder: &Path) -> Settings {
    let credential = |user: &str, password: &str| RawCredential { user: user.into(), password: Secret::new(password) };
    Settings::check(RawSettings {
        listen: "127.0.0.1:0".into(),
        credentials: vec![credential(USER, PASSWORD), credential("next", "other")],
        state: folder.join("state"),
        request_timeout_s: 2,
        operation_timeout_s: 60,
        poll_interval_s: 3,
    })
    .unwrap()
}

/// A server and a platform.
pub(crate) struct World {
    pub(crate) things: Arc<Things>,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) http: reqwest::Client,
    pub(crate) folder: tempfile::TempDir,
    document: Value,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap(), Things::new()).await
    }

    pub(crate) async fn at(folder: tempfile::TempDir, things: Arc<Things>) -> Self {
        foundation::tls::install_crypto();
        let shutdown = Shutdown::new();
        let outside = Outside { clock: Arc::new(SystemClock), rng: StdRng::seed_from_u64(7) };
        let address = start(things.clone(), settings(folder.path()), outside, &shutdown).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let document = http.get(format!("http://{address}/openapi.json")).basic_auth(USER, Some(PASSWORD)).send().await.unwrap();
        let document = document.json().await.unwrap();
        Self { things, address, shutdown, http, folder, document }
    }

    /// A request as the platform sends it, with nothing yet.
    pub(crate) fn raw(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.http.request(Method::from_bytes(method.as_bytes()).unwrap(), format!("http://{}{path}", self.address))
    }

    /// A request as it should be.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.raw(method, path).basic_auth(USER, Some(PASSWORD)).header(VERSION_HEADER, "2.17")
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let request = request.build().unwrap();
        let (method, path) = (request.method().as_str().to_lowercase(), request.url().path().to_owned());
        let response = self.http.execute(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        self.check(&method, &path, status, &body);
        Answer { status, headers, body }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let request = self.request(method, path);
        self.send(if body.is_null() { request } else { request.json(&body) }).await
    }

    /// Every answer is one that the server's own document has.
    fn check(&self, method: &str, path: &str, status: u16, body: &Value) {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let wanted: Vec<&str> = template.split('/').collect();
            wanted.len() == parts.len() && wanted.iter().zip(&parts).all(|(want, part)| want.starts_with('{') || want == part)
        };
        let Some((_, operations)) = self.document["paths"].as_object().unwrap().iter().find(|(template, _)| fits(template))
        else {
            assert_eq!(status, 404, "{path}");
            return;
        };
        // a server may always be without power, or the request too large
        if status >= 500
            || matches!(status, 404 | 405 | 408 | 413) && operations[method]["responses"][status.to_string()].is_null()
        {
            return;
        }
        let response = &operations[method]["responses"][status.to_string()];
        assert!(response.is_object(), "{method} {path} answered {status}, which is not in the document");
        let schema = &response["content"]["application/json"]["schema"];
        if schema.is_object() {
            let mut schema = schema.clone();
            schema["components"] = self.document["components"].clone();
            let validator = jsonschema::validator_for(&schema).unwrap();
            let problems: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
            assert!(problems.is_empty(), "{method} {path} {status}: {problems:?} in {body}");
        }
    }

    pub(crate) async fn provision(&self, id: &str, plan: &str, parameters: Value) -> Answer {
        self.call("PUT", &format!("/v2/service_instances/{id}?accepts_incomplete=true"), provision(plan, parameters)).await
    }

    pub(crate) async fn bind(&self, id: &str, binding: &str, plan: &str) -> Answer {
        let path = format!("/v2/service_instances/{id}/service_bindings/{binding}?accepts_incomplete=true");
        self.call("PUT", &path, json!({ "service_id": SERVICE, "plan_id": plan })).await
    }

    pub(crate) async fn delete(&self, path: &str, plan: &str) -> Answer {
        let path = format!("/v2/service_instances/{path}?service_id={SERVICE}&plan_id={plan}&accepts_incomplete=true");
        self.call("DELETE", &path, Value::Null).await
    }

    /// Polls until an operation has ended.
    pub(crate) async fn ended(&self, path: &str, operation: &str) -> Answer {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let path = format!("/v2/service_instances/{path}/last_operation?operation={operation}");
            let answer = self.call("GET", &path, Value::Null).await;
            if answer.body["state"] != "in progress" {
                return answer;
            }
            assert!(Instant::now() < deadline, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn stop(self) -> (tempfile::TempDir, Arc<Things>) {
        assert_eq!(self.shutdown.finish(Duration::from_secs(12)).await, 0);
        (self.folder, self.things)
    }
}

pub(crate) fn provision(plan: &str, parameters: Value) -> Value {
    json!({
        "service_id": SERVICE, "plan_id": plan, "organization_guid": "org", "space_guid": "space", "parameters": parameters,
        "context": { "platform": "cloudfoundry", "organization_guid": "org", "space_guid": "space", "instance_name": "n" },
    })
}
