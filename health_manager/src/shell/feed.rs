//! Follows the cloud controller's feed of desired state.

use super::Steady;
use crate::domain::Input;
use cloud_controller_client::{Client, DesiredPage, Error, StagingResult};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc};
use tracing::warn;
use types::BuildId;

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// What is asked of the cloud controller.
pub trait Feed: Send + Sync + 'static {
    /// Changes after this change number.
    fn desired(&self, after: u64, limit: u32) -> Answer<'_, DesiredPage>;
    /// A build ended without having been placed.
    fn staging_completed<'a>(&'a self, build: BuildId, result: &'a StagingResult) -> Answer<'a, ()>;
}

impl Feed for Client {
    fn desired(&self, after: u64, limit: u32) -> Answer<'_, DesiredPage> {
        Box::pin(Client::desired(self, after, limit))
    }
    fn staging_completed<'a>(&'a self, build: BuildId, result: &'a StagingResult) -> Answer<'a, ()> {
        Box::pin(Client::staging_completed(self, build, result))
    }
}

const PAGE: u32 = 2_000;
const EVERY: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Reads at once on a hint, else every second; pauses longer while it fails.
pub(super) async fn follow(feed: Arc<dyn Feed>, hint: Arc<Notify>, steady: Steady, sender: mpsc::Sender<Input>) {
    let mut after = 0;
    let mut failures = 0;
    loop {
        let asked = steady.now();
        let pause = match tokio::time::timeout(LIMIT, feed.desired(after, PAGE)).await {
            Ok(Ok(page)) => {
                if failures > 0 {
                    tracing::info!(failures, "the feed of desired state answers again");
                }
                failures = 0;
                if page.next < after {
                    warn!(after, next = page.next, "the feed went back: reading it anew");
                    after = 0;
                    if sender.send(Input::DesiredReset).await.is_err() {
                        return;
                    }
                    continue;
                }
                after = page.next;
                let changes = page.changes.into_iter().map(|change| change.what).collect();
                if sender.send(Input::Desired { changes, complete: page.complete, asked }).await.is_err() {
                    return;
                }
                if !page.complete {
                    continue;
                }
                EVERY
            }
            failed => {
                failures += 1;
                if failures == 1 {
                    match failed {
                        Ok(Err(e)) => warn!(error = &e as &dyn std::error::Error, "cannot read the feed of desired state"),
                        _ => warn!("no answer from the feed of desired state in time"),
                    }
                }
                (EVERY / 4 * failures).min(LONGEST_PAUSE)
            }
        };
        // A hint that comes while nobody waits is kept.
        let _ = tokio::time::timeout(pause, hint.notified()).await;
    }
}
