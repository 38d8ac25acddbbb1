//! HTTP: one file for each resource. Parse, one call of the domain, shape the answer.

mod auth;
mod authorize;
mod browser;
mod check;
mod clients;
mod error;
mod groups;
mod info;
mod pages;
mod revoke;
mod token;
mod users;

use crate::domain::Uaa;
use actix_web::{
    HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web::{self, Data, ServiceConfig},
};
pub(crate) use error::Failure;
use std::sync::Arc;
use tracing::{error, info};

/// Shorthand of the handlers.
type Answer = Result<HttpResponse, Failure>;
type Api = Data<Uaa>;

/// All routes.
pub(crate) fn routes(uaa: Arc<Uaa>) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        app.app_data(Data::from(uaa))
            .app_data(web::JsonConfig::default().limit(256 << 10).error_handler(|e, _| error::unreadable(&e).into()))
            .app_data(web::PayloadConfig::new(64 << 10))
            .app_data(web::QueryConfig::default().error_handler(|e, _| error::unreadable(&e).into()))
            .service((info::health, info::info, info::token_key, info::token_keys, info::discovery, info::discovery_of_issuer))
            .service((browser::login, browser::log_in, browser::logout, browser::logout_by_post, browser::passcode, pages::style))
            .service((authorize::ask, authorize::answer))
            .service((token::token, token::token_by_get))
            .service((check::check_token, check::introspect, check::userinfo, check::userinfo_by_post))
            .service((revoke::of_user_and_client, revoke::of_user, revoke::of_client, revoke::one))
            .service((clients::modify, clients::list, clients::create, clients::get))
            .service((clients::update, clients::secret, clients::delete))
            .service((users::list, users::create, users::get, users::update, users::delete, users::password))
            .service((
                groups::list,
                groups::create,
                groups::get,
                groups::delete,
                groups::members,
                groups::add_member,
                groups::remove_member,
            ))
            .default_service(web::to(async || HttpResponse::NotFound().json(error::body("not_found", "There is nothing here."))));
    }
}

/// One line for each request: the route, never the path or query, which can hold tokens and names.
pub(crate) async fn log(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let started = std::time::Instant::now();
    let method = request.method().clone();
    let request_id = header(&request, "X-Vcap-Request-Id");
    let response = next.call(request).await?;
    let route = response.request().match_pattern().unwrap_or_else(|| "(none)".into());
    let (status, took_ms) = (response.status().as_u16(), started.elapsed().as_millis() as u64);
    if let Some(failure) = response.response().error()
        && status >= 500
    {
        error!(request.id = request_id, status, error = failure as &dyn std::error::Error, "{method} {route} failed");
    } else if route != "/healthz" {
        info!(request.id = request_id, status, took_ms, "{method} {route}");
    }
    Ok(response)
}

fn header(request: &ServiceRequest, name: &str) -> String {
    let value = request.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().chars().take(100).collect()
}
