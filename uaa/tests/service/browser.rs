//! A browser with a cookie jar, that follows nothing by itself, and a dashboard that users log in to.

use crate::world::{SECRET, World, body};
use cookie::Cookie;
use foundation::Secret;
use reqwest::{Method, Response, header::HeaderMap};
use serde_json::Value;
use std::collections::BTreeMap;
use uaa_client::{ClientChange, LoginClient};
use url::{Url, form_urlencoded};

pub(crate) const CALLBACK: &str = "https://dashboard.test/callback";
pub(crate) const DASHBOARD_SECRET: &str = "the-dashboard-secret";

pub(crate) struct Browser<'a> {
    world: &'a World,
    http: reqwest::Client,
    pub(crate) cookies: BTreeMap<String, String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn location(&self) -> &str {
        assert_eq!(self.status, 303, "{self:?}");
        self.headers["location"].to_str().unwrap()
    }
    /// A parameter of the address that the browser is sent to.
    pub(crate) fn sent(&self, name: &str) -> Option<String> {
        let url = Url::parse("https://login.cf.test").unwrap().join(self.location()).unwrap();
        url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }
    /// The value of a field of the form.
    pub(crate) fn field(&self, name: &str) -> String {
        let after =
            self.text.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("{name} in {}", self.text)).1;
        let value = after.split_once('"').unwrap().0;
        value.replace("&#38;", "&").replace("&#34;", "\"").replace("&#60;", "<").replace("&#62;", ">").replace("&#39;", "'")
    }
    pub(crate) fn policy(&self) -> &str {
        self.headers["content-security-policy"].to_str().unwrap()
    }
}

impl<'a> Browser<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { world, http, cookies: BTreeMap::new() }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Page {
        self.send(Method::GET, path, None).await
    }
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.send(Method::POST, path, Some(fields)).await
    }

    async fn send(&mut self, method: Method, path: &str, fields: Option<&[(&str, &str)]>) -> Page {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = self.http.request(method, format!("{}{path}", self.world.base)).header("Accept", "text/html,*/*;q=0.8");
        if !cookies.is_empty() {
            request = request.header("Cookie", cookies.join("; "));
        }
        if let Some(fields) = fields {
            request = request.form(fields);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        for value in headers.get_all("set-cookie") {
            self.take(&Cookie::parse(value.to_str().unwrap()).unwrap());
        }
        Page { status, headers, text: answer.text().await.unwrap() }
    }

    /// What a cookie must be like, whatever it is for.
    fn take(&mut self, cookie: &Cookie<'_>) {
        assert!(cookie.name().starts_with("__Host-"), "{cookie}");
        assert_eq!(
            (cookie.http_only(), cookie.secure(), cookie.path(), cookie.domain()),
            (Some(true), Some(true), Some("/"), None)
        );
        assert_eq!(cookie.same_site(), Some(cookie::SameSite::Lax));
        match cookie.value() {
            "" => drop(self.cookies.remove(cookie.name())),
            value => drop(self.cookies.insert(cookie.name().to_owned(), value.to_owned())),
        }
    }

    /// Fills in the login form.
    pub(crate) async fn log_in(&mut self, at: &str, name: &str, password: &str) -> Page {
        let form = self.get(at).await;
        assert_eq!(form.status, 200, "{form:?}");
        let (token, next) = (form.field("token"), form.field("next"));
        self.post("/login.do", &[("token", &token), ("next", &next), ("username", name), ("password", password)]).await
    }

    /// Logs in without anything that comes after it.
    pub(crate) async fn logged_in(world: &'a World, name: &str, password: &str) -> Self {
        let mut browser = Self::new(world);
        let done = browser.log_in("/login", name, password).await;
        assert_eq!(done.location(), "/login");
        browser
    }

    /// Answers the page that asks for consent.
    pub(crate) async fn answer(&mut self, asked: &Page, answer: &str) -> Page {
        assert_eq!(asked.status, 200, "{asked:?}");
        let (token, request) = (asked.field("token"), asked.field("request"));
        self.post("/oauth/authorize", &[("token", &token), ("request", &request), ("answer", answer)]).await
    }

    /// Goes the whole way of a request and agrees if asked; returns the code.
    pub(crate) async fn code(&mut self, request: &[(&str, &str)]) -> String {
        let mut page = self.get(&authorize(request)).await;
        if page.status == 200 {
            page = self.answer(&page, "allow").await;
        }
        assert!(page.location().starts_with("https://"), "{page:?}");
        page.sent("code").unwrap_or_else(|| panic!("{page:?}"))
    }
}

/// The address of a request of the dashboard, with these changes; an empty value takes a parameter away.
pub(crate) fn authorize(changes: &[(&str, &str)]) -> String {
    let mut fields = BTreeMap::from([
        ("client_id", "db-dashboard"),
        ("redirect_uri", CALLBACK),
        ("response_type", "code"),
        ("state", "st&te"),
    ]);
    fields.extend(changes.iter().copied());
    fields.retain(|_, value| !value.is_empty());
    format!("/oauth/authorize?{}", form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish())
}

impl World {
    /// Makes the client of a dashboard as the cloud controller does.
    pub(crate) async fn dashboard(&self, id: &str, redirect_uri: &str) {
        let controller = uaa_client::Client::new(&self.base, "clients", Secret::new(SECRET), self.clock.clone()).unwrap();
        let scopes = ["openid", "cloud_controller_service_permissions.read"].map(str::to_owned).to_vec();
        let (secret, name) = (Secret::new(DASHBOARD_SECRET), "Dashboard of db <1>".to_owned());
        let client = LoginClient { id: id.into(), secret, name, redirect_uri: redirect_uri.into(), scopes };
        controller.change_clients(&[ClientChange::Add(client)]).await.unwrap();
    }

    /// Makes one by the API, with more than that.
    pub(crate) async fn web_client(&self, changes: &[(&str, Value)]) {
        let mut client = serde_json::json!({
            "client_id": "web", "client_secret": DASHBOARD_SECRET, "authorized_grant_types": ["authorization_code"],
            "scope": ["openid", "cloud_controller.read", "cloud_controller.admin"], "redirect_uri": [CALLBACK],
        });
        for (name, value) in changes {
            client[*name] = value.clone();
        }
        let admin = self.client("clients").await;
        body(self.post("/oauth/clients", &admin, &client).send().await.unwrap(), 201).await;
    }

    /// The dashboard's token request.
    pub(crate) async fn redeem(&self, code: &str, changes: &[(&str, &str)]) -> Response {
        let mut form = BTreeMap::from([
            ("grant_type", "authorization_code"),
            ("client_id", "db-dashboard"),
            ("client_secret", DASHBOARD_SECRET),
            ("redirect_uri", CALLBACK),
            ("code", code),
        ]);
        form.extend(changes.iter().copied());
        form.retain(|_, value| !value.is_empty());
        self.request(Method::POST, "/oauth/token").form(&form).send().await.unwrap()
    }
}
