//! apps, app, start, stop, restart, restage, scale, delete, events.

use super::{App, app, confirm, place, summary};
use crate::{
    api::{Api, array, number, query, text},
    cli::{AppArg, Format, Listing, Scale},
    problem::Problem,
    push::{stage, wait},
    ui::{self, say},
};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

const BATCH: usize = 200;

pub(super) async fn list(api: &mut Api, no_stats: bool, listing: &Listing) -> anyhow::Result<()> {
    let ((org, space), user) = (api.space()?, api.identity()?.name);
    let mut pairs = vec![("space_guids", space.guid.as_str()), ("order_by", "name"), ("per_page", "5000")];
    pairs.extend(listing.selector());
    let apps = api.list(&query("/v3/apps", &pairs)).await?;
    if listing.format.json {
        ui::json(&Value::Array(apps));
        return Ok(());
    }
    say!("Getting apps in {}...\n", place(&org, &space, &user));
    if apps.is_empty() {
        say!("No apps found");
        return Ok(());
    }
    let processes = match no_stats {
        true => vec![],
        false => api.list(&query("/v3/processes", &[("space_guids", &space.guid), ("embed", "process_instances")])).await?,
    };
    let mut by_app: BTreeMap<&str, Vec<(bool, String)>> = BTreeMap::new();
    for process in &processes {
        let running = array(process, "/process_instances").filter(|instance| text(instance, "/state") == "RUNNING").count();
        let kind = text(process, "/type");
        let shown = format!("{kind}:{running}/{}", number(process, "/instances"));
        by_app.entry(text(process, "/relationships/app/data/guid")).or_default().push((kind != "web", shown));
    }
    let guids: Vec<&str> = apps.iter().map(|app| text(app, "/guid")).collect();
    let mut urls: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for batch in guids.chunks(BATCH) {
        for route in api.list(&query("/v3/routes", &[("app_guids", &batch.join(","))])).await? {
            for destination in array(&route, "/destinations") {
                let of_app = urls.entry(text(destination, "/app/guid").to_owned()).or_default();
                if !of_app.iter().any(|url| url == text(&route, "/url")) {
                    of_app.push(text(&route, "/url").to_owned());
                }
            }
        }
    }
    let row = |app: &Value| {
        let guid = text(app, "/guid");
        let mut processes = by_app.get(guid).cloned().unwrap_or_default();
        processes.sort();
        let processes: Vec<String> = processes.into_iter().map(|(_, shown)| shown).collect();
        let urls = urls.get(guid).map(|urls| urls.join(", ")).unwrap_or_default();
        let mut row = vec![text(app, "/name").to_owned(), text(app, "/state").to_lowercase()];
        row.extend((!no_stats).then(|| processes.join(", ")));
        row.push(urls);
        row
    };
    let rows: Vec<_> = apps.iter().map(row).collect();
    match no_stats {
        true => ui::table(&["name", "requested state", "routes"], &rows),
        false => ui::table(&["name", "requested state", "processes", "routes"], &rows),
    }
    Ok(())
}

pub(super) async fn show(api: &mut Api, name: &str, guid: bool, format: Format) -> anyhow::Result<()> {
    let app = app(api, name).await?;
    if guid {
        say!("{}", app.guid);
        return Ok(());
    }
    if format.json {
        let document = summary::document(api, &app).await?;
        ui::json(&document);
        return Ok(());
    }
    say!("Showing health and status for app {} in {}...\n", ui::name(name), app.place());
    summary::show(api, &app, false).await
}

pub(super) async fn start(api: &mut Api, args: &AppArg) -> anyhow::Result<()> {
    let mut app = app(api, &args.app).await?;
    if app.started() {
        say!("App '{}' is already started.", app.name);
        ui::ok();
        return Ok(());
    }
    say!("Starting app {} in {}...\n", ui::name(&app.name), app.place());
    stage_if_needed(api, &app).await?;
    begin(api, &mut app, args.no_wait).await
}

pub(super) async fn stop(api: &mut Api, name: &str) -> anyhow::Result<()> {
    let app = app(api, name).await?;
    if !app.started() {
        say!("App '{name}' is already stopped.");
        ui::ok();
        return Ok(());
    }
    say!("Stopping app {} in {}...\n", ui::name(name), app.place());
    api.post(&format!("/v3/apps/{}/actions/stop", app.guid), &json!({})).await?;
    ui::ok();
    Ok(())
}

pub(super) async fn restart(api: &mut Api, args: &AppArg) -> anyhow::Result<()> {
    let mut app = app(api, &args.app).await?;
    say!("Restarting app {} in {}...\n", ui::name(&app.name), app.place());
    if app.started() {
        say!("Stopping app...\n");
        api.post(&format!("/v3/apps/{}/actions/stop", app.guid), &json!({})).await?;
    }
    stage_if_needed(api, &app).await?;
    begin(api, &mut app, args.no_wait).await
}

