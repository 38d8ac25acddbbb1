//! One binding, and the few that stand beside it.

use super::{
    life::{self, incomplete, running},
    provision::still_404,
    refusals::{ODD_ID, client_error, without, word},
};
use crate::{
    case::{Miss, Outcome, skip},
    http::Exchange,
    ledger::Target,
    parameters,
    scene::{Ended, Kind, Scene},
};
use reqwest::Method;
use serde_json::{Map, Value, json};
use url::Url;

const KIND: Kind = Kind::Binding;

pub(super) async fn not_bindable(scene: &mut Scene) -> Outcome {
    if scene.plan.bindable {
        return skip("the plan is bindable");
    }
    let (target, body) = (scene.new_binding()?, scene.bind_body());
    let exchange = scene.put(&target, |request| incomplete(request).json(body)).await?;
    client_error(&exchange, "4xx, because the catalog says that the plan is not bindable")
}

fn unknown(scene: &Scene) -> Result<Target, Miss> {
    scene.must_be_bindable()?;
    scene.new_binding()
}

pub(super) fn retrievable(scene: &Scene) -> Outcome {
    if scene.plan.bindings_retrievable { Ok(()) } else { skip("bindings cannot be fetched") }
}

async fn get(scene: &Scene, target: &Target) -> Result<Exchange, Miss> {
    let binding = target.binding.as_deref().unwrap_or_default();
    scene.send(scene.ask_binding(Method::GET, &target.instance, binding)).await
}

pub(super) async fn fetch_unknown(scene: &mut Scene) -> Outcome {
    let target = unknown(scene)?;
    retrievable(scene)?;
    get(scene, &target).await?.expect(&[404], "404, because there is no such binding")
}

pub(super) async fn poll_unknown(scene: &mut Scene) -> Outcome {
    let target = unknown(scene)?;
    retrievable(scene)?;
    let request = scene.ask_binding_operation(&target.instance, target.binding.as_deref().unwrap_or_default());
    scene.send(request).await?.expect(&[404, 410, 400], "404, because there is no such binding (410 and 400 are common too)")
}

pub(super) async fn unbind_unknown(scene: &mut Scene) -> Outcome {
    let target = unknown(scene)?;
    scene.delete(&target, true).await?.expect(&[410], "410, because there is no such binding")
}

/// Binds with a changed body; it must be answered so.
async fn refused(scene: &Scene, change: impl FnOnce(&mut Value), statuses: &[u16], expected: &str) -> Outcome {
    let target = unknown(scene)?;
    let mut body = scene.bind_body();
    change(&mut body);
    let exchange = scene.put(&target, |request| incomplete(request).json(body)).await?;
    exchange.expect(statuses, expected)
}

async fn missing_or_empty(scene: &Scene, field: &str) -> Outcome {
    refused(scene, |body| without(body, field), &[400], &format!("400, because `{field}` is missing")).await?;
    refused(scene, |body| body[field] = json!(""), &[400], &format!("400, because `{field}` is empty")).await
}

pub(super) async fn no_service(scene: &mut Scene) -> Outcome {
    missing_or_empty(scene, "service_id").await
}

pub(super) async fn no_plan(scene: &mut Scene) -> Outcome {
    missing_or_empty(scene, "plan_id").await
}

pub(super) async fn unknown_service(scene: &mut Scene) -> Outcome {
    let id = scene.http.new_id();
    refused(scene, |body| body["service_id"] = json!(id), &[400], "400, because the offering is not in the catalog").await
}

pub(super) async fn unknown_plan(scene: &mut Scene) -> Outcome {
    let id = scene.http.new_id();
    refused(scene, |body| body["plan_id"] = json!(id), &[400], "400, because the plan is not in the catalog").await
}

pub(super) async fn wrong_types(scene: &mut Scene) -> Outcome {
    refused(scene, |body| body["service_id"] = json!(17), &[400], "400, because `service_id` is a number").await?;
    refused(scene, |body| body["bind_resource"] = json!("app"), &[400], "400, because `bind_resource` is a text").await
}

pub(super) async fn schema(scene: &mut Scene) -> Outcome {
    let Some(broken) = scene.plan.bind_schema.as_ref().and_then(parameters::breaking) else {
        return skip("the plan has no schema for bindings that could be broken");
    };
    let expected = "400 (or 422), because the parameters break the schema";
    refused(scene, |body| body["parameters"] = Value::Object(broken), &[400, 422], expected).await
}

