//! `/v3/organization_quotas` and `/v3/space_quotas`

use crate::{
    api::{
        Answer, Api, accepted,
        body::{Fields, raw},
        created, no_content, ok, page,
        query::ListSpec,
    },
    domain::{
        Caller, Result, Tx,
        quotas::{self, LimitsChange, OrgQuotaView, SpaceQuotaView},
    },
    store::{
        query::{List, Listed},
        quotas::{self as store, Limits},
    },
};
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

const ORG_LIST: ListSpec =
    ListSpec { filters: &["names", "organization_guids"], order_by: &["name"], labels: false, ..ListSpec::STANDARD };
const SPACE_LIST: ListSpec = ListSpec {
    filters: &["names", "organization_guids", "space_guids"],
    order_by: &["name"],
    labels: false,
    unprocessable: true,
    ..ListSpec::STANDARD
};
const MOST: i64 = i32::MAX as i64;

/// Registers these resources.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create_org).service(list_org).service(show_org).service(update_org).service(remove_org).service(apply_org);
    config.service(create_space).service(list_space).service(show_space).service(update_space).service(remove_space);
    config.service(apply_space).service(unapply_space);
}

fn limits_body(limits: &Limits, body: &mut serde_json::Map<String, Value>) {
    let apps = json!({
        "total_memory_in_mb": limits.total_memory_mb,
        "per_process_memory_in_mb": limits.per_process_memory_mb,
        "total_instances": limits.total_instances,
        "per_app_tasks": limits.per_app_tasks,
        "log_rate_limit_in_bytes_per_second": limits.log_rate_limit,
    });
    let services = json!({
        "paid_services_allowed": limits.paid_services,
        "total_service_instances": limits.total_service_instances,
        "total_service_keys": limits.total_service_keys,
    });
    body.insert("apps".into(), apps);
    body.insert("services".into(), services);
    body.insert(
        "routes".into(),
        json!({ "total_routes": limits.total_routes, "total_reserved_ports": limits.total_reserved_ports }),
    );
}

fn org_body(api: &Api, (quota, orgs): &OrgQuotaView) -> Value {
    let limits = quota.limits();
    let mut body = page::head(&quota.guid, quota.created_at, quota.updated_at);
    body.insert("name".into(), quota.name.clone().into());
    limits_body(&limits, &mut body);
    body.insert("domains".into(), json!({ "total_domains": limits.total_domains }));
    body.insert("relationships".into(), json!({ "organizations": page::to_many(orgs) }));
    body.insert("links".into(), json!({ "self": page::link(api, &format!("/v3/organization_quotas/{}", quota.guid)) }));
    body.into()
}

fn space_body(api: &Api, (quota, spaces): &SpaceQuotaView) -> Value {
    let mut body = page::head(&quota.guid, quota.created_at, quota.updated_at);
    body.insert("name".into(), quota.name.clone().into());
    limits_body(&quota.limits(), &mut body);
    let relationships = json!({ "organization": page::to_one(Some(&quota.org_guid)), "spaces": page::to_many(spaces) });
    body.insert("relationships".into(), relationships);
    let links = json!({
        "self": page::link(api, &format!("/v3/space_quotas/{}", quota.guid)),
        "organization": page::link(api, &format!("/v3/organizations/{}", quota.org_guid)),
    });
    body.insert("links".into(), links);
    body.into()
}

/// Name and limits of a body; `more` are its other fields.
struct Read {
    fields: Fields,
    name: Option<String>,
    change: LimitsChange,
}

