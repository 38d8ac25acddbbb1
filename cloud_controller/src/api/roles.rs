//! `/v3/roles`

use crate::{
    api::{
        Answer, Api, accepted,
        body::{Fields, raw, to_one},
        created,
        include::Included,
        ok, page,
        query::ListSpec,
        users,
    },
    domain::{
        Caller, Error, OrgRole, SpaceRole, Tx,
        roles::{self, Place, Subject},
    },
    store::{self, query::List, roles::RoleRow},
};
use actix_web::{
    HttpRequest, delete, get, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

const LIST: ListSpec = ListSpec {
    filters: &["types", "organization_guids", "space_guids", "user_guids"],
    labels: false,
    includes: &["user", "organization", "space"],
    unprocessable: true,
    ..ListSpec::STANDARD
};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(index).service(show).service(remove);
}

fn body(api: &Api, role: &RoleRow) -> Value {
    let mut body = page::head(&role.guid, role.created_at, role.updated_at);
    body.insert("type".into(), role.kind.clone().into());
    let org = role.space_guid.is_none().then_some(role.org_guid.as_str());
    let relationships = json!({
        "user": page::to_one(Some(&role.user_guid)),
        "space": page::to_one(role.space_guid.as_deref()),
        "organization": page::to_one(org),
    });
    body.insert("relationships".into(), relationships);
    let mut links = json!({
        "self": page::link(api, &format!("/v3/roles/{}", role.guid)),
        "user": page::link(api, &format!("/v3/users/{}", role.user_guid)),
    });
    match &role.space_guid {
        Some(space) => links["space"] = page::link(api, &format!("/v3/spaces/{space}")),
        None => links["organization"] = page::link(api, &format!("/v3/organizations/{}", role.org_guid)),
    }
    body.insert("links".into(), links);
    body.into()
}

/// Who is named in a body.
enum Named {
    Guid(String),
    Name(String, Option<String>),
}

#[post("/v3/roles")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let (place, named) = read(&bytes)?;
    let (asked, by_name) = (place.clone(), matches!(named, Named::Name(..)));
    // Before anybody is looked up: names are not to be tried out.
    api.read(&caller, move |tx| roles::check(tx, &asked, by_name)).await?;
    let subject = match named {
        Named::Name(name, origin) => Subject::Found(users::find_one(&api, &name, origin.as_deref()).await?),
        Named::Guid(guid) if caller.admin => {
            let identity = api.identities.by_guid(&guid).await.map_err(|e| users::unavailable(&e))?;
            Subject::Guid(guid, identity)
        }
        Named::Guid(guid) => Subject::Guid(guid, None),
    };
    let request = raw(&bytes);
    let role = api.write(&caller, move |tx| roles::create(tx, &place, &subject, request.clone())).await?;
    created(body(&api, &role))
}

fn read(bytes: &[u8]) -> Result<(Place, Named), Error> {
    let mut fields = Fields::parse(bytes, &["type", "relationships"])?;
    let kind = fields.string("type").unwrap_or_default();
    let (org_role, space_role) = (OrgRole::parse(&kind), SpaceRole::parse(&kind));
    if org_role.is_none() && space_role.is_none() {
        let all = "\"organization_auditor\", \"organization_manager\", \"organization_billing_manager\", \"organization_user\", \
                   \"space_auditor\", \"space_manager\", \"space_developer\", \"space_supporter\"";
        fields.problem(format!("Type must be one of the allowed types [{all}]"));
    }
    let mut place = None;
    let mut named = None;
    match fields.object("relationships", "Relationships", &["user", "space", "organization"]) {
        None => fields.problem("Relationships 'relationships' is not an object"),
        Some(mut inner) => {
            named = read_user(&mut inner);
            let (space, org) = (inner.take("space"), inner.take("organization"));
            place = read_place(&mut inner, &kind, (org_role, space_role), (org, space));
            fields.join(inner);
        }
    }
    fields.finish()?;
    place.zip(named).ok_or_else(|| Error::invalid("Relationships must specify either a space or an organization."))
}

