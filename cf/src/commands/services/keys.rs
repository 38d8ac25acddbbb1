//! create-service-key, service-keys, service-key, delete-service-key.

use super::{Instance, Stand, already, done, follow, instance, last_operation, parameters, sure};
use crate::{
    api::{Api, query, text},
    cli::{
        Format,
        services::{Parameters, Wait},
    },
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Value, json};

pub(super) async fn create(api: &mut Api, of: &str, name: &str, given: &Parameters, wait: Wait) -> anyhow::Result<()> {
    let parameters = parameters(given)?;
    let found = instance(api, of).await?;
    say!("Creating service key {} for service instance {} as {}...", ui::name(name), ui::name(of), ui::name(&found.user));
    let mut body = json!({
        "type": "key", "name": name, "relationships": { "service_instance": { "data": { "guid": found.guid } } },
    });
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    let reply = match api.post("/v3/service_credential_bindings", &body).await {
        Err(e) if already(&e, |e| e.detail.contains("Key binding names must be unique")) => {
            done(&format!("Service key {name} already exists"));
            return Ok(());
        }
        other => other?,
    };
    match follow(api, reply, wait).await? {
        Stand::Done => ui::ok(),
        Stand::UnderWay => done(&format!("Create in progress. Use 'cf service-keys {of}' to check operation status.")),
    }
    Ok(())
}

pub(super) async fn list(api: &mut Api, of: &str, format: Format) -> anyhow::Result<()> {
    let found = instance(api, of).await?;
    let pairs = [("service_instance_guids", found.guid.as_str()), ("type", "key"), ("per_page", "5000")];
    let keys = api.list(&query("/v3/service_credential_bindings", &pairs)).await?;
    if format.json {
        ui::json(&Value::Array(keys));
        return Ok(());
    }
    say!("Getting keys for service instance {} as {}...\n", ui::name(of), ui::name(&found.user));
    if keys.is_empty() {
        say!("No service keys for service instance {of}");
        return Ok(());
    }
    let row = |key: &Value| {
        vec![text(key, "/name").to_owned(), last_operation(key), text(key, "/last_operation/description").to_owned()]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    ui::table(&["name", "last operation", "message"], &rows);
    Ok(())
}

async fn find(api: &mut Api, found: &Instance, name: &str) -> anyhow::Result<Option<Value>> {
    let pairs =
        [("service_instance_guids", found.guid.as_str()), ("type", "key"), ("names", name), ("per_page", "1"), ("page", "1")];
    api.first(&query("/v3/service_credential_bindings", &pairs)).await
}

pub(super) async fn show(api: &mut Api, of: &str, name: &str, guid_only: bool, format: Format) -> anyhow::Result<()> {
    let found = instance(api, of).await?;
    let Some(key) = find(api, &found, name).await? else {
        bail!(
            Problem::new(format!("No service key {name} found for service instance {of}"))
                .tip(format!("'cf service-keys {of}' lists its keys."))
        )
    };
    let guid = text(&key, "/guid");
    if guid_only {
        say!("{guid}");
        return Ok(());
    }
    if !format.json {
        say!("Getting key {} for service instance {} as {}...\n", ui::name(name), ui::name(of), ui::name(&found.user));
    }
    let details = api.get(&format!("/v3/service_credential_bindings/{guid}/details")).await?;
    ui::json(&json!({ "credentials": details["credentials"] }));
    Ok(())
}

pub(super) async fn delete(api: &mut Api, of: &str, name: &str, force: bool, wait: Wait) -> anyhow::Result<()> {
    if !sure(force, &format!("Really delete the service key {name}?"))? {
        return Ok(());
    }
    let found = instance(api, of).await?;
    say!("Deleting key {} for service instance {} as {}...", ui::name(name), ui::name(of), ui::name(&found.user));
    let Some(key) = find(api, &found, name).await? else {
        done(&format!("Service key '{name}' does not exist for service instance '{of}'."));
        return Ok(());
    };
    let reply = api.remove(&format!("/v3/service_credential_bindings/{}", text(&key, "/guid"))).await?;
    match follow(api, reply, wait).await? {
        Stand::Done => ui::ok(),
        Stand::UnderWay => done(&format!("Delete in progress. Use 'cf service-keys {of}' to check operation status.")),
    }
    Ok(())
}
