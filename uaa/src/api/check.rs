//! What is in a token: for resource servers, and for its own user.

use super::{Answer, Api, auth};
use crate::{
    api::auth::Form,
    domain::{Error, access::Caller},
    store::split,
};
use actix_web::{HttpRequest, HttpResponse, get, post, web::Bytes};
use serde_json::{Value, json};

const RESOURCE: &[&str] = &["uaa.resource"];

#[post("/check_token")]
pub(super) async fn check_token(api: Api, request: HttpRequest, body: Bytes) -> Answer {
    let form = Form::read(&request, &body)?;
    resource_server(&api, &request, &form).await?;
    // a bad token is the caller's bad value here, not its own failed authentication
    let claims = match api.claims(form.needed("token")?).await {
        Err(Error::Token(why)) => return Ok(HttpResponse::BadRequest().json(super::error::body("invalid_token", &why))),
        other => other?,
    };
    let has = |scope: &str| claims["scope"].as_array().is_some_and(|scopes| scopes.iter().any(|s| s == scope));
    let wanted = form.get("scopes").unwrap_or_default().replace(',', " ");
    if let Some(missing) = split(&wanted).into_iter().find(|scope| !has(scope)) {
        return Err(Error::Scope(format!("Some requested scopes are missing: {missing}")).into());
    }
    Ok(HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(claims))
}

#[post("/introspect")]
pub(super) async fn introspect(api: Api, request: HttpRequest, body: Bytes) -> Answer {
    let form = Form::read(&request, &body)?;
    match auth::bearer(&request) {
        Some(token) => api.caller(token).await?.needs(RESOURCE)?,
        None => resource_server(&api, &request, &form).await?,
    }
    let answer = match api.claims(form.needed("token")?).await {
        Ok(mut claims) => {
            claims["active"] = json!(true);
            claims
        }
        Err(Error::Token(_)) => json!({ "active": false }),
        Err(other) => return Err(other.into()),
    };
    Ok(HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(answer))
}

#[get("/userinfo")]
pub(super) async fn userinfo(api: Api, caller: Caller) -> Answer {
    user_information(api, caller).await
}

#[post("/userinfo")]
pub(super) async fn userinfo_by_post(api: Api, caller: Caller) -> Answer {
    user_information(api, caller).await
}

async fn user_information(api: Api, caller: Caller) -> Answer {
    caller.needs(&["openid"])?;
    let id = caller.user_id.ok_or_else(|| Error::Token("The token has no user.".into()))?;
    let user = api.user(id).await?.user;
    let body: Value = json!({
        "user_id": user.id, "sub": user.id, "user_name": user.user_name, "preferred_username": user.user_name, "origin": user.origin,
        "name": format!("{} {}", user.given_name, user.family_name).trim(), "given_name": user.given_name,
        "family_name": user.family_name, "email": user.email, "email_verified": user.verified,
        "previous_logon_time": user.previous_logon_at.map(|at| at / 1_000),
    });
    Ok(HttpResponse::Ok().json(body))
}

async fn resource_server(api: &Api, request: &HttpRequest, form: &Form) -> Result<(), Error> {
    let client = api.authenticate_client(auth::client(request, form)?).await?;
    match split(&client.authorities).iter().any(|authority| RESOURCE.contains(&authority.as_str())) {
        true => Ok(()),
        false => Err(Error::Forbidden(RESOURCE)),
    }
}
