//! orgs, create-org, delete-org.

use super::{confirm, org};
use crate::{
    api::{Api, ApiError, query, text},
    cli::{Format, Listing},
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Value, json};

pub(super) async fn list(api: &mut Api, listing: &Listing) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let mut pairs = vec![("order_by", "name")];
    pairs.extend(listing.selector());
    let orgs = api.list(&query("/v3/organizations", &pairs)).await?;
    if listing.format.json {
        ui::json(&Value::Array(orgs));
        return Ok(());
    }
    say!("Getting orgs as {}...\n", ui::name(&user));
    if orgs.is_empty() {
        say!("No orgs found.");
        return Ok(());
    }
    let rows: Vec<_> = orgs.iter().map(|org| vec![text(org, "/name").to_owned()]).collect();
    ui::table(&["name"], &rows);
    Ok(())
}

pub(super) async fn show(api: &mut Api, name: &str, guid: bool, format: Format) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let org = org(api, name).await?;
    if guid {
        say!("{}", org.guid);
        return Ok(());
    }
    if format.json {
        let document = api.get(&format!("/v3/organizations/{}", org.guid)).await?;
        ui::json(&document);
        return Ok(());
    }
    say!("Getting info for org {} as {}...\n", ui::name(name), ui::name(&user));
    let domains = api.list(&format!("/v3/organizations/{}/domains", org.guid)).await?;
    let spaces = api.list(&query("/v3/spaces", &[("organization_guids", &org.guid), ("order_by", "name")])).await?;
    let document = api.get(&format!("/v3/organizations/{}", org.guid)).await?;
    let quota = match text(&document, "/relationships/quota/data/guid") {
        "" => String::new(),
        quota => text(&api.get(&format!("/v3/organization_quotas/{quota}")).await?, "/name").to_owned(),
    };
    let names = |all: &[Value]| all.iter().map(|one| text(one, "/name")).collect::<Vec<_>>().join(", ");
    ui::pairs(&[
        ("name", org.name),
        ("domains", names(&domains)),
        ("quota", quota),
        ("spaces", names(&spaces)),
        ("isolation segments", String::new()),
    ]);
    Ok(())
}

pub(super) async fn create(api: &mut Api, name: &str, quota: Option<&str>) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    // Looked up first, so that a wrong name makes nothing.
    let quota = match quota {
        Some(quota) => Some((quota, self::quota(api, quota).await?)),
        None => None,
    };
    say!("Creating org {} as {}...", ui::name(name), ui::name(&user));
    match api.post("/v3/organizations", &json!({ "name": name, "suspended": false })).await {
        Err(e) if exists(&e, name) => eprintln!("Organization '{name}' already exists."),
        other => {
            let made = other?.body;
            if let Some((name, quota)) = quota {
                let path = format!("/v3/organization_quotas/{quota}/relationships/organizations");
                api.post(&path, &json!({ "data": [{ "guid": text(&made, "/guid") }] })).await?;
                say!("Setting org quota {} to org as {}...", ui::name(name), ui::name(&user));
            }
        }
    }
    ui::ok();
    say!();
    say!("TIP: Use 'cf target -o \"{name}\"' to target new org");
    Ok(())
}

pub(super) async fn delete(api: &mut Api, name: &str, force: bool) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    if !force
        && !confirm(&format!(
            "Really delete the org {name}, including its spaces, apps, service instances, routes, private domains and space-scoped service brokers?"
        ))?
    {
        say!("Organization '{name}' has not been deleted.");
        return Ok(());
    }
    say!("Deleting org {} as {}...", ui::name(name), ui::name(&user));
    match org(api, name).await {
        Ok(found) => {
            api.delete(&format!("/v3/organizations/{}", found.guid)).await?;
            if api.config.org.as_ref().is_some_and(|targeted| targeted.guid == found.guid) {
                (api.config.org, api.config.space) = (None, None);
                api.config.save()?;
            }
        }
        Err(e) if e.is::<Problem>() => eprintln!("Org '{name}' does not exist."),
        Err(e) => return Err(e),
    }
    ui::ok();
    Ok(())
}

/// The guid of an org quota.
async fn quota(api: &mut Api, name: &str) -> anyhow::Result<String> {
    match api.first(&query("/v3/organization_quotas", &[("names", name), ("per_page", "1"), ("page", "1")])).await? {
        Some(quota) => Ok(text(&quota, "/guid").to_owned()),
        None => bail!(Problem::new(format!("Organization quota with name '{name}' not found."))),
    }
}

fn exists(error: &anyhow::Error, name: &str) -> bool {
    let taken = format!("Organization '{name}' already exists.");
    error.downcast_ref::<ApiError>().is_some_and(|e| e.status == 422 && e.detail == taken)
}
