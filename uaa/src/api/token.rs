//! `/oauth/token`.

use super::{Answer, Api, auth};
use crate::{
    api::auth::Form,
    domain::{Error, codes::Presented, grants::Grant},
    store::split,
};
use actix_web::{HttpRequest, HttpResponse, get, post, web::Bytes};
use foundation::Secret;
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct TokenBody<'a> {
    access_token: &'a str,
    /// Lower case: the command line client stores it as the scheme word.
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    expires_in: u64,
    scope: String,
    jti: &'a str,
}

#[post("/oauth/token")]
pub(super) async fn token(api: Api, request: HttpRequest, body: Bytes) -> Answer {
    let form = Form::read(&request, &body)?;
    let credentials = auth::client(&request, &form)?;
    let grant = grant(&form, &request)?;
    let scopes = split(form.get("scope").unwrap_or_default());
    let granted = api.grant(credentials, grant, scopes).await?;
    Ok(HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).insert_header(("Pragma", "no-cache")).json(TokenBody {
        access_token: granted.access_token.expose(),
        token_type: "bearer",
        id_token: granted.id_token.as_ref().map(Secret::expose),
        refresh_token: granted.refresh_token.as_ref().map(Secret::expose),
        expires_in: granted.expires_in_s,
        scope: granted.scopes.join(" "),
        jti: &granted.token_id,
    }))
}

/// Passwords in addresses end up in logs.
#[get("/oauth/token")]
pub(super) async fn token_by_get() -> HttpResponse {
    let body = super::error::body("method_not_allowed", "Request method 'GET' not supported");
    HttpResponse::MethodNotAllowed().insert_header(("Allow", "POST")).json(body)
}

fn grant(form: &Form, request: &HttpRequest) -> Result<Grant, Error> {
    Ok(match form.needed("grant_type")? {
        "password" if form.get("passcode").is_some() => Grant::Passcode(Secret::new(form.needed("passcode")?)),
        "authorization_code" => Grant::Code(Presented {
            code: Secret::new(form.needed("code")?),
            redirect_uri: form.get("redirect_uri").map(str::to_owned),
            verifier: form.get("code_verifier").map(Secret::new),
        }),
        "password" => Grant::Password {
            user_name: form.needed("username")?.to_owned(),
            password: Secret::new(form.needed("password")?),
            origin: origin(form, request)?,
        },
        "refresh_token" => Grant::Refresh { token: Secret::new(form.needed("refresh_token")?) },
        "client_credentials" => Grant::ClientCredentials,
        _ => return Err(Error::UnsupportedGrant),
    })
}

#[derive(Deserialize)]
struct LoginHint {
    origin: String,
}

/// Where the user says to come from: a field of the form, or, from the command line client, of the query.
fn origin(form: &Form, request: &HttpRequest) -> Result<Option<String>, Error> {
    let in_query = url::form_urlencoded::parse(request.query_string().as_bytes()).find(|(name, _)| name == "login_hint");
    let Some(hint) = form.get("login_hint").map(str::to_owned).or(in_query.map(|(_, value)| value.into_owned())) else {
        return Ok(None);
    };
    // the client encodes it once more than the query needs
    let decoded: String = url::form_urlencoded::parse(hint.as_bytes()).map(|(name, _)| name.into_owned()).collect();
    let read = serde_json::from_str::<LoginHint>(&hint).or_else(|_| serde_json::from_str(&decoded));
    read.map(|hint| Some(hint.origin)).map_err(|_| Error::Origin)
}
