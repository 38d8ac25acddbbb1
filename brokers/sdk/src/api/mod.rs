//! HTTP: one file for each resource. Parse, one call of the domain, shape the answer.

mod backups;
mod bindings;
mod error;
mod gate;
mod info;
mod instances;
pub(crate) mod openapi;

pub(crate) use gate::{Gate, pass};

use crate::{
    Failure,
    domain::{
        checks,
        service::{Answer, Ask, Service},
    },
};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
    web::{self, Bytes, Data, PayloadConfig, ServiceConfig},
};
use osb::{ApiVersion, Catalog, ORIGINATING_IDENTITY_HEADER, REQUEST_IDENTITY_HEADER};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Largest body of a request.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;

/// What handlers need.
pub(crate) struct Api {
    pub(crate) service: Service,
    pub(crate) catalog: Catalog,
    pub(crate) poll_interval: Duration,
}

/// What a handler gives back.
type Handled = Result<HttpResponse, Failure>;

/// All routes.
pub(crate) fn routes(api: Data<Api>) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        app.app_data(api)
            .app_data(PayloadConfig::new(MAX_BODY_BYTES))
            .service((info::health, info::metrics, info::document, info::catalog))
            .service((
                instances::provision,
                instances::update,
                instances::deprovision,
                instances::fetch,
                instances::last_operation,
            ))
            .service((bindings::bind, bindings::unbind, bindings::fetch, bindings::last_operation))
            .service((backups::create, backups::list, backups::fetch, backups::delete, backups::restore))
            .default_service(web::to(async || -> Handled { Err(Failure::not_found("there is nothing here")) }));
    }
}

impl Api {
    /// The answer to a change.
    fn answer<T: Serialize>(&self, answer: Answer<T>) -> HttpResponse {
        match answer {
            Answer::Created(body) => HttpResponse::Created().json(body),
            Answer::Ok(body) => HttpResponse::Ok().json(body),
            Answer::Gone => HttpResponse::Gone().json(json!({})),
            Answer::Accepted(operation, body) => {
                let mut body = serde_json::to_value(body).unwrap_or_else(|_| json!({}));
                body["operation"] = operation.into();
                self.later(StatusCode::ACCEPTED).json(body)
            }
        }
    }

    /// An answer after which the platform should wait.
    fn later(&self, status: StatusCode) -> HttpResponseBuilder {
        let mut builder = HttpResponse::build(status);
        builder.insert_header((header::RETRY_AFTER, self.poll_interval.as_secs().max(1)));
        builder
    }
}

/// The query; one that cannot be read is empty where nothing is required of it.
fn query(request: &HttpRequest) -> Result<checks::Query, Failure> {
    let query = web::Query::<checks::Query>::from_query(request.query_string());
    query.map(web::Query::into_inner).map_err(|_| Failure::invalid("the query cannot be read"))
}

fn ask(request: &HttpRequest, query: &checks::Query) -> Ask {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ask {
        accepts_incomplete: checks::accepts_incomplete(query),
        identity: header(ORIGINATING_IDENTITY_HEADER),
        request: header(REQUEST_IDENTITY_HEADER),
    }
}

fn object(request: &HttpRequest, body: Result<Bytes, actix_web::Error>) -> Result<Map<String, Value>, Failure> {
    let body = body.map_err(|error| error::body(&error))?;
    let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("unreadable"));
    checks::object(content_type, &body)
}

/// Endpoints that are newer than what the platform speaks.
fn since(request: &HttpRequest, minor: u32) -> Result<(), Failure> {
    let version = gate::version(request.headers())?;
    match version >= (ApiVersion { major: 2, minor }) {
        true => Ok(()),
        false => Err(gate::unsupported(&format!("this needs at least version 2.{minor} of the API"))),
    }
}
