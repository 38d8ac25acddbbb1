//! Requests to the API: tokens renewed in time, errors in the platform's words, pages followed, jobs waited for.

use crate::{
    config::{Config, Named},
    net,
    problem::Problem,
    ui,
};
use anyhow::bail;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Map, Value};
use std::{
    fmt,
    time::{Duration, Instant},
};

/// Between two looks at something that is under way.
pub(crate) const POLL: Duration = Duration::from_millis(250);
/// Tokens that end sooner than this are renewed first.
const RENEW_BEFORE_S: i64 = 60;
/// Pauses before a request that changes nothing is tried again.
const PAUSES_MS: [u64; 4] = [200, 500, 1_000, 2_000];

/// What the API said instead of doing it.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) title: String,
    pub(crate) detail: String,
    request_id: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            500.. => {
                write!(f, "Unexpected Response\nResponse Code: {}\nRequest ID: {}\n{}", self.status, self.request_id, self.detail)
            }
            _ => f.write_str(&self.detail),
        }
    }
}
impl std::error::Error for ApiError {}

/// An answer with its body read.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) body: Value,
    /// The job to wait for.
    pub(crate) location: Option<String>,
}

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// It ended well, or there was none.
    Complete,
    /// Somebody outside goes on with it, and the platform asks them from time to time.
    Polling,
}

/// A platform, and who we are there.
pub(crate) struct Api {
    pub(crate) config: Config,
    http: reqwest::Client,
    verbose: bool,
}

/// The claims of our own token that matter here.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) user_id: Option<String>,
    pub(crate) origin: Option<String>,
    pub(crate) token_id: Option<String>,
    expires_at: i64,
}

impl Api {
    /// The platform of the last `cf api` or `cf login`.
    pub(crate) fn load(verbose: bool) -> anyhow::Result<Self> {
        Self::with(Config::load()?, verbose)
    }
    /// A platform by its settings.
    pub(crate) fn with(config: Config, verbose: bool) -> anyhow::Result<Self> {
        let http = net::client(config.skip_ssl_validation)?;
        Ok(Self { config, http, verbose })
    }
    /// Looks at another platform from now on.
    pub(crate) fn retarget(&mut self, config: Config) -> anyhow::Result<()> {
        *self = Self::with(config, self.verbose)?;
        Ok(())
    }

    /// # Errors
    /// When no API was chosen.
    pub(crate) fn target(&self) -> anyhow::Result<&str> {
        match &self.config.target {
            Some(target) => Ok(target),
            None => bail!(Problem::new("No API endpoint set. Use 'cf login' or 'cf api' to target an endpoint.")),
        }
    }
    /// Who is logged in.
    ///
    /// # Errors
    /// When nobody is.
    pub(crate) fn identity(&self) -> anyhow::Result<Identity> {
        self.target()?;
        match identity(&self.config.access_token) {
            Some(identity) => Ok(identity),
            None => bail!(Problem::new("Not logged in. Use 'cf login' to log in.")),
        }
    }
    /// The targeted org.
    pub(crate) fn org(&self) -> anyhow::Result<Named> {
        self.identity()?;
        match &self.config.org {
            Some(org) => Ok(org.clone()),
            None => bail!(Problem::new("No org targeted, use 'cf target -o ORG' to target an org.")),
        }
    }
    /// The targeted space with its org.
    pub(crate) fn space(&self) -> anyhow::Result<(Named, Named)> {
        self.identity()?;
        match (&self.config.org, &self.config.space) {
            (Some(org), Some(space)) => Ok((org.clone(), space.clone())),
            (Some(_), None) => bail!(Problem::new("No space targeted, use 'cf target -s SPACE' to target a space.")),
            _ => bail!(Problem::new("No org and space targeted, use 'cf target -o ORG -s SPACE' to target an org and space.")),
        }
    }

