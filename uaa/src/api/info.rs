//! What everybody may know: prompts, links, public keys, health.

use super::{Answer, Api};
use crate::domain::grants::ZONE;
use actix_web::{HttpResponse, get};
use serde_json::{Value, json};

/// The release of the original whose API this follows; clients compare it with what they need.
const API_LEVEL: &str = "77.20.0";

#[get("/healthz")]
pub(super) async fn health(api: Api) -> Answer {
    api.store.run(|conn| Ok(diesel::RunQueryDsl::execute(diesel::sql_query("SELECT 1"), conn)?)).await?;
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n"))
}

#[get("/info")]
pub(super) async fn info(api: Api) -> HttpResponse {
    HttpResponse::Ok().json(document(&api))
}

/// What clients that are no browsers get: what to ask for, and where everything is.
pub(super) fn document(api: &Api) -> Value {
    json!({
        "app": { "version": API_LEVEL },
        "links": { "uaa": api.config.issuer, "login": api.config.login_url },
        "zone_name": ZONE,
        "entityID": api.config.login_url.trim_start_matches("https://").trim_start_matches("http://"),
        "commit_id": env!("CARGO_PKG_VERSION"),
        "timestamp": api.clock.now().rfc3339(),
        "idpDefinitions": {},
        "showLoginLinks": false,
        "prompts": {
            "username": ["text", "Email"],
            "password": ["password", "Password"],
            "passcode": ["password", format!("One Time Code ( Get one at {}/passcode )", api.config.login_url)],
        },
    })
}

#[get("/token_keys")]
pub(super) async fn token_keys(api: Api) -> HttpResponse {
    HttpResponse::Ok().json(api.keys.public())
}

#[get("/token_key")]
pub(super) async fn token_key(api: Api) -> HttpResponse {
    HttpResponse::Ok().json(api.keys.public_active())
}

#[get("/.well-known/openid-configuration")]
pub(super) async fn discovery(api: Api) -> HttpResponse {
    HttpResponse::Ok().json(discovery_document(&api))
}

/// Here too, because the issuer ends in `/oauth/token`.
#[get("/oauth/token/.well-known/openid-configuration")]
pub(super) async fn discovery_of_issuer(api: Api) -> HttpResponse {
    HttpResponse::Ok().json(discovery_document(&api))
}

fn discovery_document(api: &Api) -> Value {
    let (uaa, login_url) = (&api.config.issuer, &api.config.login_url);
    json!({
        "issuer": api.issuer(),
        "authorization_endpoint": format!("{login_url}/oauth/authorize"),
        "token_endpoint": format!("{login_url}/oauth/token"),
        "userinfo_endpoint": format!("{uaa}/userinfo"),
        "jwks_uri": format!("{uaa}/token_keys"),
        "introspection_endpoint": format!("{uaa}/introspect"),
        "end_session_endpoint": format!("{login_url}/logout.do"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "grant_types_supported": ["authorization_code", "password", "refresh_token", "client_credentials"],
        "scopes_supported": ["openid", "profile", "roles", "user_attributes"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["sub", "user_name", "origin", "iss", "auth_time", "amr", "nonce", "aud", "client_id", "zid", "grant_type", "user_id", "azp", "scope", "exp", "iat", "jti", "rev_sig", "cid", "email"],
    })
}
