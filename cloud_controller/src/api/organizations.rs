//! `/v3/organizations`

use crate::{
    api::{
        Answer, Api, accepted,
        body::{Fields, raw, to_one},
        created, ok, page,
        query::ListSpec,
        usage, users,
    },
    domain::{
        Caller, Error,
        orgs::{self, NewOrg, OrgChange},
        quotas,
    },
    store::{
        self,
        metadata::{Described, describe_one, describe_page},
        orgs::{KIND, Org},
        query::List,
        users::Among,
    },
};
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

const LIST: ListSpec = ListSpec { filters: &["names"], order_by: &["name"], ..ListSpec::STANDARD };

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(index).service(show).service(update).service(remove);
    config.service(usage_summary).service(list_users).service(default_segment).service(set_default_segment);
}

/// An organization as the API shows it.
pub fn body(api: &Api, org: &Described<Org>) -> Value {
    let Described { row, metadata } = org;
    let path = format!("/v3/organizations/{}", row.guid);
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("name".into(), row.name.clone().into());
    body.insert("suspended".into(), row.suspended.into());
    body.insert("relationships".into(), json!({ "quota": page::to_one(Some(&row.quota_guid)) }));
    body.insert("metadata".into(), page::metadata(metadata));
    let links = json!({
        "self": page::link(api, &path),
        "domains": page::link(api, &format!("{path}/domains")),
        "default_domain": page::link(api, &format!("{path}/domains/default")),
        "quota": page::link(api, &format!("/v3/organization_quotas/{}", row.quota_guid)),
    });
    body.insert("links".into(), links);
    body.into()
}

#[post("/v3/organizations")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["name", "suspended", "metadata"])?;
    let new = NewOrg {
        name: fields.required("name", 255),
        suspended: fields.bool("suspended").unwrap_or(false),
        metadata: fields.metadata(),
        request: raw(&bytes),
    };
    fields.finish()?;
    let org = api.write(&caller, move |tx| orgs::create(tx, &new)).await?;
    created(body(&api, &org))
}

#[get("/v3/organizations")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let find = move |tx: &mut crate::domain::Tx<'_>, asked: List| {
        let who = tx.who.clone();
        let found = store::orgs::list(tx.conn, &who, &asked)?;
        describe_page(tx.conn, KIND, found, |org| &org.guid)
    };
    page::answer(&api, &caller, &request, list, find, |org| body(&api, org)).await
}

#[get("/v3/organizations/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut crate::domain::Tx<'_>| {
        let org = orgs::readable(tx, &guid)?;
        describe_one(tx.conn, KIND, org, &guid)
    };
    let org = api.read(&caller, work).await?;
    ok(body(&api, &org))
}

#[patch("/v3/organizations/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["name", "suspended", "metadata"])?;
    let change = OrgChange {
        name: fields.renamed("name", 255),
        suspended: fields.bool("suspended"),
        metadata: fields.metadata(),
        request: raw(&bytes),
    };
    fields.finish()?;
    let org = api.write(&caller, move |tx| orgs::update(tx, &guid, &change)).await?;
    ok(body(&api, &org))
}

#[delete("/v3/organizations/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let job = api.write_job(&caller, "organization.delete", move |tx| orgs::delete(tx, &guid)).await?;
    accepted(&api, &job)
}

#[get("/v3/organizations/{guid}/usage_summary")]
async fn usage_summary(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let path = format!("/v3/organizations/{guid}");
    let used = api.read(&caller, move |tx| quotas::used_by_org(tx, &guid)).await?;
    let links = json!({ "self": page::link(&api, &format!("{path}/usage_summary")), "organization": page::link(&api, &path) });
    ok(usage::body(&used, links))
}

#[get("/v3/organizations/{guid}/users")]
async fn list_users(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let list = users::LIST.parse(request.query_string())?;
    let find = move |tx: &mut crate::domain::Tx<'_>, asked: List| {
        orgs::readable(tx, &guid)?;
        users::described(tx, &Among::Org(guid.clone()), &asked)
    };
    page::answer(&api, &caller, &request, list, find, |user| users::body(&api, user)).await
}

#[get("/v3/organizations/{guid}/relationships/default_isolation_segment")]
async fn default_segment(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let path = format!("/v3/organizations/{guid}");
    api.read(&caller, move |tx| orgs::readable(tx, &guid).map(drop)).await?;
    ok(segment_body(&api, &path))
}

/// There are no isolation segments yet: only "none" can be chosen.
#[patch("/v3/organizations/{guid}/relationships/default_isolation_segment")]
async fn set_default_segment(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let path = format!("/v3/organizations/{guid}");
    let wanted = to_one(&raw(&bytes))
        .map_err(|_| Error::invalid("Data must be structured like this: \"data\": {\"guid\": \"valid-guid\"}"))?;
    let work = move |tx: &mut crate::domain::Tx<'_>| {
        orgs::writable(tx, &guid)?;
        match &wanted {
            None => Ok(()),
            Some(segment) => {
                let why = "Ensure it has been entitled to the organization.";
                Err(Error::invalid(format!("Unable to assign isolation segment with guid '{segment}'. {why}")))
            }
        }
    };
    api.write(&caller, work).await?;
    ok(segment_body(&api, &path))
}

fn segment_body(api: &Api, path: &str) -> Value {
    let own = page::link(api, &format!("{path}/relationships/default_isolation_segment"));
    json!({ "data": null, "links": { "self": own } })
}