    /// Reads a document: `/v3/...` or a whole address of this API.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        Ok(self.send(Method::GET, path, None).await?.body)
    }
    /// Reads a list with all its pages.
    pub(crate) async fn list(&mut self, path: &str) -> anyhow::Result<Vec<Value>> {
        let (mut all, mut next) = (vec![], Some(path.to_owned()));
        while let Some(path) = next {
            let mut page = self.get(&path).await?;
            if let Some(Value::Array(resources)) = page.get_mut("resources").map(Value::take) {
                all.extend(resources);
            }
            next = page.pointer("/pagination/next/href").and_then(Value::as_str).map(str::to_owned);
        }
        Ok(all)
    }
    /// Reads a list with all its pages, and the documents that came along with it, by kind.
    pub(crate) async fn list_with_included(&mut self, path: &str) -> anyhow::Result<(Vec<Value>, Value)> {
        let (mut all, mut included, mut next) = (vec![], Map::new(), Some(path.to_owned()));
        while let Some(path) = next {
            let mut page = self.get(&path).await?;
            if let Some(Value::Array(resources)) = page.get_mut("resources").map(Value::take) {
                all.extend(resources);
            }
            if let Some(Value::Object(kinds)) = page.get_mut("included").map(Value::take) {
                for (kind, documents) in kinds {
                    match (included.entry(kind).or_insert_with(|| Value::Array(vec![])), documents) {
                        (Value::Array(known), Value::Array(more)) => known.extend(more),
                        (known, documents) => *known = documents,
                    }
                }
            }
            next = page.pointer("/pagination/next/href").and_then(Value::as_str).map(str::to_owned);
        }
        Ok((all, Value::Object(included)))
    }
    /// The first of a list.
    pub(crate) async fn first(&mut self, path: &str) -> anyhow::Result<Option<Value>> {
        let mut page = self.get(path).await?;
        Ok(page.pointer_mut("/resources/0").map(Value::take))
    }
    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        self.send(Method::POST, path, Some(body)).await
    }
    pub(crate) async fn patch(&mut self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        self.send(Method::PATCH, path, Some(body)).await
    }
    /// Deletes, and waits for the job that does it.
    pub(crate) async fn delete(&mut self, path: &str) -> anyhow::Result<()> {
        let reply = self.remove(path).await?;
        self.job(reply).await
    }
    /// Deletes; the answer may have a job.
    pub(crate) async fn remove(&mut self, path: &str) -> anyhow::Result<Reply> {
        self.send(Method::DELETE, path, None).await
    }

    /// Waits for the job of an answer, if it has one.
    pub(crate) async fn job(&mut self, reply: Reply) -> anyhow::Result<()> {
        self.follow(reply, true).await.map(|_| ())
    }

    /// Follows the job of an answer to its end; without `to_the_end` only until somebody else goes on with it by themselves.
    pub(crate) async fn follow(&mut self, reply: Reply, to_the_end: bool) -> anyhow::Result<Job> {
        let Some(location) = reply.location else { return Ok(Job::Complete) };
        let mut told = 0;
        loop {
            let job = self.get(&location).await?;
            for warning in array(&job, "/warnings").skip(told) {
                eprintln!("{}", ui::harmless(text(warning, "/detail")));
            }
            told = array(&job, "/warnings").count();
            match text(&job, "/state") {
                "COMPLETE" => return Ok(Job::Complete),
                "POLLING" if !to_the_end => return Ok(Job::Polling),
                "FAILED" => bail!(Problem::new(match text(&job, "/errors/0/detail") {
                    "" => "The job failed, and the platform does not say why.",
                    detail => detail,
                })),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// A request with a JSON body.
    pub(crate) async fn send(&mut self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Reply> {
        let reads = method == Method::GET;
        let mut pauses = PAUSES_MS.iter();
        loop {
            let sent = self.authorized(
                |http, url| {
                    let request =
                        http.request(method.clone(), url).header("Accept", "application/json").timeout(Duration::from_secs(60));
                    match body {
                        Some(body) => request.json(body),
                        None => request,
                    }
                },
                path,
            );
            let error = match sent.await {
                Ok(answer) => return reply(answer).await,
                Err(error) => error,
            };
            // what only reads may be asked again: a platform that restarts is back in a moment
            let passing = error.downcast_ref::<ApiError>().is_some_and(|e| e.status >= 500) || error.is::<Passing>();
            match pauses.next().filter(|_| reads && passing) {
                Some(pause) => tokio::time::sleep(Duration::from_millis(*pause)).await,
                None => return Err(unwrapped(error)),
            }
        }
    }

    /// A request of any shape, with our token; renewed once if the platform gave it up.
    pub(crate) async fn authorized(
        &mut self,
        build: impl Fn(&reqwest::Client, &str) -> RequestBuilder,
        path: &str,
    ) -> anyhow::Result<Response> {
        let url = self.url(path)?;
        self.renew(false).await?;
        let answer = self.execute(build(&self.http, &url)).await?;
        let error = match refused(answer).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if error.status == 401 && error.title == "CF-InvalidAuthToken" && !self.config.refresh_token.is_empty() {
            self.renew(true).await?;
            let again = self.execute(build(&self.http, &url)).await?;
            return refused(again).await.map_err(log_in_again);
        }
        Err(log_in_again(error))
    }

    /// A request without our token.
    pub(crate) async fn anonymous(&self, build: impl FnOnce(&reqwest::Client) -> RequestBuilder) -> anyhow::Result<Response> {
        let (client, request) = build(&self.http).build_split();
        let request = request.map_err(net::no_answer)?;
        self.traced(&client, request).await.map_err(|e| net::no_answer(e).into())
    }

    async fn execute(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let request = match self.config.access_token.as_str() {
            "" => request,
            token => request.header("Authorization", format!("bearer {token}")),
        };
        let (client, request) = request.build_split();
        let request = request.map_err(net::no_answer)?;
        let answer = self.traced(&client, request).await.map_err(|e| Passing(net::no_answer(e)))?;
        if let Some(warnings) = answer.headers().get("X-Cf-Warnings").and_then(|value| value.to_str().ok()) {
            for warning in warnings.split(',').filter(|warning| !warning.is_empty()) {
                let decoded: String =
                    url::form_urlencoded::parse(warning.as_bytes()).map(|(text, _)| text.into_owned()).collect();
                eprintln!("{}", ui::harmless(&decoded));
            }
        }
        Ok(answer)
    }

    async fn traced(&self, client: &reqwest::Client, request: reqwest::Request) -> reqwest::Result<Response> {
        let (started, line) = (Instant::now(), format!("{} {}", request.method(), request.url()));
        let answer = client.execute(request).await;
        if self.verbose {
            let took = started.elapsed().as_millis();
            match &answer {
                Ok(answer) => eprintln!("{line} -> {} ({took} ms)", answer.status().as_u16()),
                Err(e) => eprintln!("{line} -> {e} ({took} ms)"),
            }
        }
        answer
    }

    /// An address of this API; others never see our token.
    fn url(&self, path: &str) -> anyhow::Result<String> {
        let target = self.target()?;
        if path.starts_with('/') {
            return Ok(format!("{target}{path}"));
        }
        let ours = [target, &self.config.log_cache, &self.config.uaa, &self.config.login];
        match ours.iter().any(|base| !base.is_empty() && path.strip_prefix(*base).is_some_and(|rest| rest.starts_with('/'))) {
            true => Ok(path.to_owned()),
            false => bail!("the platform points to {path}, which is not under {target}; not following it"),
        }
    }

    /// Gets a new access token when ours ends soon, or at any rate.
    pub(crate) async fn renew(&mut self, at_any_rate: bool) -> anyhow::Result<()> {
        let Some(ours) = identity(&self.config.access_token) else { return Ok(()) };
        if !at_any_rate && ours.expires_at - now() > RENEW_BEFORE_S {
            return Ok(());
        }
        // another command may have renewed it meanwhile: the old refresh token would not serve for long
        let kept = self.config.again()?;
        if kept.target == self.config.target && kept.access_token != self.config.access_token {
            let same_user =
                identity(&kept.access_token).filter(|theirs| theirs.user_id == ours.user_id && theirs.name == ours.name);
            if same_user.is_some_and(|theirs| theirs.expires_at - now() > RENEW_BEFORE_S) {
                (self.config.access_token, self.config.refresh_token) = (kept.access_token, kept.refresh_token);
                return Ok(());
            }
        }
        if self.config.refresh_token.is_empty() {
            bail!(log_in_again_problem());
        }
        let form = [("grant_type", "refresh_token"), ("refresh_token", self.config.refresh_token.as_str())];
        let url = format!("{}/oauth/token", self.config.login);
        let answer = self.anonymous(|http| http.post(url).basic_auth("cf", Some("")).form(&form)).await?;
        let tokens = tokens(answer).await.map_err(|e| match e.status {
            401 | 400 => log_in_again_problem(),
            _ => Problem::new(e.to_string()).tip("Trying again may help."),
        })?;
        self.keep(tokens)
    }

    /// Keeps tokens for this and later commands.
    pub(crate) fn keep(&mut self, (access, refresh): (String, String)) -> anyhow::Result<()> {
        (self.config.access_token, self.config.refresh_token) = (access, refresh);
        self.config.save()
    }
}

/// No answer came: for requests that only read, trying again may help.
#[derive(Debug)]
struct Passing(Problem);

impl fmt::Display for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl std::error::Error for Passing {}

fn unwrapped(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Passing>() {
        Ok(passing) => passing.0.into(),
        Err(other) => other,
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn log_in_again_problem() -> Problem {
    Problem::new("The token expired, was revoked, or the token ID is incorrect. Please log back in to re-authenticate.")
        .tip("cf login")
}

fn log_in_again(error: ApiError) -> anyhow::Error {
    match error.title.as_str() {
        "CF-InvalidAuthToken" => log_in_again_problem().into(),
        "CF-NotAuthenticated" => Problem::new("Not logged in. Use 'cf login' to log in.").into(),
        _ => error.into(),
    }
}

/// An answer that is none: the error that it carries.
async fn refused(answer: Response) -> Result<Response, ApiError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status().as_u16();
    let request_id = header(&answer, "X-Vcap-Request-Id");
    let body = answer.text().await.unwrap_or_default();
    let document: Value = serde_json::from_str(&body).unwrap_or_default();
    let details: Vec<&str> = array(&document, "/errors").map(|error| text(error, "/detail")).collect();
    let detail = match (details.is_empty(), text(&document, "/error_description")) {
        (false, _) => details.join("\n"),
        (true, "") if body.trim().is_empty() => format!("the platform answered {status} without a word"),
        (true, "") => ui::harmless(body.chars().take(1_000).collect::<String>().trim()),
        (true, description) => description.to_owned(),
    };
    let title = match text(&document, "/errors/0/title") {
        "" => text(&document, "/error"),
        title => title,
    };
    Err(ApiError { status, title: title.to_owned(), detail, request_id })
}

async fn reply(answer: Response) -> anyhow::Result<Reply> {
    let location = Some(header(&answer, "Location")).filter(|location| !location.is_empty());
    if answer.status() == StatusCode::NO_CONTENT {
        return Ok(Reply { body: Value::Null, location });
    }
    let url = answer.url().clone();
    let body = answer.bytes().await.map_err(net::no_answer)?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Reply { body: Value::Null, location });
    }
    match serde_json::from_slice(&body) {
        Ok(body) => Ok(Reply { body, location }),
        Err(e) => bail!(
            Problem::new(format!("{url} did not answer with JSON: {e}")).tip("Is this the address of an API? 'cf api' shows it.")
        ),
    }
}

/// Reads the answer of a token request.
pub(crate) async fn tokens(answer: Response) -> Result<(String, String), ApiError> {
    let answer = refused(answer).await?;
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap_or_default();
    match text(&body, "/access_token") {
        "" => {
            let detail = "the answer holds no token".to_owned();
            Err(ApiError { status, title: String::new(), detail, request_id: String::new() })
        }
        access => Ok((access.to_owned(), text(&body, "/refresh_token").to_owned())),
    }
}

fn header(answer: &Response, name: &str) -> String {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// What a token says of its holder; unchecked, for the platform checks it.
pub(crate) fn identity(token: &str) -> Option<Identity> {
    let payload = token.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()?;
    let claim = |name: &str| claims[name].as_str().map(str::to_owned);
    Some(Identity {
        name: claim("user_name").or_else(|| claim("client_id"))?,
        user_id: claim("user_id"),
        origin: claim("origin"),
        token_id: claim("jti"),
        expires_at: claims["exp"].as_i64()?,
    })
}

/// A text in a document; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
/// A number in a document; 0 if there is none.
pub(crate) fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(|value| value.as_i64().or_else(|| value.as_f64().map(|float| float as i64))).unwrap_or(0)
}
/// The members of an array in a document.
pub(crate) fn array<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A path with a query: values are encoded, commas in names twice, as the API has it.
pub(crate) fn query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut encoder = url::form_urlencoded::Serializer::new(String::new());
    for (key, value) in pairs {
        let value = if *key == "names" { value.replace('%', "%25").replace(',', "%2C") } else { (*value).to_owned() };
        encoder.append_pair(key, &value);
    }
    format!("{path}?{}", encoder.finish())
}

#[cfg(test)]
mod tests;
