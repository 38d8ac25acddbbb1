//! Registers the platform's own brokers at every start, and asks them for their catalogs until each has answered.

use crate::{
    api::Api,
    domain::{
        Result, micros,
        services::brokers::{self, Own},
    },
    store::service_brokers,
};
use actix_web::web::Data;
use foundation::Shutdown;
use std::time::Duration;

/// How long to wait before the second look, and, doubled each time, at most.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(30);

/// Runs until all have answered, or until the end.
pub fn start(api: &Data<Api>, shutdown: &Shutdown) {
    let own = api.config.brokers.iter().map(|broker| Own {
        name: broker.name.clone(),
        url: broker.url.trim_end_matches('/').to_owned(),
        username: broker.username.clone(),
        password: broker.password.clone(),
    });
    let mut waiting: Vec<Own> = own.collect();
    let (api, end) = (api.clone(), shutdown.clone());
    shutdown.spawn(async move {
        let since = micros(api.now());
        let mut pause = FIRST;
        while !waiting.is_empty() {
            match look(&api, &waiting, since).await {
                Ok(still) => waiting = still,
                Err(e) => tracing::warn!(error = &e as &dyn std::error::Error, "our own brokers cannot be looked at now"),
            }
            tokio::select! {
                () = end.requested() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(MOST),
            }
        }
    });
}

/// Asks those that have not answered since then; returns them.
async fn look(api: &Api, waiting: &[Own], since: i64) -> Result<Vec<Own>> {
    let mut still = vec![];
    for own in waiting {
        let name = own.name.clone();
        let known = api.store.read(move |conn| service_brokers::find_named(conn, &name)).await?;
        if known.is_some_and(|broker| brokers::is_kept(&broker, since)) {
            tracing::info!(broker.name = own.name, "the broker's catalog is here");
            continue;
        }
        let asked = own.clone();
        api.write_as_system(move |tx| brokers::keep(tx, &asked)).await?;
        still.push(own.clone());
    }
    Ok(still)
}
