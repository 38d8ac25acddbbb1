//! Catalog, authentication and headers: once for the broker.

use crate::{
    case::{Miss, Outcome, skip},
    catalog::{self, list},
    http::{Exchange, Login, Request},
    scene::Scene,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};

/// How many pieces of advice about the catalog are shown.
const SHOWN: usize = 10;
const MAX_TEXT_CHARS: usize = 255;

pub(super) async fn catalog(scene: &mut Scene) -> Outcome {
    let exchange = scene.send(scene.ask_catalog()).await?;
    let expected = "200 with a JSON object that has an array `services`";
    if exchange.is(&[301, 302, 303, 307, 308]) {
        let place = exchange.header("Location").unwrap_or("nowhere");
        return Err(exchange.fail(expected, format!("{} to {place}: give the address that it leads to", exchange.status())));
    }
    if exchange.status() == 401 {
        return Err(exchange.fail(expected, "401: are user and password right?"));
    }
    exchange.expect(&[200], expected)?;
    exchange.object()?;
    if !exchange.field("services").is_some_and(Value::is_array) {
        return Err(exchange.fail(expected, "no array `services`"));
    }
    let catalog = exchange.json.clone().unwrap_or_default();
    scene.plans = catalog::plans(&catalog).into_iter().map(Arc::new).collect();
    scene.plan = scene.plans.first().cloned().unwrap_or_default();
    scene.catalog = Some(catalog);
    Ok(())
}

pub(super) fn known(scene: &Scene) -> Result<&Value, Miss> {
    match &scene.catalog {
        Some(catalog) => Ok(catalog),
        None => skip("there is no catalog"),
    }
}

pub(super) async fn catalog_rules(scene: &mut Scene) -> Outcome {
    match osb::catalog::validate(known(scene)?) {
        Ok(_) => Ok(()),
        Err(problems) => Err(Miss::fail("a catalog that keeps all rules", problems.to_string(), None)),
    }
}

pub(super) async fn catalog_stable(scene: &mut Scene) -> Outcome {
    known(scene)?;
    let exchange = scene.send(scene.ask_catalog()).await?;
    exchange.expect(&[200], "200, as for the first fetch")?;
    let (first, second) = (ids(known(scene)?), ids(exchange.json.as_ref().unwrap_or(&Value::Null)));
    let difference: Vec<_> = first.symmetric_difference(&second).take(SHOWN).cloned().collect();
    match difference.is_empty() {
        true => Ok(()),
        false => Err(exchange.fail(
            "the same offerings and plans with the same ids as a moment ago",
            format!("different: {}", difference.join(", ")),
        )),
    }
}

fn ids(catalog: &Value) -> BTreeSet<String> {
    let own = |value: &Value| format!("{} ({})", value["name"].as_str().unwrap_or("?"), value["id"].as_str().unwrap_or("?"));
    let services = list(catalog, "services");
    services.iter().flat_map(|service| std::iter::once(own(service)).chain(list(service, "plans").iter().map(own))).collect()
}

pub(super) async fn catalog_advice(scene: &mut Scene) -> Outcome {
    let mut advice = vec![];
    for service in list(known(scene)?, "services") {
        for thing in std::iter::once(service).chain(list(service, "plans")) {
            let name = thing["name"].as_str().unwrap_or_default();
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')) {
                advice.push(format!("name `{name}`: letters, digits, periods and hyphens are easy to type"));
            }
            for field in ["name", "description"] {
                let length = thing[field].as_str().unwrap_or_default().chars().count();
                if length > MAX_TEXT_CHARS {
                    advice.push(format!("{field} of `{}` has {length} characters", name.chars().take(40).collect::<String>()));
                }
            }
        }
    }
    let more = advice.len().saturating_sub(SHOWN);
    advice.truncate(SHOWN);
    if more > 0 {
        advice.push(format!("and {more} more"));
    }
    match advice.is_empty() {
        true => Ok(()),
        false => Err(Miss::fail("names friendly to command lines, texts of at most 255 characters", advice.join("\n"), None)),
    }
}

pub(super) async fn catalog_etag(scene: &mut Scene) -> Outcome {
    known(scene)?;
    let first = scene.send(scene.ask_catalog()).await?;
    let Some(tag) = first.header("ETag").map(str::to_owned) else {
        return skip("the catalog has no ETag");
    };
    let second = scene.send(scene.ask_catalog().header("If-None-Match", tag)).await?;
    second.expect(&[200, 304], "304, or 200 with the whole catalog")
}

