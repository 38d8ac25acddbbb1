//! `/v3/spaces`

use crate::{
    api::{
        Answer, Api, accepted,
        body::{Fields, raw, to_one},
        created,
        include::Included,
        ok, page,
        query::ListSpec,
        usage, users,
    },
    domain::{
        Caller, Error, Scope, Tx, quotas,
        spaces::{self, NewSpace, SpaceChange},
    },
    store::{
        self,
        metadata::{Described, describe, describe_one},
        query::{List, Listed},
        spaces::{KIND, Space},
        users::Among,
    },
};
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

const LIST: ListSpec = ListSpec {
    filters: &["names", "organization_guids"],
    order_by: &["name"],
    includes: &["organization"],
    ..ListSpec::STANDARD
};
const GROUPS: ListSpec = ListSpec { filters: &["names"], labels: false, unprocessable: true, ..ListSpec::STANDARD };

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(index).service(show).service(update).service(remove);
    config.service(usage_summary).service(list_users).service(running_groups).service(staging_groups);
    config.service(show_segment).service(set_segment).service(features).service(feature).service(set_feature);
}

/// A space as the API shows it.
pub fn body(api: &Api, space: &Described<Space>) -> Value {
    let Described { row, metadata } = space;
    let path = format!("/v3/spaces/{}", row.guid);
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("name".into(), row.name.clone().into());
    body.insert("suspended".into(), row.suspended.into());
    let quota = page::to_one(row.quota_guid.as_deref());
    body.insert("relationships".into(), json!({ "organization": page::to_one(Some(&row.org_guid)), "quota": quota }));
    body.insert("metadata".into(), page::metadata(metadata));
    let mut links = json!({
        "self": page::link(api, &path),
        "organization": page::link(api, &format!("/v3/organizations/{}", row.org_guid)),
        "features": page::link(api, &format!("{path}/features")),
        "apply_manifest": page::action(api, &format!("{path}/actions/apply_manifest"), "POST"),
    });
    if let Some(quota) = &row.quota_guid {
        links["quota"] = page::link(api, &format!("/v3/space_quotas/{quota}"));
    }
    body.insert("links".into(), links);
    body.into()
}

#[post("/v3/spaces")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["name", "suspended", "relationships", "metadata"])?;
    let name = fields.required("name", 255);
    let org = fields.relationships(&["organization"], &["organization"]).remove("organization").flatten();
    let suspended = fields.bool("suspended").unwrap_or(false);
    let new = NewSpace { name, org: org.unwrap_or_default(), suspended, metadata: fields.metadata(), request: raw(&bytes) };
    fields.finish()?;
    let space = api.write(&caller, move |tx| spaces::create(tx, &new)).await?;
    created(body(&api, &space))
}

#[get("/v3/spaces")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let asked = list.clone();
    let work = move |tx: &mut Tx<'_>| {
        let who = tx.who.clone();
        let found = store::spaces::list(tx.conn, &who, &asked)?;
        let mut included = Included::default();
        if asked.includes("organization") {
            included.orgs(tx, found.rows.iter().map(|space| space.org_guid.clone()).collect())?;
        }
        Ok((Listed { total: found.total, rows: describe(tx.conn, KIND, found.rows, |space| &space.guid)? }, included))
    };
    let (found, included) = api.read(&caller, work).await?;
    let resources = found.rows.iter().map(|space| body(&api, space)).collect();
    ok(page::document(&api, request.path(), request.query_string(), &list, found.total, resources, included.body(&api)))
}

#[get("/v3/spaces/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let asked = LIST.parse_show(request.query_string())?;
    let work = move |tx: &mut Tx<'_>| {
        let scope = Scope::readable(tx, &guid, "Space")?;
        let mut included = Included::default();
        if asked.includes("organization") {
            included.orgs(tx, vec![scope.org.guid])?;
        }
        Ok((describe_one(tx.conn, KIND, scope.space, &guid)?, included))
    };
    let (space, included) = api.read(&caller, work).await?;
    let mut shown = body(&api, &space);
    included.add_to(&api, &mut shown);
    ok(shown)
}

#[patch("/v3/spaces/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["name", "suspended", "metadata"])?;
    let change = SpaceChange {
        name: fields.renamed("name", 255),
        suspended: fields.bool("suspended"),
        metadata: fields.metadata(),
        request: raw(&bytes),
    };
    fields.finish()?;
    let space = api.write(&caller, move |tx| spaces::update(tx, &guid, &change)).await?;
    ok(body(&api, &space))
}

#[delete("/v3/spaces/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let job = api.write_job(&caller, "space.delete", move |tx| spaces::delete(tx, &guid)).await?;
    accepted(&api, &job)
}

