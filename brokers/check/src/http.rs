//! One request and its answer, with limits on both, recorded as they were.

use crate::{
    case::{Miss, Outcome, skip},
    catalog::list,
    options::{OptionError, Options},
    watch::Watch,
};
use parking_lot::Mutex;
use rand::Rng;
use reqwest::{Method, header};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    error::Error,
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// After this many silent requests of one kind no further one is sent: each costs the whole time limit.
const SILENT_REQUESTS: usize = 2;
/// How much of an answer is kept for reports.
const KEPT_BYTES: usize = 16 << 10;

/// What was asked and what came back.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What was asked.
    pub asked: Asked,
    /// What came back.
    pub answered: Answered,
    pub(crate) json: Option<Value>,
}

/// A request as a report shows it: without credentials.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `PUT`.
    pub method: String,
    /// Path and query as they were sent.
    pub path: String,
    /// Headers except `Authorization`, whose place a remark takes.
    pub headers: Vec<(String, String)>,
    /// The body, if there was one.
    pub body: Option<String>,
}

/// An answer as a report shows it: values of credentials are hidden, long bodies are cut.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The status; none if no whole answer came.
    pub status: Option<u16>,
    /// Why no whole answer came.
    pub failure: Option<String>,
    /// All headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// How long it took.
    pub took: Duration,
}

/// Which endpoint a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Route {
    Catalog,
    Instance,
    InstanceOperation,
    Binding,
    BindingOperation,
}

/// What a request shows of who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    Right,
    None,
    WrongUser,
    WrongPassword,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Json(Value),
    /// A content type and whatever follows.
    Raw(&'static str, String),
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) route: Route,
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<Body>,
    pub(crate) login: Login,
    pub(crate) version: Option<String>,
    /// Real polls only: whether a delete is polled.
    pub(crate) polls_delete: Option<bool>,
}

impl Request {
    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
    pub(crate) fn json(mut self, body: Value) -> Self {
        self.body = Some(Body::Json(body));
        self
    }
    pub(crate) fn raw(mut self, content_type: &'static str, body: impl Into<String>) -> Self {
        self.body = Some(Body::Raw(content_type, body.into()));
        self
    }
    pub(crate) fn login(mut self, login: Login) -> Self {
        self.login = login;
        self
    }
    pub(crate) fn version(mut self, version: Option<&str>) -> Self {
        self.version = version.map(str::to_owned);
        self
    }
    pub(crate) fn accepts_incomplete(&self) -> bool {
        self.query.iter().any(|(name, value)| *name == "accepts_incomplete" && value == "true")
    }
    /// Path and query, percent-encoded.
    fn target(&self) -> String {
        let mut target = self.path.clone();
        for (index, (name, value)) in self.query.iter().enumerate() {
            target += if index == 0 { "?" } else { "&" };
            target += &format!("{name}={}", osb::paths::encode(value));
        }
        target
    }
    fn kind(&self) -> String {
        format!("{} {}", self.method, self.route)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Catalog => "catalog",
            Self::Instance => "service instance",
            Self::InstanceOperation => "last operation of an instance",
            Self::Binding => "service binding",
            Self::BindingOperation => "last operation of a binding",
        })
    }
}

/// The broker, as far as HTTP goes.
pub(crate) struct Http {
    client: reqwest::Client,
    options: Arc<Options>,
    rng: Mutex<Box<dyn Rng + Send>>,
    silent: Mutex<BTreeMap<String, usize>>,
    /// Why nobody could be reached, the first time.
    pub(crate) unreachable: Mutex<Option<String>>,
    /// What every answer showed.
    pub(crate) watch: Watch,
}

enum Failure {
    /// The time limit passed.
    Silent(String),
    /// There is nobody at that address.
    Unreachable(String),
    Broken(String),
}

