//! Logging in and out with a browser, and passcodes.

use super::{
    Api,
    auth::Form,
    info,
    pages::{self, PageAnswer},
};
use crate::domain::{Error, Uaa, sessions};
use actix_web::{
    HttpRequest, HttpResponse, get,
    http::{StatusCode, header},
    post,
    web::Bytes,
};
use cookie::{Cookie, SameSite};
use foundation::Secret;
use std::collections::BTreeMap;
use url::form_urlencoded;

/// Longest way to go on after the login: a request's limit, with room for its encoding.
const LONGEST: usize = 3 * 4096 + 64;
/// Who is logged in.
pub(super) const SESSION: &str = "uaa";
/// Ties the login form to the browser that it was made for, before anybody is logged in.
const FORM: &str = "uaa-form";

#[get("/login")]
pub(super) async fn login(api: Api, request: HttpRequest) -> PageAnswer {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !accept.contains("text/html") {
        return Ok(HttpResponse::Ok().insert_header((header::VARY, "Accept")).json(info::document(&api)));
    }
    let query = query(&request);
    let next = next(query.get("next"));
    if query.contains_key("again") {
        return form(&api, &request, next, StatusCode::OK, None, "").await;
    }
    match (api.visitor(cookie(&api, &request, SESSION)).await?, next) {
        (Some(_), Some(next)) => Ok(see(&next)),
        (Some(visitor), None) => {
            let target = api.config.issuer.replacen("://uaa.", "://api.", 1);
            let home = pages::Home { user_name: &visitor.user.user_name, api: &target };
            Ok(pages::page(StatusCode::OK, None, &home)?)
        }
        (None, next) => form(&api, &request, next, StatusCode::OK, None, "").await,
    }
}

#[post("/login.do")]
pub(super) async fn log_in(api: Api, request: HttpRequest, body: Bytes) -> PageAnswer {
    let fields = Form::read(&request, &body)?;
    let field = |name: &str| fields.get(name).unwrap_or_default();
    let (next, user_name) = (next(fields.get("next")), field("username"));
    let opened = match sessions::check_form(cookie(&api, &request, FORM).as_ref(), "login", field("token")) {
        Ok(()) => api.open_session(cookie(&api, &request, SESSION), user_name, Secret::new(field("password"))).await,
        Err(forged) => Err(forged),
    };
    let (status, problem) = match opened {
        Ok(session) => {
            let mut answer = see(next.as_deref().unwrap_or("/login"));
            set(&api, &mut answer, SESSION, Some(session.expose()))?;
            return Ok(answer);
        }
        Err(Error::Credentials) => (StatusCode::UNAUTHORIZED, "User name or password is wrong."),
        Err(Error::Locked) => {
            (StatusCode::UNAUTHORIZED, "Your account has been locked because of too many failed attempts to login.")
        }
        Err(Error::Forged) => (StatusCode::FORBIDDEN, "This page was open for too long. Please log in again."),
        Err(other) => return Err(other.into()),
    };
    form(&api, &request, next, status, Some(problem), user_name).await
}

#[get("/logout.do")]
pub(super) async fn logout(api: Api, request: HttpRequest) -> PageAnswer {
    let query = query(&request);
    log_out(&api, &request, |name| query.get(name).map(String::as_str)).await
}

#[post("/logout.do")]
pub(super) async fn logout_by_post(api: Api, request: HttpRequest, body: Bytes) -> PageAnswer {
    let fields = Form::read(&request, &body)?;
    log_out(&api, &request, |name| fields.get(name)).await
}

/// A foreign page can make a browser log out, as with the original: a client that does so has no token of ours to show.
async fn log_out<'a>(api: &Uaa, request: &HttpRequest, field: impl Fn(&str) -> Option<&'a str>) -> PageAnswer {
    if let Some(session) = cookie(api, request, SESSION) {
        api.close_session(session).await?;
    }
    let to = field("post_logout_redirect_uri").or_else(|| field("redirect"));
    let target = api.after_logout(field("client_id"), field("id_token_hint"), to).await?;
    let target = target.map(|mut url| {
        if let Some(state) = field("state") {
            url.query_pairs_mut().append_pair("state", state);
        }
        url.to_string()
    });
    let mut answer = see(target.as_deref().unwrap_or("/login"));
    set(api, &mut answer, SESSION, None)?;
    Ok(answer)
}

#[get("/passcode")]
pub(super) async fn passcode(api: Api, request: HttpRequest) -> PageAnswer {
    let Some(visitor) = api.visitor(cookie(&api, &request, SESSION)).await? else { return Ok(see("/login?next=/passcode")) };
    let passcode = api.make_passcode(&visitor).await?;
    let page = pages::Passcode { user_name: &visitor.user.user_name, passcode: &passcode };
    Ok(pages::page(StatusCode::OK, None, &page)?)
}

