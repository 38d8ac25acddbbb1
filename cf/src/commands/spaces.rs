//! spaces, create-space, delete-space.

use super::{confirm, org, space};
use crate::{
    api::{Api, ApiError, query, text},
    cli::{Format, Listing},
    config::Named,
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Value, json};

pub(super) async fn list(api: &mut Api, listing: &Listing) -> anyhow::Result<()> {
    let (org, user) = (api.org()?, api.identity()?.name);
    let mut pairs = vec![("organization_guids", org.guid.as_str()), ("order_by", "name")];
    pairs.extend(listing.selector());
    let spaces = api.list(&query("/v3/spaces", &pairs)).await?;
    if listing.format.json {
        ui::json(&Value::Array(spaces));
        return Ok(());
    }
    say!("Getting spaces in org {} as {}...\n", ui::name(&org.name), ui::name(&user));
    if spaces.is_empty() {
        say!("No spaces found.");
        return Ok(());
    }
    let rows: Vec<_> = spaces.iter().map(|space| vec![text(space, "/name").to_owned()]).collect();
    ui::table(&["name"], &rows);
    Ok(())
}

pub(super) async fn show(api: &mut Api, name: &str, guid: bool, format: Format) -> anyhow::Result<()> {
    let (org, user) = (api.org()?, api.identity()?.name);
    let space = space(api, &org, name).await?;
    if guid {
        say!("{}", space.guid);
        return Ok(());
    }
    if format.json {
        let document = api.get(&format!("/v3/spaces/{}", space.guid)).await?;
        ui::json(&document);
        return Ok(());
    }
    say!("Getting info for space {} in org {} as {}...\n", ui::name(name), ui::name(&org.name), ui::name(&user));
    let apps = api.list(&query("/v3/apps", &[("space_guids", &space.guid), ("order_by", "name")])).await?;
    let services = api.list(&query("/v3/service_instances", &[("space_guids", &space.guid)])).await?;
    let running = api.list(&format!("/v3/spaces/{}/running_security_groups", space.guid)).await?;
    let staging = api.list(&format!("/v3/spaces/{}/staging_security_groups", space.guid)).await?;
    let names = |all: &[Value]| all.iter().map(|one| text(one, "/name")).collect::<Vec<_>>().join(", ");
    ui::pairs(&[
        ("name", space.name),
        ("org", org.name),
        ("apps", names(&apps)),
        ("services", names(&services)),
        ("isolation segment", String::new()),
        ("quota", String::new()),
        ("running security groups", names(&running)),
        ("staging security groups", names(&staging)),
    ]);
    Ok(())
}

pub(super) async fn create(api: &mut Api, name: &str, in_org: Option<&str>, quota: Option<&str>) -> anyhow::Result<()> {
    let who = api.identity()?;
    let org = chosen(api, in_org).await?;
    // Looked up first, so that a wrong name makes nothing.
    let quota = match quota {
        Some(quota) => Some((quota, self::quota(api, &org, quota).await?)),
        None => None,
    };
    say!("Creating space {} in org {} as {}...", ui::name(name), ui::name(&org.name), ui::name(&who.name));
    let body = json!({ "name": name, "relationships": { "organization": { "data": { "guid": org.guid } } } });
    let made = match api.post("/v3/spaces", &body).await {
        Err(e) if is(&e, "Name must be unique per organization") => {
            eprintln!("Space '{name}' already exists.");
            ui::ok();
            return Ok(());
        }
        other => other?.body,
    };
    ui::ok();
    if let Some((name, quota)) = quota {
        say!("Setting space quota {} to space as {}...", ui::name(name), ui::name(&who.name));
        let path = format!("/v3/space_quotas/{quota}/relationships/spaces");
        api.post(&path, &json!({ "data": [{ "guid": text(&made, "/guid") }] })).await?;
        ui::ok();
    }
    if let Some(user) = who.user_id {
        say!();
        let subject = json!({ "data": match &who.origin {
            Some(origin) => json!({ "username": who.name, "origin": origin }),
            None => json!({ "guid": user }),
        } });
        let in_org = json!({ "user": subject, "organization": { "data": { "guid": org.guid } } });
        let body = json!({ "type": "organization_user", "relationships": in_org });
        soft(api.post("/v3/roles", &body).await.map(|_| ()))?;
        for (role, word) in [("space_manager", "SpaceManager"), ("space_developer", "SpaceDeveloper")] {
            say!(
                "Assigning role {word} to user {} in org {} / space {} as {}...",
                ui::name(&who.name),
                ui::name(&org.name),
                ui::name(name),
                ui::name(&who.name)
            );
            let in_space = json!({ "user": subject, "space": { "data": { "guid": text(&made, "/guid") } } });
            soft(api.post("/v3/roles", &json!({ "type": role, "relationships": in_space })).await.map(|_| ()))?;
            ui::ok();
        }
    }
    say!();
    say!("TIP: Use 'cf target -o \"{}\" -s \"{name}\"' to target new space", org.name);
    Ok(())
}

pub(super) async fn delete(api: &mut Api, name: &str, in_org: Option<&str>, force: bool) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let org = chosen(api, in_org).await?;
    if !force
        && !confirm(&format!("Really delete the space {name} in org {}, with its apps, routes and service instances?", org.name))?
    {
        say!("Space '{name}' has not been deleted.");
        return Ok(());
    }
    say!("Deleting space {} in org {} as {}...", ui::name(name), ui::name(&org.name), ui::name(&user));
    match space(api, &org, name).await {
        Ok(found) => {
            api.delete(&format!("/v3/spaces/{}", found.guid)).await?;
            if api.config.space.as_ref().is_some_and(|targeted| targeted.guid == found.guid) {
                api.config.space = None;
                api.config.save()?;
            }
        }
        Err(e) if e.is::<Problem>() => eprintln!("Space '{name}' does not exist."),
        Err(e) => return Err(e),
    }
    ui::ok();
    Ok(())
}

/// The guid of a space quota of an org.
async fn quota(api: &mut Api, org: &Named, name: &str) -> anyhow::Result<String> {
    let pairs = [("organization_guids", org.guid.as_str()), ("names", name), ("per_page", "1"), ("page", "1")];
    match api.first(&query("/v3/space_quotas", &pairs)).await? {
        Some(quota) => Ok(text(&quota, "/guid").to_owned()),
        None => bail!(Problem::new(format!("Space quota with name '{name}' not found."))),
    }
}

async fn chosen(api: &mut Api, name: Option<&str>) -> anyhow::Result<Named> {
    match name {
        Some(name) => org(api, name).await,
        None => api.org(),
    }
}

/// A role that is there already is what was wanted; and whoever may make spaces but not give org roles goes on.
fn soft(done: anyhow::Result<()>) -> anyhow::Result<()> {
    match done {
        Err(e) if is(&e, "already has") || e.downcast_ref::<ApiError>().is_some_and(|e| e.status == 403) => Ok(()),
        other => other,
    }
}

fn is(error: &anyhow::Error, detail: &str) -> bool {
    error.downcast_ref::<ApiError>().is_some_and(|e| e.status == 422 && e.detail.contains(detail))
}
