//! The table of routes: each resource registers its own. A new resource is one line here.

use crate::{api, domain::Error};
use actix_web::web::{ServiceConfig, to};

/// All of the public API.
pub fn public(config: &mut ServiceConfig) {
    config
        .configure(api::root::routes)
        .configure(api::jobs::routes)
        .configure(api::organizations::routes)
        .configure(api::spaces::routes)
        .configure(api::users::routes)
        .configure(api::roles::routes)
        .configure(api::domains::routes)
        .configure(api::routes::routes)
        .configure(api::stacks::routes)
        .configure(api::quotas::routes)
        .configure(api::feature_flags::routes)
        .configure(api::env_groups::routes)
        .configure(api::audit_events::routes)
        .configure(api::usage::routes)
        .configure(api::apps::routes)
        .configure(api::app_env::routes)
        .configure(api::app_features::routes)
        .configure(api::app_usage_events::routes)
        .configure(api::processes::routes)
        .configure(api::stats::routes)
        .configure(api::packages::routes)
        .configure(api::resource_matches::routes)
        .configure(api::builds::routes)
        .configure(api::droplets::routes)
        .configure(api::buildpacks::routes)
        .configure(api::manifests::routes)
        .configure(api::service_brokers::routes)
        .configure(api::service_offerings::routes)
        .configure(api::service_plan_visibility::routes)
        .configure(api::service_plans::routes)
        .configure(api::service_usage_events::routes)
        .configure(api::service_credential_bindings::routes)
        .configure(api::service_instances::routes)
        .configure(api::service_instance_shares::routes)
        .configure(api::service_instance_backups::routes)
        .configure(api::service_route_bindings::routes)
        .configure(api::absent::routes)
        .default_service(to(unknown));
}

/// All of the internal API.
pub fn internal(config: &mut ServiceConfig) {
    config
        .configure(api::internal::routes)
        .configure(api::internal_apps::routes)
        .configure(api::internal_workloads::routes)
        .default_service(to(unknown));
}

async fn unknown() -> api::Answer {
    Err(Error::UnknownRequest.into())
}
