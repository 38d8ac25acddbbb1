//! A broker written with the SDK passes, whatever it does: the SDK keeps the contract for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot be made has failed")]

use broker_check::{Credentials, Options, run, text};
use broker_sdk::{
    Bind, Bound, BoundTo, Broker, Failure, Instance, Mode, Operation, Outside, Provision, Provisioned, RawCredential,
    RawSettings, Removed, Settings, Task, Update, Updated, async_trait, osb::Catalog,
};
use foundation::{Secret, Shutdown};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Long enough to be looked at while it runs.
const WORK: Duration = Duration::from_millis(700);

/// Keeps nothing but what the SDK keeps for it; one plan works at once, one in the background.
struct Notes;

impl Notes {
    async fn work(operation: &Operation, plan: &str) -> Result<(), Failure> {
        if plan == "later" {
            operation.describe("working").await?;
            tokio::time::sleep(WORK).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Broker for Notes {
    fn catalog(&self) -> Catalog {
        serde_json::from_value(catalog()).unwrap()
    }

    fn mode(&self, task: &Task<'_>) -> Mode {
        if task.plan == "later" { Mode::Background } else { Mode::Now }
    }

    async fn provision(&self, operation: &Operation, request: &Provision) -> Result<Provisioned, Failure> {
        Self::work(operation, &request.plan.name).await?;
        Ok(Provisioned::default())
    }

    async fn update(&self, operation: &Operation, instance: &Instance, _: &Update) -> Result<Updated, Failure> {
        Self::work(operation, &instance.plan_name).await?;
        Ok(Updated::default())
    }

    async fn deprovision(&self, operation: &Operation, instance: &Instance) -> Result<Removed, Failure> {
        Self::work(operation, &instance.plan_name).await?;
        Ok(Removed::default())
    }

    async fn bind(&self, operation: &Operation, instance: &Instance, request: &Bind) -> Result<Bound, Failure> {
        Self::work(operation, &instance.plan_name).await?;
        let credentials = [("uri", format!("notes://{}@notes.example.com/{}", request.binding_id, instance.id))];
        Ok(Bound { credentials: Some(credentials.into_iter().collect()), ..Bound::default() })
    }

    async fn unbind(&self, operation: &Operation, instance: &Instance, _: &BoundTo) -> Result<(), Failure> {
        Self::work(operation, &instance.plan_name).await
    }

    fn dashboard_url(&self, instance_id: &str) -> Option<String> {
        Some(format!("https://notes.example.com/{instance_id}"))
    }
}

fn catalog() -> Value {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": false,
        "properties": {"pages": {"type": "integer", "minimum": 1, "maximum": 9}},
    });
    let schemas = json!({
        "service_instance": {"create": {"parameters": schema}, "update": {"parameters": schema}},
        "service_binding": {"create": {"parameters": schema}},
    });
    let plan = |id: &str, name: &str, rotatable: bool| {
        json!({
            "id": id, "name": name, "description": name, "schemas": schemas, "binding_rotatable": rotatable,
            "maintenance_info": {"version": "1.0.0"},
        })
    };
    json!({"services": [
        {
            "id": "0d4e4f0c-5d9a-4c0c-9d7a-0f4c7a5f3b11", "name": "notes", "description": "Notes for tests", "bindable": true,
            "instances_retrievable": true, "bindings_retrievable": true, "allow_context_updates": true, "plan_updateable": true,
            "plans": [
                plan("1f6f5b0e-8d0d-4f7c-8a43-7f6b6a2b1c21", "now", true),
                plan("2a7b6c1f-9e1e-4a8d-9b54-8a7c7b3c2d32", "later", true),
            ],
        },
        {
            "id": "3b8c7d20-af2f-4b9e-ac65-9b8d8c4d3e43", "name": "jobs", "description": "Not bindable", "bindable": false,
            "plans": [{"id": "4c9d8e31-b030-4cae-bd76-ac9e9d5e4f54", "name": "plain", "description": "plain"}],
        },
    ]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_written_with_the_sdk_passes() {
    foundation::tls::install_crypto();
    let state = tempfile::tempdir().unwrap();
    let settings = Settings::check(RawSettings {
        listen: "127.0.0.1:0".into(),
        credentials: vec![RawCredential { user: "platform".into(), password: Secret::new("s3cret") }],
        state: state.path().to_owned(),
        request_timeout_s: 20,
        operation_timeout_s: 60,
        poll_interval_s: 1,
    });
    let shutdown = Shutdown::new();
    let address = broker_sdk::start(Arc::new(Notes), settings.unwrap(), Outside::real(), &shutdown).await.unwrap();
    let mut options = Options::new(&format!("http://{address}")).unwrap();
    options.credentials = Some(Credentials { user: "platform".into(), password: Secret::new("s3cret") });
    options.strict = true;
    let report = run(options, Box::new(foundation::rng()), std::future::pending(), |_| {}).await.unwrap();
    shutdown.finish(Duration::from_secs(5)).await;
    let broken: BTreeSet<_> = report.broken().map(|(entry, _)| entry.case.id).collect();
    assert!(broken.is_empty(), "{broken:?}\n{}", text(&report));
    assert_eq!(report.exit_code(), 0);
    assert!(report.took < Duration::from_secs(60), "{:?}", report.took);
}
