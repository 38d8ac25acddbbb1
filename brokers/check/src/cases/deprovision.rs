//! The end of the instance.

use super::life::{self, incomplete, succeeded};
use crate::{
    case::{Outcome, skip},
    scene::{Ended, Kind, Scene},
};
use reqwest::Method;

const KIND: Kind = Kind::Instance;

pub(super) async fn no_service(scene: &mut Scene) -> Outcome {
    let made = scene.ready_instance()?;
    scene.remove_bindings(&made.target.instance).await?;
    life::delete_without(scene, KIND, "service_id").await
}

pub(super) async fn no_plan(scene: &mut Scene) -> Outcome {
    life::delete_without(scene, KIND, "plan_id").await
}

pub(super) async fn async_required(scene: &mut Scene) -> Outcome {
    life::async_required(scene, KIND).await
}

pub(super) async fn delete(scene: &mut Scene) -> Outcome {
    life::delete(scene, KIND).await
}

pub(super) async fn repeat_in_progress(scene: &mut Scene) -> Outcome {
    life::delete_repeat(scene, KIND).await
}

pub(super) async fn completes(scene: &mut Scene) -> Outcome {
    life::delete_completes(scene, KIND).await
}

pub(super) async fn again(scene: &mut Scene) -> Outcome {
    life::delete_again(scene, KIND).await
}

pub(super) async fn fetch_after(scene: &mut Scene) -> Outcome {
    let target = life::gone(scene, KIND)?;
    if !scene.plan.instances_retrievable {
        return skip("instances cannot be fetched");
    }
    let exchange = scene.send(scene.ask_instance(Method::GET, &target.instance)).await?;
    exchange.expect(&[404], "404, because the instance was removed")
}

pub(super) async fn during_provision(scene: &mut Scene) -> Outcome {
    if scene.instance.does_sync != Some(false) {
        return skip("instances are made at once");
    }
    let (target, body) = (scene.new_instance(), scene.provision_body());
    let made = scene.put(&target, |request| incomplete(request).json(body)).await?;
    if made.status() != 202 {
        return skip("nothing is being made asynchronously");
    }
    let exchange = scene.delete(&target, true).await?;
    let expected = "200 or 202, because it stops, or 422 ConcurrencyError";
    match exchange.status() {
        // the creation shows as failed, or is unknown; but it must not succeed any more
        200 => match scene.send(scene.poll_request(&target, made.operation().as_deref(), true)).await? {
            poll if poll.field("state").is_some_and(|state| state == "succeeded")
                && poll.status() == 200
                && made.operation() != exchange.operation() =>
            {
                Err(poll.fail("the creation is `failed` or forgotten after it was stopped", "`succeeded`"))
            }
            _ => Ok(()),
        },
        202 => match scene.poll_delete(&target, &exchange).await? {
            Ended::Gone | Ended::Succeeded => {
                let again = scene.delete(&target, true).await?;
                again.expect(&[410], "410, because the removal of the unfinished instance succeeded")
            }
            ended => succeeded(&ended),
        },
        422 if exchange.is_refused_with("ConcurrencyError") => {
            // it is made to its end, and removed by the clean-up
            scene.poll(&target, made.operation().as_deref(), false).await?;
            Ok(())
        }
        _ => {
            let miss = exchange.fail(expected, exchange.summary());
            match scene.still_runs(&target, made.operation().as_deref(), false).await? {
                true => Err(miss),
                false => skip("it was made before it could be stopped"),
            }
        }
    }
}
