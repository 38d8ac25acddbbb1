//! A service broker that plays a script.

use crate::{Client, Platform, Reply, app, unique};
use serde_json::{Value, json};
use std::{fs, time::Duration};

const SOON: Duration = Duration::from_secs(60);

/// The scripted broker of `specs/apps/broker`, running as an app.
pub struct Broker<'a> {
    platform: &'a Platform,
    cf: &'a Client,
    /// The app, and the broker's name.
    pub name: String,
    /// The offering that it has; `<offering>-filter` is another, for routes.
    pub offering: String,
}

impl<'a> Broker<'a> {
    /// Pushes it; it is not registered yet.
    pub fn new(platform: &'a Platform, cf: &'a Client) -> Self {
        let (name, offering) = (unique("broker"), unique("offer"));
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("manifest.yml");
        let environment = json!({
            "OFFERING": offering,
            "TAKES_S": "1",
            "ROUTE_SERVICE_URL": format!("https://{name}.{}:{}", platform.apps_domain(), platform.https_port()),
        });
        let text = json!({ "applications": [{ "name": name, "memory": "64M", "env": environment }] });
        fs::write(&manifest, text.to_string()).unwrap();
        cf.ok_in(&app("broker"), &["push", &name, "-f", manifest.to_str().unwrap()]);
        platform.wait_for_status(&name, "/", 200, SOON);
        Self { platform, cf, name, offering }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}.{}:{}", self.name, self.platform.apps_domain(), self.platform.http_port())
    }

    /// Registers it for all orgs.
    pub fn register(&self) {
        self.cf.ok(&["create-service-broker", &self.name, "user", "password", &self.url()]).says("OK");
        self.cf.ok(&["enable-service-access", &self.offering]).says("OK");
    }

    /// What it was asked, and what it has: `seen`, `instances`, `bindings`.
    pub fn seen(&self) -> Value {
        self.platform.get(&self.name, "/seen").json()
    }

    /// Gives it a catalog (`/catalog`) or a script (`/script`).
    pub fn tell(&self, path: &str, body: &Value) -> Reply {
        let reply = self.platform.put(&self.name, path, &body.to_string());
        assert_eq!(reply.status, 200, "{reply:?}");
        reply
    }

    /// Takes it away; nothing may be left at it.
    pub fn gone(self) {
        self.cf.ok(&["delete-service-broker", "-f", &self.name]).says("OK");
        assert_eq!(self.seen()["instances"], json!({}), "instances stay at the broker");
        assert_eq!(self.seen()["bindings"], json!({}), "bindings stay at the broker");
        self.cf.ok(&["delete", "-f", "-r", &self.name]);
    }
}
