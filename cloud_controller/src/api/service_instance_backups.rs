//! `/v3/service_instances/:guid/backups` and `/actions/restore`: ours, see `docs/broker-backups.md`.

use crate::{
    api::{
        Answer, Api, accepted,
        body::Fields,
        ok, page,
        query::ListSpec,
        service_instances::{asked, reference},
    },
    domain::{Caller, Tx, services::backups},
};
use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::header,
    post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(list_backups).service(create_backup).service(delete_backup).service(restore_backup);
}

#[get("/v3/service_instances/{guid}/backups")]
async fn list_backups(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    const LIST: ListSpec = ListSpec { labels: false, ..ListSpec::STANDARD };
    let list = LIST.parse(request.query_string())?;
    let call = api.read(&caller, move |tx| backups::list(tx, &guid)).await?;
    let mut found = asked(&api, call).await?;
    let all = match found.remove("backups") {
        Some(Value::Array(all)) => all,
        _ => vec![],
    };
    let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let page = all.iter().skip(usize::try_from(list.offset()).unwrap_or(usize::MAX)).take(list.per_page as usize);
    let shown = |backup: &Value| {
        json!({
            "guid": backup["id"],
            "state": backup["state"],
            "created_at": backup["created_at"],
            "size_in_bytes": backup["size_bytes"],
            "description": backup["description"],
        })
    };
    ok(page::document(&api, request.path(), request.query_string(), &list, total, page.map(shown).collect(), None))
}

#[post("/v3/service_instances/{guid}/backups")]
async fn create_backup(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    Fields::parse(&bytes, &[])?.finish()?;
    let work = move |tx: &mut Tx<'_>| backups::create(tx, &guid);
    let (backup, job) = api.write_and_wait_for(&caller, work, |(_, job)| Some(job)).await?;
    let location = (header::LOCATION, api.url(&format!("/v3/jobs/{}", job.guid)));
    Ok(HttpResponse::Accepted().insert_header(location).json(json!({ "guid": backup })))
}

#[delete("/v3/service_instances/{guid}/backups/{backup}")]
async fn delete_backup(api: Data<Api>, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (guid, backup) = path.into_inner();
    let job = api.write_and_wait(&caller, move |tx| backups::delete(tx, &guid, &backup)).await?;
    accepted(&api, &job)
}

#[post("/v3/service_instances/{guid}/actions/restore")]
async fn restore_backup(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["backup"])?;
    let backup = reference(&mut fields, "backup", true).unwrap_or_default();
    fields.finish()?;
    let job = api.write_and_wait(&caller, move |tx| backups::restore(tx, &guid, &backup)).await?;
    accepted(&api, &job)
}
