//! buildpacks and stacks.

use super::confirm;
use crate::{
    api::{Api, number, query, text},
    cli::Listing,
    problem::Problem,
    push::{files, upload},
    ui::{self, say},
};
use serde_json::{Value, json};
use std::path::Path;

pub(super) async fn buildpacks(api: &mut Api, listing: &Listing) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let pairs: Vec<_> = listing.selector().into_iter().collect();
    let buildpacks = api.list(&query("/v3/buildpacks", &pairs)).await?;
    if listing.format.json {
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

pub(super) async fn create_buildpack(api: &mut Api, name: &str, path: &Path, position: u32, enabled: bool) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    files::check(path)?;
    say!("Creating buildpack {} as {}...", ui::name(name), ui::name(&user));
    let made = api.post("/v3/buildpacks", &json!({ "name": name, "position": position, "enabled": enabled })).await?.body;
    ui::ok();
    say!();
    say!("Uploading buildpack {} as {}...", ui::name(name), ui::name(&user));
    upload::buildpack(api, text(&made, "/guid"), path).await?;
    ui::ok();
    Ok(())
}

/// What to change of a buildpack.
pub(super) struct BuildpackChange {
    pub(super) position: Option<u32>,
    pub(super) enabled: Option<bool>,
    pub(super) locked: Option<bool>,
    pub(super) name: Option<String>,
    /// For one that has none yet.
    pub(super) stack: Option<String>,
}

pub(super) async fn update_buildpack(
    api: &mut Api,
    name: &str,
    stack: Option<&str>,
    path: Option<&Path>,
    change: BuildpackChange,
) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let guid = buildpack(api, name, stack)
        .await?
        .ok_or_else(|| Problem::new(format!("Buildpack '{name}' not found.")).tip("'cf buildpacks' lists them."))?;
    say!("Updating buildpack {} as {}...", ui::name(name), ui::name(&user));
    let mut body = serde_json::Map::new();
    let fields = [
        ("position", change.position.map(|position| json!(position))),
        ("enabled", change.enabled.map(|enabled| json!(enabled))),
        ("locked", change.locked.map(|locked| json!(locked))),
        ("name", change.name.map(|name| json!(name))),
        ("stack", change.stack.map(|stack| json!(stack))),
    ];
    body.extend(fields.into_iter().filter_map(|(key, value)| value.map(|value| (key.to_owned(), value))));
    if !body.is_empty() {
        api.patch(&format!("/v3/buildpacks/{guid}"), &Value::Object(body)).await?;
    }
    if let Some(path) = path {
        files::check(path)?;
        upload::buildpack(api, &guid, path).await?;
    }
    ui::ok();
    Ok(())
}

pub(super) async fn delete_buildpack(api: &mut Api, name: &str, stack: Option<&str>, force: bool) -> anyhow::Result<()> {
    api.identity()?;
    if !force && !confirm(&format!("Really delete the {name} buildpack?"))? {
        say!("Buildpack '{name}' has not been deleted.");
        return Ok(());
    }
    say!("Deleting buildpack {}...", ui::name(name));
    match buildpack(api, name, stack).await? {
        Some(guid) => api.delete(&format!("/v3/buildpacks/{guid}")).await?,
        None => eprintln!("Buildpack '{name}' does not exist."),
    }
    ui::ok();
    Ok(())
}

/// A buildpack's guid; of several with one name the one for this stack, or else for every stack.
async fn buildpack(api: &mut Api, name: &str, stack: Option<&str>) -> anyhow::Result<Option<String>> {
    let found = api.list(&query("/v3/buildpacks", &[("names", name)])).await?;
    let chosen = match stack {
        Some(stack) => found.iter().find(|one| text(one, "/stack") == stack),
        None => found.iter().find(|one| one["stack"].is_null()).or_else(|| found.first()),
    };
    Ok(chosen.map(|one| text(one, "/guid").to_owned()))
}

pub(super) async fn stacks(api: &mut Api, listing: &Listing) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let pairs: Vec<_> = listing.selector().into_iter().collect();
    let stacks = api.list(&query("/v3/stacks", &pairs)).await?;
    if listing.format.json {
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