async fn form(
    api: &Uaa,
    request: &HttpRequest,
    next: Option<String>,
    status: StatusCode,
    problem: Option<&str>,
    user_name: &str,
) -> PageAnswer {
    let known = cookie(api, request, FORM);
    let secret = known.clone().unwrap_or_else(|| Secret::new(api.random_value()));
    let next = next.unwrap_or_default();
    let policy = match next.strip_prefix(AUTHORIZE) {
        Some(query) => api.policy_of(query).await.ok(),
        None => None,
    };
    let token = sessions::form_token(&secret, "login");
    let user_name: String = user_name.chars().take(255).collect();
    let page = pages::Login { problem, user_name: &user_name, next: &next, token: &token };
    let mut answer = pages::page(status, policy.as_deref(), &page)?;
    if known.is_none() {
        set(api, &mut answer, FORM, Some(secret.expose()))?;
    }
    Ok(answer)
}

/// The request that waits for a login.
const AUTHORIZE: &str = "/oauth/authorize?";

/// Where to go on after a login: one of two places here. An address elsewhere cannot be written this way.
fn next(asked: Option<impl AsRef<str>>) -> Option<String> {
    let asked = asked.as_ref()?.as_ref();
    let known = asked == "/passcode" || asked.starts_with(AUTHORIZE);
    (known && asked.len() <= LONGEST && asked.bytes().all(|b| b.is_ascii_graphic())).then(|| asked.to_owned())
}

/// To the login page, and from there to this request again.
pub(super) fn to_login(query: &str) -> HttpResponse {
    let next: String = form_urlencoded::byte_serialize(format!("{AUTHORIZE}{query}").as_bytes()).collect();
    see(&format!("/login?again&next={next}"))
}

/// Sends the browser on, with GET whatever this request was, and tells that place nothing of where it comes from.
pub(super) fn see(to: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, to))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .finish()
}

/// What the query says; of a name that is there twice, what it says first.
fn query(request: &HttpRequest) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(request.query_string().as_bytes()) {
        values.entry(name.into_owned()).or_insert_with(|| value.into_owned());
    }
    values
}

/// The value of one of our cookies.
pub(super) fn cookie(api: &Uaa, request: &HttpRequest, name: &str) -> Option<Secret> {
    let name = cookie_name(api, name);
    let texts = request.headers().get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
    let mut cookies = texts.flat_map(Cookie::split_parse).filter_map(Result::ok);
    let value = cookies.find(|cookie| cookie.name() == name)?.value().to_owned();
    (value.len() == 43).then(|| Secret::new(value))
}

/// Gives the browser a cookie that ends with it, or takes it away.
fn set(api: &Uaa, answer: &mut HttpResponse, name: &str, value: Option<&str>) -> Result<(), Error> {
    let mut cookie = Cookie::build((cookie_name(api, name), value.unwrap_or_default().to_owned()))
        .path("/")
        .http_only(true)
        .secure(is_secure(api))
        .same_site(SameSite::Lax)
        .build();
    if value.is_none() {
        cookie.make_removal();
    }
    let value = header::HeaderValue::from_str(&cookie.to_string()).map_err(|e| Error::Internal("a cookie", e.into()))?;
    answer.headers_mut().append(header::SET_COOKIE, value);
    Ok(())
}

/// With this prefix browsers take the cookie from nobody but this very host, over TLS.
fn cookie_name(api: &Uaa, name: &str) -> String {
    if is_secure(api) { format!("__Host-{name}") } else { name.to_owned() }
}

fn is_secure(api: &Uaa) -> bool {
    api.config.login_url.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_login_one_goes_on_here_or_nowhere() {
        for good in ["/passcode", "/oauth/authorize?client_id=c&redirect_uri=https%3A%2F%2Fd.test"] {
            assert_eq!(next(Some(good)).as_deref(), Some(good));
        }
        for bad in [
            "",
            "https://evil.test/",
            "//evil.test/oauth/authorize?",
            "/\\evil.test",
            "/passcode@evil.test",
            "/oauth/authorize",
            "/oauth/authorize/../../evil?",
            "/oauth/authorize?a\r\nSet-Cookie: b=c",
            "javascript:alert(1)",
        ] {
            assert_eq!(next(Some(bad)), None, "{bad}");
        }
        assert_eq!(next(Some(format!("/oauth/authorize?{}", "x".repeat(20_000)))), None);
    }
}
