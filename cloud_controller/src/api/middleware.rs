//! What happens around every request: its id, its span, headers of the answer, and answers that came without a body.

use crate::api::{Api, auth::UserGuid};
use actix_web::{
    Error, HttpMessage, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use tracing::Instrument;

/// The largest id that is taken over from the caller.
const MAX_ID: usize = 255;

/// Wraps every request.
pub async fn around<B: MessageBody + 'static>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = request_id(&request);
    let span = tracing::info_span!("request", request.id = %id, method = %request.method(), path = request.path());
    let response = next.call(request).instrument(span).await?;
    let user = response.request().extensions().get::<UserGuid>().cloned();
    let mut response = response.map_into_boxed_body();
    if let Some(plain) = uncovered(&response) {
        response = response.into_response(plain);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(HeaderName::from_static("x-vcap-request-id"), value);
    }
    if let Some(value) = user.and_then(|UserGuid(guid)| HeaderValue::from_str(&guid).ok()) {
        headers.insert(HeaderName::from_static("x-user-guid"), value);
    }
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// Errors that the framework answers by itself (a body that is too large, ...) in the contract's shape.
fn uncovered(response: &ServiceResponse<BoxBody>) -> Option<HttpResponse> {
    use crate::{api::Failure, domain};
    use actix_web::ResponseError;
    let status = response.status();
    let is_json = response.headers().get("content-type").is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
    let is_ours = matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0)) || is_json;
    if is_ours || !status.is_client_error() {
        return None;
    }
    let error = match status {
        StatusCode::PAYLOAD_TOO_LARGE => domain::Error::TooLarge(super::MAX_BODY as u64),
        StatusCode::NOT_FOUND => domain::Error::UnknownRequest,
        _ => domain::Error::BadRequest("the request cannot be read".into()),
    };
    Some(Failure(error).error_response())
}

/// The caller's id, cut to what is harmless, with a fresh one behind it.
fn request_id(request: &ServiceRequest) -> String {
    let fresh = request.app_data::<Data<Api>>().map(|api| api.guid()).unwrap_or_default();
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    let given = header("x-vcap-request-id").or_else(|| header("x-request-id")).unwrap_or_default();
    let given: String = given.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).take(MAX_ID).collect();
    if given.is_empty() { fresh } else { format!("{given}::{fresh}") }
}
