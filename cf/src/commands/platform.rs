//! buildpacks, stacks.

use crate::{
    api::{Api, number, text},
    cli::Format,
    ui::{self, say},
};
use serde_json::Value;

pub(super) async fn buildpacks(api: &mut Api, format: Format) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let buildpacks = api.list("/v3/buildpacks").await?;
    if format.json {
        ui::json(&Value::Array(buildpacks));
        return Ok(());
    }
    say!("Getting buildpacks as {}...\n", ui::name(&user));
    if buildpacks.is_empty() {
        say!("No buildpacks found");
        return Ok(());
    }
    let row = |one: &Value| {
        let flag = |name: &str| one[name].as_bool().unwrap_or(false).to_string();
        let mut cells = vec![number(one, "/position").to_string()];
        cells.extend(["name", "stack"].map(|name| text(one, &format!("/{name}")).to_owned()));
        cells.extend([flag("enabled"), flag("locked")]);
        cells.extend(["state", "filename", "lifecycle"].map(|name| text(one, &format!("/{name}")).to_owned()));
        cells
    };
    let rows: Vec<_> = buildpacks.iter().map(row).collect();
    ui::table(&["position", "name", "stack", "enabled", "locked", "state", "filename", "lifecycle"], &rows);
    Ok(())
}

pub(super) async fn stacks(api: &mut Api, format: Format) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let stacks = api.list("/v3/stacks").await?;
    if format.json {
        ui::json(&Value::Array(stacks));
        return Ok(());
    }
    say!("Getting stacks as {}...\n", ui::name(&user));
    if stacks.is_empty() {
        say!("No stacks found.");
        return Ok(());
    }
    let rows: Vec<_> =
        stacks.iter().map(|stack| vec![text(stack, "/name").to_owned(), text(stack, "/description").to_owned()]).collect();
    ui::table(&["name", "description"], &rows);
    Ok(())
}
