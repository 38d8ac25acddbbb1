//! Service bindings.

use super::{Api, Handled, ask, instances::looked_answer, object, query, since};
use crate::domain::{checks, service::Ask};
use actix_web::{
    HttpRequest, HttpResponse, delete, get, put,
    web::{Bytes, Data, Path},
};

type Ids = Path<(String, String)>;

#[put("/v2/service_instances/{instance_id}/service_bindings/{binding_id}")]
pub(super) async fn bind(api: Data<Api>, request: HttpRequest, path: Ids, body: Result<Bytes, actix_web::Error>) -> Handled {
    let (instance_id, binding_id) = path.into_inner();
    checks::id(&instance_id, "service instance")?;
    checks::id(&binding_id, "service binding")?;
    let query = query(&request)?;
    let wanted = checks::bind(object(&request, body)?)?;
    let ask = polls(&request, ask(&request, &query));
    Ok(api.answer(api.service.bind(&instance_id, &binding_id, wanted, ask).await?))
}

#[delete("/v2/service_instances/{instance_id}/service_bindings/{binding_id}")]
pub(super) async fn unbind(api: Data<Api>, request: HttpRequest, path: Ids) -> Handled {
    let (instance_id, binding_id) = path.into_inner();
    let query = query(&request)?;
    let ask = polls(&request, ask(&request, &query));
    Ok(api.answer(api.service.unbind(&instance_id, &binding_id, &query, ask).await?))
}

#[get("/v2/service_instances/{instance_id}/service_bindings/{binding_id}")]
pub(super) async fn fetch(api: Data<Api>, request: HttpRequest, path: Ids) -> Handled {
    since(&request, 14)?;
    let (instance_id, binding_id) = path.into_inner();
    Ok(HttpResponse::Ok().json(api.service.fetch_binding(&instance_id, &binding_id).await?))
}

#[get("/v2/service_instances/{instance_id}/service_bindings/{binding_id}/last_operation")]
pub(super) async fn last_operation(api: Data<Api>, request: HttpRequest, path: Ids) -> Handled {
    let (instance_id, binding_id) = path.into_inner();
    let query = query(&request)?;
    let operation = query.get("operation").map(String::as_str);
    Ok(looked_answer(&api, api.service.last_operation(&instance_id, Some(&binding_id), operation).await?))
}

/// Before 2.14 there were no bindings in the background, and the flag meant nothing.
fn polls(request: &HttpRequest, ask: Ask) -> Ask {
    let knows = since(request, 14).is_ok();
    Ask { accepts_incomplete: ask.accepts_incomplete && knows, ..ask }
}
