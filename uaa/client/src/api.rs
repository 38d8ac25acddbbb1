//! Calls UAA as a client.

use foundation::Secret;
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};
use types::{Clock, Timestamp};

/// Ids in one question, so that its address stays under every limit on the way.
const IDS_PER_QUESTION: usize = 50;

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// UAA cannot be reached, or is not well; trying again may help.
    #[error("UAA cannot be reached for {0}")]
    Unavailable(&'static str, #[source] reqwest::Error),
    /// The user name is taken in that origin.
    #[error("user name `{name}` is taken")]
    Taken {
        /// The name.
        name: String,
        /// Who has it, where UAA says so.
        user_id: Option<String>,
    },
    /// UAA refuses; trying again does not help.
    #[error("UAA refuses {what}: {status} {description}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The status.
        status: u16,
        /// What UAA says.
        description: String,
    },
    /// The address of UAA is not one.
    #[error("`{0}` is not an address of UAA")]
    Address(String),
}

/// A user, as UAA knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: String,
    /// Its name, unique in its origin without regard to case.
    pub user_name: String,
    /// Where it comes from; `uaa` for UAA's own.
    pub origin: String,
    /// Its first address.
    pub email: Option<String>,
    /// False for a user who may not log in.
    pub active: bool,
}

/// A user to be made.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Its name.
    pub user_name: String,
    /// Its password; none for users of other origins.
    pub password: Option<Secret>,
    /// Where it comes from; `uaa` when absent.
    pub origin: Option<String>,
    /// Its address; the name when absent.
    pub email: Option<String>,
}

/// A client that UAA knows, as far as it is of interest here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KnownClient {
    /// Its id.
    #[serde(rename = "client_id")]
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// A client through which users log in with a browser.
#[derive(Clone, Debug)]
pub struct LoginClient {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// Its name.
    pub name: String,
    /// Where users come back to.
    pub redirect_uri: String,
    /// What tokens of users may carry.
    pub scopes: Vec<String>,
}

/// A change of one client; several are carried out together.
#[derive(Clone, Debug)]
pub enum ClientChange {
    /// Makes it.
    Add(LoginClient),
    /// Makes one that is there to this.
    Update(LoginClient),
    /// Removes it, and its tokens.
    Delete(String),
}

/// A client of UAA with an id and a secret; clones share the token.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    base: Url,
    id: String,
    secret: Secret,
    token: tokio::sync::Mutex<Option<(Secret, Timestamp)>>,
    clock: Arc<dyn Clock>,
}

impl Client {
    /// A client of UAA at `text` (`http://127.0.0.1:9021`).
    ///
    /// # Errors
    /// [`Error::Address`], or [`Error::Unavailable`] when no HTTP client can be made.
    pub fn new(text: &str, id: &str, secret: Secret, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let http = crate::http().map_err(|e| Error::Unavailable("a client", e))?;
        let base = Url::parse(&crate::trim(text)).ok().filter(|url| !url.cannot_be_a_base());
        let base = base.ok_or_else(|| Error::Address(text.to_owned()))?;
        Ok(Self(Arc::new(Inner { http, base, id: id.to_owned(), secret, token: tokio::sync::Mutex::new(None), clock })))
    }

    /// A token for the client itself, kept until shortly before it ends.
    pub async fn token(&self) -> Result<Secret, Error> {
        let inner = &self.0;
        let mut kept = inner.token.lock().await;
        let now = inner.clock.now();
        if let Some((token, until)) = &*kept
            && now < *until
        {
            return Ok(token.clone());
        }
        let form = [("grant_type", "client_credentials"), ("response_type", "token")];
        let request =
            inner.http.post(inner.url(&["oauth", "token"])).basic_auth(&inner.id, Some(inner.secret.expose())).form(&form);
        let answer: TokenAnswer = json("a token", request).await?;
        let token = Secret::new(answer.access_token);
        // renewed early: by a minute, or by half of a short life
        let life = Duration::from_secs(answer.expires_in);
        *kept = Some((token.clone(), now + life.saturating_sub(Duration::from_secs(60)).max(life / 2)));
        Ok(token)
    }

