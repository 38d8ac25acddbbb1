//! `/oauth/clients`. Secrets are in no answer.

use super::{Answer, Api};
use crate::{
    domain::{
        Error,
        access::Caller,
        clients::{ADMINS, Change, Wanted},
    },
    store::{clients::Client, split},
};
use actix_web::{
    HttpResponse, delete, get, post, put,
    web::{Json, Path},
};
use foundation::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

const READ: &[&str] = &["clients.read", "clients.admin", "uaa.admin"];
const WRITE: &[&str] = &["clients.write", "clients.admin", "uaa.admin"];
const SECRET: &[&str] = &["clients.secret", "clients.admin", "uaa.admin"];

/// A client in a request; more than this is ignored.
#[derive(Deserialize)]
struct ClientBody {
    client_id: Option<String>,
    client_secret: Option<Secret>,
    name: Option<String>,
    authorized_grant_types: Option<Words>,
    redirect_uri: Option<Words>,
    scope: Option<Words>,
    authorities: Option<Words>,
    autoapprove: Option<Approve>,
    access_token_validity: Option<i64>,
    refresh_token_validity: Option<i64>,
    /// Of one of several changes.
    action: Option<String>,
}

/// A list, or one text with commas.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    List(Vec<String>),
    Text(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Approve {
    All(bool),
    Some(Words),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretBody {
    old_secret: Option<Secret>,
    secret: Secret,
}

impl Words {
    fn list(self) -> Vec<String> {
        match self {
            Self::List(words) => words,
            Self::Text(text) => text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect(),
        }
    }
}

impl ClientBody {
    /// As the domain wants it; `id` is that of the path.
    fn wanted(self, id: Option<String>) -> Wanted {
        let words = |words: Option<Words>| words.map(Words::list).unwrap_or_default();
        Wanted {
            id: id.or(self.client_id).unwrap_or_default(),
            secret: self.client_secret,
            name: self.name,
            grants: words(self.authorized_grant_types),
            scopes: words(self.scope),
            authorities: words(self.authorities),
            redirect_uris: words(self.redirect_uri),
            autoapprove: match self.autoapprove {
                Some(Approve::All(true)) => vec!["true".into()],
                Some(Approve::Some(some)) => some.list(),
                Some(Approve::All(false)) | None => vec![],
            },
            access_validity_s: self.access_token_validity,
            refresh_validity_s: self.refresh_token_validity,
        }
    }

    fn change(mut self) -> Result<Change, Error> {
        let bad = |why: &str| Error::BadClient(why.to_owned());
        match self.action.take().as_deref() {
            Some("add") => Ok(Change::Add(self.wanted(None))),
            Some("update") => Ok(Change::Update(Wanted { secret: None, ..self.wanted(None) })),
            Some("update,secret") => Ok(Change::Update(self.wanted(None))),
            Some("delete") => Ok(Change::Delete(self.client_id.ok_or_else(|| bad("A change names no client"))?)),
            Some("secret") => {
                let id = self.client_id.ok_or_else(|| bad("A change names no client"))?;
                Ok(Change::Secret(id, self.client_secret.ok_or_else(|| bad("The new secret is missing"))?))
            }
            _ => Err(bad("The action must be one of: add, update, delete, secret, update,secret")),
        }
    }
}

#[get("/oauth/clients")]
pub(super) async fn list(api: Api, caller: Caller) -> Answer {
    caller.needs(READ)?;
    let clients = api.clients().await?;
    Ok(HttpResponse::Ok().json(json!({
        "resources": clients.iter().map(body).collect::<Vec<_>>(),
        "startIndex": 1, "itemsPerPage": clients.len(), "totalResults": clients.len(),
        "schemas": ["http://cloudfoundry.org/schema/scim/oauth-clients-1.0"],
    })))
}

#[get("/oauth/clients/{id}")]
pub(super) async fn get(api: Api, caller: Caller, id: Path<String>) -> Answer {
    caller.needs(READ)?;
    let client = api.client(id.into_inner()).await?;
    Ok(HttpResponse::Ok().json(body(&client)))
}

#[post("/oauth/clients")]
pub(super) async fn create(api: Api, caller: Caller, new: Json<ClientBody>) -> Answer {
    caller.needs(WRITE)?;
    let client = api.create_client(&caller, new.into_inner().wanted(None)).await?;
    Ok(HttpResponse::Created().json(body(&client)))
}

#[put("/oauth/clients/{id}")]
pub(super) async fn update(api: Api, caller: Caller, id: Path<String>, new: Json<ClientBody>) -> Answer {
    caller.needs(WRITE)?;
    let client = api.update_client(&caller, new.into_inner().wanted(Some(id.into_inner()))).await?;
    Ok(HttpResponse::Ok().json(body(&client)))
}

#[put("/oauth/clients/{id}/secret")]
pub(super) async fn secret(api: Api, caller: Caller, id: Path<String>, new: Json<SecretBody>) -> Answer {
    if !caller.is_client(&id) {
        caller.needs(SECRET)?;
    }
    let SecretBody { old_secret, secret } = new.into_inner();
    api.change_client_secret(&caller, id.into_inner(), old_secret, secret).await?;
    Ok(HttpResponse::Ok().json(json!({ "status": "ok", "message": "secret updated" })))
}

#[delete("/oauth/clients/{id}")]
pub(super) async fn delete(api: Api, caller: Caller, id: Path<String>) -> Answer {
    caller.needs(WRITE)?;
    Ok(HttpResponse::Ok().json(body(&api.delete_client(&caller, id.into_inner()).await?)))
}

/// All changes or none.
#[post("/oauth/clients/tx/modify")]
pub(super) async fn modify(api: Api, caller: Caller, changes: Json<Vec<ClientBody>>) -> Answer {
    caller.needs(ADMINS)?;
    let changes = changes.into_inner().into_iter().map(ClientBody::change).collect::<Result<Vec<_>, Error>>()?;
    let done = api.change_clients(&caller, changes).await?;
    Ok(HttpResponse::Ok().json(done.iter().map(body).collect::<Vec<_>>()))
}

fn body(client: &Client) -> Value {
    let autoapprove = match client.autoapprove.as_str() {
        "true" => json!(true),
        "" | "false" => json!(false),
        scopes => json!(split(scopes)),
    };
    json!({
        "client_id": client.id, "name": client.name, "scope": split(&client.scopes), "resource_ids": ["none"],
        "authorized_grant_types": split(&client.grants), "redirect_uri": split(&client.redirect_uris),
        "authorities": split(&client.authorities), "autoapprove": autoapprove,
        "access_token_validity": client.access_validity_s, "refresh_token_validity": client.refresh_validity_s,
        "lastModified": client.updated_at / 1_000,
    })
}
