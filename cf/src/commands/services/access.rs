//! service-access, enable-service-access, disable-service-access, purge-service-offering.

use super::{done, sure, with_guid};
use crate::{
    api::{Api, array, query, text},
    cli::services::Access,
    commands::org,
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Value, json};

pub(super) async fn show(
    api: &mut Api,
    broker: Option<&str>,
    offering: Option<&str>,
    org_name: Option<&str>,
) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let org = match org_name {
        Some(name) => Some(org(api, name).await?),
        None => None,
    };
    let part = |word: &str, name: Option<&str>| name.map(|name| format!(" {word} {}", ui::name(name))).unwrap_or_default();
    say!(
        "Getting service access{}{}{} as {}...",
        part("for broker", broker),
        part("for offering", offering),
        part("for org", org_name),
        ui::name(&user)
    );
    let mut pairs = vec![("fields[service_broker]", "name,guid"), ("per_page", "5000")];
    pairs.extend(offering.map(|name| ("names", name)));
    pairs.extend(broker.map(|name| ("service_broker_names", name)));
    let (offerings, included) = api.list_with_included(&query("/v3/service_offerings", &pairs)).await?;
    let mut pairs = vec![("include", "space.organization"), ("per_page", "5000")];
    pairs.extend(offering.map(|name| ("service_offering_names", name)));
    pairs.extend(broker.map(|name| ("service_broker_names", name)));
    pairs.extend(org.as_ref().map(|org| ("organization_guids", org.guid.as_str())));
    let (plans, spaces) = api.list_with_included(&query("/v3/service_plans", &pairs)).await?;
    if offerings.is_empty() {
        match (offering, broker) {
            (Some(name), None) => bail!(Problem::new(format!("Service offering '{name}' not found."))),
            (Some(name), Some(broker)) => {
                bail!(Problem::new(format!("Service offering '{name}' for service broker '{broker}' not found.")))
            }
            (None, Some(broker)) => bail!(Problem::new(format!("No service offerings found for service broker '{broker}'."))),
            (None, None) => {}
        }
    }
    if plans.is_empty() {
        say!("\nNo service plans found.");
        return Ok(());
    }
    let mut brokers: Vec<&Value> = array(&included, "/service_brokers").collect();
    brokers.sort_by_key(|broker| text(broker, "/name").to_owned());
    for broker in brokers {
        let mut rows = vec![];
        let of_broker = |offering: &&Value| text(offering, "/relationships/service_broker/data/guid") == text(broker, "/guid");
        for offering in offerings.iter().filter(of_broker) {
            let of_offering = |plan: &&Value| text(plan, "/relationships/service_offering/data/guid") == text(offering, "/guid");
            for plan in plans.iter().filter(of_offering) {
                rows.push(row(api, offering, plan, &spaces).await?);
            }
        }
        if !rows.is_empty() {
            rows.sort();
            say!("\nbroker: {}", ui::harmless(text(broker, "/name")));
            ui::table(&["   offering", "plan", "access", "orgs", "space"], &rows);
        }
    }
    Ok(())
}

async fn row(api: &mut Api, offering: &Value, plan: &Value, spaces: &Value) -> anyhow::Result<Vec<String>> {
    let (access, orgs, space) = match text(plan, "/visibility_type") {
        "public" => ("all", String::new(), String::new()),
        "organization" => {
            let visibility = api.get(&format!("/v3/service_plans/{}/visibility", text(plan, "/guid"))).await?;
            let names: Vec<&str> = array(&visibility, "/organizations").map(|org| text(org, "/name")).collect();
            ("limited", names.join(","), String::new())
        }
        "space" => {
            let space = with_guid(array(spaces, "/spaces"), text(plan, "/relationships/space/data/guid"));
            let org = space.and_then(|space| {
                with_guid(array(spaces, "/organizations"), text(space, "/relationships/organization/data/guid"))
            });
            let name = |document: Option<&Value>| document.map(|document| text(document, "/name")).unwrap_or_default().to_owned();
            ("limited", String::new(), format!("{} (org: {})", name(space), name(org)))
        }
        _ => ("none", String::new(), String::new()),
    };
    Ok(vec![format!("   {}", text(offering, "/name")), text(plan, "/name").to_owned(), access.to_owned(), orgs, space])
}