#[get("/v3/spaces/{guid}/usage_summary")]
async fn usage_summary(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let path = format!("/v3/spaces/{guid}");
    let used = api.read(&caller, move |tx| quotas::used_by_space(tx, &guid)).await?;
    let links = json!({ "self": page::link(&api, &format!("{path}/usage_summary")), "space": page::link(&api, &path) });
    ok(usage::body(&used, links))
}

#[get("/v3/spaces/{guid}/users")]
async fn list_users(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let list = users::LIST.parse(request.query_string())?;
    let find = move |tx: &mut Tx<'_>, asked: List| {
        Scope::readable(tx, &guid, "Space")?;
        users::described(tx, &Among::Space(guid.clone()), &asked)
    };
    page::answer(&api, &caller, &request, list, find, |user| users::body(&api, user)).await
}

/// There are no security groups yet.
#[get("/v3/spaces/{guid}/running_security_groups")]
async fn running_groups(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    no_groups(&api, &caller, guid.into_inner(), &request).await
}

/// There are no security groups yet.
#[get("/v3/spaces/{guid}/staging_security_groups")]
async fn staging_groups(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    no_groups(&api, &caller, guid.into_inner(), &request).await
}

async fn no_groups(api: &Api, caller: &Caller, guid: String, request: &HttpRequest) -> Answer {
    let list = GROUPS.parse(request.query_string())?;
    api.read(caller, move |tx| Scope::readable(tx, &guid, "Space").map(drop)).await?;
    ok(page::empty(api, request.path(), request.query_string(), &list))
}

#[get("/v3/spaces/{guid}/relationships/isolation_segment")]
async fn show_segment(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let path = format!("/v3/spaces/{guid}");
    api.read(&caller, move |tx| Scope::readable(tx, &guid, "Space").map(drop)).await?;
    ok(segment_body(&api, &path))
}

/// There are no isolation segments yet: only "none" can be chosen.
#[patch("/v3/spaces/{guid}/relationships/isolation_segment")]
async fn set_segment(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let path = format!("/v3/spaces/{guid}");
    let wanted = to_one(&raw(&bytes))
        .map_err(|_| Error::invalid("Data must be structured like this: \"data\": {\"guid\": \"valid-guid\"}"))?;
    let work = move |tx: &mut Tx<'_>| {
        Scope::readable(tx, &guid, "Space")?;
        tx.who.require_admin()?;
        match &wanted {
            None => Ok(()),
            Some(segment) => {
                let why = "Ensure it has been entitled to the organization that this space belongs to.";
                Err(Error::invalid(format!("Unable to assign isolation segment with guid '{segment}'. {why}")))
            }
        }
    };
    api.write(&caller, work).await?;
    ok(segment_body(&api, &path))
}

fn segment_body(api: &Api, path: &str) -> Value {
    json!({ "data": null, "links": { "self": page::link(api, &format!("{path}/relationships/isolation_segment")) } })
}

fn ssh_feature(enabled: bool) -> Value {
    json!({ "name": "ssh", "description": "Enable SSHing into apps in the space.", "enabled": enabled })
}

#[get("/v3/spaces/{guid}/features")]
async fn features(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let scope = api.read(&caller, move |tx| Scope::readable(tx, &guid, "Space")).await?;
    ok(json!({ "resources": [ssh_feature(scope.space.allow_ssh)] }))
}

#[get("/v3/spaces/{guid}/features/{name}")]
async fn feature(api: Data<Api>, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (guid, name) = path.into_inner();
    let scope = api.read(&caller, move |tx| Scope::readable(tx, &guid, "Space")).await?;
    if name != "ssh" {
        return Err(Error::NotFound("Feature").into());
    }
    ok(ssh_feature(scope.space.allow_ssh))
}

#[patch("/v3/spaces/{guid}/features/{name}")]
async fn set_feature(api: Data<Api>, caller: Caller, path: Path<(String, String)>, bytes: Bytes) -> Answer {
    let (guid, name) = path.into_inner();
    let mut fields = Fields::parse(&bytes, &["enabled"])?;
    let enabled = fields.bool("enabled");
    if enabled.is_none() {
        fields.problem("Enabled must be a boolean");
    }
    let work = move |tx: &mut Tx<'_>| {
        Scope::readable(tx, &guid, "Space")?;
        if name != "ssh" {
            return Err(Error::NotFound("Feature"));
        }
        spaces::allow_ssh(tx, &guid, enabled.unwrap_or_default())
    };
    fields.finish()?;
    api.write(&caller, work).await?;
    ok(ssh_feature(enabled.unwrap_or_default()))
}
