//! bind-service, unbind-service, cleanup-outdated-service-bindings.

use super::{Instance, Stand, already, app, done, follow, instance, parameters, sure};
use crate::{
    api::{Api, query, text},
    cli::services::{BindService, Strategy, Wait},
    commands::App,
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Value, json};

pub(super) async fn bind(api: &mut Api, args: &BindService) -> anyhow::Result<()> {
    let parameters = parameters(&args.parameters)?;
    let found = instance(api, &args.instance).await?;
    let app = app(api, &args.app).await?;
    let called = args.binding_name.as_ref().map(|name| format!(" with binding name {}", ui::name(name))).unwrap_or_default();
    say!("Binding service instance {} to app {}{called} in {}...", ui::name(&args.instance), ui::name(&args.app), app.place());
    let mut body = json!({ "type": "app", "relationships": {
        "service_instance": { "data": { "guid": found.guid } }, "app": { "data": { "guid": app.guid } },
    } });
    if let Some(name) = &args.binding_name {
        body["name"] = json!(name);
    }
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    if let Some(strategy) = args.strategy {
        body["strategy"] = json!(match strategy {
            Strategy::Single => "single",
            Strategy::Multiple => "multiple",
        });
    }
    let reply = match api.post("/v3/service_credential_bindings", &body).await {
        Err(e) if already(&e, |e| e.detail.contains("The app is already bound to the service instance")) => {
            done(&format!("App {} is already bound to service instance {}.", args.app, args.instance));
            return Ok(());
        }
        other => other?,
    };
    match follow(api, reply, args.wait).await? {
        Stand::Done => {
            ui::ok();
            say!("\nTIP: Use 'cf restage {}' to ensure your env variable changes take effect", args.app);
        }
        Stand::UnderWay => {
            done(&in_progress("Binding", &args.instance));
            say!(
                "\nTIP: Once this operation succeeds, use 'cf restage {}' to ensure your env variable changes take effect",
                args.app
            );
        }
    }
    Ok(())
}

fn in_progress(what: &str, instance: &str) -> String {
    format!("{what} in progress. Use 'cf service {instance}' to check operation status.")
}

/// The bindings between an app and an instance, the newest first.
async fn between(api: &mut Api, app: &App, found: Option<&Instance>) -> anyhow::Result<Vec<Value>> {
    let mut pairs = vec![("type", "app"), ("app_guids", app.guid.as_str()), ("per_page", "5000")];
    pairs.extend(found.map(|found| ("service_instance_guids", found.guid.as_str())));
    let mut bindings = api.list(&query("/v3/service_credential_bindings", &pairs)).await?;
    bindings.sort_by(|a, b| text(b, "/created_at").cmp(text(a, "/created_at")));
    Ok(bindings)
}

pub(super) async fn unbind(api: &mut Api, name: &str, from: &str, guid: Option<&str>, wait: Wait) -> anyhow::Result<()> {
    let found = instance(api, from).await?;
    let app = app(api, name).await?;
    say!("Unbinding app {} from service {} in {}...", ui::name(name), ui::name(from), app.place());
    let mut bindings = between(api, &app, Some(&found)).await?;
    if let Some(guid) = guid {
        bindings.retain(|binding| text(binding, "/guid") == guid);
        if bindings.is_empty() {
            bail!(Problem::new(format!(
                "Service binding with guid {guid} does not exist between app {name} and service {from}."
            )));
        }
    }
    if bindings.is_empty() {
        done(&format!("Binding between {from} and {name} did not exist"));
        return Ok(());
    }
    match remove(api, &bindings, wait).await? {
        Stand::Done => ui::ok(),
        Stand::UnderWay => done(&in_progress("Unbinding", from)),
    }
    Ok(())
}

/// Deletes bindings, one after the other.
async fn remove(api: &mut Api, bindings: &[Value], wait: Wait) -> anyhow::Result<Stand> {
    let mut stand = Stand::Done;
    for binding in bindings {
        let reply = api.remove(&format!("/v3/service_credential_bindings/{}", text(binding, "/guid"))).await?;
        if follow(api, reply, wait).await? == Stand::UnderWay {
            stand = Stand::UnderWay;
        }
    }
    Ok(stand)
}

pub(super) async fn clean_up(
    api: &mut Api,
    name: &str,
    only: Option<&str>,
    keep: usize,
    force: bool,
    wait: Wait,
) -> anyhow::Result<()> {
    let app = app(api, name).await?;
    let found = match only {
        Some(only) => Some(instance(api, only).await?),
        None => None,
    };
    say!("Cleaning up outdated service bindings of app {} in {}...", ui::name(name), app.place());
    let bindings = between(api, &app, found.as_ref()).await?;
    let outdated = outdated(&bindings, keep);
    if outdated.is_empty() {
        done("No outdated service bindings found.");
        return Ok(());
    }
    let question = format!("Really delete {} outdated service bindings of app {name}?", outdated.len());
    if !sure(force, &question)? {
        return Ok(());
    }
    match remove(api, &outdated, wait).await? {
        Stand::Done => ui::ok(),
        Stand::UnderWay => done("Unbinding in progress. Use 'cf services' to check operation status."),
    }
    Ok(())
}

/// All but the newest of each instance; `bindings` has the newest first.
fn outdated(bindings: &[Value], keep: usize) -> Vec<Value> {
    let instance = |binding: &Value| text(binding, "/relationships/service_instance/data/guid").to_owned();
    let newer = |at: usize| bindings[..at].iter().filter(|other| instance(other) == instance(&bindings[at])).count();
    (0..bindings.len()).filter(|at| newer(*at) >= keep).map(|at| bindings[at].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_binding_of_each_instance_stays() {
        let binding = |guid: &str, instance: &str| json!({ "guid": guid, "relationships": { "service_instance": { "data": { "guid": instance } } } });
        let all = [binding("b3", "x"), binding("b2", "y"), binding("b1", "x"), binding("b0", "x")];
        let guids = |found: Vec<Value>| found.iter().map(|binding| text(binding, "/guid").to_owned()).collect::<Vec<_>>();
        assert_eq!(guids(outdated(&all, 1)), ["b1", "b0"]);
        assert_eq!(guids(outdated(&all, 2)), ["b0"]);
    }
}
