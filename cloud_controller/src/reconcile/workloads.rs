//! Compares workloads with what claims and DEAs tell of them. Whoever asks about one looks first; a look at all, now and then,
//! finds the rest.

use crate::{
    api::Api,
    domain::{Caller, Error, Result, Tx, workloads},
};
use actix_web::web::Data;
use cloud_controller_client::{LaunchSpec, VolumesAnswer, VolumesReport};
use foundation::Shutdown;
use messages::claims::{CLAIMS, InstanceRecord, instance_key};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};
use types::{AppId, DeaId, VersionId};

const PERIOD: Duration = Duration::from_secs(2);
/// How many volumes that nobody knows are remembered as told.
const MOST_STRANGERS: usize = 10_000;

/// Volumes of which the log says already that nobody knows them.
#[derive(Default)]
pub struct Strangers(Mutex<HashSet<String>>);

/// Runs until the end.
pub fn start(api: &Data<Api>, shutdown: &Shutdown) {
    let (api, end) = (api.clone(), shutdown.clone());
    shutdown.spawn(async move {
        loop {
            tokio::select! {
                () = end.requested() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            if let Err(e) = settle_all(&api).await {
                tracing::warn!(error = &e as &dyn std::error::Error, "workloads cannot be looked at now");
            }
        }
    });
}

/// Looks at all once.
pub async fn settle_all(api: &Api) -> Result<()> {
    for guid in api.read(&Caller::system(), workloads::unsettled).await? {
        settle(api, &guid).await?;
    }
    Ok(())
}

/// Looks at one; nothing happens while it is not known what runs.
pub async fn settle(api: &Api, guid: &str) -> Result<()> {
    if !api.actual.is_synced() {
        return Ok(());
    }
    let asked = guid.to_owned();
    let told = api.read(&Caller::system(), move |tx| workloads::told(tx, &asked)).await?;
    let records = records(api, guid);
    let left = match told {
        Some(told) => is_left(api, guid, &told).await?,
        None => true,
    };
    if !workloads::is_news(&records, left) {
        return Ok(());
    }
    let guid = guid.to_owned();
    api.write_as_system(move |tx| workloads::settle(tx, &guid, &records, left)).await
}

/// What the claims say of an app.
pub fn records(api: &Api, guid: &str) -> Vec<InstanceRecord> {
    guid.parse::<AppId>().map(|app| api.actual.of_app(app)).unwrap_or_default()
}

/// Whether an instance of an app may be left. What is watched may be behind, so the starts that a DEA was told of are asked
/// for in the bucket itself: whoever was told of one had claimed it before.
async fn is_left(api: &Api, guid: &str, told: &[String]) -> Result<bool> {
    if !api.actual.is_synced() || !records(api, guid).is_empty() {
        return Ok(true);
    }
    for version in told {
        if let Ok(version) = version.parse::<VersionId>()
            && claim(api, version).await?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn claim(api: &Api, version: VersionId) -> Result<Option<InstanceRecord>> {
    let unknown = |e: bus::Error| Error::Unavailable("the bus", e.into());
    let bucket = api.bus.bucket(CLAIMS).await.map_err(unknown)?;
    let entry = bucket.get(&instance_key(version, 0)).await.map_err(unknown)?;
    entry.map(|entry| entry.read()).transpose().map_err(unknown)
}

/// What the DEA that claimed a workload's start needs for it.
///
/// # Errors
/// [`Error::NotFound`] when it is not wanted, or nobody claimed it.
pub async fn hand_out(api: &Api, version: &str) -> Result<LaunchSpec> {
    let id: VersionId = version.parse().map_err(|_| Error::NotFound("Version"))?;
    let owner: Option<DeaId> = claim(api, id).await?.and_then(|record| record.owner).map(|owner| owner.dea);
    let dea = owner.ok_or(Error::NotFound("Version"))?;
    let version = version.to_owned();
    api.write_as_system(move |tx| workloads::hand_out(tx, &version, dea)).await
}

/// Takes in which volumes a DEA has.
pub async fn reported(api: &Api, report: VolumesReport) -> Result<VolumesAnswer> {
    let asked = report.clone();
    let leaving = api.read(&Caller::system(), move |tx| workloads::leaving(tx, &asked)).await?;
    let mut free = BTreeSet::new();
    for (guid, told) in leaving {
        if !is_left(api, &guid, &told).await? {
            free.insert(guid);
        }
    }
    let dea = report.dea;
    let outcome = api.write_as_system(move |tx: &mut Tx<'_>| workloads::reported(tx, &report, &free)).await?;
    for stranger in outcome.strangers {
        let mut told = api.strangers.0.lock();
        if told.len() < MOST_STRANGERS && told.insert(format!("{dea}/{stranger}")) {
            tracing::warn!(dea.id = %dea, "the volume `{stranger}` belongs to nobody that is known here; it is left alone");
        }
    }
    Ok(VolumesAnswer { remove: outcome.remove })
}
