//! env, set-env, unset-env.

use super::app;
use crate::{
    api::Api,
    cli::Format,
    ui::{self, say},
};
use serde_json::{Value, json};

pub(super) async fn show(api: &mut Api, name: &str, format: Format) -> anyhow::Result<()> {
    let app = app(api, name).await?;
    let env = api.get(&format!("/v3/apps/{}/env", app.guid)).await?;
    if format.json {
        ui::json(&env);
        return Ok(());
    }
    say!("Getting env variables for app {} in {}...", ui::name(name), app.place());
    ui::ok();
    say!();
    let system = [("/system_env_json", "System-Provided:"), ("/application_env_json", "")];
    let mut any = false;
    for (pointer, heading) in system {
        let Some(values) = env.pointer(pointer).and_then(Value::as_object).filter(|values| !values.is_empty()) else { continue };
        if !heading.is_empty() {
            say!("{}", ui::bold(heading));
        }
        for (key, value) in values {
            say!("{key}: {}\n", serde_json::to_string_pretty(value)?);
        }
        any = true;
    }
    if !any {
        say!("No system-provided env variables have been set\n");
    }
    variables(&env, "/environment_variables", "User-Provided:", "No user-provided env variables have been set");
    variables(&env, "/running_env_json", "Running Environment Variable Groups:", "No running env variables have been set");
    variables(&env, "/staging_env_json", "Staging Environment Variable Groups:", "No staging env variables have been set");
    Ok(())
}

fn variables(env: &Value, pointer: &str, heading: &str, none: &str) {
    match env.pointer(pointer).and_then(Value::as_object).filter(|values| !values.is_empty()) {
        None => say!("{none}\n"),
        Some(values) => {
            say!("{}", ui::bold(heading));
            for (key, value) in values {
                match value {
                    Value::String(text) => say!("{key}:   {}", ui::harmless(text)),
                    other => say!("{key}:   {other}"),
                }
            }
            say!();
        }
    }
}

pub(super) async fn set(api: &mut Api, name: &str, variable: &str, value: &str) -> anyhow::Result<()> {
    let app = app(api, name).await?;
    say!("Setting env variable {} for app {} in {}...", ui::name(variable), ui::name(name), app.place());
    patch(api, &app.guid, variable, json!(value)).await?;
    ui::ok();
    say!();
    say!("TIP: Use 'cf restage {name}' to ensure your env variable changes take effect.");
    Ok(())
}

pub(super) async fn unset(api: &mut Api, name: &str, variable: &str) -> anyhow::Result<()> {
    let app = app(api, name).await?;
    say!("Removing env variable {} from app {} in {}...", ui::name(variable), ui::name(name), app.place());
    let env = api.get(&format!("/v3/apps/{}/env", app.guid)).await?;
    if env.pointer("/environment_variables").and_then(|all| all.get(variable)).is_none() {
        say!("Env variable {variable} was not set.");
        ui::ok();
        return Ok(());
    }
    patch(api, &app.guid, variable, Value::Null).await?;
    ui::ok();
    say!();
    say!("TIP: Use 'cf restage {name}' to ensure your env variable changes take effect.");
    Ok(())
}

async fn patch(api: &mut Api, app: &str, variable: &str, value: Value) -> anyhow::Result<()> {
    let mut var = serde_json::Map::new();
    var.insert(variable.to_owned(), value);
    api.patch(&format!("/v3/apps/{app}/environment_variables"), &json!({ "var": var })).await.map(|_| ())
}
