//! The rules that every answer keeps, whatever it answers.

use crate::{
    case::Finding,
    http::{Exchange, Login, Request, Route},
};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What was seen: for each rule that could be looked at, the first answer that breaks it.
#[derive(Default)]
pub(crate) struct Watch(Mutex<BTreeMap<&'static str, Option<Finding>>>);

/// What a rule says of one answer: nothing if it keeps it.
type Broken = Option<(String, String)>;

impl Watch {
    /// What is known of a rule: none if nothing showed it.
    pub(crate) fn of(&self, case: &str) -> Option<Option<Finding>> {
        self.0.lock().get(case).cloned()
    }

    /// Notes what a rule says.
    pub(crate) fn note(&self, case: &'static str, broken: Broken, exchange: Option<&Exchange>) {
        let mut seen = self.0.lock();
        let slot = seen.entry(case).or_default();
        let Some((expected, found)) = broken else { return };
        match slot {
            Some(first) => first.repeats += 1,
            None => *slot = Some(Finding { expected, found, exchange: exchange.cloned(), repeats: 0 }),
        }
    }

    pub(crate) fn look(&self, request: &Request, identity: &str, exchange: &Exchange) {
        let note = |case, broken| self.note(case, broken, Some(exchange));
        if let Some(why) = &exchange.answered.failure {
            return note("http.answers", Some(("a whole answer within the limits of time and size".to_owned(), why.clone())));
        }
        note("http.answers", None);
        if exchange.header(osb::REQUEST_IDENTITY_HEADER).is_some() || asked_with_identity(exchange) {
            note("header.request-identity", request_identity(identity, exchange));
        }
        let status = exchange.status();
        match status {
            200..=202 => note("http.json", object(exchange)),
            400.. => {
                note("http.error-body", error_body(request, exchange));
                if matches!(status, 400 | 409 | 422) {
                    note("http.error-description", error_description(exchange));
                }
            }
            _ => {}
        }
        if matches!(status, 200..=202) || (status >= 400 && exchange.json.is_some()) {
            note("http.content-type", content_type(exchange));
        }
        if status == 202 && request.login == Login::Right && !matches!(request.route, Route::Catalog) {
            note("async.uninvited", uninvited(request));
            note("async.operation", operation(exchange));
        } else if matches!(request.method.as_str(), "PUT" | "PATCH" | "DELETE") && !request.accepts_incomplete() {
            note("async.uninvited", None);
        }
        if let Some(deleting) = request.polls_delete {
            let broken = poll_status(deleting, exchange);
            if broken.is_none() && status == 200 {
                note("poll.body", poll_body(request, exchange));
            }
            note("poll.status", broken);
            if let Some(value) = exchange.header("Retry-After") {
                note("poll.retry-after", retry_after(value));
            }
        }
    }
}

fn asked_with_identity(exchange: &Exchange) -> bool {
    exchange.asked.headers.iter().any(|(name, _)| name == osb::REQUEST_IDENTITY_HEADER)
}

fn broken(expected: &str, found: impl Into<String>) -> Broken {
    Some((expected.to_owned(), found.into()))
}

fn request_identity(identity: &str, exchange: &Exchange) -> Broken {
    let expected = "the answer repeats the request's X-Broker-API-Request-Identity";
    match exchange.header(osb::REQUEST_IDENTITY_HEADER) {
        Some(echoed) if echoed == identity => None,
        Some(other) => broken(expected, format!("another value: {other}")),
        None => broken(expected, "no such header in the answer"),
    }
}

fn object(exchange: &Exchange) -> Broken {
    let expected = "a JSON object as body, `{}` if there is nothing to say";
    match &exchange.json {
        Some(Value::Object(_)) => None,
        Some(_) => broken(expected, "other JSON than an object"),
        None if exchange.answered.body.is_empty() => broken(expected, "an empty body"),
        None => broken(expected, "a body that is not JSON"),
    }
}

fn content_type(exchange: &Exchange) -> Broken {
    let expected = "Content-Type: application/json";
    match exchange.header("Content-Type") {
        Some(kind) if kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") => None,
        Some(other) => broken(expected, format!("Content-Type: {other}")),
        None => broken(expected, "no Content-Type"),
    }
}

fn error_body(request: &Request, exchange: &Exchange) -> Broken {
    let Some(body) = exchange.json.as_ref().and_then(Value::as_object) else {
        let claims_json = exchange.header("Content-Type").is_some_and(|kind| kind.starts_with("application/json"));
        return match claims_json && !exchange.answered.body.is_empty() {
            true => broken("an error body is a JSON object", "something else, although Content-Type says JSON"),
            false => None,
        };
    };
    for field in ["error", "description"] {
        if body.get(field).is_some_and(|value| value.as_str().is_none_or(str::is_empty)) {
            return broken(
                &format!("`{field}` of an error is a non-empty string, if it is there"),
                format!("`{field}` is {}", body[field]),
            );
        }
    }
    let instance = request.route == Route::Instance;
    let allowed = |field: &str| match request.method.as_str() {
        "PATCH" => instance,
        "DELETE" => instance && field == "instance_usable",
        _ => false,
    };
    ["instance_usable", "update_repeatable"].into_iter().find_map(|field| {
        let value = body.get(field)?;
        if !value.is_boolean() {
            return broken(&format!("`{field}` is a boolean"), format!("`{field}` is {value}"));
        }
        match allowed(field) {
            true => None,
            false => broken(
                &format!("`{field}` is only in errors of updates (and `instance_usable` of deprovisions)"),
                format!("`{field}` is {value}"),
            ),
        }
    })
}

fn error_description(exchange: &Exchange) -> Broken {
    match exchange.field("description").is_some() {
        true => None,
        false => broken("an error says in `description` what is wrong: it is all that users see", "no `description`"),
    }
}

fn uninvited(request: &Request) -> Broken {
    match request.accepts_incomplete() {
        true => None,
        false => {
            broken("202 only if the request says accepts_incomplete=true; otherwise done at once, or 422 AsyncRequired", "202")
        }
    }
}

fn operation(exchange: &Exchange) -> Broken {
    let expected = "`operation` is a non-empty string of at most 10000 characters, if it is there";
    match exchange.field("operation") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => match text.chars().count() {
            0 => broken(expected, "an empty string"),
            1..=osb::MAX_OPERATION_CHARS => None,
            count => broken(expected, format!("{count} characters")),
        },
        Some(other) => broken(expected, format!("`operation` is {other}")),
    }
}