impl Http {
    pub(crate) fn new(options: Arc<Options>, rng: Box<dyn Rng + Send>) -> Result<Self, OptionError> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_danger_accept_invalid_certs(options.any_certificate)
            // a connection for each request: one that the broker closed in between must not look like a lost answer
            .pool_max_idle_per_host(0);
        if !options.authorities.is_empty() {
            let authorities = reqwest::Certificate::from_pem_bundle(&options.authorities).map_err(OptionError::Tls)?;
            builder = builder.tls_certs_merge(authorities);
        }
        // Names under `.localhost` are this machine (RFC 6761); only some resolvers know that.
        if let Some(host) = options.url.host_str().filter(|host| host.ends_with(".localhost")) {
            builder = builder.resolve(host, SocketAddr::from(([127, 0, 0, 1], 0)));
        }
        let client = builder.build().map_err(OptionError::Tls)?;
        Ok(Self {
            client,
            options,
            rng: Mutex::new(rng),
            silent: Mutex::default(),
            unreachable: Mutex::default(),
            watch: Watch::default(),
        })
    }

    /// An id that the broker cannot know.
    pub(crate) fn new_id(&self) -> String {
        let mut bytes = [0; 16];
        self.rng.lock().fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// Sends a request. No whole answer is noted under `http.answers` and ends the case that asked.
    pub(crate) async fn send(&self, request: Request) -> Result<Exchange, Miss> {
        let kind = request.kind();
        if self.silent.lock().get(&kind).is_some_and(|count| *count >= SILENT_REQUESTS) {
            return skip(format!("not asked, because earlier requests `{kind}` were not answered in time (see http.answers)"));
        }
        let identity = self.new_id();
        let begun = Instant::now();
        let outcome = tokio::time::timeout(self.options.limits.request, self.exchange(&request, &identity)).await;
        let limit = self.options.limits.request.as_secs_f32();
        let outcome = outcome.unwrap_or_else(|_| Err(Failure::Silent(format!("no whole answer within {limit} s"))));
        let asked = self.asked(&request, &identity);
        let (status, failure, headers, body) = match outcome {
            Ok((status, headers, body)) => (Some(status), None, headers, body),
            Err(failure) => (None, Some(self.note(&kind, failure)), vec![], vec![]),
        };
        let json = serde_json::from_slice::<Value>(&body).ok();
        let answered = Answered { status, failure, headers, body: shown(&body, json.as_ref()), took: begun.elapsed() };
        let exchange = Exchange { asked, answered, json };
        self.watch.look(&request, &identity, &exchange);
        match &exchange.answered.failure {
            Some(why) => skip(format!("`{kind}` was not answered: {why} (see http.answers)")),
            None => Ok(exchange),
        }
    }

    /// Remembers what a failure means for later requests.
    fn note(&self, kind: &str, failure: Failure) -> String {
        match failure {
            Failure::Silent(why) => {
                *self.silent.lock().entry(kind.to_owned()).or_default() += 1;
                why
            }
            Failure::Unreachable(why) => {
                self.unreachable.lock().get_or_insert_with(|| why.clone());
                why
            }
            Failure::Broken(why) => why,
        }
    }

    async fn exchange(&self, request: &Request, identity: &str) -> Result<(u16, Vec<(String, String)>, Vec<u8>), Failure> {
        let url = format!("{}{}", self.options.url.as_str().trim_end_matches('/'), request.target());
        let mut builder = self.client.request(request.method.clone(), url);
        for (name, value) in self.headers(request, identity) {
            builder = builder.header(name, value);
        }
        if let Some(credentials) = &self.options.credentials {
            let (user, password) = (credentials.user.as_str(), credentials.password.expose());
            builder = match request.login {
                Login::Right => builder.basic_auth(user, Some(password)),
                Login::None => builder,
                Login::WrongUser => builder.basic_auth(format!("not-{user}"), Some(password)),
                Login::WrongPassword => builder.basic_auth(user, Some(format!("not-{password}"))),
            };
        }
        builder = match &request.body {
            None => builder,
            Some(Body::Json(value)) => builder.body(value.to_string()),
            Some(Body::Raw(_, text)) => builder.body(text.clone()),
        };
        let mut answer = builder.send().await.map_err(|e| match e.is_connect() {
            true => Failure::Unreachable(causes(&e)),
            false => Failure::Broken(causes(&e)),
        })?;
        let status = answer.status().as_u16();
        let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let limit =
            if request.route == Route::Catalog { self.options.limits.catalog_bytes } else { self.options.limits.answer_bytes };
        let mut body = vec![];
        while let Some(chunk) =
            answer.chunk().await.map_err(|e| Failure::Broken(format!("the answer broke off: {}", causes(&e))))?
        {
            body.extend_from_slice(&chunk);
            if body.len() > limit {
                return Err(Failure::Broken(format!("the answer ({status}) is larger than {} KiB", limit >> 10)));
            }
        }
        Ok((status, headers, body))
    }

    fn headers(&self, request: &Request, identity: &str) -> Vec<(&'static str, String)> {
        let mut headers = vec![("Accept", "application/json".to_owned())];
        if let Some(version) = &request.version {
            headers.push((osb::VERSION_HEADER, version.clone()));
        }
        if self.options.version.minor >= 15 {
            headers.push((osb::REQUEST_IDENTITY_HEADER, identity.to_owned()));
        }
        match &request.body {
            Some(Body::Json(_)) => headers.push(("Content-Type", "application/json".to_owned())),
            Some(Body::Raw(kind, _)) => headers.push(("Content-Type", (*kind).to_owned())),
            None => {}
        }
        headers.extend(request.headers.iter().cloned());
        headers
    }

    fn asked(&self, request: &Request, identity: &str) -> Asked {
        let mut headers: Vec<_> =
            self.headers(request, identity).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let login = match (request.login, &self.options.credentials) {
            (Login::None, _) | (_, None) => "(none)",
            (Login::Right, _) => "(the given user and password)",
            (Login::WrongUser, _) => "(a wrong user)",
            (Login::WrongPassword, _) => "(a wrong password)",
        };
        headers.insert(0, ("Authorization".to_owned(), login.to_owned()));
        let prefix = self.options.url.path().trim_end_matches('/');
        Asked {
            method: request.method.to_string(),
            path: format!("{prefix}{}", request.target()),
            headers,
            body: request.body.as_ref().map(|body| match body {
                Body::Json(value) => value.to_string(),
                Body::Raw(_, text) => text.clone(),
            }),
        }
    }
}

