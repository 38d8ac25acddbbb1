//! `cf push`.
//!
//! - `manifest`: what to push, out of file, variables and flags. - `diff`: what will change.
//! - `files`: what belongs to the app. - `upload`: packages. - `stage`, `wait`: what the platform does with it, live.

mod diff;
pub(crate) mod files;
mod manifest;
pub(crate) mod stage;
pub(crate) mod upload;
pub(crate) mod wait;

use crate::{
    api::{Api, ApiError, query, text},
    cli::Push,
    commands::{App, place, summary},
    config::Named,
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use manifest::{Manifest, ManifestApp};
use serde_json::{Value, json};

pub(crate) async fn run(api: &mut Api, args: &Push) -> anyhow::Result<()> {
    let (org, space) = api.space()?;
    let user = api.identity()?.name;
    let manifest = manifest::load(args, &std::env::current_dir()?)?;
    // looked at before anything changes: a folder that is not there must not cost a running app its route
    for app in &manifest.apps {
        files::check(&app.path)?;
    }
    let names: Vec<&str> = manifest.apps.iter().map(|app| app.name.as_str()).collect();
    say!(
        "Pushing {} {} to {}...",
        if names.len() == 1 { "app" } else { "apps" },
        ui::name(&names.join(", ")),
        place(&org, &space, &user)
    );
    apply(api, &manifest, &space).await?;
    for wanted in &manifest.apps {
        let mut app = find(api, wanted, &org, &space, &user).await?;
        one(api, args, wanted, &mut app).await?;
    }
    Ok(())
}

async fn apply(api: &mut Api, manifest: &Manifest, space: &Named) -> anyhow::Result<()> {
    let body = manifest.body();
    if let Some(file) = &manifest.file {
        say!("Applying manifest file {}...", file.display());
        say!();
        match yaml(api, &format!("/v3/spaces/{}/manifest_diff", space.guid), &body).await {
            Ok((diff, _)) => {
                say!("Updating with these attributes...");
                for line in diff::lines(&manifest.document(), &diff) {
                    say!("{line}");
                }
            }
            // the diff is for the reader; without it the push goes on
            Err(e) if e.downcast_ref::<ApiError>().is_some_and(|e| matches!(e.status, 405 | 429 | 500 | 502 | 504)) => {
                eprintln!("Unable to generate diff. Continuing to apply manifest...");
            }
            Err(e) => return Err(e),
        }
    } else {
        say!("Applying manifest...");
    }
    let (_, location) = yaml(api, &format!("/v3/spaces/{}/actions/apply_manifest", space.guid), &body).await?;
    api.job(crate::api::Reply { body: Value::Null, location }).await?;
    say!("Manifest applied");
    Ok(())
}

/// Sends a manifest; hands back the answer and the job that it names.
async fn yaml(api: &mut Api, path: &str, body: &str) -> anyhow::Result<(Value, Option<String>)> {
    let answer = api
        .authorized(
            |http, url| {
                http.post(url)
                    .header("Content-Type", "application/x-yaml")
                    .header("Accept", "application/json")
                    .body(body.to_owned())
            },
            path,
        )
        .await?;
    let location = answer.headers().get("Location").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let bytes = answer.bytes().await.map_err(crate::net::no_answer)?;
    Ok((serde_json::from_slice(&bytes).unwrap_or_default(), location))
}

async fn find(api: &mut Api, wanted: &ManifestApp, org: &Named, space: &Named, user: &str) -> anyhow::Result<App> {
    let path = query("/v3/apps", &[("names", &wanted.name), ("space_guids", &space.guid)]);
    let Some(document) = api.first(&path).await? else {
        bail!(
            Problem::new(format!("App '{}' is not there after its manifest was applied.", wanted.name))
                .tip("Was it deleted meanwhile? Push again.")
        );
    };
    let (guid, name, user) = (text(&document, "/guid").to_owned(), wanted.name.clone(), user.to_owned());
    Ok(App { guid, name, org: org.clone(), space: space.clone(), user, document })
}

async fn one(api: &mut Api, args: &Push, wanted: &ManifestApp, app: &mut App) -> anyhow::Result<()> {
    let package = upload::package(api, &app.guid, &wanted.path).await?;
    if args.no_start {
        if app.started() {
            api.post(&format!("/v3/apps/{}/actions/stop", app.guid), &json!({})).await?;
        }
        app.reload(api).await?;
        say!();
        return summary::show(api, app, true).await;
    }
    say!();
    let droplet = stage::stage(api, &app.guid, &app.name, &package).await?;
    stage::use_droplet(api, &app.guid, &droplet).await?;
    app.document = api.post(&format!("/v3/apps/{}/actions/restart", app.guid), &json!({})).await?.body;
    wait::for_instances(api, app, args.no_wait).await?;
    summary::show(api, app, true).await
}

#[cfg(test)]
mod tests;