pub(super) async fn sync(scene: &mut Scene) -> Outcome {
    scene.must_be_bindable()?;
    life::sync(scene, KIND).await
}

pub(super) async fn sync_removal(scene: &mut Scene) -> Outcome {
    life::sync_removal(scene, KIND).await
}

fn routes(scene: &Scene) -> bool {
    scene.plan.requires.iter().any(|need| need == "route_forwarding")
}

pub(super) async fn without_app(scene: &mut Scene) -> Outcome {
    let target = unknown(scene)?;
    if routes(scene) {
        return skip("bindings of this offering are for routes");
    }
    let mut body = scene.bind_body();
    without(&mut body, "app_guid");
    without(&mut body, "bind_resource");
    let exchange = scene.put(&target, |request| incomplete(request).json(body)).await?;
    let expected = "201 or 202, or 422 RequiresApp";
    match exchange.status() {
        201 | 202 => {
            finish(scene, &target, &exchange).await?;
            scene.remove(&target).await
        }
        422 => word(&exchange, "RequiresApp", expected),
        _ => Err(exchange.fail(expected, exchange.summary())),
    }
}

/// Waits for a binding on the side; what it holds, as far as it shows.
async fn finish(scene: &Scene, target: &Target, exchange: &Exchange) -> Result<Option<Exchange>, Miss> {
    if exchange.is(&[200, 201]) {
        return Ok(Some(exchange.clone()));
    }
    if exchange.status() != 202 {
        return Ok(None);
    }
    match scene.poll(target, exchange.operation().as_deref(), false).await? {
        Ended::Succeeded if scene.plan.bindings_retrievable => {
            Ok(Some(get(scene, target).await?).filter(|fetched| fetched.status() == 200))
        }
        _ => Ok(None),
    }
}

pub(super) async fn create(scene: &mut Scene) -> Outcome {
    scene.must_be_bindable()?;
    let outcome = life::create(scene, KIND).await;
    scene.bound = scene.binding.made.as_ref().filter(|made| !made.running).map(|made| made.exchange.clone());
    outcome
}

pub(super) async fn accepted_body(scene: &mut Scene) -> Outcome {
    let made = running(scene, KIND)?;
    match made.exchange.field("credentials") {
        None => Ok(()),
        Some(_) => {
            Err(made.exchange.fail("no `credentials` in a 202: they are fetched once the binding is made", "`credentials`"))
        }
    }
}

pub(super) async fn async_retrievable(scene: &mut Scene) -> Outcome {
    let made = running(scene, KIND)?;
    match scene.plan.bindings_retrievable {
        true => Ok(()),
        false => Err(made
            .exchange
            .fail("201: without bindings_retrievable nobody can fetch what an asynchronous binding holds", "202")),
    }
}

pub(super) async fn repeat_in_progress(scene: &mut Scene) -> Outcome {
    life::repeat_in_progress(scene, KIND).await
}

pub(super) async fn fetch_in_progress(scene: &mut Scene) -> Outcome {
    let made = running(scene, KIND)?;
    retrievable(scene)?;
    let exchange = get(scene, &made.target).await?;
    still_404(scene, &made, &exchange).await
}

pub(super) async fn completes(scene: &mut Scene) -> Outcome {
    life::completes(scene, KIND).await
}

pub(super) async fn fetch(scene: &mut Scene) -> Outcome {
    let made = scene.ready_binding()?;
    retrievable(scene)?;
    let exchange = get(scene, &made.target).await?;
    if exchange.status() == 200 && scene.bound.is_none() {
        scene.bound = Some(exchange.clone());
    }
    exchange.expect(&[200], "200, because the binding exists")
}

/// What the binding holds.
fn bound(scene: &Scene) -> Result<(&Exchange, &Map<String, Value>), Miss> {
    match &scene.bound {
        Some(exchange) => Ok((exchange, exchange.object()?)),
        None => skip("no answer shows what the binding holds"),
    }
}

fn present<'a>(body: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    body.get(field).filter(|value| !value.is_null())
}

