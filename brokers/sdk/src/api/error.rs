//! From failures to answers.

use crate::Failure;
use actix_web::{HttpResponse, ResponseError, error::PayloadError, http::StatusCode};
use serde_json::json;

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if self.status == 503 {
            response.insert_header(("Retry-After", "5"));
        }
        response.json(json!(self.body))
    }
}

/// A body that did not come.
pub(super) fn body(error: &actix_web::Error) -> Failure {
    match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => {
            Failure { status: 413, ..Failure::invalid(format!("the body has more than {} bytes", super::MAX_BODY_BYTES)) }
        }
        _ => Failure::invalid("the body did not come to its end"),
    }
}
