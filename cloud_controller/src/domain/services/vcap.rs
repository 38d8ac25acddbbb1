//! Bindings as apps are told of them: `VCAP_SERVICES` and `DATABASE_URL`.
//!
//! Source: cloud_controller_ng, `app/presenters/system_environment/*.rb`, `lib/cloud_controller/database_uri_generator.rb`.

use crate::{
    domain::{Error, Result, Tx, services::volumes},
    store::{
        service_bindings::{self as store, Binding},
        service_instances::Instance,
    },
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The label of user-provided instances.
pub const USER_PROVIDED: &str = "user-provided";

/// A binding with all that its app is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bound {
    /// The offering's name, or [`USER_PROVIDED`].
    pub label: String,
    /// None of a user-provided instance.
    pub plan: Option<String>,
    /// Those of the offering, then those of the instance.
    pub tags: Vec<String>,
    /// Guid and name of the instance.
    pub instance: (String, String),
    /// Guid and name of the binding.
    pub binding: (String, Option<String>),
    /// What the app connects with.
    pub credentials: Value,
    /// Where its logs are sent.
    pub syslog_drain_url: Option<String>,
    /// As the broker sent them.
    pub volume_mounts: Vec<Value>,
}

impl Bound {
    /// That of the binding, else that of the instance.
    pub fn name(&self) -> &str {
        self.binding.1.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.instance.1)
    }

    /// Its entry in `VCAP_SERVICES`.
    pub fn entry(&self) -> Map<String, Value> {
        let mut entry = Map::new();
        let mut set = |name: &str, value: Value| drop(entry.insert(name.to_owned(), value));
        set("label", self.label.clone().into());
        if let Some(plan) = &self.plan {
            set("provider", Value::Null);
            set("plan", plan.clone().into());
        }
        set("name", self.name().into());
        set("tags", self.tags.clone().into());
        set("instance_guid", self.instance.0.clone().into());
        set("instance_name", self.instance.1.clone().into());
        set("binding_guid", self.binding.0.clone().into());
        set("binding_name", self.binding.1.clone().into());
        set("credentials", self.credentials.clone());
        set("syslog_drain_url", self.syslog_drain_url.clone().into());
        set("volume_mounts", self.volume_mounts.iter().map(shown_mount).collect());
        entry
    }
}

/// Of a volume, an app sees only where it is and what it may do with it.
fn shown_mount(mount: &Value) -> Value {
    let shown = ["container_dir", "mode", "device_type"].into_iter();
    shown.filter_map(|name| Some((name.to_owned(), mount.get(name)?.clone()))).collect::<Map<_, _>>().into()
}

/// `VCAP_SERVICES`: entries by label, in the order of `bound`.
pub fn services(bound: &[Bound]) -> Value {
    let mut by_label: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for binding in bound {
        by_label.entry(&binding.label).or_default().push(binding.entry().into());
    }
    json!(by_label)
}

/// `DATABASE_URL`: the first relational database among what is bound, in the words of Rails.
pub fn database_url(bound: &[Bound]) -> Option<String> {
    bound.iter().filter_map(|binding| binding.credentials.get("uri")?.as_str()).find_map(|uri| {
        let (scheme, rest) = uri.split_once(':')?;
        let scheme = match scheme {
            "mysql" | "mysql2" => "mysql2",
            "postgres" | "postgresql" => "postgres",
            _ => return None,
        };
        Some(format!("{scheme}:{rest}"))
    })
}

/// What is bound to an app, oldest first; of several bindings of one instance, the newest.
pub fn of_app(tx: &mut Tx<'_>, app: &str) -> Result<Vec<Bound>> {
    let mut newest: Vec<store::Shown> = vec![];
    for shown in store::usable_of_app(tx.conn, app)? {
        newest.retain(|known| known.instance.guid != shown.instance.guid);
        newest.push(shown);
    }
    newest.into_iter().map(|shown| bound(tx, shown)).collect()
}

