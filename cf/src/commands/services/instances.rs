//! services, service, create-service, update-service, upgrade-service, rename-service, delete-service, purge-service-instance.

use super::{Instance, Stand, already, done, find, follow, instance, joined, last_operation, sure, tags, with_guid};
use crate::{
    api::{Api, ApiError, array, query, text},
    cli::{
        Format,
        services::{CreateService, UpdateService, Wait},
    },
    commands::place,
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Value, json};

/// Documents that come along with instances: plans, offerings, brokers.
const FIELDS: [(&str, &str); 3] = [
    ("fields[service_plan]", "guid,name,relationships.service_offering"),
    ("fields[service_plan.service_offering]", "guid,name,description,tags,documentation_url,relationships.service_broker"),
    ("fields[service_plan.service_offering.service_broker]", "guid,name"),
];
/// Guids in one question.
const BATCH: usize = 200;

/// What stands behind an instance.
#[derive(Default)]
struct Origin<'a> {
    plan: Option<&'a Value>,
    offering: Option<&'a Value>,
    broker: Option<&'a Value>,
}

impl<'a> Origin<'a> {
    fn of(instance: &Value, included: &'a Value) -> Self {
        let plan = with_guid(array(included, "/service_plans"), text(instance, "/relationships/service_plan/data/guid"));
        let offering = plan.and_then(|plan| {
            with_guid(array(included, "/service_offerings"), text(plan, "/relationships/service_offering/data/guid"))
        });
        let broker = offering.and_then(|offering| {
            with_guid(array(included, "/service_brokers"), text(offering, "/relationships/service_broker/data/guid"))
        });
        Self { plan, offering, broker }
    }
    fn name(of: Option<&Value>) -> String {
        of.map(|document| text(document, "/name").to_owned()).unwrap_or_default()
    }
}

pub(super) async fn list(api: &mut Api, no_apps: bool, format: Format) -> anyhow::Result<()> {
    let ((org, space), user) = (api.space()?, api.identity()?.name);
    let mut pairs = vec![("space_guids", space.guid.as_str()), ("order_by", "name"), ("per_page", "5000")];
    pairs.extend(FIELDS);
    let (instances, included) = api.list_with_included(&query("/v3/service_instances", &pairs)).await?;
    if format.json {
        ui::json(&Value::Array(instances));
        return Ok(());
    }
    say!("Getting service instances in {}...\n", place(&org, &space, &user));
    if instances.is_empty() {
        say!("No service instances found.");
        return Ok(());
    }
    let guids: Vec<&str> = instances.iter().map(|instance| text(instance, "/guid")).collect();
    let mut bound: Vec<(String, String)> = vec![];
    for batch in guids.chunks(BATCH).filter(|_| !no_apps) {
        let pairs = [("service_instance_guids", &*batch.join(",")), ("include", "app"), ("per_page", "5000")];
        let (bindings, included) = api.list_with_included(&query("/v3/service_credential_bindings", &pairs)).await?;
        for binding in &bindings {
            if let Some(app) = with_guid(array(&included, "/apps"), text(binding, "/relationships/app/data/guid")) {
                bound
                    .push((text(binding, "/relationships/service_instance/data/guid").to_owned(), text(app, "/name").to_owned()));
            }
        }
    }
    let row = |instance: &Value| {
        let origin = Origin::of(instance, &included);
        let managed = text(instance, "/type") == "managed";
        let mut apps: Vec<&str> =
            bound.iter().filter(|(guid, _)| guid == text(instance, "/guid")).map(|(_, app)| app.as_str()).collect();
        apps.sort_unstable();
        apps.dedup();
        let mut row = vec![
            text(instance, "/name").to_owned(),
            if managed { Origin::name(origin.offering) } else { "user-provided".into() },
            Origin::name(origin.plan),
        ];
        row.extend((!no_apps).then(|| apps.join(", ")));
        row.extend([
            last_operation(instance),
            Origin::name(origin.broker),
            match (managed, instance["upgrade_available"].as_bool()) {
                (true, Some(true)) => "yes".into(),
                (true, Some(false)) => "no".into(),
                _ => String::new(),
            },
        ]);
        row
    };
    let rows: Vec<_> = instances.iter().map(row).collect();
    let mut headings = vec!["name", "offering", "plan", "bound apps", "last operation", "broker", "upgrade available"];
    headings.retain(|heading| !(no_apps && *heading == "bound apps"));
    ui::table(&headings, &rows);
    Ok(())
}

