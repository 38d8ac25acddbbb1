//! Service instances.

use super::{Api, Handled, ask, object, query, since};
use crate::domain::{checks, service::Looked};
use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::StatusCode,
    patch, put,
    web::{Bytes, Data, Path},
};
use osb::{AcceptedResponse, OperationState};

type Body = Result<Bytes, actix_web::Error>;

#[put("/v2/service_instances/{instance_id}")]
pub(super) async fn provision(api: Data<Api>, request: HttpRequest, path: Path<String>, body: Body) -> Handled {
    checks::id(&path, "service instance")?;
    let query = query(&request)?;
    let wanted = checks::provision(object(&request, body)?)?;
    Ok(api.answer(api.service.provision(&path, wanted, ask(&request, &query)).await?))
}

#[patch("/v2/service_instances/{instance_id}")]
pub(super) async fn update(api: Data<Api>, request: HttpRequest, path: Path<String>, body: Body) -> Handled {
    checks::id(&path, "service instance")?;
    let query = query(&request)?;
    let wanted = checks::update(object(&request, body)?)?;
    Ok(api.answer(api.service.update(&path, wanted, ask(&request, &query)).await?))
}

#[delete("/v2/service_instances/{instance_id}")]
pub(super) async fn deprovision(api: Data<Api>, request: HttpRequest, path: Path<String>) -> Handled {
    checks::id(&path, "service instance")?;
    let query = query(&request)?;
    let (service_id, plan_id) = checks::delete_ids(&query)?;
    Ok(api.answer(api.service.deprovision(&path, service_id, plan_id, ask(&request, &query)).await?))
}

#[get("/v2/service_instances/{instance_id}")]
pub(super) async fn fetch(api: Data<Api>, request: HttpRequest, path: Path<String>) -> Handled {
    since(&request, 14)?;
    Ok(HttpResponse::Ok().json(api.service.fetch_instance(&path).await?))
}

#[get("/v2/service_instances/{instance_id}/last_operation")]
pub(super) async fn last_operation(api: Data<Api>, request: HttpRequest, path: Path<String>) -> Handled {
    let query = query(&request)?;
    let looked = api.service.last_operation(&path, None, query.get("operation").map(String::as_str)).await?;
    Ok(looked_answer(&api, looked))
}

/// The answer to a poll.
pub(super) fn looked_answer(api: &Api, looked: Looked) -> HttpResponse {
    match looked {
        Looked::Gone(description) => HttpResponse::Gone().json(AcceptedResponse { operation: None, description }),
        Looked::Last(last) if last.state == OperationState::InProgress => api.later(StatusCode::OK).json(last),
        Looked::Last(last) => HttpResponse::Ok().json(last),
    }
}
