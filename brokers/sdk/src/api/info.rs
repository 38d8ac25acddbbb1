//! The catalog, and what operators look at.

use super::{Api, Handled};
use crate::store::{bindings, instances};
use actix_web::{HttpResponse, get, web::Data};

/// `GET /v2/catalog`
#[get("/v2/catalog")]
pub(super) async fn catalog(api: Data<Api>) -> HttpResponse {
    HttpResponse::Ok().json(&api.catalog)
}

/// `GET /healthz`: whether the database answers.
#[get("/healthz")]
pub(super) async fn health(api: Data<Api>) -> Handled {
    api.service.shop.store.run(instances::count).await?;
    Ok(HttpResponse::Ok().content_type("text/plain").body("ok\n"))
}

/// `GET /metrics`, for Prometheus.
#[get("/metrics")]
pub(super) async fn metrics(api: Data<Api>) -> Handled {
    let shop = &api.service.shop;
    let (instances, bindings) = shop.store.run(|tx| Ok((instances::count(tx)?, bindings::count(tx)?))).await?;
    let text = shop.metrics.text(instances, bindings)?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text))
}

/// `GET /openapi.json`
#[get("/openapi.json")]
pub(super) async fn document() -> HttpResponse {
    HttpResponse::Ok().json(super::openapi::document())
}