pub(super) async fn restage(api: &mut Api, args: &AppArg) -> anyhow::Result<()> {
    let mut app = app(api, &args.app).await?;
    say!("Restaging app {} in {}...\n", ui::name(&app.name), app.place());
    let pairs =
        [("app_guids", app.guid.as_str()), ("states", "READY"), ("order_by", "-created_at"), ("per_page", "1"), ("page", "1")];
    let Some(package) = api.first(&query("/v3/packages", &pairs)).await? else {
        bail!(
            Problem::new(format!("App '{}' has no package to stage.", app.name))
                .tip(format!("'cf push {}' uploads one.", app.name))
        );
    };
    let droplet = stage::stage(api, &app.guid, &app.name, text(&package, "/guid")).await?;
    if app.started() {
        say!("Stopping app...\n");
        api.post(&format!("/v3/apps/{}/actions/stop", app.guid), &json!({})).await?;
    }
    stage::use_droplet(api, &app.guid, &droplet).await?;
    begin(api, &mut app, args.no_wait).await
}

pub(super) async fn scale(api: &mut Api, args: &Scale) -> anyhow::Result<()> {
    let mut app = app(api, &args.app).await?;
    let mut body = serde_json::Map::new();
    if let Some(instances) = args.instances {
        body.insert("instances".into(), json!(instances));
    }
    for (key, size) in [("memory_in_mb", &args.memory), ("disk_in_mb", &args.disk)] {
        if let Some(size) = size {
            let megabytes = ui::megabytes(size).filter(|megabytes| *megabytes > 0);
            let megabytes =
                megabytes.ok_or_else(|| Problem::new(format!("`{size}` is not a size.")).tip("Sizes are written 256M or 1G."))?;
            body.insert(key.into(), json!(megabytes));
        }
    }
    if let Some(rate) = &args.log_rate {
        body.insert("log_rate_limit_in_bytes_per_second".into(), json!(log_rate(rate)?));
    }
    if body.is_empty() {
        say!("Showing current scale of app {} in {}...\n", ui::name(&app.name), app.place());
        return summary::show(api, &app, false).await;
    }
    say!("Scaling app {} in {}...\n", ui::name(&app.name), app.place());
    // a new number of instances takes effect at once, new limits with the next start
    let restart = body.keys().any(|key| key != "instances") && app.started();
    if restart && !args.force {
        say!("This will cause the app to restart.");
        if !confirm(&format!("Really scale {}?", app.name))? {
            say!("Scaling cancelled");
            return Ok(());
        }
    }
    let path = format!("/v3/apps/{}/processes/{}/actions/scale", app.guid, args.process);
    api.post(&path, &Value::Object(body)).await?;
    if restart {
        say!("Stopping app {} in {}...\n", ui::name(&app.name), app.place());
        api.post(&format!("/v3/apps/{}/actions/stop", app.guid), &json!({})).await?;
        say!("Starting app {} in {}...\n", ui::name(&app.name), app.place());
        return begin(api, &mut app, false).await;
    }
    if app.started() {
        wait::for_instances(api, &app, false).await?;
    }
    summary::show(api, &app, false).await
}

