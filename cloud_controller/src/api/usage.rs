//! Usage summaries, and that of the whole platform.

use crate::{
    api::{Answer, Api, ok, page},
    domain::{Caller, quotas},
    store::quotas::Used,
};
use actix_web::{
    get,
    web::{Data, ServiceConfig},
};
use serde_json::{Value, json};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(platform);
}

/// A usage summary as the API shows it.
pub fn body(used: &Used, links: Value) -> Value {
    json!({
        "usage_summary": {
            "started_instances": used.instances,
            "memory_in_mb": used.memory_mb,
            "routes": used.routes,
            "service_instances": used.service_instances,
            "reserved_ports": 0,
            "domains": used.domains,
            "per_app_tasks": 0,
            "service_keys": used.service_keys,
        },
        "links": links,
    })
}

#[get("/v3/info/usage_summary")]
async fn platform(api: Data<Api>, caller: Caller) -> Answer {
    let used = api.read(&caller, quotas::used_by_all).await?;
    ok(body(&used, json!({ "self": page::link(&api, "/v3/info/usage_summary") })))
}