pub(super) async fn guid(api: &mut Api, name: &str) -> anyhow::Result<()> {
    say!("{}", instance(api, name).await?.guid);
    Ok(())
}

pub(super) async fn parameters(api: &mut Api, name: &str) -> anyhow::Result<()> {
    let found = instance(api, name).await?;
    let answer = api.get(&format!("{}/parameters", found.path())).await?;
    ui::json(&answer);
    Ok(())
}

pub(super) async fn show(api: &mut Api, name: &str, format: Format) -> anyhow::Result<()> {
    let found = instance(api, name).await?;
    if format.json {
        ui::json(&found.document);
        return Ok(());
    }
    say!("Showing info of service {} in {}...\n", ui::name(name), found.place());
    let pairs: Vec<_> = [("guids", found.guid.as_str())].into_iter().chain(FIELDS).collect();
    let (_, included) = api.list_with_included(&query("/v3/service_instances", &pairs)).await?;
    let document = &found.document;
    let origin = Origin::of(document, &included);
    let of_offering = |pointer| origin.offering.map(|offering| text(offering, pointer).to_owned()).unwrap_or_default();
    let mut rows = vec![("name", name.to_owned()), ("guid", found.guid.clone()), ("type", text(document, "/type").to_owned())];
    if found.managed() {
        rows.extend([
            ("broker", Origin::name(origin.broker)),
            ("offering", Origin::name(origin.offering)),
            ("plan", Origin::name(origin.plan)),
            ("tags", joined(array(document, "/tags"))),
            ("offering tags", origin.offering.map(|offering| joined(array(offering, "/tags"))).unwrap_or_default()),
            ("description", of_offering("/description")),
            ("documentation", of_offering("/documentation_url")),
            ("dashboard url", text(document, "/dashboard_url").to_owned()),
        ]);
    } else {
        rows.extend([
            ("tags", joined(array(document, "/tags"))),
            ("route service url", text(document, "/route_service_url").to_owned()),
            ("syslog drain url", text(document, "/syslog_drain_url").to_owned()),
        ]);
    }
    ui::pairs(&rows);
    say!("\nShowing status of last operation:");
    let moment = |pointer| match text(document, pointer) {
        "" => String::new(),
        moment => ui::moment(moment),
    };
    ui::pairs(&[
        ("   status", last_operation(document)),
        ("   message", text(document, "/last_operation/description").to_owned()),
        ("   started", moment("/last_operation/created_at")),
        ("   updated", moment("/last_operation/updated_at")),
    ]);
    show_bound(api, &found).await?;
    if found.managed() {
        show_shares(api, &found).await?;
        show_upgrade(api, document).await?;
    }
    Ok(())
}

async fn show_bound(api: &mut Api, found: &Instance) -> anyhow::Result<()> {
    let pairs = [("service_instance_guids", found.guid.as_str()), ("type", "app"), ("include", "app"), ("per_page", "5000")];
    let (bindings, included) = api.list_with_included(&query("/v3/service_credential_bindings", &pairs)).await?;
    say!("\nShowing bound apps:");
    if bindings.is_empty() {
        say!("   There are no bound apps for this service instance.");
        return Ok(());
    }
    let row = |binding: &Value| {
        let app = with_guid(array(&included, "/apps"), text(binding, "/relationships/app/data/guid"));
        vec![
            format!("   {}", app.map(|app| text(app, "/name")).unwrap_or_default()),
            text(binding, "/name").to_owned(),
            last_operation(binding),
            text(binding, "/last_operation/description").to_owned(),
            text(binding, "/guid").to_owned(),
            text(binding, "/created_at").to_owned(),
        ]
    };
    let rows: Vec<_> = bindings.iter().map(row).collect();
    ui::table(&["   name", "binding name", "status", "message", "guid", "created_at"], &rows);
    Ok(())
}

