//! What is the same for instances and bindings: made, asked again, removed; at once or asynchronously.

use super::refusals::word;
use crate::{
    case::{Miss, Outcome, skip},
    http::{Exchange, Request},
    ledger::Target,
    scene::{Ended, Kind, Made, Scene},
};
use serde_json::Value;

pub(super) fn incomplete(request: Request) -> Request {
    request.query("accepts_incomplete", "true")
}

/// Made without `accepts_incomplete`.
pub(super) async fn sync(scene: &mut Scene, kind: Kind) -> Outcome {
    let (target, body) = (scene.new_target(kind)?, scene.body_for(kind));
    let exchange = scene.put(&target, |request| request.json(body)).await?;
    let expected = "201 when it is done, or 422 AsyncRequired";
    scene.slot(kind).does_sync = Some(exchange.is(&[200, 201]));
    match exchange.status() {
        201 => {
            scene.slot(kind).sync = Some(target);
            Ok(())
        }
        202 => {
            scene.poll(&target, exchange.operation().as_deref(), false).await?;
            skip("it was answered 202 (see async.uninvited)")
        }
        422 => word(&exchange, "AsyncRequired", expected),
        _ => Err(exchange.fail(expected, exchange.summary())),
    }
}

/// Removed without `accepts_incomplete`.
pub(super) async fn sync_removal(scene: &mut Scene, kind: Kind) -> Outcome {
    let Some(target) = scene.slot(kind).sync.take() else { return skip("nothing was made at once") };
    let exchange = scene.delete(&target, false).await?;
    let outcome = sync_removal_answer(&exchange);
    match exchange.status() {
        200 | 410 => {}
        202 => {
            scene.poll_delete(&target, &exchange).await?;
        }
        _ => scene.remove(&target).await?,
    }
    outcome
}

fn sync_removal_answer(exchange: &Exchange) -> Outcome {
    let expected = "200 when it is gone, or 422 AsyncRequired";
    match exchange.status() {
        200 => Ok(()),
        202 => skip("it was answered 202 (see async.uninvited)"),
        422 => word(exchange, "AsyncRequired", expected),
        _ => Err(exchange.fail(expected, exchange.summary())),
    }
}

/// Made with `accepts_incomplete`: the one that later cases work on.
pub(super) async fn create(scene: &mut Scene, kind: Kind) -> Outcome {
    let (target, body) = (scene.new_target(kind)?, scene.body_for(kind));
    let exchange = scene.put(&target, |request| incomplete(request).json(body.clone())).await?;
    if exchange.is(&[200, 201, 202]) {
        let running = exchange.status() == 202;
        scene.slot(kind).made = Some(Made { target, body, exchange: exchange.clone(), running });
    }
    exchange.expect(&[201, 202], "201 when it is done, or 202 while it is being made")
}

/// The instance or binding while it is being made.
pub(super) fn running(scene: &Scene, kind: Kind) -> Result<Made, Miss> {
    match &scene.slot_of(kind).made {
        Some(made) if made.running => Ok(made.clone()),
        _ => skip("nothing is being made asynchronously"),
    }
}

/// The very same `PUT` while the first runs.
pub(super) async fn repeat_in_progress(scene: &mut Scene, kind: Kind) -> Outcome {
    let made = running(scene, kind)?;
    let exchange = scene.put(&made.target, |request| incomplete(request).json(made.body.clone())).await?;
    let miss = match same_operation(&exchange, made.operation()) {
        Ok(()) => return Ok(()),
        Err(miss) => miss,
    };
    scene.fail_if_it_still_runs(&made, false, miss).await
}

/// 202 with the operation of the first request.
pub(super) fn same_operation(exchange: &Exchange, operation: Option<String>) -> Outcome {
    let expected = match &operation {
        Some(operation) => format!("202 with the operation of the first request, `{operation}`"),
        None => "202, as the first time".to_owned(),
    };
    exchange.expect(&[202], &expected)?;
    match exchange.operation() == operation {
        true => Ok(()),
        false => {
            Err(exchange.fail(expected, format!("202 with operation {}", exchange.field("operation").unwrap_or(&Value::Null))))
        }
    }
}

/// Polls to the end.
pub(super) async fn completes(scene: &mut Scene, kind: Kind) -> Outcome {
    let made = running(scene, kind)?;
    let ended = scene.poll(&made.target, made.operation().as_deref(), false).await?;
    let outcome = succeeded(&ended);
    if outcome.is_ok()
        && let Some(made) = &mut scene.slot(kind).made
    {
        made.running = false;
    }
    outcome
}

pub(super) fn succeeded(ended: &Ended) -> Outcome {
    let expected = "`succeeded` in time";
    match ended {
        Ended::Succeeded | Ended::Gone => Ok(()),
        Ended::Failed(last) => {
            let why = last.field("description").and_then(Value::as_str).unwrap_or("no description");
            Err(last.fail(expected, format!("`failed`: {why}")))
        }
        Ended::TooLong(last) => Err(last.fail(expected, "still `in progress` when the time for polling was over")),
    }
}

/// The very same `PUT` once everything is done.
pub(super) async fn repeat(scene: &Scene, kind: Kind) -> Result<Exchange, Miss> {
    let made = scene.ready(kind)?;
    scene.put(&made.target, |request| incomplete(request).json(made.body.clone())).await
}