fn read_place(
    inner: &mut Fields,
    kind: &str,
    roles: (Option<OrgRole>, Option<SpaceRole>),
    targets: (Option<Value>, Option<Value>),
) -> Option<Place> {
    let guid = |inner: &mut Fields, name: &str, value: &Value| match to_one(value) {
        Ok(Some(guid)) => Some(guid),
        _ => {
            let lower = name.to_lowercase();
            inner
                .problem(format!("{name} must be structured like this: \"{lower}: {{\"data\": {{\"guid\": \"valid-guid\"}}}}\""));
            None
        }
    };
    match (targets, roles) {
        ((Some(_), Some(_)) | (None, None), _) => inner.problem("must specify either a space or an organization."),
        ((Some(org), None), (Some(role), _)) => return guid(inner, "Organization", &org).map(|org| Place::Org(role, org)),
        ((None, Some(space)), (_, Some(role))) => return guid(inner, "Space", &space).map(|space| Place::Space(role, space)),
        ((Some(_), None), _) => inner.problem(format!("Organization cannot be provided with the space role type: '{kind}'.")),
        ((None, Some(_)), _) => inner.problem(format!("Space cannot be provided with the organization role type: '{kind}'.")),
    }
    None
}

fn read_user(inner: &mut Fields) -> Option<Named> {
    let data = inner.take("user").and_then(|user| user.get("data").cloned()).unwrap_or_default();
    let text = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned);
    match (text("guid"), text("username"), text("origin")) {
        (Some(_), Some(_), _) => inner.problem("Username cannot be specified when identifying user by guid"),
        (Some(guid), None, _) => return Some(Named::Guid(guid)),
        (None, Some(name), origin) => return Some(Named::Name(name, origin)),
        (None, None, _) => inner.problem("User must have a username or guid specified"),
    }
    None
}

fn include(tx: &mut Tx<'_>, asked: &List, rows: &[RoleRow]) -> Result<Included, Error> {
    let mut included = Included::default();
    if asked.includes("user") {
        included.users(tx, rows.iter().map(|role| role.user_guid.clone()).collect())?;
    }
    if asked.includes("organization") {
        let of_orgs = rows.iter().filter(|role| role.space_guid.is_none());
        included.orgs(tx, of_orgs.map(|role| role.org_guid.clone()).collect())?;
    }
    included.spaces(tx, rows.iter().filter_map(|role| role.space_guid.clone()).collect(), asked.includes("space"), false)?;
    Ok(included)
}

#[get("/v3/roles")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let asked = list.clone();
    let work = move |tx: &mut Tx<'_>| {
        let who = tx.who.clone();
        let found = store::roles::list(tx.conn, &who, &asked)?;
        let included = include(tx, &asked, &found.rows)?;
        Ok((found, included))
    };
    let (found, included) = api.read(&caller, work).await?;
    let resources = found.rows.iter().map(|role| body(&api, role)).collect();
    ok(page::document(&api, request.path(), request.query_string(), &list, found.total, resources, included.body(&api)))
}

#[get("/v3/roles/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let asked = LIST.parse_show(request.query_string())?;
    let work = move |tx: &mut Tx<'_>| {
        let who = tx.who.clone();
        let role = store::roles::find(tx.conn, &who, &guid)?.ok_or(Error::NotFound("Role"))?;
        let included = include(tx, &asked, std::slice::from_ref(&role))?;
        Ok((role, included))
    };
    let (role, included) = api.read(&caller, work).await?;
    let mut shown = body(&api, &role);
    included.add_to(&api, &mut shown);
    ok(shown)
}

#[delete("/v3/roles/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let job = api.write(&caller, move |tx| roles::delete(tx, &guid)).await?;
    accepted(&api, &job)
}
