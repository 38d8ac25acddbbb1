//! What goes out in order, or until it arrives.

use super::Event;
use crate::{
    domain::core::Input,
    edge::{World, backoff::Backoff},
};
use bus::Bus;
use cloud_controller_client::{CrashReport, Error};
use foundation::Shutdown;
use messages::router::{GREET, RouterStart};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tracing::warn;
use types::VersionId;

/// What goes to the bus in order.
pub(super) enum Publication {
    /// Subject and payload.
    To(&'static str, Vec<u8>),
}

pub(super) async fn ask_routes(world: Arc<World>, versions: Vec<VersionId>, inputs: mpsc::Sender<Input>) {
    for some in versions.chunks(1_000) {
        match world.outside.controller.routes(some).await {
            Ok(answer) => drop(inputs.send(Input::Routes(answer)).await),
            Err(cause) => return warn!(error = &cause as &dyn std::error::Error, "no news of routes; they stay as they are"),
        }
    }
}

/// Asks routers for their interval, at the start and until one answers; after a reconnect they announce themselves.
pub(super) async fn greet(bus: Bus, events: mpsc::Sender<Event>) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(20));
    loop {
        if let Ok(router) = bus.request::<_, RouterStart>(GREET, &serde_json::json!({}), Duration::from_secs(2)).await {
            let _ = events.send(Event::Router(router)).await;
            return;
        }
        backoff.pause().await;
    }
}

/// Publishes in order. While the bus is away nothing is kept: all of it is repeated once it is back.
pub(super) fn publisher(bus: Bus, shutdown: &Shutdown) -> mpsc::Sender<Publication> {
    let (sender, mut queue) = mpsc::channel::<Publication>(16_384);
    shutdown.spawn(async move {
        let connected = bus.connected();
        while let Some(Publication::To(subject, bytes)) = queue.recv().await {
            if !*connected.borrow() {
                continue;
            }
            match timeout(Duration::from_secs(5), bus.publish_to(subject, bytes.into())).await {
                Ok(Ok(())) => {}
                Ok(Err(cause)) => warn!(error = &cause as &dyn std::error::Error, subject, "not published"),
                Err(_) => warn!(subject, "not published in time"),
            }
        }
    });
    sender
}

/// Hands crashes to the cloud controller, each until it has it.
pub(super) fn crash_reporter(world: Arc<World>, shutdown: &Shutdown) -> mpsc::Sender<CrashReport> {
    let (sender, mut queue) = mpsc::channel::<CrashReport>(1_000);
    let end = shutdown.clone();
    shutdown.spawn(async move {
        while let Some(report) = queue.recv().await {
            tokio::select! {
                () = report_crash(&world, &report) => {}
                () = end.requested() => return,
            }
        }
    });
    sender
}

async fn report_crash(world: &World, report: &CrashReport) {
    let mut backoff = Backoff::peers();
    loop {
        match world.outside.controller.crashed(report).await {
            Ok(()) | Err(Error::NotFound(_)) => return,
            Err(cause @ Error::Unavailable(..)) => {
                warn!(error = &cause as &dyn std::error::Error, instance.id = %report.instance, "a crash could not be told; trying again");
                backoff.pause().await;
            }
            Err(cause) => {
                return warn!(error = &cause as &dyn std::error::Error, instance.id = %report.instance, "a crash report is refused");
            }
        }
    }
}
