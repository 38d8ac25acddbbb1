//! `/v3/domains`, and the domains of an organization.

use crate::{
    api::{
        Answer, Api, accepted,
        body::Fields,
        created, no_content, ok, page,
        query::{ListSpec, pairs},
    },
    domain::{
        Caller, Error, Result, Tx,
        domains::{self, NewDomain},
        orgs, routes,
    },
    store::{
        self,
        domains::{Among, Domain, KIND},
        metadata::{Described, describe},
        query::{List, Listed},
    },
};
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

const LIST: ListSpec = ListSpec { filters: &["names", "organization_guids"], ..ListSpec::STANDARD };

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(index).service(show).service(update).service(remove);
    config.service(of_org).service(default_of_org).service(share).service(unshare).service(reservations);
}

/// A domain as the API shows it; `shared` are the organizations that it is shared with, as far as the caller sees them.
pub fn body(api: &Api, domain: &Described<Domain>, shared: &[String]) -> Value {
    let Described { row, metadata } = domain;
    let path = format!("/v3/domains/{}", row.guid);
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("name".into(), row.name.clone().into());
    body.insert("internal".into(), row.internal.into());
    body.insert("router_group".into(), Value::Null);
    body.insert("supported_protocols".into(), json!(["http"]));
    let relationships =
        json!({ "organization": page::to_one(row.org_guid.as_deref()), "shared_organizations": page::to_many(shared) });
    body.insert("relationships".into(), relationships);
    body.insert("metadata".into(), page::metadata(metadata));
    let mut links = json!({
        "self": page::link(api, &path),
        "route_reservations": page::link(api, &format!("{path}/route_reservations")),
        "router_group": null,
    });
    if let Some(org) = &row.org_guid {
        links["organization"] = page::link(api, &format!("/v3/organizations/{org}"));
        links["shared_organizations"] = page::link(api, &format!("{path}/relationships/shared_organizations"));
    }
    body.insert("links".into(), links);
    body.into()
}

/// A domain with the organizations that it is shared with, as far as the caller sees them.
type View = (Described<Domain>, Vec<String>);

fn views(tx: &mut Tx<'_>, rows: Vec<Domain>) -> Result<Vec<View>> {
    let guids: Vec<String> = rows.iter().map(|row| row.guid.clone()).collect();
    let shares = store::domains::shares(tx.conn, &guids)?;
    let who = tx.who.clone();
    let rows = describe(tx.conn, KIND, rows, |domain| &domain.guid)?;
    let with =
        |domain: &str| shares.iter().filter(|(of, org)| of == domain && who.reads_org(org)).map(|(_, org)| org.clone()).collect();
    Ok(rows.into_iter().map(|row| (with(&row.row.guid), row)).map(|(shared, row)| (row, shared)).collect())
}

fn view(tx: &mut Tx<'_>, row: Domain) -> Result<View> {
    views(tx, vec![row])?.pop().ok_or(Error::NotFound("Domain"))
}

#[post("/v3/domains")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let new = read(&bytes)?;
    let system_domain = api.config.system_domain.clone();
    let work = move |tx: &mut Tx<'_>| {
        let made = domains::create(tx, &system_domain, &new)?;
        view(tx, made.row)
    };
    let (domain, shared) = api.write(&caller, work).await?;
    created(body(&api, &domain, &shared))
}

fn read(bytes: &[u8]) -> Result<NewDomain> {
    let known =
        ["name", "internal", "router_group", "relationships", "enforce_route_policies", "route_policies_scope", "metadata"];
    let mut fields = Fields::parse(bytes, &known)?;
    let name = fields.required("name", 253);
    for problem in name_problems(&name) {
        fields.problem(problem);
    }
    let internal = fields.bool("internal").unwrap_or(false);
    if let Some(group) = fields.take("router_group") {
        let guid = group.get("guid").and_then(Value::as_str).unwrap_or_default().to_owned();
        fields.problem(format!("Router group with guid '{guid}' not found."));
    }
    if fields.bool("enforce_route_policies") == Some(true) {
        fields.problem("Enforce route policies is not supported on this platform");
    }
    let (mut org, mut shared_with) = (None, vec![]);
    if let Some(mut inner) = fields.object("relationships", "Relationships", &["organization", "shared_organizations"]) {
        match inner.take("organization").map(|value| crate::api::body::to_one(&value)) {
            None => {}
            Some(Ok(guid)) => org = guid,
            Some(Err(_)) => {
                inner.problem(
                    "Organization must be structured like this: \"organization: {\"data\": {\"guid\": \"valid-guid\"}}\"",
                );
            }
        }
        if let Some(mut many) = inner.object("shared_organizations", "Relationships", &["data"]) {
            shared_with = many.guids();
            inner.join(many);
        }
        if org.is_none() && !shared_with.is_empty() {
            inner.problem("cannot contain shared_organizations without an owning organization.");
        }
        fields.join(inner);
    }
    let new = NewDomain { name, internal, org, shared_with, metadata: fields.metadata() };
    fields.finish()?;
    Ok(new)
}

