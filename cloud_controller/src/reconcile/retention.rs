//! Forgets what nobody asks for any more: old events, old jobs, old news of what went away.

use crate::{api::Api, domain::Result, store};
use actix_web::web::Data;
use foundation::Shutdown;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Source: cloud_controller_ng, `cutoff_age_in_days` of audit events and of usage events.
const EVENTS: u32 = 31;
/// Source: cloud_controller_ng, `pollable_jobs.cutoff_age_in_days`.
const JOBS: u32 = 90;
/// A health manager that was away for longer reads the feed from its beginning anyway.
const GONE: u32 = 7;

/// Runs until the end.
pub fn spawn(api: &Data<Api>, shutdown: &Shutdown) {
    let (api, end) = (api.clone(), shutdown.clone());
    shutdown.spawn(async move {
        let mut timer = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                () = end.requested() => return,
            }
            if let Err(e) = sweep(&api).await {
                tracing::warn!(error = &e as &dyn std::error::Error, "old rows stay for now");
            }
        }
    });
}

/// Looks once.
pub async fn sweep(api: &Api) -> Result<()> {
    let before = |days: u32| crate::domain::micros(api.now() - DAY * days);
    let (events, jobs, gone) = (before(EVENTS), before(JOBS), before(GONE));
    api.store
        .write(move |conn| {
            store::audit::forget(conn, events)?;
            store::service_usage::forget(conn, events)?;
            store::app_usage::forget(conn, events)?;
            store::jobs::forget(conn, jobs)?;
            store::feed::forget_gone(conn, gone)
        })
        .await?;
    Ok(())
}
