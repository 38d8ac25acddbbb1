//! One instance, from its making on.

use super::{
    life::{self, incomplete, running},
    refusals::without,
};
use crate::{
    case::{Miss, Outcome, skip},
    http::{Exchange, Request},
    parameters,
    scene::{Kind, Made, Scene},
};
use reqwest::Method;
use serde_json::{Map, Value, json};

const KIND: Kind = Kind::Instance;

pub(super) async fn sync(scene: &mut Scene) -> Outcome {
    life::sync(scene, KIND).await
}

pub(super) async fn sync_removal(scene: &mut Scene) -> Outcome {
    life::sync_removal(scene, KIND).await
}

pub(super) async fn create(scene: &mut Scene) -> Outcome {
    life::create(scene, KIND).await
}

pub(super) async fn body(scene: &mut Scene) -> Outcome {
    let Some(made) = &scene.instance.made else { return skip("there is no instance") };
    instance_answer(&made.exchange)
}

/// Fields of answers to provisioning and updates.
pub(super) fn instance_answer(exchange: &Exchange) -> Outcome {
    let body = exchange.object()?;
    if body.get("dashboard_url").is_some_and(|url| !url.is_string() && !url.is_null()) {
        return Err(exchange.fail("`dashboard_url` is a string or null", format!("it is {}", body["dashboard_url"])));
    }
    instance_metadata(exchange, body)
}

fn instance_metadata(exchange: &Exchange, body: &Map<String, Value>) -> Outcome {
    let Some(metadata) = body.get("metadata").filter(|metadata| !metadata.is_null()) else { return Ok(()) };
    if !metadata.is_object() {
        return Err(exchange.fail("`metadata` is an object", format!("it is {metadata}")));
    }
    for field in ["labels", "attributes"] {
        if metadata.get(field).is_some_and(|value| !value.is_object()) {
            return Err(exchange.fail(format!("`metadata.{field}` is an object"), format!("it is {}", metadata[field])));
        }
    }
    Ok(())
}

pub(super) async fn repeat_in_progress(scene: &mut Scene) -> Outcome {
    life::repeat_in_progress(scene, KIND).await
}

pub(super) async fn conflict_in_progress(scene: &mut Scene) -> Outcome {
    let made = running(scene, KIND)?;
    let mut body = made.body.clone();
    other_organization(scene, &mut body);
    let exchange = scene.put(&made.target, |request| incomplete(request).json(body)).await?;
    exchange.expect(&[409], "409, because an instance with this id is being made for another organization")
}

fn other_organization(scene: &Scene, body: &mut Value) {
    let other = json!(scene.http.new_id());
    body["organization_guid"] = other.clone();
    body["context"]["organization_guid"] = other;
}

pub(super) async fn fetch_in_progress(scene: &mut Scene) -> Outcome {
    let made = running(scene, KIND)?;
    if !scene.plan.instances_retrievable {
        return skip("instances cannot be fetched");
    }
    let exchange = scene.send(scene.ask_instance(Method::GET, &made.target.instance)).await?;
    still_404(scene, &made, &exchange).await
}

pub(super) async fn still_404(scene: &Scene, made: &Made, exchange: &Exchange) -> Outcome {
    match exchange.expect(&[404], "404, because it is still being made") {
        Ok(()) => Ok(()),
        Err(miss) => scene.fail_if_it_still_runs(made, false, miss).await,
    }
}

pub(super) async fn update_in_progress(scene: &mut Scene) -> Outcome {
    let made = running(scene, KIND)?;
    let body = json!({"service_id": scene.plan.service_id, "context": scene.context(Some("broker-check"))});
    let exchange = scene.send(incomplete(scene.ask_instance(Method::PATCH, &made.target.instance)).json(body)).await?;
    let expected = "422 ConcurrencyError, because the instance is still being made (or the update is taken)";
    match exchange.status() {
        200 | 202 => Ok(()),
        // it may have another reason than the operation that runs
        422 if exchange.error_word().is_some() => Ok(()),
        _ => scene.fail_if_it_still_runs(&made, false, exchange.fail(expected, exchange.summary())).await,
    }
}