fn name_problems(name: &str) -> Vec<&'static str> {
    let mut problems = vec![];
    if name.is_empty() {
        return problems;
    }
    if name.len() < 3 {
        problems.push("Name is too short (minimum is 3 characters)");
    }
    let part = |p: &str| {
        let inner = p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        !p.is_empty() && inner && !p.starts_with('-') && !p.ends_with('-')
    };
    if !name.split('.').all(part) {
        problems.push("Name does not comply with RFC 1035 standards");
    }
    if !name.contains('.') {
        problems.push("Name must contain at least one \".\"");
    }
    if name.split('.').any(|label| label.len() > 63) {
        problems.push("Name subdomains must each be at most 63 characters");
    }
    problems
}

async fn listed(api: &Api, caller: &Caller, request: &HttpRequest, among: Among) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let find = move |tx: &mut Tx<'_>, asked: List| {
        if let Among::UsableBy(org) = &among {
            orgs::readable(tx, org)?;
        }
        let who = tx.who.clone();
        let found: Listed<Domain> = store::domains::list(tx.conn, &who, &among, &asked)?;
        Ok(Listed { total: found.total, rows: views(tx, found.rows)? })
    };
    page::answer(api, caller, request, list, find, |(domain, shared)| body(api, domain, shared)).await
}

#[get("/v3/domains")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    listed(&api, &caller, &request, Among::Visible).await
}

#[get("/v3/organizations/{guid}/domains")]
async fn of_org(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    listed(&api, &caller, &request, Among::UsableBy(guid.into_inner())).await
}

#[get("/v3/organizations/{guid}/domains/default")]
async fn default_of_org(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let org = orgs::readable(tx, &guid)?;
        let found = store::domains::default_of(tx.conn, &org.guid)?.ok_or(Error::NotFound("Domain"))?;
        let domain = domains::readable(tx, &found.guid)?;
        view(tx, domain)
    };
    let (domain, shared) = api.read(&caller, work).await?;
    ok(body(&api, &domain, &shared))
}

#[get("/v3/domains/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let domain = domains::readable(tx, &guid)?;
        view(tx, domain)
    };
    let (domain, shared) = api.read(&caller, work).await?;
    ok(body(&api, &domain, &shared))
}

#[patch("/v3/domains/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["metadata"])?;
    let change = fields.metadata();
    fields.finish()?;
    let work = move |tx: &mut Tx<'_>| {
        let changed = domains::update(tx, &guid, &change)?;
        view(tx, changed.row)
    };
    let (domain, shared) = api.write(&caller, work).await?;
    ok(body(&api, &domain, &shared))
}

#[delete("/v3/domains/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let job = api.write(&caller, move |tx| domains::delete(tx, &guid)).await?;
    accepted(&api, &job)
}

#[post("/v3/domains/{guid}/relationships/shared_organizations")]
async fn share(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["data"])?;
    let with = fields.guids();
    fields.finish()?;
    let shared = api.write(&caller, move |tx| domains::share_with(tx, &guid, &with)).await?;
    ok(page::to_many(&shared))
}

#[delete("/v3/domains/{guid}/relationships/shared_organizations/{org}")]
async fn unshare(api: Data<Api>, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (guid, org) = path.into_inner();
    api.write(&caller, move |tx| domains::unshare(tx, &guid, &org)).await?;
    no_content()
}

/// Is there a route of this spelling, in whatever space?
#[get("/v3/domains/{guid}/route_reservations")]
async fn reservations(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let asked = pairs(request.query_string());
    let unknown: Vec<String> =
        asked.keys().filter(|k| !["host", "path", "port"].contains(&k.as_str())).map(|k| format!("'{k}'")).collect();
    if !unknown.is_empty() {
        let listed = unknown.join(", ");
        return Err(Error::invalid(format!(
            "Unknown query parameter(s): {listed}. Valid parameters are: 'host', 'path', 'port'"
        ))
        .into());
    }
    let text = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let (host, path) = (text("host"), text("path"));
    let port = match asked.get("port") {
        None => 0,
        Some(port) => port.parse().map_err(|_| Error::invalid("Port must be an integer"))?,
    };
    let system_domain = api.config.system_domain.clone();
    let taken = api.read(&caller, move |tx| routes::is_reserved(tx, &system_domain, &guid, &host, &path, port)).await?;
    ok(json!({ "matching_route": taken }))
}