impl Exchange {
    pub(crate) fn status(&self) -> u16 {
        self.answered.status.unwrap_or_default()
    }

    pub(crate) fn is(&self, statuses: &[u16]) -> bool {
        statuses.contains(&self.status())
    }

    /// A miss that shows this exchange.
    pub(crate) fn fail(&self, expected: impl Into<String>, found: impl Into<String>) -> Miss {
        Miss::fail(expected, found, Some(self))
    }

    /// The status must be one of these.
    pub(crate) fn expect(&self, statuses: &[u16], expected: impl Into<String>) -> Outcome {
        if self.is(statuses) { Ok(()) } else { Err(self.fail(expected, self.summary())) }
    }

    /// `422 ConcurrencyError`: the status and, if there is one, the error word.
    pub(crate) fn summary(&self) -> String {
        match self.error_word() {
            Some(word) => format!("{} {word}", self.status()),
            None => self.status().to_string(),
        }
    }

    /// The body; a case that needs one ends if it is no object, which `http.json` reports.
    pub(crate) fn object(&self) -> Result<&Map<String, Value>, Miss> {
        match self.json.as_ref().and_then(Value::as_object) {
            Some(object) => Ok(object),
            None => skip("the answer is not a JSON object (see http.json)"),
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.json.as_ref()?.get(name)
    }

    pub(crate) fn error_word(&self) -> Option<&str> {
        self.field("error")?.as_str()
    }

    /// 422 with this error word.
    pub(crate) fn is_refused_with(&self, word: &str) -> bool {
        self.status() == 422 && self.error_word() == Some(word)
    }

    pub(crate) fn operation(&self) -> Option<String> {
        Some(self.field("operation")?.as_str()?.to_owned())
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.answered.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
    }
}

fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text += &format!(": {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// A body for people: the values of credentials and the secrets of dashboards are hidden, the rest is cut.
fn shown(body: &[u8], json: Option<&Value>) -> String {
    let mut text = match json.filter(|json| SECRETS.iter().any(|place| has(json, place))) {
        Some(json) => {
            let mut json = json.clone();
            hide_secrets(&mut json);
            json.to_string()
        }
        None => String::from_utf8_lossy(&body[..body.len().min(KEPT_BYTES)]).into_owned(),
    };
    if body.len() > KEPT_BYTES {
        text = text.chars().take(KEPT_BYTES).collect();
        text += &format!("… ({} bytes in all)", body.len());
    }
    text
}

/// Fields of bindings and of offerings that hold secrets.
const SECRETS: [&str; 2] = ["credentials", "dashboard_client"];

fn has(value: &Value, field: &str) -> bool {
    value.get(field).is_some() || list(value, "services").iter().any(|service| service.get(field).is_some())
}

fn hide_secrets(body: &mut Value) {
    if let Some(credentials) = body.get_mut("credentials") {
        hide(credentials);
    }
    for service in body.get_mut("services").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(secret) = service.get_mut("dashboard_client").and_then(|client| client.get_mut("secret")) {
            hide(secret);
        }
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(_) | Value::String(_) => *value = Value::String("(hidden)".to_owned()),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(fields) => fields.values_mut().for_each(hide),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_credentials_do_not_show() {
        let body = json!({"credentials": {"uri": "db://me:hunter2@host", "ports": [5432]}, "operation": "op"});
        let text = shown(body.to_string().as_bytes(), Some(&body));
        assert_eq!(text, r#"{"credentials":{"ports":["(hidden)"],"uri":"(hidden)"},"operation":"op"}"#);
    }

    #[test]
    fn secrets_of_dashboards_do_not_show() {
        let body = json!({"services": [{"name": "a"}, {"name": "b", "dashboard_client": {"id": "me", "secret": "hunter2"}}]});
        let text = shown(body.to_string().as_bytes(), Some(&body));
        assert_eq!(text, r#"{"services":[{"name":"a"},{"dashboard_client":{"id":"me","secret":"(hidden)"},"name":"b"}]}"#);
    }

    #[test]
    fn long_bodies_are_cut() {
        let text = shown("ü".repeat(KEPT_BYTES).as_bytes(), None);
        assert!(text.len() < KEPT_BYTES + 100 && text.ends_with("bytes in all)"));
    }
}
