//! Updates of the instance.

use super::{
    life::{incomplete, same_operation, succeeded},
    provision::instance_answer,
    refusals::{without, word},
};
use crate::{
    case::{Miss, Outcome, skip},
    http::Exchange,
    parameters,
    scene::{Ended, Made, Scene},
};
use reqwest::Method;
use serde_json::{Value, json};

/// An update that changes nothing, or what the given parameters change.
fn body(scene: &Scene, made: &Made) -> Value {
    let mut body = json!({
        "service_id": made.target.service_id, "plan_id": made.target.plan_id,
        "context": scene.context(Some("broker-check")),
        "previous_values": {
            "service_id": made.target.service_id, "plan_id": made.target.plan_id,
            "organization_id": scene.organization, "space_id": scene.space,
        },
    });
    if let Some(parameters) = scene.update_parameters() {
        body["parameters"] = Value::Object(parameters);
    }
    body
}

async fn send(scene: &Scene, made: &Made, body: Value, accepts_incomplete: bool) -> Result<Exchange, Miss> {
    let request = scene.ask_instance(Method::PATCH, &made.target.instance).json(body);
    scene.send(if accepts_incomplete { incomplete(request) } else { request }).await
}

/// An update with a changed body; it must be answered so. One that was taken in error is waited for.
async fn refused(scene: &mut Scene, change: impl FnOnce(&mut Value), statuses: &[u16], expected: &str) -> Result<Exchange, Miss> {
    let made = scene.ready_instance()?;
    let mut body = body(scene, &made);
    change(&mut body);
    let exchange = send(scene, &made, body, true).await?;
    if exchange.is(&[200, 202]) {
        // it may have changed something, and said so
        scene.fetched = None;
    }
    wait_for(scene, &made, &exchange).await?;
    exchange.expect(statuses, expected)?;
    Ok(exchange)
}

/// Waits for an update, if it runs.
async fn wait_for(scene: &Scene, made: &Made, exchange: &Exchange) -> Result<Option<Ended>, Miss> {
    match exchange.status() {
        202 => scene.poll(&made.target, exchange.operation().as_deref(), false).await.map(Some),
        _ => Ok(None),
    }
}

pub(super) async fn no_service(scene: &mut Scene) -> Outcome {
    refused(scene, |body| without(body, "service_id"), &[400], "400, because `service_id` is missing").await?;
    Ok(())
}

pub(super) async fn unknown_plan(scene: &mut Scene) -> Outcome {
    let id = scene.http.new_id();
    refused(scene, |body| body["plan_id"] = json!(id), &[400, 422], "400 (or 422), because the plan is not in the catalog")
        .await?;
    Ok(())
}

pub(super) async fn maintenance(scene: &mut Scene) -> Outcome {
    if scene.plan.maintenance_version.is_none() {
        return skip("the plan has no maintenance_info");
    }
    let expected = "422 MaintenanceInfoConflict, because the catalog names another version";
    let exchange =
        refused(scene, |body| body["maintenance_info"] = json!({"version": "0.0.0-broker-check"}), &[422], expected).await?;
    word(&exchange, "MaintenanceInfoConflict", expected)
}

pub(super) async fn schema(scene: &mut Scene) -> Outcome {
    let Some(broken) = scene.plan.update_schema.as_ref().and_then(parameters::breaking) else {
        return skip("the plan has no schema for updates that could be broken");
    };
    refused(
        scene,
        |body| body["parameters"] = Value::Object(broken),
        &[400, 422],
        "400 (or 422), because the parameters break the schema",
    )
    .await?;
    Ok(())
}

pub(super) async fn unchanged(scene: &mut Scene) -> Outcome {
    let Some(before) = scene.fetched.clone() else { return skip("the instance cannot be fetched") };
    let made = scene.ready_instance()?;
    let exchange = scene.send(scene.ask_instance(Method::GET, &made.target.instance)).await?;
    if exchange.status() != 200 {
        return skip("the instance cannot be fetched any more");
    }
    for field in ["service_id", "plan_id", "parameters", "maintenance_info"] {
        if exchange.field(field) != before.get(field) {
            let null = Value::Null;
            let (old, new) = (before.get(field).unwrap_or(&null), exchange.field(field).unwrap_or(&null));
            return Err(
                exchange.fail(format!("`{field}` is {old}, as before the updates that were refused"), format!("it is {new}"))
            );
        }
    }
    Ok(())
}

pub(super) async fn apply(scene: &mut Scene) -> Outcome {
    let made = scene.ready_instance()?;
    let body = body(scene, &made);
    let exchange = send(scene, &made, body.clone(), true).await?;
    if exchange.is(&[200, 202, 422]) {
        scene.update = Some((body, exchange.clone()));
    }
    exchange.expect(&[200, 202, 422], "200 when it is done, 202 while it runs, or 422 if it is not supported")
}

pub(super) async fn body_of_answer(scene: &mut Scene) -> Outcome {
    match &scene.update {
        Some((_, exchange)) if exchange.is(&[200, 202]) => instance_answer(exchange),
        _ => skip("there was no update"),
    }
}

fn running(scene: &Scene) -> Result<(Made, Value, Exchange), Miss> {
    match &scene.update {
        Some((body, exchange)) if exchange.status() == 202 => Ok((scene.ready_instance()?, body.clone(), exchange.clone())),
        _ => skip("no update runs asynchronously"),
    }
}