fn read(bytes: &[u8], new: bool, known: &[&str]) -> Result<Read> {
    let mut fields = Fields::parse(bytes, known)?;
    let name = if new { Some(fields.required("name", 250)) } else { fields.renamed("name", 250) };
    let mut change = LimitsChange::default();
    let limit = |inner: &mut Fields, key: &str, most: i64| inner.has(key).then(|| inner.integer(key, 0, most));
    let apps = [
        "total_memory_in_mb",
        "per_process_memory_in_mb",
        "total_instances",
        "per_app_tasks",
        "log_rate_limit_in_bytes_per_second",
    ];
    if let Some(mut inner) = fields.object("apps", "Apps", &apps) {
        change.total_memory_mb = limit(&mut inner, "total_memory_in_mb", MOST);
        change.per_process_memory_mb = limit(&mut inner, "per_process_memory_in_mb", MOST);
        change.total_instances = limit(&mut inner, "total_instances", MOST);
        change.per_app_tasks = limit(&mut inner, "per_app_tasks", MOST);
        change.log_rate_limit = limit(&mut inner, "log_rate_limit_in_bytes_per_second", i64::MAX);
        fields.join(inner);
    }
    let services = ["paid_services_allowed", "total_service_instances", "total_service_keys"];
    if let Some(mut inner) = fields.object("services", "Services", &services) {
        change.paid_services = inner.bool("paid_services_allowed");
        change.total_service_instances = limit(&mut inner, "total_service_instances", MOST);
        change.total_service_keys = limit(&mut inner, "total_service_keys", MOST);
        fields.join(inner);
    }
    if let Some(mut inner) = fields.object("routes", "Routes", &["total_routes", "total_reserved_ports"]) {
        change.total_routes = limit(&mut inner, "total_routes", MOST);
        change.total_reserved_ports = limit(&mut inner, "total_reserved_ports", MOST);
        fields.join(inner);
    }
    if let Some(mut inner) = fields.object("domains", "Domains", &["total_domains"]) {
        change.total_domains = limit(&mut inner, "total_domains", MOST);
        fields.join(inner);
    }
    Ok(Read { fields, name, change })
}

const ORG_FIELDS: [&str; 6] = ["name", "apps", "services", "routes", "domains", "relationships"];
const SPACE_FIELDS: [&str; 5] = ["name", "apps", "services", "routes", "relationships"];

#[post("/v3/organization_quotas")]
async fn create_org(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let Read { mut fields, name, change } = read(&bytes, true, &ORG_FIELDS)?;
    let mut orgs = vec![];
    if let Some(mut inner) = fields.object("relationships", "Relationships", &["organizations"]) {
        if let Some(mut many) = inner.object("organizations", "Relationships Organizations", &["data"]) {
            orgs = many.guids();
            inner.join(many);
        }
        fields.join(inner);
    }
    fields.finish()?;
    let (name, request) = (name.unwrap_or_default(), raw(&bytes));
    let quota = api.write(&caller, move |tx| quotas::create_org_quota(tx, &name, &change, &orgs, request.clone())).await?;
    created(org_body(&api, &quota))
}

#[get("/v3/organization_quotas")]
async fn list_org(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = ORG_LIST.parse(request.query_string())?;
    let find = move |tx: &mut Tx<'_>, asked: List| {
        let found = store::list_org_quotas(tx.conn, &asked)?;
        Ok(Listed { total: found.total, rows: quotas::org_views(tx, found.rows)? })
    };
    page::answer(&api, &caller, &request, list, find, |quota| org_body(&api, quota)).await
}

#[get("/v3/organization_quotas/{guid}")]
async fn show_org(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let quota = api.read(&caller, move |tx| quotas::find_org_quota(tx, &guid)).await?;
    ok(org_body(&api, &quota))
}

#[patch("/v3/organization_quotas/{guid}")]
async fn update_org(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let Read { fields, name, change } = read(&bytes, false, &ORG_FIELDS[..5])?;
    fields.finish()?;
    let request = raw(&bytes);
    let work = move |tx: &mut Tx<'_>| quotas::update_org_quota(tx, &guid, name.as_deref(), &change, request.clone());
    let quota = api.write(&caller, work).await?;
    ok(org_body(&api, &quota))
}

#[delete("/v3/organization_quotas/{guid}")]
async fn remove_org(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let job = api.write(&caller, move |tx| quotas::delete_org_quota(tx, &guid)).await?;
    accepted(&api, &job)
}

