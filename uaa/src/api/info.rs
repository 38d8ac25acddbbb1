//! What everybody may know: prompts, links, public keys, health.

use super::{Answer, Api};
use crate::domain::grants::ZONE;
use actix_web::{HttpRequest, HttpResponse, get, http::header};
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

#[get("/login")]
pub(super) async fn login(api: Api, request: HttpRequest) -> HttpResponse {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match accept.contains("text/html") {
        true => page(&api),
        false => HttpResponse::Ok().json(document(&api)),
    }
}

/// There is no login in the browser here: the page says how to log in instead.
fn page(api: &Api) -> HttpResponse {
    let target = escaped(&api.config.issuer.replacen("://uaa.", "://api.", 1));
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"))
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .insert_header(("Referrer-Policy", "no-referrer"))
        .body(format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <title>Log in</title><style>body{{font:1rem/1.5 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem}}\
             code{{background:#eee;padding:.2em .4em}}</style><h1>Log in from the command line</h1>\
             <p>This platform's accounts are used through its command line client. Type</p>\
             <p><code>cf login -a {target}</code></p><p>and enter your user name and password there.</p></html>"
        ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn document(api: &Api) -> Value {
    json!({
        "app": { "version": API_LEVEL },
        "links": { "uaa": api.config.issuer, "login": api.config.login_url },
        "zone_name": ZONE,
        "entityID": api.config.login_url.trim_start_matches("https://").trim_start_matches("http://"),
        "commit_id": env!("CARGO_PKG_VERSION"),
        "timestamp": api.clock.now().rfc3339(),
        "idpDefinitions": {},
        "showLoginLinks": false,
        "prompts": { "username": ["text", "Email"], "password": ["password", "Password"] },
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
        "token_endpoint": format!("{login_url}/oauth/token"),
        "userinfo_endpoint": format!("{uaa}/userinfo"),
        "jwks_uri": format!("{uaa}/token_keys"),
        "introspection_endpoint": format!("{uaa}/introspect"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "grant_types_supported": ["password", "refresh_token", "client_credentials"],
        "scopes_supported": ["openid", "profile", "roles", "user_attributes"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["sub", "user_name", "origin", "iss", "auth_time", "amr", "aud", "client_id", "zid", "grant_type", "user_id", "azp", "scope", "exp", "iat", "jti", "rev_sig", "cid", "email"],
    })
}
