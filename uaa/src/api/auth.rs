//! Who is calling: a bearer token, or a client's id and secret.

use super::{Api, Failure};
use crate::domain::{Error, access::Caller, clients::ClientCredentials};
use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::AUTHORIZATION};
use base64::{Engine, prelude::BASE64_STANDARD};
use foundation::Secret;
use std::{collections::BTreeMap, future::Future, pin::Pin};

impl FromRequest for Caller {
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Failure>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let (api, token) = (request.app_data::<Api>().cloned(), bearer(request).map(str::to_owned));
        Box::pin(async move {
            let token = token.ok_or_else(|| Error::Token("Full authentication is required to access this resource".into()))?;
            let api = api.ok_or_else(|| Error::Internal("the routes", "they have no service".into()))?;
            Ok(api.caller(&token).await?)
        })
    }
}

/// The token of an `Authorization: bearer ...` header.
pub(super) fn bearer(request: &HttpRequest) -> Option<&str> {
    let (word, token) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    word.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The fields of a form. A field that is there twice is refused: which of them counts would be anybody's guess.
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    pub(super) fn read(request: &HttpRequest, body: &[u8]) -> Result<Self, Error> {
        let kind = request.headers().get("Content-Type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !body.is_empty() && !kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
            return Err(Error::Request("The body must be application/x-www-form-urlencoded.".into()));
        }
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            if fields.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Error::Request(format!("The parameter {name} is there more than once.")));
            }
        }
        Ok(Self(fields))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn needed(&self, name: &str) -> Result<&str, Error> {
        self.get(name).ok_or_else(|| Error::Request(format!("The parameter {name} is missing.")))
    }
}

/// A client's id and secret: by HTTP Basic, or as fields of the form; not both with different ids.
pub(super) fn client(request: &HttpRequest, form: &Form) -> Result<ClientCredentials, Error> {
    let in_form = form.get("client_id");
    match request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).filter(|value| !value.trim().is_empty()) {
        Some(header) => {
            let credentials = basic(header, request).ok_or(Error::Client)?;
            if in_form.is_some_and(|id| id != credentials.id) {
                return Err(Error::Client);
            }
            Ok(credentials)
        }
        None => {
            let id = in_form.ok_or(Error::Client)?.to_owned();
            Ok(ClientCredentials { id, secret: Secret::new(form.get("client_secret").unwrap_or_default()) })
        }
    }
}

fn basic(header: &str, request: &HttpRequest) -> Option<ClientCredentials> {
    let (word, encoded) = header.trim().split_once(' ')?;
    if !word.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    // old clients do not encode the parts as RFC 6749 says, so only a client that says so is decoded
    let encoded = request.headers().get("X-CF-ENCODED-CREDENTIALS").is_some_and(|value| value == "true");
    let plain = |part: &str| if encoded { form_decoded(part) } else { part.to_owned() };
    Some(ClientCredentials { id: plain(id), secret: Secret::new(plain(secret)) })
}

fn form_decoded(text: &str) -> String {
    url::form_urlencoded::parse(text.replace('&', "%26").replace('=', "%3D").as_bytes())
        .map(|(name, _)| name.into_owned())
        .collect()
}
