//! The internal API about workloads: what the platform's own brokers have it run, and the volumes that DEAs have.

use crate::{
    api::{Answer, Api, internal::Peer},
    domain::{Caller, Error, Result, Rule, Tx, workloads},
    reconcile::workloads as shell,
};
use actix_web::{
    HttpResponse, delete, get, post, put,
    web::{Data, Json, Path, ServiceConfig},
};
use cloud_controller_client::{VolumesReport, WorkloadSpec, WorkloadStatus};
use types::AppId;

/// Who may have workloads.
const OWNERS: &[&str] = &["postgres_broker", "mysql_broker"];
/// The most volumes that a DEA may tell of.
const MOST_VOLUMES: usize = 10_000;

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(put_one).service(show).service(remove).service(volumes);
}

fn id(text: &str) -> Result<AppId> {
    text.parse().map_err(|_| Error::NotFound("Workload"))
}

#[put("/internal/v1/workloads/{guid}")]
async fn put_one(api: Data<Api>, peer: Peer, guid: Path<String>, spec: Json<WorkloadSpec>) -> Answer {
    peer.only(OWNERS)?;
    let (guid, owner, policy, spec) = (id(&guid)?, peer.0.clone(), api.policy.clone(), spec.into_inner());
    api.write_as_system(move |tx| workloads::put(tx, &policy, &owner, guid, &spec)).await?;
    Ok(HttpResponse::Ok().json(status(&api, peer.0, guid).await?))
}

#[get("/internal/v1/workloads/{guid}")]
async fn show(api: Data<Api>, peer: Peer, guid: Path<String>) -> Answer {
    peer.only(OWNERS)?;
    let status = status(&api, peer.0, id(&guid)?).await?;
    Ok(HttpResponse::Ok().json(status))
}

#[delete("/internal/v1/workloads/{guid}")]
async fn remove(api: Data<Api>, peer: Peer, guid: Path<String>) -> Answer {
    peer.only(OWNERS)?;
    let (guid, owner) = (id(&guid)?, peer.0);
    api.write_as_system(move |tx| workloads::delete(tx, &owner, guid)).await?;
    Ok(HttpResponse::Accepted().finish())
}

async fn status(api: &Api, owner: String, guid: AppId) -> Result<WorkloadStatus> {
    let find = move |tx: &mut Tx<'_>| workloads::find(tx, &owner, guid);
    let caller = Caller::system();
    let mut found = api.read(&caller, find.clone()).await?;
    if !api.actual.is_synced() {
        return Err(Error::rule(Rule::StatsUnavailable, "it is not known now what runs"));
    }
    if found.row.cell.is_none() {
        shell::settle(api, &found.row.guid).await?;
        found = api.read(&caller, find).await?;
    }
    Ok(workloads::status(&found, &shell::records(api, &found.row.guid)))
}

#[post("/internal/v1/volumes")]
async fn volumes(api: Data<Api>, peer: Peer, report: Json<VolumesReport>) -> Answer {
    peer.only(&["dea"])?;
    if report.volumes.len() > MOST_VOLUMES {
        return Err(Error::invalid(format!("at most {MOST_VOLUMES} volumes at a time")).into());
    }
    let answer = shell::reported(&api, report.into_inner()).await?;
    api.sweep_blobs();
    Ok(HttpResponse::Ok().json(answer))
}
