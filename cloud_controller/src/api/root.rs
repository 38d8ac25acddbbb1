//! `/`, `/v3`, `/v3/info`, `/healthz`: what anybody may read.

use crate::api::{Answer, Api, ok, page};
use actix_web::{
    HttpResponse, get,
    web::{Data, ServiceConfig},
};
use serde_json::{Map, Value, json};

/// The version of the API whose rules are followed; it steers what the official client does.
pub const API_VERSION: &str = "3.228.0";

const COLLECTIONS: [&str; 32] = [
    "app_usage_events",
    "apps",
    "audit_events",
    "buildpacks",
    "builds",
    "deployments",
    "domains",
    "droplets",
    "environment_variable_groups",
    "feature_flags",
    "info",
    "isolation_segments",
    "organization_quotas",
    "organizations",
    "packages",
    "processes",
    "resource_matches",
    "roles",
    "routes",
    "security_groups",
    "service_brokers",
    "service_credential_bindings",
    "service_instances",
    "service_offerings",
    "service_plans",
    "service_route_bindings",
    "service_usage_events",
    "space_quotas",
    "spaces",
    "stacks",
    "tasks",
    "users",
];

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(root).service(v3).service(info).service(health);
}

#[get("/")]
async fn root(api: Data<Api>) -> Answer {
    let urls = &api.config.urls;
    ok(json!({ "links": {
        "self": { "href": urls.api },
        "cloud_controller_v3": { "href": api.url("/v3"), "meta": { "version": API_VERSION } },
        "network_policy_v0": { "href": api.url("/networking/v0/external") },
        "network_policy_v1": { "href": api.url("/networking/v1/external") },
        "login": { "href": urls.login },
        "uaa": { "href": urls.uaa },
        "credhub": null,
        "routing": null,
        "logging": null,
        "log_cache": { "href": urls.log_cache },
        "log_stream": null,
        "app_ssh": null,
    } }))
}

#[get("/v3")]
async fn v3(api: Data<Api>) -> Answer {
    let mut links = Map::from_iter([("self".to_owned(), page::link(&api, "/v3"))]);
    links.extend(COLLECTIONS.map(|name| (name.to_owned(), page::link(&api, &format!("/v3/{name}")))));
    ok(json!({ "links": Value::Object(links) }))
}

#[get("/v3/info")]
async fn info(api: Data<Api>) -> Answer {
    ok(json!({
        "build": env!("CARGO_PKG_VERSION"),
        "cli_version": { "minimum": null, "recommended": null },
        "custom": {},
        "description": "Cupola",
        "name": "cupola",
        "version": 0,
        "osbapi_version": "2.17",
        "rate_limits": { "enabled": false, "general_limit": null, "reset_interval_in_minutes": null },
        "links": { "self": page::link(&api, "/v3/info"), "support": { "href": "" } },
    }))
}

#[get("/healthz")]
async fn health() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("OK")
}