pub(super) async fn body(scene: &mut Scene) -> Outcome {
    let (exchange, body) = bound(scene)?;
    let wrong = |expected: &str, found: &Value| Err(exchange.fail(expected, format!("it is {found}")));
    if let Some(other) = body.get("credentials").filter(|value| !value.is_object()) {
        let kind = if other.is_string() { "a string" } else { "no object" };
        return Err(exchange.fail("`credentials` is an object, if it is there", format!("it is {kind}")));
    }
    if let Some(url) = present(body, "syslog_drain_url")
        && !url.is_string()
    {
        return wrong("`syslog_drain_url` is a string", url);
    }
    if let Some(url) = present(body, "route_service_url") {
        let parsed = url.as_str().and_then(|url| Url::parse(url).ok());
        if !parsed.is_some_and(|url| url.scheme() == "https" && url.host_str().is_some_and(|host| !host.is_empty())) {
            return wrong("`route_service_url` is an address with https and a host", url);
        }
    }
    match present(body, "volume_mounts") {
        None => Ok(()),
        Some(Value::Array(mounts)) => match mounts.iter().find_map(volume_problem) {
            None => Ok(()),
            Some(problem) => Err(exchange.fail("each of `volume_mounts` is complete", problem)),
        },
        Some(other) => wrong("`volume_mounts` is an array", other),
    }
}

fn volume_problem(mount: &Value) -> Option<String> {
    let text = |field: &str| mount.get(field).and_then(Value::as_str).unwrap_or_default();
    let device = mount.get("device").unwrap_or(&Value::Null);
    if let Some(field) = ["driver", "container_dir"].into_iter().find(|field| text(field).is_empty()) {
        return Some(format!("`{field}` is missing or no text"));
    }
    if !matches!(text("mode"), "r" | "rw") {
        return Some(format!("`mode` is {}, not r or rw", mount["mode"]));
    }
    if text("device_type") != "shared" {
        return Some(format!("`device_type` is {}, not shared", mount["device_type"]));
    }
    if device.get("volume_id").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Some("`device.volume_id` is missing or no text".to_owned());
    }
    let config = device.get("mount_config").filter(|config| !config.is_null() && !config.is_object())?;
    Some(format!("`device.mount_config` is {config}, no object"))
}

pub(super) async fn undeclared(scene: &mut Scene) -> Outcome {
    let (exchange, body) = bound(scene)?;
    for (field, need) in
        [("syslog_drain_url", "syslog_drain"), ("route_service_url", "route_forwarding"), ("volume_mounts", "volume_mount")]
    {
        let filled = present(body, field).is_some_and(|value| value.as_array().is_none_or(|array| !array.is_empty()));
        if filled && !scene.plan.requires.iter().any(|declared| declared == need) {
            return Err(exchange
                .fail(format!("no `{field}`, because the offering's `requires` does not have `{need}`"), format!("`{field}`")));
        }
    }
    Ok(())
}

pub(super) async fn usable(scene: &mut Scene) -> Outcome {
    if routes(scene) {
        return skip("a route service may work without any address");
    }
    let (exchange, body) = bound(scene)?;
    let filled = |value: &Value| match value {
        Value::Object(object) => !object.is_empty(),
        Value::Array(array) => !array.is_empty(),
        other => !other.is_null(),
    };
    match ["credentials", "syslog_drain_url", "volume_mounts"].into_iter().any(|field| body.get(field).is_some_and(filled)) {
        true => Ok(()),
        false => Err(exchange.fail("`credentials`, or a log drain or volumes", "nothing that an app could use")),
    }
}

pub(super) async fn metadata(scene: &mut Scene) -> Outcome {
    let (exchange, body) = bound(scene)?;
    let Some(metadata) = present(body, "metadata") else { return skip("the binding has no metadata") };
    let mut moments = [None, None];
    for (field, moment) in ["renew_before", "expires_at"].into_iter().zip(&mut moments) {
        let Some(value) = metadata.get(field) else { continue };
        let text = value.as_str().unwrap_or_default();
        *moment = text.parse::<jiff::Timestamp>().ok().filter(|_| text.ends_with('Z') && text.contains('T'));
        if moment.is_none() {
            return Err(exchange.fail(format!("`metadata.{field}` looks like 2026-01-31T12:00:00.0Z"), format!("it is {value}")));
        }
    }
    match moments {
        [Some(renew), Some(expires)] if renew > expires => {
            Err(exchange.fail("`renew_before` is not later than `expires_at`", format!("{renew} is later than {expires}")))
        }
        _ => Ok(()),
    }
}

