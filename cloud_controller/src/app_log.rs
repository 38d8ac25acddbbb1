//! What the API tells in the log of an app: lines of source `API`.

use crate::{domain::Scope, store::apps::App};
use foundation::Shutdown;
use loggregator_client::{LogType, Sender, app_tags, log_line};
use std::{path::Path, sync::Arc, time::Duration};
use types::Timestamp;

/// How often lines are tried again that the agent did not take.
const FLUSH_PERIOD: Duration = Duration::from_millis(500);

/// Sends lines to the agent; never blocks, never fails. Without an agent it is silent.
#[derive(Clone, Default)]
pub struct AppLog(Option<Arc<Sender>>);

impl AppLog {
    /// Sends to the agent that listens at `socket`.
    pub fn new(socket: Option<&Path>) -> Self {
        Self(socket.map(|path| Arc::new(Sender::new(path))))
    }

    /// Tells something about an app.
    pub fn tell(&self, app: &App, scope: &Scope, now: Timestamp, text: &str) {
        let Some(sender) = &self.0 else { return };
        let tags = app_tags((&app.guid, &app.name), (&scope.space.guid, &scope.space.name), (&scope.org.guid, &scope.org.name));
        let line = log_line(&app.guid, "0", "API", tags, text.as_bytes(), LogType::Out, now.as_nanos());
        sender.send(vec![line]);
    }

    /// Sends what waits for an agent that was away, until the end.
    pub fn keep_flushing(&self, shutdown: &Shutdown) {
        let Some(sender) = self.0.clone() else { return };
        let end = shutdown.clone();
        shutdown.spawn(async move {
            loop {
                tokio::select! {
                    () = end.requested() => return,
                    () = tokio::time::sleep(FLUSH_PERIOD) => drop(sender.flush()),
                }
            }
        });
    }
}