/// The offering of this name; one, or it has to be said of which broker.
async fn offering(api: &mut Api, name: &str, broker: Option<&str>) -> anyhow::Result<Option<Value>> {
    let mut pairs = vec![("names", name)];
    pairs.extend(broker.map(|broker| ("service_broker_names", broker)));
    let mut found = api.list(&query("/v3/service_offerings", &pairs)).await?;
    match found.len() {
        0 => Ok(None),
        1 => Ok(Some(found.remove(0))),
        _ => bail!(
            Problem::new(format!("Service offering '{name}' is provided by multiple service brokers."))
                .tip("Specify a broker by using the '-b' flag.")
        ),
    }
}

async fn plans(api: &mut Api, args: &Access) -> anyhow::Result<Vec<Value>> {
    let Some(offering) = offering(api, &args.offering, args.broker.as_deref()).await? else {
        bail!(
            Problem::new(format!("Service offering '{}' not found.", args.offering))
                .tip("'cf service-access' lists the offerings.")
        )
    };
    let mut pairs = vec![("service_offering_guids", text(&offering, "/guid"))];
    pairs.extend(args.plan.as_deref().map(|plan| ("names", plan)));
    let found = api.list(&query("/v3/service_plans", &pairs)).await?;
    match (&args.plan, found.is_empty()) {
        (Some(plan), true) => bail!(
            Problem::new(format!("The plan '{plan}' could not be found for service offering '{}'.", args.offering))
                .tip("'cf service-access' lists the plans.")
        ),
        _ => Ok(found),
    }
}

fn announce(verb: &str, args: &Access, user: &str) {
    let plans = match &args.plan {
        Some(plan) => format!("plan {}", ui::name(plan)),
        None => "all plans".into(),
    };
    let orgs = match &args.org {
        Some(org) => format!("org {}", ui::name(org)),
        None => "all orgs".into(),
    };
    let offering = ui::name(&args.offering);
    say!("{verb} access to {plans} of service offering {offering} for {orgs} as {}...", ui::name(user));
}

pub(super) async fn enable(api: &mut Api, args: &Access) -> anyhow::Result<()> {
    announce("Enabling", args, &api.identity()?.name);
    let found = plans(api, args).await?;
    let body = match &args.org {
        Some(name) => json!({ "type": "organization", "organizations": [{ "guid": org(api, name).await?.guid }] }),
        None => json!({ "type": "public" }),
    };
    for plan in found {
        let open = text(&plan, "/visibility_type") == "public";
        if open && args.org.is_some() {
            continue;
        }
        api.post(&format!("/v3/service_plans/{}/visibility", text(&plan, "/guid")), &body).await?;
    }
    ui::ok();
    Ok(())
}

pub(super) async fn disable(api: &mut Api, args: &Access) -> anyhow::Result<()> {
    announce("Disabling", args, &api.identity()?.name);
    let found = plans(api, args).await?;
    let org = match &args.org {
        Some(name) => Some(org(api, name).await?),
        None => None,
    };
    if org.is_some() && found.iter().any(|plan| text(plan, "/visibility_type") == "public") {
        bail!(
            Problem::new(format!("All orgs may use '{}', so no single org can be kept from it.", args.offering))
                .tip("Disable access for all orgs, then enable it for some.")
        );
    }
    for plan in found {
        let path = format!("/v3/service_plans/{}/visibility", text(&plan, "/guid"));
        match &org {
            Some(org) if text(&plan, "/visibility_type") == "organization" => {
                api.remove(&format!("{path}/{}", org.guid)).await?;
            }
            Some(_) => {}
            None => {
                api.post(&path, &json!({ "type": "admin" })).await?;
            }
        }
    }
    ui::ok();
    Ok(())
}

pub(super) async fn purge(api: &mut Api, name: &str, broker: Option<&str>, force: bool) -> anyhow::Result<()> {
    say!(
        "WARNING: This assumes that the broker of this offering is gone. Its instances and bindings are forgotten here; what they hold at the broker may stay for ever.\n"
    );
    if !sure(force, &format!("Really purge service offering {name} from the platform?"))? {
        return Ok(());
    }
    say!("Purging service offering {}...", ui::name(name));
    match offering(api, name, broker).await? {
        Some(offering) => {
            api.remove(&format!("/v3/service_offerings/{}?purge=true", text(&offering, "/guid"))).await?;
            ui::ok();
        }
        None => done(&format!("Service offering '{name}' not found.")),
    }
    Ok(())
}