pub(super) async fn repeat_in_progress(scene: &mut Scene) -> Outcome {
    let (made, body, first) = running(scene)?;
    let exchange = send(scene, &made, body, true).await?;
    match same_operation(&exchange, first.operation()) {
        Ok(()) => Ok(()),
        Err(miss) => fail_if_it_still_runs(scene, &made, &first, miss).await,
    }
}

async fn fail_if_it_still_runs(scene: &Scene, made: &Made, first: &Exchange, miss: Miss) -> Outcome {
    match scene.still_runs(&made.target, first.operation().as_deref(), false).await? {
        true => Err(miss),
        false => skip("the update ended before it could be looked at"),
    }
}

pub(super) async fn fetch_in_progress(scene: &mut Scene) -> Outcome {
    let (made, _, first) = running(scene)?;
    if !scene.plan.instances_retrievable {
        return skip("instances cannot be fetched");
    }
    let exchange = scene.send(scene.ask_instance(Method::GET, &made.target.instance)).await?;
    match exchange.status() {
        200 => Ok(()),
        422 if exchange.is_refused_with("ConcurrencyError") => Ok(()),
        _ => {
            let miss = exchange.fail("200, or 422 ConcurrencyError while the instance is updated", exchange.summary());
            fail_if_it_still_runs(scene, &made, &first, miss).await
        }
    }
}

pub(super) async fn completes(scene: &mut Scene) -> Outcome {
    let (made, _, first) = running(scene)?;
    succeeded(&scene.poll(&made.target, first.operation().as_deref(), false).await?)
}

pub(super) async fn sync(scene: &mut Scene) -> Outcome {
    let made = scene.ready_instance()?;
    let Some((body, with_flag)) = scene.update.clone() else { return skip("updates do not work at all (see update.apply)") };
    let exchange = send(scene, &made, body, false).await?;
    let expected = "200 when it is done, or 422 AsyncRequired";
    match exchange.status() {
        200 => Ok(()),
        202 => {
            wait_for(scene, &made, &exchange).await?;
            skip("it was answered 202 (see async.uninvited)")
        }
        422 if with_flag.status() == 422 => Ok(()),
        422 => word(&exchange, "AsyncRequired", expected),
        _ => Err(exchange.fail(expected, exchange.summary())),
    }
}

pub(super) async fn context(scene: &mut Scene) -> Outcome {
    if !scene.plan.allow_context_updates {
        return skip("allow_context_updates is not set");
    }
    let made = scene.ready_instance()?;
    let mut body = body(scene, &made);
    without(&mut body, "plan_id");
    without(&mut body, "parameters");
    body["context"] = scene.context(Some("broker-check-renamed"));
    let exchange = send(scene, &made, body, true).await?;
    exchange.expect(&[200, 202], "200 or 202: the catalog says allow_context_updates")?;
    match wait_for(scene, &made, &exchange).await? {
        Some(ended) => succeeded(&ended),
        None => Ok(()),
    }
}

pub(super) async fn plan(scene: &mut Scene) -> Outcome {
    let Some(sibling) = scene.plan.sibling.clone() else { return skip("the offering has no other plan") };
    if !scene.plan.plan_updateable {
        return skip("plan_updateable is not set");
    }
    let (own, sibling_maintenance) = (scene.plan.id.clone(), scene.plan.sibling_maintenance.clone());
    change_plan(scene, &sibling, sibling_maintenance).await?;
    // back, so that the rest is about the plan that was chosen; a broker may refuse this way
    let own_maintenance = scene.plan.maintenance_version.clone();
    match change_plan(scene, &own, own_maintenance).await {
        Err(Miss::Skip(_)) => Ok(()),
        outcome => outcome,
    }
}

async fn change_plan(scene: &mut Scene, plan_id: &str, maintenance: Option<String>) -> Outcome {
    let made = scene.ready_instance()?;
    let mut body = body(scene, &made);
    without(&mut body, "parameters");
    body["plan_id"] = json!(plan_id);
    if let (Some(version), 15..) = (maintenance, scene.options.version.minor) {
        body["maintenance_info"] = json!({"version": version});
    }
    let exchange = send(scene, &made, body, true).await?;
    if exchange.status() == 422 {
        return skip(format!("refused: {}", exchange.field("description").and_then(Value::as_str).unwrap_or("422")));
    }
    exchange.expect(&[200, 202], "200, 202, or 422 if this change is not possible: the catalog says plan_updateable")?;
    // polled with the plan that the instance had before
    if let Some(ended) = wait_for(scene, &made, &exchange).await? {
        succeeded(&ended)?;
    }
    if !scene.plan.instances_retrievable {
        scene.moved(plan_id);
        return Ok(());
    }
    let fetched = scene.send(scene.ask_instance(Method::GET, &made.target.instance)).await?;
    match fetched.field("plan_id").and_then(Value::as_str) {
        Some(other) if other != plan_id => {
            Err(fetched.fail(format!("`plan_id` is {plan_id} after the change of plan"), format!("it is {other}")))
        }
        _ => {
            scene.moved(plan_id);
            Ok(())
        }
    }
}