/// The same id with something else in the body.
pub(super) async fn conflict(
    scene: &Scene,
    kind: Kind,
    change: impl FnOnce(&mut Value),
    statuses: &[u16],
    what: &str,
) -> Outcome {
    let made = scene.ready(kind)?;
    let mut body = made.body.clone();
    change(&mut body);
    let exchange = scene.put(&made.target, |request| incomplete(request).json(body)).await?;
    exchange.expect(statuses, format!("409, because {what}"))
}

/// Fields that nobody knows change nothing.
pub(super) async fn unknown_fields(scene: &Scene, kind: Kind) -> Outcome {
    let plain = repeat(scene, kind).await?;
    if plain.status() != 200 {
        return skip("the same request without further fields is not answered 200 either");
    }
    let made = scene.ready(kind)?;
    let mut body = made.body.clone();
    // not in `bind_resource`: platforms may put things of their own there that tell one binding from another
    for place in ["", "/context"] {
        if let Some(object) = body.pointer_mut(place).and_then(Value::as_object_mut) {
            object.insert("x-broker-check".to_owned(), serde_json::json!({"unknown": true}));
        }
    }
    let exchange = scene.put(&made.target, |request| incomplete(request).json(body)).await?;
    exchange.expect(&[200], "200, as without the fields `x-broker-check`: unknown fields must be ignored")
}

/// Removing what exists without one of the parameters.
pub(super) async fn delete_without(scene: &mut Scene, kind: Kind, missing: &str) -> Outcome {
    let made = scene.ready(kind)?;
    let target = &made.target;
    let change = |request: Request| {
        let request = incomplete(request);
        let request = if missing == "service_id" { request } else { request.query("service_id", &target.service_id) };
        if missing == "plan_id" { request } else { request.query("plan_id", &target.plan_id) }
    };
    let exchange = scene.delete_with(target, change).await?;
    if exchange.is(&[200, 202, 410]) {
        // gone, or going: the cases that need it are left out
        scene.slot(kind).made = None;
        if exchange.status() == 202 {
            scene.poll_delete(target, &exchange).await?;
        }
    }
    exchange.expect(&[400], format!("400, because `{missing}` is missing"))
}

/// Removing what was made asynchronously without `accepts_incomplete`.
pub(super) async fn async_required(scene: &mut Scene, kind: Kind) -> Outcome {
    if scene.slot_of(kind).does_sync != Some(false) {
        return skip("it was made at once");
    }
    let made = scene.ready(kind)?;
    let exchange = scene.delete(&made.target, false).await?;
    if exchange.is(&[200, 202, 410]) {
        let slot = scene.slot(kind);
        slot.made = None;
        slot.gone = exchange.status() == 200;
        slot.removal = Some((made.target.clone(), exchange.clone()));
        if exchange.status() == 202 {
            scene.poll_delete(&made.target, &exchange).await?;
        }
    }
    sync_removal_answer(&exchange)
}

/// The removal that the later cases look at.
pub(super) async fn delete(scene: &mut Scene, kind: Kind) -> Outcome {
    let made = scene.ready(kind)?;
    let exchange = scene.delete(&made.target, true).await?;
    if exchange.is(&[200, 202, 410]) {
        let slot = scene.slot(kind);
        slot.made = None;
        slot.gone = exchange.status() != 202;
        slot.removal = Some((made.target, exchange.clone()));
    }
    exchange.expect(&[200, 202], "200 when it is gone, or 202 while it is being removed")
}

/// The removal, if it runs.
fn removal(scene: &Scene, kind: Kind) -> Result<(Target, Exchange), Miss> {
    match &scene.slot_of(kind).removal {
        Some((target, exchange)) if exchange.status() == 202 => Ok((target.clone(), exchange.clone())),
        _ => skip("nothing is being removed asynchronously"),
    }
}

/// The very same `DELETE` while the first runs.
pub(super) async fn delete_repeat(scene: &mut Scene, kind: Kind) -> Outcome {
    let (target, first) = removal(scene, kind)?;
    let exchange = scene.delete(&target, true).await?;
    let miss = match same_operation(&exchange, first.operation()) {
        Ok(()) => return Ok(()),
        Err(miss) => miss,
    };
    match scene.still_runs(&target, first.operation().as_deref(), true).await? {
        true => Err(miss),
        false => skip("the removal ended before it could be looked at"),
    }
}

pub(super) async fn delete_completes(scene: &mut Scene, kind: Kind) -> Outcome {
    let (target, first) = removal(scene, kind)?;
    let ended = scene.poll_delete(&target, &first).await?;
    succeeded(&ended)?;
    scene.slot(kind).gone = true;
    Ok(())
}

/// What was removed.
pub(super) fn gone(scene: &Scene, kind: Kind) -> Result<Target, Miss> {
    match &scene.slot_of(kind).removal {
        Some((target, _)) if scene.slot_of(kind).gone => Ok(target.clone()),
        _ => skip("nothing was removed"),
    }
}

pub(super) async fn delete_again(scene: &mut Scene, kind: Kind) -> Outcome {
    let target = gone(scene, kind)?;
    let exchange = scene.delete(&target, true).await?;
    exchange.expect(&[410], "410, because it is gone")
}
