//! What events say about bindings.

use crate::{
    domain::{
        Result, Scope, Tx,
        audit::{self, HIDDEN},
        services::{
            bindings::word,
            operations::{Operation, Originator},
        },
    },
    store::service_bindings::Binding,
};
use serde_json::{Value, json};

/// What events say about a binding, also when it is gone.
#[derive(Clone, Debug)]
pub struct Told {
    kind: String,
    binding: String,
    name: String,
    /// The space that it belongs to.
    pub space: String,
    org: String,
    /// None: the event repeats none.
    pub request: Option<Value>,
    instance: String,
    app: Option<String>,
    route: Option<String>,
}

impl Told {
    /// About this binding; the request is what the event repeats.
    pub fn of(binding: &Binding, scope: &Scope, mut request: Value) -> Self {
        if let Some(parameters) = request.get_mut("parameters").filter(|parameters| !parameters.is_null()) {
            *parameters = HIDDEN.into();
        }
        Self {
            kind: binding.kind.clone(),
            binding: binding.guid.clone(),
            name: binding.name.clone().unwrap_or_default(),
            space: scope.space.guid.clone(),
            org: scope.org.guid.clone(),
            request: Some(request),
            instance: binding.instance_guid.clone(),
            app: binding.app_guid.clone(),
            route: binding.route_guid.clone(),
        }
    }

    /// For the data of an operation.
    pub fn to_json(&self) -> Value {
        json!({
            "kind": self.kind, "binding": self.binding, "name": self.name, "space": self.space, "org": self.org,
            "request": self.request, "instance": self.instance, "app": self.app, "route": self.route,
        })
    }

    /// From the data of an operation.
    pub fn read(data: &Value) -> Self {
        let text = |name: &str| data["told"][name].as_str().map(str::to_owned);
        let or_empty = |name: &str| text(name).unwrap_or_default();
        Self {
            kind: or_empty("kind"),
            binding: or_empty("binding"),
            name: or_empty("name"),
            space: or_empty("space"),
            org: or_empty("org"),
            request: Some(data["told"]["request"].clone()).filter(|request| !request.is_null()),
            instance: or_empty("instance"),
            app: text("app"),
            route: text("route"),
        }
    }

    /// Writes `audit.<what>.<verb>` in the name of who asked for the operation, or of the caller.
    pub fn record(&self, tx: &mut Tx<'_>, op: Option<&Operation>, verb: &str) -> Result<()> {
        let (kind, data) = self.event(verb);
        let event = self.as_event(&kind, data);
        match op {
            Some(op) => op.record(tx, event),
            None => audit::record(tx, event),
        }
    }

    /// Writes `audit.<what>.<verb>` in the name of this user, or of the caller.
    pub fn record_by(&self, tx: &mut Tx<'_>, user: Option<&Originator>, verb: &str) -> Result<()> {
        let (kind, data) = self.event(verb);
        let event = self.as_event(&kind, data);
        match user {
            Some(user) => audit::record_as(tx, audit::Actor { kind: "user", guid: &user.guid, name: &user.name }, event),
            None => audit::record(tx, event),
        }
    }

    fn event(&self, verb: &str) -> (String, Value) {
        let mut data = json!({});
        if let Some(request) = &self.request {
            data["request"] = request.clone();
        }
        if self.kind != "route" && verb != "show" {
            data["service_instance_guid"] = self.instance.clone().into();
        }
        if let Some(app) = &self.app {
            data["app_guid"] = app.clone().into();
        }
        if let Some(route) = &self.route {
            data["route_guid"] = route.clone().into();
        }
        (format!("audit.{}.{verb}", word(&self.kind)), data)
    }

    fn as_event<'a>(&'a self, kind: &'a str, data: Value) -> audit::Event<'a> {
        let target = (word(&self.kind), self.binding.as_str(), self.name.as_str());
        audit::Event { kind, target, space: Some(&self.space), org: Some(&self.org), data }
    }
}