pub(super) async fn endpoints(scene: &mut Scene) -> Outcome {
    let (exchange, body) = bound(scene)?;
    let Some(endpoints) = present(body, "endpoints") else { return skip("the binding has no endpoints") };
    let expected = "`endpoints` is an array of objects with `host`, `ports` (texts like 443 or 9000-9010) and maybe `protocol` (tcp, udp, all)";
    let good = endpoints.as_array().is_some_and(|all| all.iter().all(endpoint_is_complete));
    if good { Ok(()) } else { Err(exchange.fail(expected, endpoints.to_string())) }
}

fn endpoint_is_complete(endpoint: &Value) -> bool {
    let port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    let ports = |value: &Value| {
        value.as_str().is_some_and(|text| match text.split_once('-') {
            Some((first, last)) => port(first) && port(last),
            None => port(text),
        })
    };
    endpoint.get("host").and_then(Value::as_str).is_some_and(|host| !host.is_empty())
        && endpoint.get("ports").and_then(Value::as_array).is_some_and(|all| !all.is_empty() && all.iter().all(ports))
        && endpoint.get("protocol").is_none_or(|protocol| matches!(protocol.as_str(), Some("tcp" | "udp" | "all")))
}

pub(super) async fn fetch_body(scene: &mut Scene) -> Outcome {
    let made = scene.ready_binding()?;
    retrievable(scene)?;
    let exchange = get(scene, &made.target).await?;
    if exchange.status() != 200 {
        return skip("it cannot be fetched (see fetch.binding)");
    }
    let body = exchange.object()?;
    if let Some(field) =
        ["syslog_drain_url", "route_service_url"].into_iter().find(|field| body.get(*field).is_some_and(Value::is_null))
    {
        return Err(exchange.fail(format!("`{field}` is left out if there is none: platforms refuse null here"), "it is null"));
    }
    if body.get("parameters").is_some_and(|value| !value.is_object()) {
        return Err(exchange.fail("`parameters` is an object, if it is there", "it is something else"));
    }
    match (made.exchange.field("credentials"), body.get("credentials")) {
        (Some(first), Some(now)) if first != now => {
            Err(exchange.fail("the credentials that the binding was made with", "others"))
        }
        _ => Ok(()),
    }
}

pub(super) async fn repeat(scene: &mut Scene) -> Outcome {
    life::repeat(scene, KIND).await?.expect(&[200], "200, because this very binding exists already")
}

pub(super) async fn repeat_body(scene: &mut Scene) -> Outcome {
    let exchange = life::repeat(scene, KIND).await?;
    if exchange.status() != 200 {
        return skip("the same request is not answered 200 (see bind.repeat)");
    }
    let (_, body) = bound(scene)?;
    match (body.get("credentials"), exchange.field("credentials")) {
        (Some(first), Some(now)) if first != now => Err(exchange.fail("the credentials of the first answer", "others")),
        _ => Ok(()),
    }
}

pub(super) async fn unknown_fields(scene: &mut Scene) -> Outcome {
    life::unknown_fields(scene, KIND).await
}

pub(super) async fn conflict_app(scene: &mut Scene) -> Outcome {
    if routes(scene) {
        return skip("bindings of this offering are for routes");
    }
    let other = json!(scene.http.new_id());
    let change = |body: &mut Value| {
        body["app_guid"] = other.clone();
        body["bind_resource"]["app_guid"] = other;
    };
    life::conflict(scene, KIND, change, &[409], "the binding belongs to another app").await
}

pub(super) async fn conflict_parameters(scene: &mut Scene) -> Outcome {
    let made = scene.ready_binding()?;
    let current = made.body.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default();
    let (other, valid) = parameters::other(scene.plan.bind_schema.as_ref(), &current);
    let statuses: &[u16] = if valid { &[409] } else { &[409, 400, 422] };
    life::conflict(scene, KIND, |body| body["parameters"] = Value::Object(other), statuses, "the binding has other parameters")
        .await
}

