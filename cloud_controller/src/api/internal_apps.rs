//! The internal API about starts, stagings and blobs: what DEAs ask for and tell.

use crate::{
    api::{Answer, Api, download, internal::Peer},
    domain::{Error, Result, Tx, builds, crashes, running},
    reconcile::workloads,
    store::{builds::Build, droplets, garbage},
};
use actix_web::{
    HttpResponse, get, post, put,
    web::{Data, Json, Path, Payload, ServiceConfig},
};
use cloud_controller_client::{CrashReport, RoutesAnswer, RoutesRequest, StagingResult, Uploaded};
use futures::TryStreamExt;

/// The largest droplet or cache.
const MOST_BYTES: u64 = 4 << 30;

/// The most versions that a DEA may ask about at a time.
const MOST_VERSIONS: usize = 1_000;

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(launch)
        .service(routes_of_versions)
        .service(crashed)
        .service(staging_spec)
        .service(droplet)
        .service(cache)
        .service(completed)
        .service(blob);
}

#[get("/internal/v1/versions/{version}/launch")]
async fn launch(api: Data<Api>, peer: Peer, version: Path<String>) -> Answer {
    peer.only(&["dea"])?;
    let asked = version.clone();
    let spec = api.read(&crate::domain::Caller::system(), move |tx| running::launch_spec(tx, &asked)).await?;
    let spec = if spec.volume.is_some() { workloads::hand_out(&api, &version).await? } else { spec };
    Ok(HttpResponse::Ok().json(spec))
}

#[post("/internal/v1/routes")]
async fn routes_of_versions(api: Data<Api>, peer: Peer, asked: Json<RoutesRequest>) -> Answer {
    peer.only(&["dea"])?;
    if asked.versions.len() > MOST_VERSIONS {
        return Err(Error::invalid(format!("at most {MOST_VERSIONS} versions at a time")).into());
    }
    let versions: Vec<String> = asked.versions.iter().map(ToString::to_string).collect();
    let work = move |tx: &mut Tx<'_>| Ok((running::routes_of(tx, &versions)?, running::egress_of(tx, &versions)?));
    let (routes, egress) = api.read(&crate::domain::Caller::system(), work).await?;
    let routes = routes.into_iter().filter_map(|(version, routes)| Some((version.parse().ok()?, routes))).collect();
    let egress = egress.into_iter().filter_map(|(version, open)| Some((version.parse().ok()?, open))).collect();
    Ok(HttpResponse::Ok().json(RoutesAnswer { routes, egress }))
}

#[post("/internal/v1/crashes")]
async fn crashed(api: Data<Api>, peer: Peer, report: Json<CrashReport>) -> Answer {
    peer.only(&["dea"])?;
    let report = report.into_inner();
    let told = report.clone();
    let found = api.write_as_system(move |tx| crashes::record(tx, &told)).await?;
    if let Some((app, scope)) = found {
        api.log.tell(&app, &scope, api.now(), &crashes::line(&report));
    }
    Ok(HttpResponse::NoContent().finish())
}

#[get("/internal/v1/builds/{build}/spec")]
async fn staging_spec(api: Data<Api>, peer: Peer, build: Path<String>) -> Answer {
    peer.only(&["dea"])?;
    let policy = api.policy.clone();
    let spec = api.read(&crate::domain::Caller::system(), move |tx| builds::staging_spec(tx, &policy, &build)).await?;
    Ok(HttpResponse::Ok().json(spec))
}

async fn under_way(api: &Api, build: &str) -> Result<Build> {
    let build = build.to_owned();
    api.read(&crate::domain::Caller::system(), move |tx| builds::under_way(tx, &build)).await
}

/// Keeps the body of a request under a key.
async fn keep(api: &Api, key: &str, payload: Payload) -> Result<Uploaded> {
    let bytes = payload.map_err(|e| {
        tracing::debug!(error = %e, "an upload is broken");
        Error::BadRequest("the upload was cut".into())
    });
    let stored = api.blobs.put(key, Box::pin(bytes), MOST_BYTES).await?;
    Ok(Uploaded { sha256: stored.sha256, size_bytes: stored.size_bytes })
}

#[put("/internal/v1/builds/{build}/droplet")]
async fn droplet(api: Data<Api>, peer: Peer, build: Path<String>, payload: Payload) -> Answer {
    peer.only(&["dea"])?;
    let build = under_way(&api, &build).await?;
    let guid = build.droplet_guid.ok_or_else(|| Error::internal("a build", "it has no droplet"))?;
    let uploaded = keep(&api, &droplets::blob(&guid), payload).await?;
    let (id, sha256, size) = (build.guid, uploaded.sha256.clone(), uploaded.size_bytes);
    let noted = api.write_as_system(move |tx| builds::droplet_arrived(tx, &id, &sha256, size)).await;
    if let Err(e) = noted {
        // The build ended meanwhile: nobody needs the bits.
        api.write_as_system(move |tx| garbage::add(tx, &droplets::blob(&guid))).await?;
        return Err(e.into());
    }
    Ok(HttpResponse::Ok().json(uploaded))
}

#[put("/internal/v1/builds/{build}/cache")]
async fn cache(api: Data<Api>, peer: Peer, build: Path<String>, payload: Payload) -> Answer {
    peer.only(&["dea"])?;
    let build = under_way(&api, &build).await?;
    let key = format!("caches/{}", builds::cache_name(&build));
    Ok(HttpResponse::Ok().json(keep(&api, &key, payload).await?))
}

#[post("/internal/v1/builds/{build}/completed")]
async fn completed(api: Data<Api>, peer: Peer, build: Path<String>, result: Json<StagingResult>) -> Answer {
    peer.only(&["dea", "health_manager"])?;
    let result = result.into_inner();
    if peer.0 == "health_manager" && matches!(result, StagingResult::Staged { .. }) {
        return Err(Error::Forbidden.into());
    }
    let work = move |tx: &mut Tx<'_>| builds::complete(tx, &build, &result);
    if let Some((build, app, scope)) = api.write_as_system(work).await?
        && build.state == "FAILED"
    {
        let text = format!("Failed to stage build: {}", build.error.as_deref().unwrap_or("staging failed"));
        api.log.tell(&app, &scope, api.now(), &text);
        api.sweep_blobs();
    }
    Ok(HttpResponse::NoContent().finish())
}

#[get("/internal/v1/blobs/{kind}/{key}")]
async fn blob(api: Data<Api>, peer: Peer, path: Path<(String, String)>) -> Answer {
    peer.only(&["dea"])?;
    let (kind, key) = path.into_inner();
    let good = !key.starts_with('.') && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !good || !matches!(kind.as_str(), "packages" | "droplets" | "buildpacks" | "caches") {
        return Err(Error::NotFound("Blob").into());
    }
    download::send_or_not_found(&api, &format!("{kind}/{key}")).await
}
