//! The pages of a browser: templates, one style sheet, no scripts.

use super::Failure;
use crate::domain::Error;
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError, get, http::StatusCode};
use askama::Template;
use std::fmt::Write;

/// Shorthand of the handlers of pages.
pub(super) type PageAnswer = Result<HttpResponse, BrowserFailure>;

/// Where somebody logs in.
#[derive(Template)]
#[template(path = "login.html")]
pub(super) struct Login<'a> {
    pub(super) problem: Option<&'a str>,
    pub(super) user_name: &'a str,
    pub(super) next: &'a str,
    pub(super) token: &'a str,
}

/// What somebody sees who is logged in and did not come for anything.
#[derive(Template)]
#[template(path = "home.html")]
pub(super) struct Home<'a> {
    pub(super) user_name: &'a str,
    pub(super) api: &'a str,
}

/// Whether a client may have tokens.
#[derive(Template)]
#[template(path = "consent.html")]
pub(super) struct Consent<'a> {
    pub(super) client: &'a str,
    pub(super) user_name: &'a str,
    pub(super) rights: Vec<&'a str>,
    pub(super) to: &'a str,
    pub(super) request: &'a str,
    pub(super) token: &'a str,
}

/// A one-time passcode.
#[derive(Template)]
#[template(path = "passcode.html")]
pub(super) struct Passcode<'a> {
    pub(super) user_name: &'a str,
    pub(super) passcode: &'a str,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Problem<'a> {
    text: &'a str,
}

/// A page; `to` is another place than here that its form may lead to, as a source of the content security policy.
pub(super) fn page(status: StatusCode, to: Option<&str>, template: &impl Template) -> Result<HttpResponse, Error> {
    let body = template.render().map_err(|e| Error::Internal("a page", e.into()))?;
    Ok(headed(status, to).body(body))
}

fn headed(status: StatusCode, to: Option<&str>) -> HttpResponseBuilder {
    let mut policy =
        "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'".to_owned();
    if let Some(to) = to {
        // writing to a text cannot fail
        let _ = write!(policy, " {to}");
    }
    let mut response = HttpResponse::build(status);
    response
        .content_type("text/html; charset=utf-8")
        .insert_header(("Content-Security-Policy", policy))
        .insert_header(("X-Frame-Options", "DENY"))
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .insert_header(("Referrer-Policy", "no-referrer"))
        .insert_header(("Cache-Control", "no-store"));
    response
}

#[get("/login/style.css")]
pub(super) async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .insert_header(("Cache-Control", "public, max-age=3600"))
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .body(include_str!("../../templates/style.css"))
}

/// What a scope means, for people.
pub(super) fn right(scope: &str) -> &str {
    match scope {
        "openid" => "See who you are: your user name and your e-mail address",
        "profile" => "See your name",
        "roles" => "See which groups you are in",
        "cloud_controller.read" => "See your organizations, spaces, apps and services",
        "cloud_controller.write" => "Change your apps, services, spaces and organizations",
        "cloud_controller.admin" => "Manage the whole platform as an administrator",
        "cloud_controller_service_permissions.read" => "See whether you may look at and manage a service instance",
        "password.write" => "Change your password",
        other => other,
    }
}

/// A failed operation, as somebody in front of a browser sees it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct BrowserFailure(Failure);

impl From<Error> for BrowserFailure {
    fn from(error: Error) -> Self {
        Self(Failure(error))
    }
}

impl ResponseError for BrowserFailure {
    fn status_code(&self) -> StatusCode {
        self.0.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let (_, _, text) = self.0.parts();
        match (Problem { text: &text }).render() {
            Ok(body) => headed(self.status_code(), None).body(body),
            Err(_) => headed(self.status_code(), None).content_type("text/plain; charset=utf-8").body(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_write_stays_text() {
        let evil = "\"><script>alert('x')</script>&";
        let consent = Consent { client: evil, user_name: evil, rights: vec![evil], to: evil, request: evil, token: evil };
        let login = Login { problem: Some(evil), user_name: evil, next: evil, token: evil };
        let pages = [
            consent.render(),
            login.render(),
            Home { user_name: evil, api: evil }.render(),
            Passcode { user_name: evil, passcode: evil }.render(),
            Problem { text: evil }.render(),
        ];
        for page in pages {
            let page = page.unwrap();
            assert!(!page.contains("<script") && !page.contains("alert('") && page.contains("&#60;script"), "{page}");
        }
    }
}
