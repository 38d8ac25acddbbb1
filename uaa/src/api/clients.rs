//! `/oauth/clients`, to read. Secrets are in no answer.

use super::{Answer, Api};
use crate::{
    domain::access::Caller,
    store::{clients::Client, split},
};
use actix_web::{HttpResponse, get, web::Path};
use serde_json::{Value, json};

const READ: &[&str] = &["clients.read", "clients.admin", "uaa.admin"];

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

fn body(client: &Client) -> Value {
    json!({
        "client_id": client.id, "name": client.name, "scope": split(&client.scopes), "resource_ids": ["none"],
        "authorized_grant_types": split(&client.grants), "redirect_uri": split(&client.redirect_uris),
        "authorities": split(&client.authorities), "autoapprove": client.autoapprove == "true",
        "access_token_validity": client.access_validity_s, "refresh_token_validity": client.refresh_validity_s,
        "lastModified": client.updated_at / 1_000,
    })
}