/// One request for each route that the catalog makes a duty, about things that do not exist.
fn every_route(scene: &Scene) -> Vec<Request> {
    let (instance, binding) = (scene.http.new_id(), scene.http.new_id());
    let ids = |request: Request| request.query("service_id", &scene.plan.service_id).query("plan_id", &scene.plan.id);
    let mut all = vec![
        scene.ask_catalog(),
        scene.ask_instance(Method::PUT, &instance).json(json!({})),
        scene.ask_instance(Method::PATCH, &instance).json(json!({})),
        ids(scene.ask_instance(Method::DELETE, &instance)),
        ids(scene.ask_instance_operation(&instance)),
    ];
    if scene.plans.iter().any(|plan| plan.instances_retrievable) && scene.options.version.minor >= 14 {
        all.push(scene.ask_instance(Method::GET, &instance));
    }
    if scene.plans.iter().any(|plan| plan.bindable) {
        all.push(scene.ask_binding(Method::PUT, &instance, &binding).json(json!({})));
        all.push(ids(scene.ask_binding(Method::DELETE, &instance, &binding)));
    }
    if scene.plans.iter().any(|plan| plan.bindable && plan.bindings_retrievable) && scene.options.version.minor >= 14 {
        all.push(scene.ask_binding(Method::GET, &instance, &binding));
        all.push(ids(scene.ask_binding_operation(&instance, &binding)));
    }
    all
}

pub(super) async fn each_route_answers(
    scene: &Scene,
    change: impl Fn(Request) -> Request,
    statuses: &[u16],
    expected: &str,
) -> Outcome {
    let mut wrong: Vec<Exchange> = vec![];
    for request in every_route(scene) {
        let exchange = scene.send(change(request)).await?;
        if !exchange.is(statuses) {
            wrong.push(exchange);
        }
    }
    let Some(first) = wrong.first() else { return Ok(()) };
    let also = if wrong.len() > 1 { format!("; as wrong on {} more routes", wrong.len() - 1) } else { String::new() };
    Err(first.fail(expected, format!("{}{also}", first.summary())))
}

async fn must_be_401(scene: &Scene, login: Login) -> Outcome {
    if scene.options.credentials.is_none() {
        return skip("no user was given: the broker is taken for one without authentication");
    }
    each_route_answers(scene, |request| request.login(login), &[401], "401").await
}

pub(super) async fn no_login(scene: &mut Scene) -> Outcome {
    must_be_401(scene, Login::None).await
}

pub(super) async fn wrong_user(scene: &mut Scene) -> Outcome {
    must_be_401(scene, Login::WrongUser).await
}

pub(super) async fn wrong_password(scene: &mut Scene) -> Outcome {
    must_be_401(scene, Login::WrongPassword).await
}

pub(super) async fn login_before_version(scene: &mut Scene) -> Outcome {
    if scene.options.credentials.is_none() {
        return skip("no user was given: the broker is taken for one without authentication");
    }
    let change = |request: Request| request.login(Login::WrongPassword).version(Some("none"));
    // a broker that does not look at passwords at all has its own finding
    let exchange = scene.send(scene.ask_catalog().login(Login::WrongPassword)).await?;
    if exchange.status() != 401 {
        return skip("wrong passwords are not refused anyway");
    }
    each_route_answers(scene, change, &[401], "401, whatever the version says").await
}

pub(super) async fn version_missing(scene: &mut Scene) -> Outcome {
    known(scene)?;
    let expected = "412 Precondition Failed (400 is fine too), although the ids are unknown and the body is empty";
    each_route_answers(scene, |request| request.version(None), &[412, 400], expected).await
}

pub(super) async fn version_major(scene: &mut Scene) -> Outcome {
    known(scene)?;
    each_route_answers(scene, |request| request.version(Some("3.0")), &[412], "412 Precondition Failed for version 3.0").await
}

pub(super) async fn version_unreadable(scene: &mut Scene) -> Outcome {
    known(scene)?;
    let exchange = scene.send(scene.ask_catalog().version(Some("two"))).await?;
    exchange.expect(&[412, 400], "412 Precondition Failed (or 400) for version `two`")
}

pub(super) async fn version_newer(scene: &mut Scene) -> Outcome {
    known(scene)?;
    let exchange = scene.send(scene.ask_catalog().version(Some("2.99"))).await?;
    exchange.expect(&[200], "200: minor versions only add things, so a newer one is as good")
}

pub(super) async fn originating_identity(scene: &mut Scene) -> Outcome {
    known(scene)?;
    for platform in ["cloudfoundry", "kubernetes"] {
        let mut identity = osb::OriginatingIdentity::user("683ea748-3092-4ff4-b656-39cacc4d5360");
        identity.platform = platform.to_owned();
        let request = scene.ask_catalog().header(osb::ORIGINATING_IDENTITY_HEADER, identity.encode());
        let exchange = scene.send(request).await?;
        if exchange.status() != 200 {
            // the rest of the run does without, so that it is about something else
            scene.takes_identity = false;
            return Err(exchange.fail(format!("200, as without the header, for a user of `{platform}`"), exchange.summary()));
        }
    }
    Ok(())
}

pub(super) async fn other_headers(scene: &mut Scene) -> Outcome {
    known(scene)?;
    let request = scene
        .ask_catalog()
        .header("X-Vcap-Request-Id", scene.http.new_id())
        .header("X-Api-Info-Location", "api.example.com/v2/info")
        .header("X-B3-TraceId", "80f198ee56343ba864fe8b2a57d3eff7")
        .header("X-B3-SpanId", "e457b5a2e4d86bd1")
        .header("X-Broker-Check", "a header that nobody knows");
    let exchange = scene.send(request).await?;
    exchange.expect(&[200], "200, as without these headers")
}
