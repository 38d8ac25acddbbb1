//! The only file that knows status codes and the texts that clients compare.
//!
//! Source: cloudfoundry/cli, `api/uaa/error_converter.go`; cloudfoundry/uaa, `messages.properties`.

use crate::domain::Error;
use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde_json::{Value, json};

/// A failed operation, as the caller sees it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Failure(#[from] pub(crate) Error);

/// The shape of every error.
pub(crate) fn body(error: &str, description: &str) -> Value {
    json!({ "error": error, "error_description": description })
}

/// A body or query that cannot be read.
pub(crate) fn unreadable(error: &dyn std::fmt::Display) -> Failure {
    Failure(Error::Request(format!("The request cannot be read: {error}")))
}

impl Failure {
    pub(super) fn parts(&self) -> (u16, &'static str, String) {
        match &self.0 {
            Error::NotFound("token") => (404, "not_found", "Token not found".into()),
            Error::NotFound("client") => (404, "not_found", "No such client.".into()),
            Error::NotFound(what) => (404, "scim_resource_not_found", format!("That {what} does not exist.")),
            Error::UserTaken { name, .. } => (409, "scim_resource_already_exists", format!("Username already in use: {name}")),
            Error::GroupTaken(name) => {
                (409, "scim_resource_already_exists", format!("A group with displayName {name} already exists."))
            }
            Error::ClientTaken(id) => (409, "invalid_client", format!("Client already exists: {id}")),
            Error::BadClient(why) => (400, "invalid_client", why.clone()),
            Error::AlreadyMember => (409, "member_already_exists", "The member is in the group already.".into()),
            Error::Changed => {
                (412, "scim", "The resource was changed meanwhile: read it again, and send its version as If-Match.".into())
            }
            Error::Invalid(why) => (400, "invalid_scim_resource", why.clone()),
            Error::Password(why) => (422, "invalid_password", why.clone()),
            Error::Filter(why) => (400, "scim", format!("Invalid filter expression: {why}")),
            Error::Request(why) => (400, "invalid_request", why.clone()),
            Error::Client => (401, "unauthorized", "Bad credentials".into()),
            Error::UnauthorizedGrant(why) => (401, "unauthorized_client", why.clone()),
            Error::UnsupportedGrant => (400, "unsupported_grant_type", "Unsupported grant type".into()),
            Error::Credentials => (401, "unauthorized", "Bad credentials".into()),
            Error::Locked => {
                (401, "unauthorized", "Your account has been locked because of too many failed attempts to login.".into())
            }
            Error::Origin => (401, "unauthorized", "The origin provided in the login hint is invalid.".into()),
            Error::Scope(why) => (400, "invalid_scope", why.clone()),
            Error::Grant(why) => (400, "invalid_grant", (*why).into()),
            Error::Passcode => (401, "unauthorized", "Invalid passcode".into()),
            Error::Page(why) => (400, "invalid_request", (*why).into()),
            Error::Forged => (
                403,
                "invalid_form",
                "This page was open for too long, or the request did not come from it. Please try again.".into(),
            ),
            Error::Token(why) => (401, "invalid_token", why.clone()),
            Error::Forbidden(scopes) => {
                (403, "insufficient_scope", format!("Insufficient scope for this resource: {}", scopes.join(" or ")))
            }
            Error::Unavailable(what, _) => {
                (503, "temporarily_unavailable", format!("{what} is busy or away; try again in a moment."))
            }
            Error::Internal(..) => (500, "server_error", "An unexpected error occurred.".into()),
        }
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.parts().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let (status, error, description) = self.parts();
        let mut body = body(error, &description);
        if let Error::UserTaken { holder: Some(holder), .. } = &self.0 {
            body["user_id"] = json!(holder);
        }
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header(("Cache-Control", "no-store"));
        match (&self.0, status) {
            (Error::Client | Error::UnauthorizedGrant(_), 401) => {
                response.insert_header(("WWW-Authenticate", "Basic realm=\"UAA/client\""));
            }
            (_, 401 | 403) => {
                response.insert_header(("WWW-Authenticate", format!("Bearer realm=\"UAA/oauth\", error=\"{error}\"")));
            }
            _ => {}
        }
        if let Error::Forbidden(scopes) = &self.0 {
            body["scope"] = json!(scopes.join(" "));
        }
        response.json(body)
    }
}