fn applied(api: &Api, path: &str, guids: &[String]) -> Answer {
    let mut body = page::to_many(guids);
    body["links"] = json!({ "self": page::link(api, path) });
    ok(body)
}

#[post("/v3/organization_quotas/{guid}/relationships/organizations")]
async fn apply_org(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes, request: HttpRequest) -> Answer {
    let mut fields = Fields::parse(&bytes, &["data"])?;
    let orgs = fields.guids();
    fields.finish()?;
    let all = api.write(&caller, move |tx| quotas::apply_org_quota(tx, &guid, &orgs)).await?;
    applied(&api, request.path(), &all)
}

#[post("/v3/space_quotas")]
async fn create_space(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let Read { mut fields, name, change } = read(&bytes, true, &SPACE_FIELDS)?;
    let (mut org, mut spaces) = (None, vec![]);
    match fields.object("relationships", "Relationships", &["organization", "spaces"]) {
        None => fields.problem("Relationships 'relationships' is not an object"),
        Some(mut inner) => {
            org = inner.take("organization").and_then(|value| crate::api::body::to_one(&value).ok().flatten());
            if org.is_none() {
                inner.problem(
                    "Organization must be structured like this: \"organization: {\"data\": {\"guid\": \"valid-guid\"}}\"",
                );
            }
            if let Some(mut many) = inner.object("spaces", "Relationships Spaces", &["data"]) {
                spaces = many.guids();
                inner.join(many);
            }
            fields.join(inner);
        }
    }
    fields.finish()?;
    let (name, org, request) = (name.unwrap_or_default(), org.unwrap_or_default(), raw(&bytes));
    let work = move |tx: &mut Tx<'_>| quotas::create_space_quota(tx, &name, &org, &change, &spaces, request.clone());
    let quota = api.write(&caller, work).await?;
    created(space_body(&api, &quota))
}

#[get("/v3/space_quotas")]
async fn list_space(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = SPACE_LIST.parse(request.query_string())?;
    let find = move |tx: &mut Tx<'_>, asked: List| {
        let who = tx.who.clone();
        let found = store::list_space_quotas(tx.conn, &who, &asked)?;
        Ok(Listed { total: found.total, rows: quotas::space_views(tx, found.rows)? })
    };
    page::answer(&api, &caller, &request, list, find, |quota| space_body(&api, quota)).await
}

#[get("/v3/space_quotas/{guid}")]
async fn show_space(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let quota = api.read(&caller, move |tx| quotas::find_space_quota(tx, &guid)).await?;
    ok(space_body(&api, &quota))
}

#[patch("/v3/space_quotas/{guid}")]
async fn update_space(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let Read { fields, name, change } = read(&bytes, false, &SPACE_FIELDS[..4])?;
    fields.finish()?;
    let request = raw(&bytes);
    let work = move |tx: &mut Tx<'_>| quotas::update_space_quota(tx, &guid, name.as_deref(), &change, request.clone());
    let quota = api.write(&caller, work).await?;
    ok(space_body(&api, &quota))
}

#[delete("/v3/space_quotas/{guid}")]
async fn remove_space(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let job = api.write(&caller, move |tx| quotas::delete_space_quota(tx, &guid)).await?;
    accepted(&api, &job)
}

#[post("/v3/space_quotas/{guid}/relationships/spaces")]
async fn apply_space(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes, request: HttpRequest) -> Answer {
    let mut fields = Fields::parse(&bytes, &["data"])?;
    let spaces = fields.guids();
    fields.finish()?;
    let all = api.write(&caller, move |tx| quotas::apply_space_quota(tx, &guid, &spaces)).await?;
    applied(&api, request.path(), &all)
}

#[delete("/v3/space_quotas/{guid}/relationships/spaces/{space}")]
async fn unapply_space(api: Data<Api>, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (guid, space) = path.into_inner();
    api.write(&caller, move |tx| quotas::remove_space_quota(tx, &guid, &space)).await?;
    no_content()
}
