//! feature-flags, feature-flag, enable-feature-flag, disable-feature-flag.

use crate::{
    api::{Api, text},
    cli::Format,
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Value, json};

pub(super) async fn list(api: &mut Api, format: Format) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let flags = api.list("/v3/feature_flags").await?;
    if format.json {
        ui::json(&Value::Array(flags));
        return Ok(());
    }
    say!("Retrieving status of all flagged features as {}...\n", ui::name(&user));
    let mut rows: Vec<_> = flags.iter().map(|flag| vec![text(flag, "/name").to_owned(), state(flag).to_owned()]).collect();
    rows.sort();
    ui::table(&["features", "state"], &rows);
    Ok(())
}

pub(super) async fn show(api: &mut Api, name: &str) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    say!("Retrieving status of {} as {}...\n", ui::name(name), ui::name(&user));
    let flag = find(api, name).await?;
    ui::table(&["features", "state"], &[vec![name.to_owned(), state(&flag).to_owned()]]);
    Ok(())
}

pub(super) async fn switch(api: &mut Api, name: &str, on: bool) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    say!("{} feature flag {} as {}...", if on { "Enabling" } else { "Disabling" }, ui::name(name), ui::name(&user));
    find(api, name).await?;
    api.patch(&format!("/v3/feature_flags/{name}"), &json!({ "enabled": on })).await?;
    ui::ok();
    Ok(())
}

async fn find(api: &mut Api, name: &str) -> anyhow::Result<Value> {
    let flags = api.list("/v3/feature_flags").await?;
    match flags.into_iter().find(|flag| text(flag, "/name") == name) {
        Some(flag) => Ok(flag),
        None => bail!(Problem::new(format!("Feature flag '{name}' not found.")).tip("'cf feature-flags' lists them.")),
    }
}

fn state(flag: &Value) -> &'static str {
    if flag["enabled"] == true { "enabled" } else { "disabled" }
}