pub(super) async fn own_credentials(scene: &mut Scene) -> Outcome {
    scene.ready_binding()?;
    let Some(first) = bound(scene)?
        .1
        .get("credentials")
        .filter(|credentials| credentials.as_object().is_some_and(|all| !all.is_empty()))
        .cloned()
    else {
        return skip("the binding has no credentials");
    };
    let (target, mut body) = (scene.new_binding()?, scene.bind_body());
    let other = json!(scene.http.new_id());
    body["app_guid"] = other.clone();
    body["bind_resource"]["app_guid"] = other;
    let exchange = scene.put(&target, |request| incomplete(request).json(body)).await?;
    let Some(second) = finish(scene, &target, &exchange).await? else {
        return skip("there is no second binding to compare with");
    };
    scene.remove(&target).await?;
    match second.field("credentials") == Some(&first) {
        false => Ok(()),
        true => Err(second.fail(
            "credentials of its own, so that removing one binding does not disturb another app",
            "the same as another binding's",
        )),
    }
}

pub(super) async fn encoded_id(scene: &mut Scene) -> Outcome {
    let made = scene.ready_binding()?;
    let mut target = scene.new_binding()?;
    target.binding = Some(format!("{ODD_ID}{}", scene.http.new_id()));
    let body = scene.bind_body();
    let exchange = scene.put(&target, |request| incomplete(request).json(body)).await?;
    let usual = made.exchange.status();
    exchange.expect(&[usual], format!("{usual}, as for any other binding"))?;
    finish(scene, &target, &exchange).await?;
    let removed = scene.delete(&target, true).await?;
    if removed.status() == 202 {
        scene.poll_delete(&target, &removed).await?;
    }
    removed.expect(&[200, 202], "200 or 202, because this binding was just made")
}

pub(super) async fn rotate(scene: &mut Scene) -> Outcome {
    let made = scene.ready_binding()?;
    if !scene.plan.binding_rotatable {
        return skip("binding_rotatable is not set");
    }
    let target = scene.new_binding()?;
    let body = json!({"predecessor_binding_id": made.target.binding});
    let exchange = scene.put(&target, |request| incomplete(request).json(body)).await?;
    exchange
        .expect(&[201, 202], "201 or 202: the catalog says binding_rotatable, and everything else comes from the predecessor")?;
    if exchange.status() == 202 {
        life::succeeded(&scene.poll(&target, exchange.operation().as_deref(), false).await?)?;
    }
    scene.rotated = Some(target);
    Ok(())
}

pub(super) async fn rotate_keeps(scene: &mut Scene) -> Outcome {
    let made = scene.ready_binding()?;
    let Some(rotated) = scene.rotated.clone() else { return skip("there is no successor") };
    retrievable(scene)?;
    if get(scene, &rotated).await?.status() != 200 {
        return skip("the successor cannot be fetched");
    }
    get(scene, &made.target).await?.expect(&[200], "200: the predecessor is there until it is removed")
}

pub(super) async fn rotate_unknown(scene: &mut Scene) -> Outcome {
    if !scene.plan.binding_rotatable {
        return skip("binding_rotatable is not set");
    }
    let target = unknown(scene)?;
    let body = json!({"predecessor_binding_id": scene.http.new_id()});
    let exchange = scene.put(&target, |request| incomplete(request).json(body)).await?;
    client_error(&exchange, "4xx, because there is no such predecessor")
}

pub(super) async fn unbind_no_service(scene: &mut Scene) -> Outcome {
    life::delete_without(scene, KIND, "service_id").await
}

pub(super) async fn unbind_no_plan(scene: &mut Scene) -> Outcome {
    life::delete_without(scene, KIND, "plan_id").await
}

pub(super) async fn delete_async_required(scene: &mut Scene) -> Outcome {
    life::async_required(scene, KIND).await
}

pub(super) async fn delete(scene: &mut Scene) -> Outcome {
    life::delete(scene, KIND).await
}

pub(super) async fn delete_repeat(scene: &mut Scene) -> Outcome {
    life::delete_repeat(scene, KIND).await
}

pub(super) async fn delete_completes(scene: &mut Scene) -> Outcome {
    life::delete_completes(scene, KIND).await
}

pub(super) async fn delete_again(scene: &mut Scene) -> Outcome {
    life::delete_again(scene, KIND).await
}

pub(super) async fn fetch_after(scene: &mut Scene) -> Outcome {
    let target = life::gone(scene, KIND)?;
    retrievable(scene)?;
    get(scene, &target).await?.expect(&[404], "404, because the binding was removed")
}