pub(super) async fn bind_in_progress(scene: &mut Scene) -> Outcome {
    scene.must_be_bindable()?;
    let made = running(scene, KIND)?;
    let mut target = made.target.clone();
    target.binding = Some(scene.http.new_id());
    let body = scene.bind_body();
    let exchange = scene.put(&target, |request| incomplete(request).json(body)).await?;
    let expected = "4xx, as a 422 with `error` ConcurrencyError, because the instance is still being made";
    match exchange.status() {
        422 if exchange.error_word().is_none() => {
            scene.fail_if_it_still_runs(&made, false, exchange.fail(expected, "422 without `error`")).await
        }
        400..500 => Ok(()),
        _ => scene.fail_if_it_still_runs(&made, false, exchange.fail(expected, exchange.summary())).await,
    }
}

pub(super) async fn completes(scene: &mut Scene) -> Outcome {
    life::completes(scene, KIND).await
}

/// The instance, if it was made asynchronously.
fn polled(scene: &Scene) -> Result<Made, Miss> {
    let made = scene.ready_instance()?;
    if made.exchange.status() == 202 { Ok(made) } else { skip("nothing ran asynchronously") }
}

pub(super) async fn poll_after_end(scene: &mut Scene) -> Outcome {
    let made = polled(scene)?;
    let exchange = scene.send(late_poll(scene, &made)).await?;
    still_succeeded(&exchange, "200 `succeeded`, as a moment ago")
}

/// A poll after the end: answers that end a poll are no wrong answers to it.
fn late_poll(scene: &Scene, made: &Made) -> Request {
    let mut request = scene.poll_request(&made.target, made.operation().as_deref(), false);
    request.polls_delete = None;
    request
}

pub(super) async fn poll_without_hints(scene: &mut Scene) -> Outcome {
    let made = polled(scene)?;
    let again = scene.send(late_poll(scene, &made)).await?;
    if again.status() != 200 {
        return skip("asking again after the end does not work either");
    }
    let mut request = scene.ask_instance_operation(&made.target.instance);
    if let Some(operation) = made.operation() {
        request = request.query("operation", operation);
    }
    still_succeeded(&scene.send(request).await?, "200 `succeeded`: service_id and plan_id are only hints")
}

fn still_succeeded(exchange: &Exchange, expected: &str) -> Outcome {
    exchange.expect(&[200], expected)?;
    match exchange.field("state").and_then(Value::as_str) {
        Some("succeeded") => Ok(()),
        state => Err(exchange.fail(expected, format!("`state` is {state:?}"))),
    }
}

async fn fetch_it(scene: &Scene) -> Result<Exchange, Miss> {
    let made = scene.ready_instance()?;
    if !scene.plan.instances_retrievable {
        return skip("instances cannot be fetched");
    }
    scene.send(scene.ask_instance(Method::GET, &made.target.instance)).await
}

pub(super) async fn fetch(scene: &mut Scene) -> Outcome {
    fetch_it(scene).await?.expect(&[200], "200, because the instance exists")
}

pub(super) async fn fetch_body(scene: &mut Scene) -> Outcome {
    let exchange = fetch_it(scene).await?;
    if exchange.status() != 200 {
        return skip("it cannot be fetched (see fetch.instance)");
    }
    let body = exchange.object()?;
    scene.fetched = Some(Value::Object(body.clone()));
    for (field, own) in [("service_id", &scene.plan.service_id), ("plan_id", &scene.plan.id)] {
        if body.get(field).is_some_and(|value| value.as_str() != Some(own.as_str())) {
            return Err(
                exchange.fail(format!("`{field}` is {own}, with which the instance was made"), format!("it is {}", body[field]))
            );
        }
    }
    let first = scene.instance.made.as_ref().and_then(|made| made.exchange.field("dashboard_url")).and_then(Value::as_str);
    match (body.get("dashboard_url"), first) {
        (Some(url), _) if !url.is_string() => {
            return Err(
                exchange.fail("`dashboard_url` is a string, if it is there (platforms refuse null here)", format!("it is {url}"))
            );
        }
        (found, Some(first)) if found.and_then(Value::as_str) != Some(first) => {
            return Err(exchange.fail(
                format!("`dashboard_url` is {first}, as when the instance was made"),
                format!("it is {}", found.unwrap_or(&Value::Null)),
            ));
        }
        _ => {}
    }
    if body.get("parameters").is_some_and(|value| !value.is_object()) {
        return Err(exchange.fail("`parameters` is an object, if it is there", format!("it is {}", body["parameters"])));
    }
    if body.get("maintenance_info").is_some_and(|info| !info.get("version").is_some_and(Value::is_string)) {
        return Err(
            exchange.fail("`maintenance_info` has a `version`, if it is there", format!("it is {}", body["maintenance_info"]))
        );
    }
    instance_metadata(&exchange, body)
}

