//! SCIM `/Users`.

use super::{Answer, Api};
use crate::{
    domain::{
        Error,
        access::Caller,
        filter, grants, moment, scopes,
        users::{Member, NewUser, UserChange},
    },
    store::users::Sort,
};
use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::header::IF_MATCH,
    post, put,
    web::{Json, Path, Query},
};
use foundation::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const READ: &[&str] = &["scim.read", "uaa.admin"];
const CREATE: &[&str] = &["scim.write", "scim.create", "uaa.admin"];
const WRITE: &[&str] = &["scim.write", "uaa.admin"];
const PASSWORD: &[&str] = &["password.write"];
const SCHEMA: &str = "urn:scim:schemas:core:1.0";
/// Most users in one answer.
const MOST: i64 = 500;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    filter: Option<String>,
    attributes: Option<String>,
    sort_by: Option<String>,
    sort_order: Option<String>,
    start_index: Option<i64>,
    count: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserBody {
    #[serde(default)]
    user_name: String,
    password: Option<Secret>,
    #[serde(default)]
    origin: Option<String>,
    #[serde(default)]
    name: NameBody,
    #[serde(default)]
    emails: Vec<EmailBody>,
    #[serde(default)]
    external_id: Option<String>,
    active: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NameBody {
    given_name: Option<String>,
    family_name: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct EmailBody {
    value: String,
    #[serde(default)]
    primary: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PasswordBody {
    old_password: Option<Secret>,
    password: Secret,
}

#[get("/Users")]
pub(super) async fn list(api: Api, caller: Caller, query: Query<ListQuery>) -> Answer {
    caller.needs(READ)?;
    let filter = query.filter.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(filter::parse).transpose()?;
    let start = query.start_index.unwrap_or(1).max(1);
    let count = query.count.unwrap_or(100).clamp(0, MOST);
    let by = match query.sort_by.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "created" | "meta.created") => Sort::Created,
        Some("username" | "id") => Sort::Name,
        Some(other) => return Err(Error::Filter(format!("users cannot be sorted by `{other}`")).into()),
    };
    let descending = query.sort_order.as_deref().is_some_and(|order| order.to_ascii_lowercase().starts_with("desc"));
    let page = api.users(filter, (by, descending), start - 1, count).await?;
    let mut resources: Vec<Value> = page.items.iter().map(body).collect();
    if let Some(attributes) = query.attributes.as_deref().filter(|attributes| !attributes.is_empty()) {
        let wanted: Vec<String> = attributes.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
        for resource in resources.iter_mut().filter_map(Value::as_object_mut) {
            resource.retain(|name, _| wanted.iter().any(|w| w.split('.').next() == Some(&name.to_ascii_lowercase())));
        }
    }
    Ok(HttpResponse::Ok().json(json!({
        "resources": resources, "startIndex": start, "itemsPerPage": count, "totalResults": page.total, "schemas": [SCHEMA],
    })))
}

#[post("/Users")]
pub(super) async fn create(api: Api, caller: Caller, new: Json<UserBody>) -> Answer {
    caller.needs(CREATE)?;
    let new = new.into_inner();
    let email = only_email(&new.emails)?;
    let member = api
        .create_user(NewUser {
            user_name: new.user_name,
            password: new.password,
            origin: new.origin.unwrap_or_default(),
            email,
            given_name: new.name.given_name.unwrap_or_default(),
            family_name: new.name.family_name.unwrap_or_default(),
            external_id: new.external_id.unwrap_or_default(),
            inactive: new.active == Some(false),
        })
        .await?;
    Ok(answer(HttpResponse::Created(), &member))
}

#[get("/Users/{id}")]
pub(super) async fn get(api: Api, caller: Caller, id: Path<String>) -> Answer {
    if !caller.is_user(&id) {
        caller.needs(READ)?;
    }
    Ok(answer(HttpResponse::Ok(), &api.user(id.into_inner()).await?))
}

#[put("/Users/{id}")]
pub(super) async fn update(api: Api, caller: Caller, request: HttpRequest, id: Path<String>, change: Json<UserBody>) -> Answer {
    caller.needs(WRITE)?;
    let wanted =
        request.headers().get(IF_MATCH).and_then(|version| version.to_str().ok()).map(|version| version.trim_matches('"'));
    let version = match wanted {
        None => return Err(Error::Invalid("Missing If-Match for PUT: send the version that you read, or *.".into()).into()),
        Some("*") => None,
        Some(version) => Some(version.parse().map_err(|_| Error::Invalid(format!("Invalid If-Match: {version}")))?),
    };
    let change = change.into_inner();
    let email = only_email(&change.emails)?;
    let change = UserChange {
        user_name: change.user_name,
        email,
        given_name: change.name.given_name.unwrap_or_default(),
        family_name: change.name.family_name.unwrap_or_default(),
        external_id: change.external_id.unwrap_or_default(),
        active: change.active.unwrap_or(true),
    };
    Ok(answer(HttpResponse::Ok(), &api.change_user(id.into_inner(), version, change).await?))
}

#[delete("/Users/{id}")]
pub(super) async fn delete(api: Api, caller: Caller, id: Path<String>) -> Answer {
    caller.needs(WRITE)?;
    Ok(answer(HttpResponse::Ok(), &api.delete_user(id.into_inner()).await?))
}

/// A user changes the own password and proves to know the old one; a client, or an administrator for somebody else, need not.
#[put("/Users/{id}/password")]
pub(super) async fn password(api: Api, caller: Caller, id: Path<String>, body: Json<PasswordBody>) -> Answer {
    let body = body.into_inner();
    let own = caller.is_user(&id);
    if !own {
        // every user's token carries `password.write`, so for others it counts only in a client's hands
        match caller.user_id.is_none() {
            true => caller.needs(PASSWORD).or_else(|_| caller.needs(WRITE))?,
            false => caller.needs(WRITE)?,
        }
    }
    let old = match (own, body.old_password) {
        (true, None) => return Err(Error::Invalid("Previous password is required even for admin".into()).into()),
        (true, old) => old,
        (false, _) => None,
    };
    api.change_password(id.into_inner(), old, body.password).await?;
    Ok(HttpResponse::Ok().json(json!({ "status": "ok", "message": "password updated" })))
}

fn only_email(emails: &[EmailBody]) -> Result<String, Error> {
    match emails {
        [one] => Ok(one.value.clone()),
        [] => Err(Error::Invalid("Exactly one email must be provided.".into())),
        more => match more.iter().find(|email| email.primary) {
            Some(primary) => Ok(primary.value.clone()),
            None => Err(Error::Invalid("Exactly one email must be provided.".into())),
        },
    }
}

fn answer(mut response: actix_web::HttpResponseBuilder, member: &Member) -> HttpResponse {
    response.insert_header(("ETag", format!("\"{}\"", member.user.version))).json(body(member))
}

fn body(member: &Member) -> Value {
    let user = &member.user;
    let own = member.groups.iter().map(|group| json!({ "value": group.group_id, "display": group.name, "type": "DIRECT" }));
    let everybodys = scopes::DEFAULT_GROUPS.iter().filter(|name| !member.groups.iter().any(|group| group.name == **name));
    let groups: Vec<Value> = own.chain(everybodys.map(|name| json!({ "display": name, "type": "INDIRECT" }))).collect();
    let time = |micros: i64| {
        let moment = moment(micros);
        format!("{}.{:03}Z", moment.rfc3339().trim_end_matches('Z'), moment.0 / 1_000 % 1_000)
    };
    json!({
        "id": user.id, "externalId": user.external_id, "userName": user.user_name, "origin": user.origin, "zoneId": grants::ZONE,
        "name": { "givenName": user.given_name, "familyName": user.family_name },
        "emails": [{ "value": user.email, "primary": true }],
        "groups": groups, "approvals": [], "active": user.active, "verified": user.verified, "schemas": [SCHEMA],
        "meta": { "version": user.version, "created": time(user.created_at), "lastModified": time(user.updated_at) },
        "passwordLastModified": time(user.password_changed_at),
        "lastLogonTime": user.last_logon_at.map(|at| at / 1_000), "previousLogonTime": user.previous_logon_at.map(|at| at / 1_000),
    })
}
