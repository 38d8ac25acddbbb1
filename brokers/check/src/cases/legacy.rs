//! What older checkers want beyond the specification, or in one of the ways that it leaves open.

use super::{
    broker::{each_route_answers, known},
    life,
    refusals::{client_error, word},
};
use crate::{
    case::{Miss, Outcome, skip},
    catalog::list,
    http::Exchange,
    ledger::Target,
    scene::{Kind, Scene},
};
use reqwest::Method;
use serde_json::{Value, json};

const PLAN_FIELDS: [&str; 10] = [
    "id",
    "name",
    "description",
    "metadata",
    "free",
    "bindable",
    "plan_updateable",
    "schemas",
    "maximum_polling_duration",
    "maintenance_info",
];
const PROVISION_FIELDS: [&str; 2] = ["dashboard_url", "operation"];
const BIND_FIELDS: [&str; 5] = ["credentials", "syslog_drain_url", "route_service_url", "volume_mounts", "operation"];

pub(super) async fn version(scene: &mut Scene) -> Outcome {
    known(scene)?;
    each_route_answers(scene, |request| request.version(None), &[412], "412 Precondition Failed").await
}

pub(super) async fn catalog(scene: &mut Scene) -> Outcome {
    let catalog = known(scene)?;
    let mut wrong = vec![];
    let simple = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    wrong.extend(unknown_keys(catalog, &["services"]).map(|key| format!("field `{key}` beside `services`")));
    for service in list(catalog, "services") {
        for plan in list(service, "plans") {
            let name = plan["name"].as_str().unwrap_or_default();
            wrong.extend(unknown_keys(plan, &PLAN_FIELDS).map(|key| format!("field `{key}` in plan `{name}`")));
            if !simple(name) {
                wrong.push(format!("plan name `{name}`"));
            }
        }
        let name = service["name"].as_str().unwrap_or_default();
        if !simple(name) {
            wrong.push(format!("offering name `{name}`"));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Miss::fail("names of lower-case letters, digits and hyphens; only fields of 2.15", wrong.join("\n"), None)),
    }
}

fn unknown_keys<'a>(value: &'a Value, known: &'a [&str]) -> impl Iterator<Item = &'a String> {
    value.as_object().into_iter().flat_map(|object| object.keys()).filter(|key| !known.contains(&key.as_str()))
}

pub(super) async fn fetch_unknown(scene: &mut Scene) -> Outcome {
    let exchange = scene.send(scene.ask_instance(Method::GET, &scene.http.new_id())).await?;
    client_error(&exchange, "4xx, because there is no such instance")
}

pub(super) async fn maintenance(scene: &mut Scene) -> Outcome {
    if scene.plan.maintenance_version.is_some() {
        return skip("the plan has maintenance_info (see provision.maintenance-conflict)");
    }
    let (target, mut body) = (scene.new_instance(), scene.provision_body());
    body["maintenance_info"] = json!({"version": "Invalid"});
    let exchange = scene.put(&target, |request| life::incomplete(request).json(body)).await?;
    let expected = "422 MaintenanceInfoConflict, because the catalog names no version";
    exchange.expect(&[422], expected)?;
    word(&exchange, "MaintenanceInfoConflict", expected)
}

pub(super) async fn async_required(scene: &mut Scene) -> Outcome {
    if scene.instance.does_sync != Some(false) {
        return skip("the plan does not need accepts_incomplete");
    }
    let exchange = scene.delete(&scene.new_instance(), false).await?;
    let expected = "422 AsyncRequired, before it is noticed that there is no such instance";
    exchange.expect(&[422], expected)?;
    word(&exchange, "AsyncRequired", expected)
}

async fn delete_without(scene: &Scene, target: &Target, missing: &str, status: u16, why: &str) -> Outcome {
    let change = |request: crate::http::Request| {
        let request = life::incomplete(request);
        match missing {
            "service_id" => request.query("plan_id", &target.plan_id),
            _ => request.query("service_id", &target.service_id),
        }
    };
    let exchange = scene.delete_with(target, change).await?;
    exchange.expect(&[status], format!("{status} without `{missing}`, {why}"))
}

pub(super) async fn deprovision_parameters(scene: &mut Scene) -> Outcome {
    for missing in ["service_id", "plan_id"] {
        delete_without(scene, &scene.new_instance(), missing, 400, "although there is no such instance").await?;
    }
    Ok(())
}

pub(super) async fn unbind_existence(scene: &mut Scene) -> Outcome {
    scene.must_be_bindable()?;
    for missing in ["service_id", "plan_id"] {
        let target = scene.new_binding()?;
        delete_without(scene, &target, missing, 410, "because there is no such binding").await?;
    }
    Ok(())
}

pub(super) async fn last_poll_unbind(scene: &mut Scene) -> Outcome {
    last_poll(scene, Kind::Binding).await
}

pub(super) async fn last_poll_deprovision(scene: &mut Scene) -> Outcome {
    last_poll(scene, Kind::Instance).await
}

async fn last_poll(scene: &mut Scene, kind: Kind) -> Outcome {
    let target = life::gone(scene, kind)?;
    let Some((_, removal)) = &scene.slot_of(kind).removal else { return skip("nothing was removed") };
    if removal.status() != 202 {
        return skip("it was removed at once");
    }
    let Some(operation) = removal.operation() else { return skip("the removal has no `operation`") };
    let with = scene.send(scene.poll_request(&target, Some(&operation), true)).await?;
    with.expect(&[410], "410 for a poll with the removal's own operation")?;
    let others: Vec<Exchange> = vec![
        scene.send(scene.poll_request(&target, None, true)).await?,
        scene.send(scene.poll_request(&target, Some("deprovision"), true)).await?,
    ];
    for exchange in others {
        let expected = "200 `succeeded` for a poll without `operation`, or with an unknown one";
        exchange.expect(&[200], expected)?;
        if exchange.field("state") != Some(&json!("succeeded")) {
            return Err(exchange.fail(expected, "another state"));
        }
    }
    Ok(())
}

pub(super) async fn bodies(scene: &mut Scene) -> Outcome {
    only(&scene.ready_instance()?.exchange, &PROVISION_FIELDS)?;
    match &scene.bound {
        Some(bound) if bound.asked.method == "PUT" => only(bound, &BIND_FIELDS),
        _ => Ok(()),
    }
}

fn only(exchange: &Exchange, fields: &[&str]) -> Outcome {
    let body = exchange.json.as_ref().unwrap_or(&Value::Null);
    if let Some(key) = unknown_keys(body, fields).next() {
        return Err(exchange.fail(format!("only the fields {}", fields.join(", ")), format!("`{key}`")));
    }
    match fields.iter().find(|field| body.get(**field).is_some_and(Value::is_null)) {
        Some(field) => Err(exchange.fail("no field is null", format!("`{field}` is null"))),
        None => Ok(()),
    }
}