pub(super) async fn fetch_hints(scene: &mut Scene) -> Outcome {
    if fetch_it(scene).await?.status() != 200 {
        return skip("it cannot be fetched (see fetch.instance)");
    }
    let made = scene.ready_instance()?;
    let request = scene.ask_instance(Method::GET, &made.target.instance);
    let request = request.query("service_id", &made.target.service_id).query("plan_id", &made.target.plan_id);
    scene.send(request).await?.expect(&[200], "200, as without service_id and plan_id")
}

pub(super) async fn repeat(scene: &mut Scene) -> Outcome {
    life::repeat(scene, KIND).await?.expect(&[200], "200, because this very instance exists already")
}

pub(super) async fn repeat_body(scene: &mut Scene) -> Outcome {
    let exchange = life::repeat(scene, KIND).await?;
    let made = scene.ready_instance()?;
    let Some(first) = made.exchange.field("dashboard_url").and_then(Value::as_str) else { return skip("there is no dashboard") };
    if exchange.status() != 200 {
        return skip("the same request is not answered 200 (see provision.repeat)");
    }
    match exchange.field("dashboard_url").and_then(Value::as_str) == Some(first) {
        true => Ok(()),
        false => Err(exchange.fail(format!("`dashboard_url` is {first}, as the first time"), "another one, or none")),
    }
}

pub(super) async fn unknown_fields(scene: &mut Scene) -> Outcome {
    life::unknown_fields(scene, KIND).await
}

pub(super) async fn conflict_organization(scene: &mut Scene) -> Outcome {
    life::conflict(scene, KIND, |body| other_organization(scene, body), &[409], "the instance belongs to another organization")
        .await
}

pub(super) async fn conflict_space(scene: &mut Scene) -> Outcome {
    let other = json!(scene.http.new_id());
    let change = |body: &mut Value| {
        body["space_guid"] = other.clone();
        body["context"]["space_guid"] = other;
    };
    life::conflict(scene, KIND, change, &[409], "the instance belongs to another space").await
}

pub(super) async fn conflict_plan(scene: &mut Scene) -> Outcome {
    let Some(sibling) = scene.plan.sibling.clone() else { return skip("the offering has no other plan") };
    let maintenance = scene.plan.sibling_maintenance.clone().filter(|_| scene.options.version.minor >= 15);
    let has_parameters = scene.ready_instance()?.body.get("parameters").is_some();
    let change = |body: &mut Value| {
        body["plan_id"] = json!(sibling);
        match maintenance {
            Some(version) => body["maintenance_info"] = json!({"version": version}),
            None => without(body, "maintenance_info"),
        }
    };
    // parameters that fit one plan may be refused for the other
    let statuses: &[u16] = if has_parameters { &[409, 400] } else { &[409] };
    life::conflict(scene, KIND, change, statuses, "the instance has another plan").await
}

pub(super) async fn conflict_parameters(scene: &mut Scene) -> Outcome {
    let made = scene.ready_instance()?;
    let current = made.body.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default();
    let (other, valid) = parameters::other(scene.plan.create_schema.as_ref(), &current);
    let statuses: &[u16] = if valid { &[409] } else { &[409, 400, 422] };
    life::conflict(scene, KIND, |body| body["parameters"] = Value::Object(other), statuses, "the instance has other parameters")
        .await
}
