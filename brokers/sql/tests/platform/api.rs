//! A broker as a platform meets it: over HTTP, with polling.

use broker_sdk::osb::Credentials;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Where the broker is.
pub(crate) struct Api {
    base: String,
    service: &'static str,
    http: reqwest::Client,
    /// What operations said of how far they were.
    told: Mutex<BTreeSet<String>>,
}

impl Api {
    pub(crate) fn new(address: SocketAddr, service: &'static str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base: format!("http://{address}/v2/service_instances"), service, http, told: Mutex::default() }
    }

    fn ids(&self, plan: &str) -> Value {
        json!({ "service_id": format!("cupola-{}", self.service), "plan_id": format!("cupola-{}-{plan}", self.service) })
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("{}/{path}", self.base));
        let request = request.basic_auth("platform", Some("password")).header("X-Broker-API-Version", "2.17");
        let answer = if body.is_null() { request.send().await } else { request.json(body).send().await };
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    fn text(body: &Value) -> String {
        body["description"].as_str().unwrap_or_default().to_owned()
    }

    /// Asks for something and waits for its end; what it said, or why it did not happen.
    async fn done(&self, method: &str, instance: &str, rest: &str, body: Value) -> Result<String, String> {
        let (status, answer) = self.call(method, &format!("{instance}{rest}"), &body).await;
        match status {
            200 | 201 => Ok(Self::text(&answer)),
            202 => self.ended(instance, answer["operation"].as_str().unwrap_or_default()).await,
            _ => Err(format!("{status} {}", Self::text(&answer))),
        }
    }

    async fn ended(&self, instance: &str, operation: &str) -> Result<String, String> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let (status, answer) =
                self.call("GET", &format!("{instance}/last_operation?operation={operation}"), &Value::Null).await;
            match answer["state"].as_str() {
                Some("in progress") => {
                    self.told.lock().unwrap().insert(Self::text(&answer));
                }
                Some("succeeded") => return Ok(Self::text(&answer)),
                _ if status == 410 => return Ok(Self::text(&answer)),
                _ => return Err(format!("{status} {}", Self::text(&answer))),
            }
            assert!(Instant::now() < deadline, "never ends: {answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What operations said of how far they were.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().iter().cloned().collect()
    }

    /// Begins to make an instance and does not wait.
    pub(crate) async fn begin(&self, instance: &str, plan: &str) -> u16 {
        self.call("PUT", &format!("{instance}?accepts_incomplete=true"), &self.wanted(plan, json!({}))).await.0
    }

    fn wanted(&self, plan: &str, parameters: Value) -> Value {
        let mut body = self.ids(plan);
        body["organization_guid"] = "org".into();
        body["space_guid"] = "space".into();
        body["parameters"] = parameters;
        body
    }

    pub(crate) async fn create(&self, instance: &str, plan: &str, parameters: Value) -> Result<String, String> {
        self.done("PUT", instance, "?accepts_incomplete=true", self.wanted(plan, parameters)).await
    }

    pub(crate) async fn clone_of(
        &self,
        source: &str,
        backup: Option<&str>,
        instance: &str,
        plan: &str,
    ) -> Result<String, String> {
        let mut body = self.wanted(plan, json!({}));
        body["cupola_clone_from"] = json!({ "instance_id": source });
        if let Some(backup) = backup {
            body["cupola_clone_from"]["backup_id"] = backup.into();
        }
        self.done("PUT", instance, "?accepts_incomplete=true", body).await
    }

    pub(crate) async fn update(&self, instance: &str, plan: &str, parameters: Value) -> Result<String, String> {
        let mut body = self.ids(plan);
        body["parameters"] = parameters;
        self.done("PATCH", instance, "?accepts_incomplete=true", body).await
    }

    /// Gone already, by a request whose answer got lost, is gone too.
    pub(crate) async fn delete(&self, instance: &str, plan: &str) -> Result<String, String> {
        let ids = self.query(plan);
        let done = self.done("DELETE", instance, &format!("?accepts_incomplete=true&{ids}"), Value::Null).await;
        done.or_else(|why| why.strip_prefix("410 ").map(str::to_owned).ok_or(why))
    }

    fn query(&self, plan: &str) -> String {
        let ids = self.ids(plan);
        format!("service_id={}&plan_id={}", ids["service_id"].as_str().unwrap(), ids["plan_id"].as_str().unwrap())
    }

    pub(crate) async fn bind(&self, instance: &str, plan: &str, binding: &str) -> Result<Credentials, String> {
        let (status, answer) = self.call("PUT", &format!("{instance}/service_bindings/{binding}"), &self.ids(plan)).await;
        match status {
            200 | 201 => Ok(Credentials::from_value(answer["credentials"].clone()).unwrap()),
            _ => Err(format!("{status} {}", Self::text(&answer))),
        }
    }

    pub(crate) async fn unbind(&self, instance: &str, plan: &str, binding: &str) -> Result<String, String> {
        let ids = self.query(plan);
        self.done("DELETE", instance, &format!("/service_bindings/{binding}?{ids}"), Value::Null).await
    }

    pub(crate) async fn backup(&self, instance: &str, backup: &str) -> Result<String, String> {
        self.done("POST", instance, "/backups?accepts_incomplete=true", json!({ "id": backup })).await
    }

    pub(crate) async fn restore(&self, instance: &str, backup: &str) -> Result<String, String> {
        self.done("POST", instance, "/restore?accepts_incomplete=true", json!({ "backup_id": backup })).await
    }
}
