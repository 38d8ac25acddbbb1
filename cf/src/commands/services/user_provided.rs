//! create-user-provided-service, update-user-provided-service.

use super::{done, instance, instances::taken, object, tags};
use crate::{
    api::Api,
    cli::services::UserProvided,
    commands::{ask, place},
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Map, Value, json};

/// What was given, as the API has it.
fn body(args: &UserProvided) -> anyhow::Result<Value> {
    let mut body = json!({});
    if let Some(given) = &args.credentials {
        body["credentials"] = Value::Object(credentials(given)?);
    }
    for (key, value) in [("syslog_drain_url", &args.syslog_drain_url), ("route_service_url", &args.route_service_url)] {
        if let Some(value) = value {
            body[key] = json!(value);
        }
    }
    if let Some(given) = &args.tags {
        body["tags"] = json!(tags(given));
    }
    Ok(body)
}

/// A JSON object, a file with one, or names whose values are asked for.
fn credentials(given: &str) -> anyhow::Result<Map<String, Value>> {
    let names: Vec<&str> = given.split(',').map(str::trim).collect();
    let asks = !given.trim_start().starts_with('{')
        && !std::path::Path::new(given).exists()
        && names.iter().all(|name| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')));
    if !asks {
        return object(given, "-p");
    }
    names.into_iter().map(|name| Ok((name.to_owned(), json!(ask(name)?)))).collect()
}

pub(super) async fn create(api: &mut Api, args: &UserProvided) -> anyhow::Result<()> {
    let ((org, space), user) = (api.space()?, api.identity()?.name);
    let mut body = body(args)?;
    say!("Creating user provided service {} in {}...", ui::name(&args.instance), place(&org, &space, &user));
    body["type"] = json!("user-provided");
    body["name"] = json!(args.instance);
    body["relationships"] = json!({ "space": { "data": { "guid": space.guid } } });
    match api.post("/v3/service_instances", &body).await {
        Err(e) if taken(&e) => done(&format!("Service instance {} already exists", args.instance)),
        other => {
            other?;
            ui::ok();
        }
    }
    Ok(())
}

pub(super) async fn update(api: &mut Api, args: &UserProvided) -> anyhow::Result<()> {
    let body = body(args)?;
    if body == json!({}) {
        done("No flags specified. No changes were made.");
        return Ok(());
    }
    let found = instance(api, &args.instance).await?;
    if found.managed() {
        bail!(Problem::new(format!("'{}' is not user-provided.", args.instance)).tip("Use 'cf update-service'."));
    }
    say!("Updating user provided service {} in {}...", ui::name(&args.instance), found.place());
    api.patch(&found.path(), &body).await?;
    ui::ok();
    say!("\nTIP: Use 'cf restage' for any bound apps to ensure your env variable changes take effect");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_changed() {
        let args = UserProvided {
            instance: "mail".into(),
            credentials: Some(r#"{"uri":"smtp://x"}"#.into()),
            syslog_drain_url: None,
            route_service_url: None,
            tags: Some("a,b".into()),
        };
        assert_eq!(body(&args).unwrap(), json!({ "credentials": { "uri": "smtp://x" }, "tags": ["a", "b"] }));
    }
}