pub(super) async fn delete(api: &mut Api, name: &str, force: bool, routes: bool) -> anyhow::Result<()> {
    let (org, space) = api.space()?;
    let user = api.identity()?.name;
    let question = if routes {
        format!("Really delete the app {name} and associated routes?")
    } else {
        format!("Really delete the app {name}?")
    };
    if !force && !confirm(&question)? {
        say!("App '{name}' has not been deleted.");
        return Ok(());
    }
    say!("Deleting app {} in {}...", ui::name(name), place(&org, &space, &user));
    let app = match app(api, name).await {
        Ok(app) => app,
        Err(e) if e.is::<Problem>() => {
            eprintln!("App '{name}' does not exist.");
            ui::ok();
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let of_app = if routes { api.list(&format!("/v3/apps/{}/routes", app.guid)).await? } else { vec![] };
    for route in &of_app {
        if array(route, "/destinations").any(|destination| text(destination, "/app/guid") != app.guid) {
            bail!(
                Problem::new(format!("Route {} leads to another app too: nothing was deleted.", text(route, "/url")))
                    .tip("Delete the app without '-r', or unmap the route from the other app.")
            );
        }
    }
    api.delete(&format!("/v3/apps/{}", app.guid)).await?;
    for route in &of_app {
        api.delete(&format!("/v3/routes/{}", text(route, "/guid"))).await?;
    }
    ui::ok();
    Ok(())
}

pub(super) async fn rename(api: &mut Api, name: &str, new_name: &str) -> anyhow::Result<()> {
    let app = app(api, name).await?;
    say!("Renaming app {} to {} in {}...", ui::name(name), ui::name(new_name), app.place());
    api.patch(&format!("/v3/apps/{}", app.guid), &json!({ "name": new_name })).await?;
    ui::ok();
    Ok(())
}

pub(super) async fn restart_instance(api: &mut Api, name: &str, index: u32, process: &str) -> anyhow::Result<()> {
    let app = app(api, name).await?;
    say!("Restarting instance {index} of process {process} of app {} in {}...", ui::name(name), app.place());
    api.delete(&format!("/v3/apps/{}/processes/{process}/instances/{index}", app.guid)).await?;
    ui::ok();
    Ok(())
}

pub(super) async fn manifest(api: &mut Api, name: &str, path: Option<&Path>) -> anyhow::Result<()> {
    let app = app(api, name).await?;
    let path = path.map_or_else(|| PathBuf::from(format!("{name}_manifest.yml")), Path::to_owned);
    say!("Creating an app manifest from current settings of app {} in {}...", ui::name(name), app.place());
    let url = format!("/v3/apps/{}/manifest", app.guid);
    let answer = api.authorized(|http, url| http.get(url).header("Accept", "application/x-yaml"), &url).await?;
    let text = answer.text().await.map_err(crate::net::no_answer)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say!("Manifest file created successfully at {}", path.display());
    ui::ok();
    Ok(())
}

pub(super) async fn events(api: &mut Api, name: &str, format: Format) -> anyhow::Result<()> {
    let app = app(api, name).await?;
    let path = query("/v3/audit_events", &[("target_guids", &app.guid), ("order_by", "-created_at"), ("page", "1")]);
    let events: Vec<Value> = array(&api.get(&path).await?, "/resources").cloned().collect();
    if format.json {
        ui::json(&Value::Array(events));
        return Ok(());
    }
    say!("Getting events for app {} in {}...\n", ui::name(name), app.place());
    if events.is_empty() {
        say!("No events found.");
        return Ok(());
    }
    let row = |event: &Value| {
        vec![
            ui::event_time(text(event, "/created_at")),
            text(event, "/type").to_owned(),
            text(event, "/actor/name").to_owned(),
            description(&event["data"]),
        ]
    };
    let rows: Vec<_> = events.iter().map(row).collect();
    ui::table(&["time", "event", "actor", "description"], &rows);
    Ok(())
}

/// What the official client shows of an event, in its order.
fn description(data: &Value) -> String {
    let data = data.get("request").filter(|request| request.is_object()).unwrap_or(data);
    let keys = [
        "index",
        "reason",
        "cell_id",
        "instance",
        "exit_description",
        "exit_status",
        "recursive",
        "disk_quota",
        "instances",
        "memory",
        "state",
        "command",
        "environment_json",
    ];
    let shown = |key: &&str| match &data[*key] {
        Value::Null => None,
        Value::String(text) => Some(format!("{key}: {}", ui::harmless(text))),
        other => Some(format!("{key}: {other}")),
    };
    keys.iter().filter_map(shown).collect::<Vec<_>>().join(", ")
}

async fn stage_if_needed(api: &mut Api, app: &App) -> anyhow::Result<()> {
    let pairs = [("app_guids", app.guid.as_str()), ("order_by", "-created_at"), ("per_page", "1"), ("page", "1")];
    let Some(package) = api.first(&query("/v3/packages", &pairs)).await? else { return Ok(()) };
    let package = text(&package, "/guid");
    let staged = query(&format!("/v3/packages/{package}/droplets"), &[("states", "STAGED"), ("per_page", "1"), ("page", "1")]);
    if api.first(&staged).await?.is_some() {
        return Ok(());
    }
    let droplet = stage::stage(api, &app.guid, &app.name, package).await?;
    stage::use_droplet(api, &app.guid, &droplet).await
}

async fn begin(api: &mut Api, app: &mut App, no_wait: bool) -> anyhow::Result<()> {
    app.document = api.post(&format!("/v3/apps/{}/actions/start", app.guid), &json!({})).await?.body;
    wait::for_instances(api, app, no_wait).await?;
    summary::show(api, app, false).await
}

/// Bytes a second: `16K`, `-1` for no limit.
pub(super) fn log_rate(text: &str) -> anyhow::Result<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
    let number: Option<i64> = text[..digits].parse().ok().filter(|number| *number >= -1);
    let unit = match text[digits..].to_ascii_uppercase().as_str() {
        "" | "B" => Some(1),
        "K" | "KB" => Some(1 << 10),
        "M" | "MB" => Some(1 << 20),
        "G" | "GB" => Some(1 << 30),
        _ => None,
    };
    match (number, unit) {
        (Some(-1), _) => Ok(-1),
        (Some(number), Some(unit)) => Ok(number.saturating_mul(unit)),
        _ => bail!(Problem::new(format!("`{text}` is not a log rate.")).tip("Rates are written 16K or 1M; -1 is no limit.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_described_by_what_matters_of_it() {
        let crash = json!({ "index": 0, "exit_description": "Exited with status 1", "reason": "CRASHED", "other": 7 });
        assert_eq!(description(&crash), "index: 0, reason: CRASHED, exit_description: Exited with status 1");
        assert_eq!(description(&json!({ "request": { "instances": 3 } })), "instances: 3");
    }

    #[test]
    fn log_rates_read_as_people_write_them() {
        assert_eq!(log_rate("16K").unwrap(), 16_384);
        assert_eq!(log_rate("-1").unwrap(), -1);
        assert!(log_rate("-2").is_err() && log_rate("fast").is_err());
    }
}
