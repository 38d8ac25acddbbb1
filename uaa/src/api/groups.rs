//! SCIM `/Groups`.

use super::{Answer, Api};
use crate::{
    domain::{
        Error,
        access::Caller,
        filter::{self, Filter, Operator},
        groups::GroupMembers,
        moment,
    },
    store::groups::Group,
};
use actix_web::{
    HttpResponse, delete, get, post,
    web::{Json, Path, Query},
};
use serde::Deserialize;
use serde_json::{Value, json};

const READ: &[&str] = &["scim.read", "uaa.admin"];
const CHANGE: &[&str] = &["scim.write", "groups.update", "uaa.admin"];
const WRITE: &[&str] = &["scim.write", "uaa.admin"];
const SCHEMA: &str = "urn:scim:schemas:core:1.0";

#[derive(Deserialize)]
struct ListQuery {
    filter: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupBody {
    display_name: String,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct MemberBody {
    value: String,
}

#[get("/Groups")]
pub(super) async fn list(api: Api, caller: Caller, query: Query<ListQuery>) -> Answer {
    caller.needs(READ)?;
    let name = match query.filter.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(filter::parse).transpose()? {
        None => None,
        Some(Filter::Test { attribute, operator: Operator::Present, .. }) if attribute == "id" || attribute == "displayname" => {
            None
        }
        Some(Filter::Test { attribute, operator: Operator::Equal, value }) if attribute == "displayname" => {
            Some(value.text()?.to_owned())
        }
        Some(_) => return Err(Error::Filter("groups are filtered by `displayName eq \"...\"` only".into()).into()),
    };
    let groups = api.groups(name).await?;
    let resources: Vec<Value> = groups.iter().map(body).collect();
    let count = resources.len();
    Ok(HttpResponse::Ok().json(json!({
        "resources": resources, "startIndex": 1, "itemsPerPage": count, "totalResults": count, "schemas": [SCHEMA],
    })))
}

#[post("/Groups")]
pub(super) async fn create(api: Api, caller: Caller, new: Json<GroupBody>) -> Answer {
    caller.needs(WRITE)?;
    let new = new.into_inner();
    Ok(HttpResponse::Created().json(whole(&api.create_group(new.display_name, new.description).await?)))
}

#[get("/Groups/{id}")]
pub(super) async fn get(api: Api, caller: Caller, id: Path<String>) -> Answer {
    caller.needs(READ)?;
    Ok(HttpResponse::Ok().json(whole(&api.group(id.into_inner()).await?)))
}

#[delete("/Groups/{id}")]
pub(super) async fn delete(api: Api, caller: Caller, id: Path<String>) -> Answer {
    caller.needs(WRITE)?;
    Ok(HttpResponse::Ok().json(whole(&api.delete_group(id.into_inner()).await?)))
}

#[get("/Groups/{id}/members")]
pub(super) async fn members(api: Api, caller: Caller, id: Path<String>) -> Answer {
    caller.needs(READ)?;
    let members = api.group(id.into_inner()).await?.members;
    Ok(HttpResponse::Ok().json(members.iter().map(|(id, origin)| member(id, origin)).collect::<Vec<_>>()))
}

#[post("/Groups/{id}/members")]
pub(super) async fn add_member(api: Api, caller: Caller, id: Path<String>, new: Json<MemberBody>) -> Answer {
    caller.needs(CHANGE)?;
    let user = new.into_inner().value;
    let origin = api.add_member(id.into_inner(), user.clone()).await?;
    Ok(HttpResponse::Created().json(member(&user, &origin)))
}

#[delete("/Groups/{id}/members/{user}")]
pub(super) async fn remove_member(api: Api, caller: Caller, path: Path<(String, String)>) -> Answer {
    caller.needs(CHANGE)?;
    let (group, user) = path.into_inner();
    api.remove_member(group, user.clone()).await?;
    Ok(HttpResponse::Ok().json(json!({ "value": user, "type": "USER" })))
}

fn member(id: &str, origin: &str) -> Value {
    json!({ "value": id, "type": "USER", "origin": origin })
}

fn whole(group: &GroupMembers) -> Value {
    let mut value = body(&group.group);
    value["members"] = group.members.iter().map(|(id, origin)| member(id, origin)).collect();
    value
}

fn body(group: &Group) -> Value {
    json!({
        "id": group.id, "displayName": group.display_name, "description": group.description, "zoneId": crate::domain::grants::ZONE,
        "schemas": [SCHEMA],
        "meta": { "version": group.version, "created": moment(group.created_at).rfc3339(), "lastModified": moment(group.updated_at).rfc3339() },
    })
}
