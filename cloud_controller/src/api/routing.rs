//! The table of routes: each resource registers its own. A new resource is one line here.

use crate::{api, domain::Error};
use actix_web::web::{ServiceConfig, to};

/// All of the public API.
pub fn public(config: &mut ServiceConfig) {
    config
        .configure(api::root::routes)
        .configure(api::jobs::routes)
        .default_service(to(unknown));
}

/// All of the internal API.
pub fn internal(config: &mut ServiceConfig) {
    config.configure(api::internal::routes).default_service(to(unknown));
}

async fn unknown() -> api::Answer {
    Err(Error::UnknownRequest.into())
}
