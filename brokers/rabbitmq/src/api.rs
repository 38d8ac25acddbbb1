//! The node's management API, on loopback: virtual hosts, users, permissions, limits, definitions.
//!
//! Source: <https://www.rabbitmq.com/docs/http-api-reference>, version 3.10.

use crate::plans::{Access, Limits};
use engines::Error;
use foundation::Secret;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};

/// The broker's own user.
pub const ADMIN: &str = "cupola";
/// The policy that carries a plan's limit of a queue.
pub const POLICY: &str = "cupola-limits";

/// A client of one node.
pub struct Api {
    client: Client,
    base: String,
    password: Secret,
}

impl Api {
    /// For the node whose management listener is at `address`.
    pub fn new(address: SocketAddr, password: Secret) -> Result<Self, Error> {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(60)).connect_timeout(Duration::from_secs(2));
        let client = client.redirect(reqwest::redirect::Policy::none()).build().map_err(Error::server)?;
        Ok(Self { client, base: format!("http://{address}/api"), password })
    }

    /// Whether it serves clients on `port`.
    pub async fn listens(&self, port: u16) -> Result<(), Error> {
        self.call(Method::GET, &["health", "checks", "port-listener", &port.to_string()], None).await.map(drop)
    }

    /// Whether there is this virtual host.
    pub async fn has_host(&self, host: &str) -> Result<bool, Error> {
        Ok(self.call(Method::GET, &["vhosts", host], None).await?.is_some())
    }

    /// All virtual hosts.
    pub async fn hosts(&self) -> Result<Vec<String>, Error> {
        let all = self.call(Method::GET, &["vhosts"], None).await?;
        Ok(names(all.as_ref(), "name"))
    }

    /// Makes a virtual host that the broker itself may enter.
    pub async fn make_host(&self, host: &str, description: &str) -> Result<(), Error> {
        self.call(Method::PUT, &["vhosts", host], Some(json!({"description": description, "tags": "cupola"}))).await?;
        self.permit(host, ADMIN, Access::Full).await
    }

    /// Removes a virtual host with all in it, and closes its connections.
    pub async fn remove_host(&self, host: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &["vhosts", host], None).await.map(drop)
    }

    /// Sets the limits of a virtual host; they hold at once for what is new.
    pub async fn limit(&self, host: &str, limits: Limits) -> Result<(), Error> {
        for (name, value) in [("max-connections", limits.connections), ("max-queues", limits.queues)] {
            self.call(Method::PUT, &["vhost-limits", host, name], Some(json!({ "value": value }))).await?;
        }
        let definition = json!({"max-length-bytes": u64::from(limits.queue_mb) << 20, "overflow": "reject-publish"});
        let policy = json!({"pattern": ".*", "apply-to": "queues", "priority": 0, "definition": definition});
        self.call(Method::PUT, &["policies", host, POLICY], Some(policy)).await.map(drop)
    }

    /// The limits of connections and queues in force.
    pub async fn limits(&self, host: &str) -> Result<Option<Value>, Error> {
        let found = self.call(Method::GET, &["vhost-limits", host], None).await?;
        Ok(found.and_then(|list| list.get(0)?.get("value").cloned()))
    }

    /// Makes a user, or gives it another password.
    pub async fn make_user(&self, user: &str, password: &Secret) -> Result<(), Error> {
        self.call(Method::PUT, &["users", user], Some(json!({"password": password.expose(), "tags": ""}))).await.map(drop)
    }

    /// Lets a user do what `access` says on a virtual host.
    pub async fn permit(&self, host: &str, user: &str, access: Access) -> Result<(), Error> {
        let (configure, write, read) = match access {
            Access::Full => (".*", ".*", ".*"),
            Access::Publish => ("^$", ".*", "^$"),
            Access::Consume => ("^$", "^$", ".*"),
        };
        let permissions = json!({"configure": configure, "write": write, "read": read});
        self.call(Method::PUT, &["permissions", host, user], Some(permissions)).await.map(drop)
    }

    /// Removes a user and closes its connections; returns once none is left.
    pub async fn remove_user(&self, user: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &["users", user], None).await?;
        // The node closes them too, but in the background.
        self.disconnect(user).await
    }

    /// Closes the connections of a user, and returns once none is left. Asked for by user, because the list by virtual host comes
    /// from statistics, which know of a connection seconds later.
    async fn disconnect(&self, user: &str) -> Result<(), Error> {
        for _ in 0..100 {
            let open = self.call(Method::GET, &["connections", "username", user], None).await?;
            let open = names(open.as_ref(), "name");
            if open.is_empty() {
                return Ok(());
            }
            for connection in open {
                self.call(Method::DELETE, &["connections", &connection], None).await?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(Error::server("connections of a user do not close"))
    }

    /// Who may enter a virtual host.
    pub async fn users_of(&self, host: &str) -> Result<Vec<String>, Error> {
        let all = self.call(Method::GET, &["vhosts", host, "permissions"], None).await?;
        Ok(names(all.as_ref(), "user"))
    }

    /// Lets nobody connect to a virtual host any more, and closes the connections of everybody but the broker. A change of its
    /// limits opens it again.
    pub async fn close(&self, host: &str) -> Result<(), Error> {
        self.call(Method::PUT, &["vhost-limits", host, "max-connections"], Some(json!({"value": 0}))).await?;
        for user in self.users_of(host).await?.iter().filter(|user| *user != ADMIN) {
            self.disconnect(user).await?;
        }
        Ok(())
    }

    /// Removes queues, exchanges and policies of a virtual host; bindings go with them.
    pub async fn clear(&self, host: &str) -> Result<(), Error> {
        let definitions = self.definitions(host).await?;
        for kind in ["queues", "exchanges", "policies"] {
            for name in names(definitions.get(kind), "name").iter().filter(|name| *name != POLICY) {
                self.call(Method::DELETE, &[kind, host, name], None).await?;
            }
        }
        // Queues that are not in definitions, such as exclusive ones whose connection ends just now.
        let left = self.call(Method::GET, &["queues", host], None).await?;
        for name in names(left.as_ref(), "name") {
            self.call(Method::DELETE, &["queues", host, &name], None).await?;
        }
        Ok(())
    }

    /// Exchanges, queues, bindings, policies and parameters of a virtual host.
    pub async fn definitions(&self, host: &str) -> Result<Value, Error> {
        let found = self.call(Method::GET, &["definitions", host], None).await?;
        found.ok_or_else(|| Error::server("the virtual host is gone"))
    }

    /// Makes what the definitions hold.
    pub async fn define(&self, host: &str, definitions: &Value) -> Result<(), Error> {
        self.call(Method::POST, &["definitions", host], Some(definitions.clone())).await.map(drop)
    }

    /// One request; `None` means that it is not there.
    async fn call(&self, method: Method, path: &[&str], body: Option<Value>) -> Result<Option<Value>, Error> {
        let mut url = reqwest::Url::parse(&self.base).map_err(Error::server)?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        let mut request = self.client.request(method, url).basic_auth(ADMIN, Some(self.password.expose()));
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(Error::server)?;
        let status = answer.status();
        let text = answer.bytes().await.map_err(Error::server)?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() && text.is_empty() => Ok(Some(Value::Null)),
            status if status.is_success() => serde_json::from_slice(&text).map(Some).map_err(Error::server),
            status => {
                let said: Value = serde_json::from_slice(&text).unwrap_or_default();
                let reason = said.get("reason").and_then(Value::as_str).unwrap_or("no reason given");
                Err(Error::server(format!("{status}: {reason}")))
            }
        }
    }
}

fn names(list: Option<&Value>, key: &str) -> Vec<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| Some(item.get(key)?.as_str()?.to_owned())).collect()
}
