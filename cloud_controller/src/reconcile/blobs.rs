//! Removes blobs that nothing speaks of: those that were let go of at once, all others once they are an hour old.

use crate::{
    api::Api,
    domain::{Error, Result, Tx, builds},
    store::{droplets, garbage, packages, resources, schema},
};
use actix_web::web::Data;
use diesel::prelude::*;
use foundation::Shutdown;
use futures::TryStreamExt;
use std::{collections::HashSet, time::Duration};
use types::Timestamp;

/// How often blobs that were let go of are looked for, besides when somebody says so.
const PERIOD: Duration = Duration::from_secs(30);
/// How often everything is compared.
const SWEEP_PERIOD: Duration = Duration::from_secs(3600);
/// Younger blobs may belong to something under way.
const YOUNG: Duration = Duration::from_secs(3600);
/// How long files that nobody uses are kept for matching.
const RESOURCE_LIFE: Duration = Duration::from_secs(30 * 86_400);
const AT_ONCE: i64 = 500;

/// Runs until the end.
pub fn start(api: &Data<Api>, shutdown: &Shutdown) {
    let (api, end) = (api.clone(), shutdown.clone());
    shutdown.spawn(async move {
        let mut sweep = tokio::time::interval(SWEEP_PERIOD);
        loop {
            let outcome = tokio::select! {
                () = end.requested() => return,
                () = api.sweep.notified() => collect(&api).await,
                () = tokio::time::sleep(PERIOD) => collect(&api).await,
                _ = sweep.tick() => compare(&api).await,
            };
            if let Err(e) = outcome {
                tracing::warn!(error = &e as &dyn std::error::Error, "blobs cannot be swept now");
            }
        }
    });
}

/// Removes what was let go of.
pub async fn collect(api: &Api) -> Result<()> {
    loop {
        let keys = api.store.read(|conn| garbage::some(conn, AT_ONCE)).await?;
        if keys.is_empty() {
            return Ok(());
        }
        for key in keys {
            api.blobs.remove(&key).await?;
            api.store.write(move |conn| garbage::done(conn, &key)).await?;
        }
    }
}

/// Compares all blobs with what speaks of them.
pub async fn compare(api: &Api) -> Result<()> {
    let now = api.now();
    let old = crate::domain::micros(now - RESOURCE_LIFE);
    api.store.write(move |conn| resources::forget(conn, old)).await?;
    // First what there is, then what is wanted: a blob made in between is young.
    let mut found = vec![];
    for folder in ["packages", "droplets", "buildpacks", "caches", "resources"] {
        let mut all = api.blobs.list(folder);
        while let Some(meta) = all.try_next().await? {
            let modified = u64::try_from(meta.last_modified.timestamp_micros()).unwrap_or(0);
            if now.since(Timestamp(modified)) > YOUNG {
                found.push(meta.location.to_string());
            }
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let (wanted, apps) = api.write_as_system(wanted).await?;
    for key in found {
        let of_app = key.strip_prefix("caches/").map(|name| name.get(..36).is_some_and(|app| apps.contains(app)));
        if of_app.unwrap_or_else(|| wanted.contains(&key)) {
            continue;
        }
        tracing::info!(key, "a blob that nothing speaks of is removed");
        api.blobs.remove(&key).await?;
    }
    Ok(())
}

/// Keys of all blobs that something speaks of, and all apps.
fn wanted(tx: &mut Tx<'_>) -> Result<(HashSet<String>, HashSet<String>)> {
    let mut keys: HashSet<String> = packages::with_blob(tx.conn)?.iter().map(|guid| packages::blob(guid)).collect();
    keys.extend(droplets::with_blob(tx.conn)?.iter().map(|guid| droplets::blob(guid)));
    let staging = crate::store::builds::staging(tx.conn, None)?;
    keys.extend(staging.iter().filter_map(|build| build.droplet_guid.as_deref()).map(droplets::blob));
    let buildpacks: Vec<String> = schema::buildpacks::table.select(schema::buildpacks::guid).load(tx.conn)?;
    keys.extend(buildpacks.iter().map(|guid| crate::store::buildpacks::blob(guid)));
    keys.extend(resources::all(tx.conn)?.iter().map(|(space, sha256)| resources::blob(space, sha256)));
    let apps: Vec<String> = schema::apps::table.select(schema::apps::guid).load(tx.conn)?;
    Ok((keys, apps.into_iter().collect()))
}

/// Ends what an earlier run left half-way: uploads may be sent again, copies have failed.
pub async fn recover(api: &Api) -> Result<()> {
    use crate::domain::{
        droplets as droplet_domain,
        packages::{self as package_domain, Ended},
    };
    api.write_as_system(|tx| {
        for package in packages::in_state(tx.conn, "PROCESSING_UPLOAD")? {
            package_domain::end(tx, &package.guid, "PROCESSING_UPLOAD", &Ended::Again)?;
        }
        for package in packages::in_state(tx.conn, "COPYING")? {
            package_domain::end(tx, &package.guid, "COPYING", &Ended::Failed("The copy was interrupted".into()))?;
        }
        for state in ["PROCESSING_UPLOAD", "COPYING"] {
            for droplet in droplets::in_state(tx.conn, state)? {
                droplet_domain::end(tx, &droplet.guid, state, &Err("It was interrupted".into()))?;
            }
        }
        for job in crate::store::jobs::unfinished(tx.conn)? {
            crate::store::jobs::fail(tx, &job.guid, &Error::invalid("The job was interrupted. Try again."))?;
        }
        Ok(())
    })
    .await
}

/// Gives up builds that nobody finished in time.
pub fn expire_builds(api: &Data<Api>, shutdown: &Shutdown) {
    let (api, end) = (api.clone(), shutdown.clone());
    shutdown.spawn(async move {
        loop {
            tokio::select! {
                () = end.requested() => return,
                () = tokio::time::sleep(Duration::from_secs(10)) => {}
            }
            if let Err(e) = expire(&api).await {
                tracing::warn!(error = &e as &dyn std::error::Error, "builds cannot be looked through now");
            }
        }
    });
}

/// One look at all builds under way.
pub async fn expire(api: &Api) -> Result<()> {
    if api.store.read(|conn| crate::store::builds::staging(conn, None)).await?.is_empty() {
        return Ok(());
    }
    let policy = api.policy.clone();
    for (build, app, scope) in api.write_as_system(move |tx| builds::expire(tx, &policy)).await? {
        let text = format!("Failed to stage build: {}", build.error.as_deref().unwrap_or_default());
        api.log.tell(&app, &scope, api.now(), &text);
    }
    Ok(())
}