    /// The user with this id.
    pub async fn user(&self, id: &str) -> Result<Option<User>, Error> {
        let request = self.0.http.get(self.0.url(&["Users", id]));
        match self.authorized("a user", request).await {
            Ok(user) => Ok(Some(WireUser::into(user))),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// The users with these ids; ids that nobody has are left out.
    pub async fn users_by_ids(&self, ids: &[String]) -> Result<Vec<User>, Error> {
        let mut users = vec![];
        for part in ids.chunks(IDS_PER_QUESTION) {
            let filter = part.iter().map(|id| format!("id eq {}", quoted(id))).collect::<Vec<_>>().join(" or ");
            users.extend(self.users(&filter).await?);
        }
        Ok(users)
    }

    /// The users with this name: one for each origin that has it, or the one of `origin`.
    pub async fn users_by_name(&self, name: &str, origin: Option<&str>) -> Result<Vec<User>, Error> {
        let by_name = format!("userName eq {}", quoted(name));
        match origin {
            Some(origin) => self.users(&format!("{by_name} and origin eq {}", quoted(origin))).await,
            None => self.users(&by_name).await,
        }
    }

    /// Makes a user.
    ///
    /// # Errors
    /// [`Error::Taken`] when the origin has one of that name.
    pub async fn create_user(&self, new: &NewUser) -> Result<User, Error> {
        let email = new.email.as_deref().unwrap_or(&new.user_name);
        let body = serde_json::json!({
            "userName": new.user_name,
            "password": new.password.as_ref().map(Secret::expose),
            "origin": new.origin.as_deref().unwrap_or("uaa"),
            "name": { "givenName": new.user_name, "familyName": new.user_name },
            "emails": [{ "value": email, "primary": true }],
        });
        let request = self.0.http.post(self.0.url(&["Users"])).json(&body);
        match self.authorized::<WireUser>("a new user", request).await {
            Ok(user) => Ok(user.into()),
            Err(Error::Refused { status: 409, description, .. }) => Err(Error::Taken {
                name: new.user_name.clone(),
                user_id: serde_json::from_str::<Conflict>(&description).ok().and_then(|c| c.user_id),
            }),
            Err(other) => Err(other),
        }
    }

    /// The client with this id.
    pub async fn client(&self, id: &str) -> Result<Option<KnownClient>, Error> {
        let request = self.0.http.get(self.0.url(&["oauth", "clients", id]));
        match self.authorized("a client", request).await {
            Ok(client) => Ok(Some(client)),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// All clients.
    pub async fn clients(&self) -> Result<Vec<KnownClient>, Error> {
        let request = self.0.http.get(self.0.url(&["oauth", "clients"]));
        let list: Clients = self.authorized("clients", request).await?;
        Ok(list.resources)
    }

    /// Carries out all of these changes, or none.
    ///
    /// # Errors
    /// [`Error::Refused`] with status 409 when one that is to be made is there.
    pub async fn change_clients(&self, changes: &[ClientChange]) -> Result<(), Error> {
        let body: Vec<serde_json::Value> = changes.iter().map(ClientChange::body).collect();
        let request = self.0.http.post(self.0.url(&["oauth", "clients", "tx", "modify"])).json(&body);
        self.authorized::<Vec<KnownClient>>("changes of clients", request).await.map(drop)
    }

    async fn users(&self, filter: &str) -> Result<Vec<User>, Error> {
        let query = [("filter", filter), ("count", "500")];
        let request = self.0.http.get(self.0.url(&["Users"])).query(&query);
        let list: List = self.authorized("users", request).await?;
        Ok(list.resources.into_iter().map(Into::into).collect())
    }

    async fn authorized<T: DeserializeOwned>(&self, what: &'static str, request: RequestBuilder) -> Result<T, Error> {
        let again = request.try_clone();
        let token = self.token().await?;
        match (json(what, request.bearer_auth(token.expose())).await, again) {
            // a token that UAA gave up before its time: one try with a new one
            (Err(Error::Refused { status: 401, .. }), Some(again)) => {
                *self.0.token.lock().await = None;
                let token = self.token().await?;
                json(what, again.bearer_auth(token.expose())).await
            }
            (answer, _) => answer,
        }
    }
}

impl Inner {
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

async fn json<T: DeserializeOwned>(what: &'static str, request: RequestBuilder) -> Result<T, Error> {
    let unavailable = |e| Error::Unavailable(what, e);
    let answer = request.header("Accept", "application/json").send().await.map_err(unavailable)?;
    let status = answer.status();
    if status.is_success() {
        return answer.json().await.map_err(unavailable);
    }
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(unavailable(answer.error_for_status().expect_err("the status is an error")));
    }
    let description = answer.text().await.unwrap_or_default().chars().take(1000).collect();
    Err(Error::Refused { what, status: status.as_u16(), description })
}

/// A filter's string: quoted, with JSON's escapes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: u64,
}

#[derive(Deserialize)]
struct Conflict {
    user_id: Option<String>,
}

impl ClientChange {
    fn body(&self) -> serde_json::Value {
        let whole = |action: &str, client: &LoginClient| {
            serde_json::json!({
                "action": action,
                "client_id": client.id,
                "client_secret": client.secret.expose(),
                "name": client.name,
                "authorized_grant_types": ["authorization_code"],
                "scope": client.scopes,
                "authorities": ["uaa.resource"],
                "redirect_uri": [client.redirect_uri],
            })
        };
        match self {
            Self::Add(client) => whole("add", client),
            Self::Update(client) => whole("update,secret", client),
            Self::Delete(id) => serde_json::json!({ "action": "delete", "client_id": id }),
        }
    }
}

#[derive(Deserialize)]
struct Clients {
    resources: Vec<KnownClient>,
}

#[derive(Deserialize)]
struct List {
    resources: Vec<WireUser>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct WireUser {
    id: String,
    user_name: String,
    #[serde(default)]
    origin: String,
    #[serde(default)]
    emails: Vec<WireEmail>,
    #[serde(default = "yes")]
    active: bool,
}

#[derive(Deserialize, Serialize)]
struct WireEmail {
    value: String,
}

fn yes() -> bool {
    true
}

impl From<WireUser> for User {
    fn from(wire: WireUser) -> Self {
        let email = wire.emails.into_iter().next().map(|e| e.value);
        Self { id: wire.id, user_name: wire.user_name, origin: wire.origin, email, active: wire.active }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use types::ManualClock;
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{body_string_contains, header, method, path, query_param},
    };

    async fn uaa() -> (MockServer, Client, Arc<ManualClock>) {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(path("/oauth/token"))
            .and(header("Authorization", "Basic Y2M6czpz"))
            .and(body_string_contains("grant_type=client_credentials"))
            .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "access_token": "t-1", "expires_in": 120 })))
            .mount(&server)
            .await;
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1000)));
        let client = Client::new(&server.uri(), "cc", Secret::new("s:s"), clock.clone()).unwrap();
        (server, client, clock)
    }

    #[tokio::test]
    async fn a_token_is_kept_until_shortly_before_it_ends() {
        let (server, client, clock) = uaa().await;
        for _ in 0..3 {
            assert_eq!(client.token().await.unwrap().expose(), "t-1");
        }
        assert_eq!(server.received_requests().await.unwrap().len(), 1);
        clock.advance(Duration::from_secs(61));
        client.token().await.unwrap();
        assert_eq!(server.received_requests().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn names_with_quotes_cannot_leave_their_place_in_the_filter() {
        let (server, client, _) = uaa().await;
        Mock::given(path("/Users"))
            .and(query_param("filter", r#"userName eq "a\" or id pr" and origin eq "uaa""#))
            .and(header("Authorization", "Bearer t-1"))
            .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "resources": [
                { "id": "1", "userName": "x", "origin": "uaa", "emails": [{ "value": "x@y" }] } ] })))
            .mount(&server)
            .await;
        let users = client.users_by_name(r#"a" or id pr"#, Some("uaa")).await.unwrap();
        assert_eq!(
            users[0],
            User { id: "1".into(), user_name: "x".into(), origin: "uaa".into(), email: Some("x@y".into()), active: true }
        );
    }

    #[tokio::test]
    async fn changes_of_clients_go_together_and_an_unknown_client_is_an_answer() {
        let (server, client, _) = uaa().await;
        let new = LoginClient {
            id: "db".into(),
            secret: Secret::new("s"),
            name: "Dashboard".into(),
            redirect_uri: "https://d.test".into(),
            scopes: vec!["openid".into()],
        };
        let body = json!([
            { "action": "add", "client_id": "db", "client_secret": "s", "name": "Dashboard", "scope": ["openid"],
              "authorized_grant_types": ["authorization_code"], "authorities": ["uaa.resource"], "redirect_uri": ["https://d.test"] },
            { "action": "delete", "client_id": "old" },
        ]);
        Mock::given(method("POST"))
            .and(path("/oauth/clients/tx/modify"))
            .and(wiremock::matchers::body_json(body))
            .respond_with(ResponseTemplate::new(200).set_body_json(json!([{ "client_id": "db" }, { "client_id": "old" }])))
            .mount(&server)
            .await;
        client.change_clients(&[ClientChange::Add(new), ClientChange::Delete("old".into())]).await.unwrap();
        assert_eq!(client.client("../../Users").await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_unknown_user_is_an_answer_and_a_taken_name_tells_whose_it_is() {
        let (server, client, _) = uaa().await;
        assert_eq!(client.user("../oauth/clients").await.unwrap(), None);
        let conflict = json!({ "error": "scim_resource_already_exists", "user_id": "u-7" });
        Mock::given(method("POST"))
            .and(path("/Users"))
            .respond_with(ResponseTemplate::new(409).set_body_json(conflict))
            .mount(&server)
            .await;
        let new = NewUser { user_name: "anna".into(), password: None, origin: None, email: None };
        match client.create_user(&new).await {
            Err(Error::Taken { user_id: Some(id), .. }) => assert_eq!(id, "u-7"),
            other => panic!("{other:?}"),
        }
    }
}