fn bound(tx: &mut Tx<'_>, shown: store::Shown) -> Result<Bound> {
    let store::Shown { binding, instance, offered } = shown;
    let mut tags = offered.as_ref().map(|(_, offering)| offering.tag_list()).unwrap_or_default();
    let own: Vec<String> = serde_json::from_str(&instance.tags).unwrap_or_default();
    for tag in own {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(Bound {
        label: offered.as_ref().map_or(USER_PROVIDED, |(_, offering)| &offering.name).to_owned(),
        plan: offered.map(|(plan, _)| plan.name),
        tags,
        credentials: credentials(tx, &binding, &instance)?,
        syslog_drain_url: syslog_drain_url(&binding, &instance),
        volume_mounts: volumes::of(tx, &binding)?,
        instance: (instance.guid, instance.name),
        binding: (binding.guid, binding.name),
    })
}

/// What one connects with: the broker's answer, or what the user wrote into the instance.
pub fn credentials(tx: &mut Tx<'_>, binding: &Binding, instance: &Instance) -> Result<Value> {
    let (place, sealed) = match instance.plan_guid {
        Some(_) => (Binding::place(&binding.guid), &binding.credentials),
        None => (Instance::place(&instance.guid), &instance.credentials),
    };
    let Some(sealed) = sealed else { return Ok(json!({})) };
    let plain = tx.open(&place, sealed)?;
    serde_json::from_slice(&plain).map_err(|e| Error::internal("reading credentials", e))
}

/// Where logs are sent: what the broker said, or what the user wrote into the instance.
pub fn syslog_drain_url(binding: &Binding, instance: &Instance) -> Option<String> {
    match instance.plan_guid {
        Some(_) => binding.syslog_drain_url.clone(),
        None => instance.syslog_drain_url.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(label: &str, uri: &str) -> Bound {
        Bound {
            label: label.into(),
            plan: Some("shared".into()),
            tags: vec!["sql".into()],
            instance: ("i-guid".into(), "mydb".into()),
            binding: ("b-guid".into(), None),
            credentials: json!({ "uri": uri }),
            ..Bound::default()
        }
    }

    #[test]
    fn an_entry_has_every_field_of_the_contract() {
        let mounted = json!({ "driver": "nfs", "container_dir": "/data", "mode": "rw", "device_type": "shared", "device": { "volume_id": "x" } });
        let bound = Bound {
            volume_mounts: vec![mounted],
            syslog_drain_url: Some("syslog://a".into()),
            ..bound("postgres", "postgres://u")
        };
        let expected = json!({ "postgres": [{
            "label": "postgres", "provider": null, "plan": "shared", "name": "mydb", "tags": ["sql"],
            "instance_guid": "i-guid", "instance_name": "mydb", "binding_guid": "b-guid", "binding_name": null,
            "credentials": { "uri": "postgres://u" }, "syslog_drain_url": "syslog://a",
            "volume_mounts": [{ "container_dir": "/data", "mode": "rw", "device_type": "shared" }],
        }] });
        assert_eq!(services(&[bound]), expected);
    }

    #[test]
    fn a_user_provided_entry_has_neither_plan_nor_provider_and_a_binding_name_wins() {
        let mut bound = bound(USER_PROVIDED, "x");
        bound.plan = None;
        bound.binding.1 = Some("alias".into());
        let shown = services(&[bound]);
        let entry = &shown[USER_PROVIDED][0];
        assert_eq!(
            (&entry["name"], &entry["binding_name"], &entry["instance_name"]),
            (&json!("alias"), &json!("alias"), &json!("mydb"))
        );
        assert!(entry.get("plan").is_none() && entry.get("provider").is_none());
    }

    #[test]
    fn the_first_relational_uri_becomes_the_database_url() {
        let of = |uris: &[&str]| database_url(&uris.iter().map(|uri| bound("x", uri)).collect::<Vec<_>>());
        assert_eq!(of(&["redis://r", "mysql://u:p@h/d", "postgres://later"]).as_deref(), Some("mysql2://u:p@h/d"));
        assert_eq!(of(&["postgresql://u@h/d?ssl=1"]).as_deref(), Some("postgres://u@h/d?ssl=1"));
        assert_eq!(of(&["mysql2://u@h/d"]).as_deref(), Some("mysql2://u@h/d"));
        assert_eq!(of(&["amqp://r", "no uri"]), None);
        assert_eq!(database_url(&[Bound { credentials: json!({ "uri": 5 }), ..Bound::default() }]), None);
    }
}