async fn show_shares(api: &mut Api, found: &Instance) -> anyhow::Result<()> {
    if text(&found.document, "/relationships/space/data/guid") != found.space.guid {
        say!("\nShowing sharing info:\n   This service instance is shared from another space.");
        return Ok(());
    }
    let path = query(
        &format!("{}/relationships/shared_spaces", found.path()),
        &[("fields[space]", "guid,name,relationships.organization"), ("fields[space.organization]", "guid,name")],
    );
    let shares = api.get(&path).await?;
    say!("\nShowing sharing info:");
    if array(&shares, "/data").next().is_none() {
        say!("   This service instance is not currently being shared.");
        return Ok(());
    }
    let usage = api.get(&format!("{}/relationships/shared_spaces/usage_summary", found.path())).await?;
    let row = |share: &Value| {
        let guid = text(share, "/guid");
        let space = with_guid(array(&shares, "/included/spaces"), guid);
        let org = space.and_then(|space| {
            with_guid(array(&shares, "/included/organizations"), text(space, "/relationships/organization/data/guid"))
        });
        let count = array(&usage, "/usage_summary").find(|entry| text(entry, "/space/guid") == guid);
        vec![
            format!("   {}", Origin::name(org)),
            Origin::name(space),
            count.map(|entry| entry["bound_app_count"].to_string()).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = array(&shares, "/data").map(row).collect();
    ui::table(&["   org", "space", "bindings"], &rows);
    Ok(())
}

async fn show_upgrade(api: &mut Api, document: &Value) -> anyhow::Result<()> {
    say!("\nShowing upgrade status:");
    if document["upgrade_available"] == true {
        let plan = api.get(&format!("/v3/service_plans/{}", text(document, "/relationships/service_plan/data/guid"))).await?;
        say!("   There is an upgrade available for this service.");
        say!("   Upgrade description: {}", ui::harmless(text(&plan, "/maintenance_info/description")));
        say!("   TIP: You can upgrade using 'cf upgrade-service {}'", text(document, "/name"));
    } else if text(document, "/maintenance_info/version").is_empty() {
        say!("   Upgrades are not supported by this broker.");
    } else {
        say!("   There is no upgrade available for this service.");
    }
    Ok(())
}

/// The plan of this name; one, or it has to be said of which broker.
async fn plan(api: &mut Api, plan: &str, offering: &str, broker: Option<&str>) -> anyhow::Result<Value> {
    let mut pairs = vec![("names", plan), ("service_offering_names", offering)];
    pairs.extend(broker.map(|broker| ("service_broker_names", broker)));
    let mut found = api.list(&query("/v3/service_plans", &pairs)).await?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => bail!(
            Problem::new(format!("The plan '{plan}' could not be found for service offering '{offering}'."))
                .tip("'cf marketplace' lists offerings and their plans.")
        ),
        _ => bail!(
            Problem::new(format!("Service offering '{offering}' is provided by multiple service brokers."))
                .tip("Specify a broker by using the '-b' flag.")
        ),
    }
}

pub(super) async fn create(api: &mut Api, args: &CreateService) -> anyhow::Result<()> {
    let ((org, space), user) = (api.space()?, api.identity()?.name);
    let parameters = super::parameters(&args.parameters)?;
    say!("Creating service instance {} in {}...\n", ui::name(&args.instance), place(&org, &space, &user));
    let plan = plan(api, &args.plan, &args.offering, args.broker.as_deref()).await?;
    let mut body = json!({ "type": "managed", "name": args.instance, "relationships": {
        "space": { "data": { "guid": space.guid } }, "service_plan": { "data": { "guid": text(&plan, "/guid") } },
    } });
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    if let Some(given) = &args.tags {
        body["tags"] = json!(tags(given));
    }
    let reply = match api.post("/v3/service_instances", &body).await {
        Err(e) if taken(&e) => {
            done(&format!("Service instance {} already exists", args.instance));
            return Ok(());
        }
        other => other?,
    };
    match follow(api, reply, args.wait).await? {
        Stand::Done => done(&format!("Service instance {} created.", ui::name(&args.instance))),
        Stand::UnderWay => done(&under_way("Create", &args.instance)),
    }
    Ok(())
}

/// True when the name belongs to another instance of the space.
pub(super) fn taken(error: &anyhow::Error) -> bool {
    already(error, |e: &ApiError| e.detail.contains("The service instance name is taken"))
}

pub(super) fn under_way(what: &str, name: &str) -> String {
    format!("{what} in progress. Use 'cf services' or 'cf service {name}' to check operation status.")
}

pub(super) async fn update(api: &mut Api, args: &UpdateService) -> anyhow::Result<()> {
    let parameters = super::parameters(&args.parameters)?;
    if args.plan.is_none() && parameters.is_none() && args.tags.is_none() {
        done("No flags specified. No changes were made.");
        return Ok(());
    }
    let found = instance(api, &args.instance).await?;
    if !found.managed() {
        bail!(Problem::new(format!("'{}' is user-provided.", args.instance)).tip("Use 'cf update-user-provided-service'."));
    }
    say!("Updating service instance {} in {}...\n", ui::name(&args.instance), found.place());
    let mut body = json!({});
    if let Some(name) = &args.plan {
        let present =
            api.get(&format!("/v3/service_plans/{}", text(&found.document, "/relationships/service_plan/data/guid"))).await?;
        let offering = text(&present, "/relationships/service_offering/data/guid");
        let wanted = api.first(&query("/v3/service_plans", &[("service_offering_guids", offering), ("names", name)])).await?;
        let Some(wanted) = wanted else {
            bail!(
                Problem::new(format!("The plan '{name}' could not be found for the offering of '{}'.", args.instance))
                    .tip("'cf marketplace' lists offerings and their plans.")
            )
        };
        body["relationships"] = json!({ "service_plan": { "data": { "guid": text(&wanted, "/guid") } } });
    }
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    if let Some(given) = &args.tags {
        body["tags"] = json!(tags(given));
    }
    let reply = api.patch(&found.path(), &body).await?;
    match follow(api, reply, args.wait).await? {
        Stand::Done => done(&format!("Update of service instance {} complete.", ui::name(&args.instance))),
        Stand::UnderWay => done(&under_way("Update", &args.instance)),
    }
    Ok(())
}

pub(super) async fn upgrade(api: &mut Api, name: &str, force: bool, wait: Wait) -> anyhow::Result<()> {
    let found = instance(api, name).await?;
    if found.document["upgrade_available"] != true {
        done("No upgrade is available.");
        return Ok(());
    }
    let question = format!("Upgrade of {name} may make it unavailable for a while. Really upgrade it?");
    if !sure(force, &question)? {
        return Ok(());
    }
    say!("Upgrading service instance {} in {}...\n", ui::name(name), found.place());
    let plan = api.get(&format!("/v3/service_plans/{}", text(&found.document, "/relationships/service_plan/data/guid"))).await?;
    let body = json!({ "maintenance_info": { "version": text(&plan, "/maintenance_info/version") } });
    let reply = api.patch(&found.path(), &body).await?;
    match follow(api, reply, wait).await? {
        Stand::Done => done(&format!("Upgrade of service instance {} complete.", ui::name(name))),
        Stand::UnderWay => done(&under_way("Upgrade", name)),
    }
    Ok(())
}

pub(super) async fn rename(api: &mut Api, name: &str, new_name: &str) -> anyhow::Result<()> {
    let found = instance(api, name).await?;
    say!("Renaming service instance {} to {} in {}...\n", ui::name(name), ui::name(new_name), found.place());
    let reply = api.patch(&found.path(), &json!({ "name": new_name })).await?;
    follow(api, reply, Wait { wait: false }).await?;
    ui::ok();
    Ok(())
}

pub(super) async fn delete(api: &mut Api, name: &str, force: bool, wait: Wait) -> anyhow::Result<()> {
    let ((org, space), user) = (api.space()?, api.identity()?.name);
    if !sure(force, &format!("Really delete the service instance {name}, with all that it holds?"))? {
        return Ok(());
    }
    say!("Deleting service instance {} in {}...\n", ui::name(name), place(&org, &space, &user));
    let Some(found) = find(api, name).await? else {
        done(&format!("Service instance '{name}' did not exist."));
        return Ok(());
    };
    let reply = api.remove(&found.path()).await?;
    match follow(api, reply, wait).await? {
        Stand::Done => done(&format!("Service instance {} deleted.", ui::name(name))),
        Stand::UnderWay => done(&under_way("Delete", name)),
    }
    Ok(())
}

pub(super) async fn purge(api: &mut Api, name: &str, force: bool) -> anyhow::Result<()> {
    let ((org, space), user) = (api.space()?, api.identity()?.name);
    say!(
        "WARNING: This assumes that the broker of this service instance is gone, or that it is gone at the broker. What it holds there may stay for ever.\n"
    );
    if !sure(force, &format!("Really purge service instance {name} from the platform?"))? {
        return Ok(());
    }
    say!("Purging service instance {} in {}...\n", ui::name(name), place(&org, &space, &user));
    match find(api, name).await? {
        Some(found) => {
            api.remove(&format!("{}?purge=true", found.path())).await?;
            done(&format!("Service instance {} has been purged.", ui::name(name)));
        }
        None => done(&format!("Service instance '{name}' did not exist.")),
    }
    Ok(())
}
