//! get-health-check, set-health-check.

use super::app;
use crate::{
    api::{Api, array, number, text},
    cli::{Format, HealthCheckType},
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Value, json};

pub(super) async fn show(api: &mut Api, name: &str, format: Format) -> anyhow::Result<()> {
    let app = app(api, name).await?;
    let processes = api.get(&format!("/v3/apps/{}/processes", app.guid)).await?;
    let processes: Vec<&Value> = array(&processes, "/resources").collect();
    if format.json {
        ui::json(&json!(
            processes
                .iter()
                .map(|process| json!({ "type": process["type"], "health_check": process["health_check"] }))
                .collect::<Vec<_>>()
        ));
        return Ok(());
    }
    say!("Getting health check type for app {} in {}...\n", ui::name(name), app.place());
    let row = |process: &&Value| {
        let timeout = number(process, "/health_check/data/invocation_timeout");
        vec![
            text(process, "/type").to_owned(),
            text(process, "/health_check/type").to_owned(),
            text(process, "/health_check/data/endpoint").to_owned(),
            if timeout == 0 { "1".to_owned() } else { timeout.to_string() },
        ]
    };
    let rows: Vec<_> = processes.iter().map(row).collect();
    ui::table(&["process", "health check", "endpoint (for http)", "invocation timeout"], &rows);
    Ok(())
}

pub(super) async fn set(
    api: &mut Api,
    name: &str,
    process: &str,
    kind: HealthCheckType,
    endpoint: Option<&str>,
    invocation_timeout: Option<u32>,
) -> anyhow::Result<()> {
    if endpoint.is_some() && !matches!(kind, HealthCheckType::Http) {
        bail!(Problem::new("Health check type must be 'http' to set a health check HTTP endpoint."));
    }
    let app = app(api, name).await?;
    say!("Updating health check type for app {} process {} in {}...", ui::name(name), ui::name(process), app.place());
    let found = api.get(&format!("/v3/apps/{}/processes/{process}", app.guid)).await?;
    let mut data = serde_json::Map::new();
    if matches!(kind, HealthCheckType::Http) {
        data.insert("endpoint".into(), json!(endpoint.unwrap_or("/")));
    }
    if let Some(seconds) = invocation_timeout {
        data.insert("invocation_timeout".into(), json!(seconds));
    }
    let body = json!({ "health_check": { "type": kind.word(), "data": data } });
    api.patch(&format!("/v3/processes/{}", text(&found, "/guid")), &body).await?;
    ui::ok();
    if app.started() {
        say!();
        say!("TIP: An app restart is required for the change to take effect.");
    }
    Ok(())
}
