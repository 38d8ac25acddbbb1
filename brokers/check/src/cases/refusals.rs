//! Provisioning requests that must be refused, and requests about things that do not exist.

use crate::{
    case::{Miss, Outcome, skip},
    http::{Exchange, Request},
    parameters,
    scene::Scene,
};
use reqwest::Method;
use serde_json::{Value, json};

/// Characters that must be percent-encoded in a path; a slash is left out, because many proxies lose it.
pub(super) const ODD_ID: &str = "check ü+:@%25=";

/// Provisions with a changed body; it must be answered so. Refused ids are remembered.
async fn refused(scene: &mut Scene, change: impl FnOnce(&mut Value), statuses: &[u16], expected: &str) -> Result<Exchange, Miss> {
    let mut body = scene.provision_body();
    change(&mut body);
    send_refused(scene, |request| request.json(body), statuses, expected).await
}

async fn send_refused(
    scene: &mut Scene,
    change: impl FnOnce(Request) -> Request,
    statuses: &[u16],
    expected: &str,
) -> Result<Exchange, Miss> {
    let target = scene.new_instance();
    let exchange = scene.put(&target, |request| change(request.query("accepts_incomplete", "true"))).await?;
    if (400..500).contains(&exchange.status()) {
        scene.refused.push(target);
    }
    exchange.expect(statuses, expected)?;
    Ok(exchange)
}

pub(super) fn without(body: &mut Value, field: &str) {
    if let Some(body) = body.as_object_mut() {
        body.remove(field);
    }
}

async fn missing_or_empty(scene: &mut Scene, field: &str) -> Outcome {
    refused(scene, |body| without(body, field), &[400], &format!("400, because `{field}` is missing")).await?;
    refused(scene, |body| body[field] = json!(""), &[400], &format!("400, because `{field}` is empty")).await?;
    Ok(())
}

pub(super) async fn no_service(scene: &mut Scene) -> Outcome {
    missing_or_empty(scene, "service_id").await
}

pub(super) async fn no_plan(scene: &mut Scene) -> Outcome {
    missing_or_empty(scene, "plan_id").await
}

pub(super) async fn no_organization(scene: &mut Scene) -> Outcome {
    missing_or_empty(scene, "organization_guid").await
}

pub(super) async fn no_space(scene: &mut Scene) -> Outcome {
    missing_or_empty(scene, "space_guid").await
}

pub(super) async fn unknown_service(scene: &mut Scene) -> Outcome {
    let id = scene.http.new_id();
    refused(scene, |body| body["service_id"] = json!(id), &[400], "400, because the offering is not in the catalog").await?;
    Ok(())
}

pub(super) async fn unknown_plan(scene: &mut Scene) -> Outcome {
    let id = scene.http.new_id();
    refused(scene, |body| body["plan_id"] = json!(id), &[400], "400, because the plan is not in the catalog").await?;
    Ok(())
}

pub(super) async fn foreign_plan(scene: &mut Scene) -> Outcome {
    let Some(stranger) = scene.plan.stranger.clone() else { return skip("there is no other offering") };
    refused(scene, |body| body["plan_id"] = json!(stranger), &[400], "400, because the plan belongs to another offering").await?;
    Ok(())
}

pub(super) async fn wrong_types(scene: &mut Scene) -> Outcome {
    refused(scene, |body| body["service_id"] = json!(17), &[400], "400, because `service_id` is a number").await?;
    refused(scene, |body| body["parameters"] = json!("text"), &[400, 422], "400, because `parameters` is a text").await?;
    Ok(())
}

