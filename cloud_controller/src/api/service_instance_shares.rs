//! `/v3/service_instances/:guid/relationships/shared_spaces`

use crate::{
    api::{Answer, Api, body::Fields, no_content, ok, page, query::ListSpec, service_instances::included_spaces},
    domain::{
        Caller, Tx,
        services::{
            instances,
            sharing::{self, Unsharing},
        },
    },
    store,
};
use actix_web::{
    HttpRequest, delete, get, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, time::Duration};

const SHARED: ListSpec = ListSpec {
    fields: &[("space", &["guid", "name", "relationships.organization"]), ("space.organization", &["guid", "name"])],
    ..ListSpec::STANDARD
};
/// How long a request waits until the bindings of a space are gone.
const UNBINDING: Duration = Duration::from_secs(60);

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(shared_spaces).service(usage_summary).service(share).service(unshare);
}

#[get("/v3/service_instances/{guid}/relationships/shared_spaces")]
async fn shared_spaces(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let asked = SHARED.parse_show(request.query_string())?;
    let (wanted, guid) = (asked.clone(), guid.into_inner());
    let path = request.path().to_owned();
    let work = move |tx: &mut Tx<'_>| {
        instances::readable(tx, &guid)?;
        let spaces: Vec<String> =
            store::service_instances::shared_spaces(tx.conn, &guid)?.into_iter().map(|space| space.guid).collect();
        let mut included = Map::new();
        included_spaces(tx, &wanted, spaces.clone(), &mut included)?;
        Ok((spaces, included))
    };
    let (spaces, included) = api.read(&caller, work).await?;
    let mut shown = to_many(&api, &path, &spaces);
    if !asked.fields.is_empty() {
        shown["included"] = included.into();
    }
    ok(shown)
}

fn to_many(api: &Api, path: &str, spaces: &[String]) -> Value {
    let mut shown = page::to_many(spaces);
    shown["links"] = json!({ "self": page::link(api, path) });
    shown
}

#[get("/v3/service_instances/{guid}/relationships/shared_spaces/usage_summary")]
async fn usage_summary(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        instances::readable(tx, &guid)?;
        let counts: BTreeMap<String, i64> = store::service_instances::bound_apps(tx.conn, &guid)?.into_iter().collect();
        let spaces = store::service_instances::shared_spaces(tx.conn, &guid)?;
        Ok(spaces.into_iter().map(|space| (counts.get(&space.guid).copied().unwrap_or(0), space.guid)).collect::<Vec<_>>())
    };
    let counts = api.read(&caller, work).await?;
    let summary: Vec<Value> =
        counts.iter().map(|(count, space)| json!({ "space": { "guid": space }, "bound_app_count": count })).collect();
    let path = request.path();
    let parent = path.trim_end_matches("/usage_summary");
    let instance = parent.trim_end_matches("/relationships/shared_spaces");
    ok(json!({
        "usage_summary": summary,
        "links": {
            "self": page::link(&api, path),
            "shared_spaces": page::link(&api, parent),
            "service_instance": page::link(&api, instance),
        },
    }))
}

#[post("/v3/service_instances/{guid}/relationships/shared_spaces")]
async fn share(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes, request: HttpRequest) -> Answer {
    let mut fields = Fields::parse(&bytes, &["data"])?;
    let targets = fields.guids();
    fields.finish()?;
    let spaces = api.write(&caller, move |tx| sharing::share(tx, &guid, &targets)).await?;
    ok(to_many(&api, request.path(), &spaces))
}

#[delete("/v3/service_instances/{guid}/relationships/shared_spaces/{space}")]
async fn unshare(api: Data<Api>, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (guid, space) = path.into_inner();
    let mut news = api.operations.news();
    let (instance, target) = (guid.clone(), space.clone());
    let began = api.write(&caller, move |tx| sharing::begin_unshare(tx, &instance, &target)).await?;
    let end = tokio::time::Instant::now() + UNBINDING;
    loop {
        let at_last = tokio::time::Instant::now() >= end;
        let (instance, target) = (guid.clone(), space.clone());
        let work = move |tx: &mut Tx<'_>| sharing::finish_unshare(tx, &instance, &target, began, at_last);
        match api.write(&caller, work).await? {
            Unsharing::Done => return no_content(),
            // Whatever happens, it is looked at again.
            Unsharing::Waits => drop(tokio::time::timeout(Duration::from_secs(1), news.recv()).await),
        }
    }
}