fn poll_status(deleting: bool, exchange: &Exchange) -> Broken {
    match (exchange.status(), deleting) {
        (200, _) | (410, true) => None,
        (410, false) => broken("200 while a create or update is polled; 410 only means the end of a delete", "410"),
        (other, _) => broken("200 with the state of the operation, whatever the state is", other.to_string()),
    }
}

fn poll_body(request: &Request, exchange: &Exchange) -> Broken {
    let empty = Map::new();
    let body = exchange.json.as_ref().and_then(Value::as_object).unwrap_or(&empty);
    let expected = "`state` is `in progress`, `succeeded` or `failed`";
    let failed = match body.get("state").and_then(Value::as_str) {
        Some("in progress" | "succeeded") => false,
        Some("failed") => true,
        _ => return broken(expected, body.get("state").map_or("no `state`".to_owned(), |state| format!("`state` is {state}"))),
    };
    if body.get("description").is_some_and(|value| !value.is_string() && !value.is_null()) {
        return broken("`description` is a string, if it is there", format!("`description` is {}", body["description"]));
    }
    ["instance_usable", "update_repeatable"].into_iter().find_map(|field| {
        let value = body.get(field)?;
        match failed && request.route == Route::InstanceOperation && value.is_boolean() {
            true => None,
            false => broken(
                &format!("`{field}` is a boolean, and only there when an update or deprovision of an instance failed"),
                value.to_string(),
            ),
        }
    })
}

fn retry_after(value: &str) -> Broken {
    if value.trim().parse::<u32>().is_ok() {
        return None;
    }
    let why = match jiff::fmt::rfc2822::parse(value) {
        Ok(_) => "a date, which depends on two clocks",
        Err(_) => "neither seconds nor a date",
    };
    broken("Retry-After holds a number of seconds", format!("{value}: {why}"))
}