pub(super) async fn not_json(scene: &mut Scene) -> Outcome {
    let expected = "400, because the body is not JSON";
    send_refused(scene, |request| request.raw("application/json", r#"{"service_id": "#), &[400], expected).await?;
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

pub(super) fn word(exchange: &Exchange, word: &str, expected: &str) -> Outcome {
    match exchange.is_refused_with(word) {
        true => Ok(()),
        false => {
            Err(exchange.fail(expected, exchange.error_word().map_or("422 without `error`".to_owned(), |_| exchange.summary())))
        }
    }
}

pub(super) async fn schema(scene: &mut Scene) -> Outcome {
    let Some(broken) = scene.plan.create_schema.as_ref().and_then(parameters::breaking) else {
        return skip("the plan has no schema for provisioning that could be broken");
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

pub(super) async fn nothing_left(scene: &mut Scene) -> Outcome {
    if scene.refused.is_empty() {
        return skip("nothing was refused");
    }
    let mut outcome = Ok(());
    for target in scene.refused.clone() {
        let exchange = scene.delete(&target, true).await?;
        if exchange.status() == 202 {
            scene.poll_delete(&target, &exchange).await?;
        }
        if exchange.is(&[200, 202]) && outcome.is_ok() {
            let expected = "410, because provisioning this instance was answered 4xx, which must leave everything as it was";
            outcome = Err(exchange.fail(expected, exchange.summary()));
        }
    }
    outcome
}

pub(super) async fn fetch_unknown(scene: &mut Scene) -> Outcome {
    if !scene.plan.instances_retrievable {
        return skip("instances cannot be fetched");
    }
    let exchange = scene.send(scene.ask_instance(Method::GET, &scene.http.new_id())).await?;
    exchange.expect(&[404], "404, because there is no such instance")
}

pub(super) async fn poll_unknown(scene: &mut Scene) -> Outcome {
    let exchange = scene.send(scene.ask_instance_operation(&scene.http.new_id())).await?;
    exchange.expect(&[404, 410, 400], "404, because there is no such instance (410 and 400 are common too)")
}

pub(super) async fn update_unknown(scene: &mut Scene) -> Outcome {
    let body =
        json!({"service_id": scene.plan.service_id, "plan_id": scene.plan.id, "context": scene.context(Some("broker-check"))});
    let request = scene.ask_instance(Method::PATCH, &scene.http.new_id()).query("accepts_incomplete", "true").json(body);
    let exchange = scene.send(request).await?;
    client_error(&exchange, "4xx, because there is no such instance")
}

pub(super) fn client_error(exchange: &Exchange, expected: &str) -> Outcome {
    match exchange.status() {
        400..500 => Ok(()),
        _ => Err(exchange.fail(expected, exchange.summary())),
    }
}

pub(super) async fn bind_unknown(scene: &mut Scene) -> Outcome {
    scene.must_be_bindable()?;
    let mut target = scene.new_instance();
    target.binding = Some(scene.http.new_id());
    let body = scene.bind_body();
    let exchange = scene.put(&target, |request| request.query("accepts_incomplete", "true").json(body)).await?;
    client_error(&exchange, "4xx, because there is no such instance")
}

pub(super) async fn unbind_unknown(scene: &mut Scene) -> Outcome {
    scene.must_be_bindable()?;
    let mut target = scene.new_instance();
    target.binding = Some(scene.http.new_id());
    let exchange = scene.delete(&target, true).await?;
    exchange.expect(&[410], "410, because there is no such instance, so no binding of it")
}

pub(super) async fn deprovision_unknown(scene: &mut Scene) -> Outcome {
    let exchange = scene.delete(&scene.new_instance(), true).await?;
    exchange.expect(&[410], "410, because there is no such instance")
}

pub(super) async fn encoded_instance(scene: &mut Scene) -> Outcome {
    // compared with a plain id, so that a broker that never says 410 has only the finding about that
    let plain = scene.delete(&scene.new_instance(), true).await?;
    let mut target = scene.new_instance();
    target.instance = ODD_ID.to_owned();
    let exchange = scene.delete(&target, true).await?;
    match exchange.status() == plain.status() {
        true => Ok(()),
        false => Err(exchange.fail(format!("{}, as for any other unknown instance", plain.status()), exchange.summary())),
    }
}
