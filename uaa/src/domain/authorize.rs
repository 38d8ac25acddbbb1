//! A client asks for a user's tokens by way of the browser: what it asks, whether the user agrees, where the browser goes next.
//!
//! Nothing is kept between the steps but what the browser carries: the request is read and judged anew at each of them, so
//! that nobody gains by changing it on the way.
//!
//! Source: RFC 6749 section 4.1, RFC 7636, RFC 9700, OpenID Connect Core section 3.1.

use super::{
    Error, Result, Uaa,
    grants::digest,
    redirects::{policy_source, way_back},
    scopes,
    sessions::{Visitor, check_form, form_token},
};
use crate::store::{self, Db, clients::Client, codes::Code, split};
use std::collections::BTreeMap;
use tracing::info;
use url::{Url, form_urlencoded};

/// Longest request; the limit of what the browser carries around.
const LONGEST: usize = 4096;
/// Source: RFC 6749, section 4.1.2 (ten minutes at most); cloudfoundry/uaa, `UaaTokenStore.java`.
const CODE_VALIDITY: i64 = 300_000_000;
/// How long a code is remembered, so that its second use is noticed.
const CODE_MEMORY: i64 = 86_400_000_000;
/// A user is asked again after this.
///
/// Source: cloudfoundry/uaa, `UserManagedAuthzApprovalHandler.java` (a month).
const APPROVAL_VALIDITY: i64 = 30 * 86_400_000_000;

/// Where the browser goes.
#[derive(Debug)]
pub(crate) enum Step {
    /// Back to the client, with a code or an error.
    Back(String),
    /// To the login page, even when somebody is logged in; then this request again.
    LogIn(String),
    /// The user must agree.
    Ask(Box<Consent>),
}

/// What the user is asked.
#[derive(Debug)]
pub(crate) struct Consent {
    pub(crate) client: String,
    pub(crate) user_name: String,
    /// All that the client would get.
    pub(crate) scopes: Vec<String>,
    pub(crate) to: Url,
    /// That of the form which brings the answer.
    pub(crate) token: String,
}

/// Told to the client; the second text is for its developer.
struct Refusal(&'static str, String);

/// The parameters of a request.
struct Parameters {
    values: BTreeMap<String, String>,
    /// A name that is there twice: which value counts would be anybody's guess.
    twice: Option<String>,
}

/// The address of the client that the browser returns to.
struct WayBack {
    url: Url,
    state: Option<String>,
}

/// A request that can be carried out, if the user may and agrees.
struct Request {
    scopes: Vec<String>,
    challenge: Option<String>,
    nonce: Option<String>,
    prompt: Vec<String>,
    max_age_s: Option<i64>,
}

impl Uaa {
    /// Decides on the next step of a request. `agreed` is the answer of the user, who was asked.
    ///
    /// # Errors
    /// [`Error::Page`] when the browser cannot be sent back: an unknown client, or an address that is not the client's.
    pub(crate) async fn authorize(&self, query: &str, visitor: Option<&Visitor>, agreed: Option<bool>) -> Result<Step> {
        let (parameters, client, way) = self.asked(query).await?;
        let request = match Request::read(&parameters, &client) {
            Ok(request) => request,
            // Whoever registers a client chooses its address: a link sends nobody there who did not log in first (RFC 9700, 4.11.2)
            Err(_) if visitor.is_none() && parameters.get("prompt") != Some("none") => {
                return Ok(Step::LogIn(parameters.without_login()));
            }
            Err(refusal) => return Ok(way.refused(&refusal)),
        };
        let silent = request.prompted("none");
        let Some(visitor) = visitor.filter(|visitor| request.is_fresh(visitor, self.now())) else {
            return Ok(match silent {
                true => way.refused(&Refusal("login_required", "Nobody is logged in, or too long ago.".into())),
                false => Step::LogIn(parameters.without_login()),
            });
        };
        let (code, value) = self.new_code(&client, visitor, &request, &parameters);
        let (asking, now) = (agreed.is_none() && request.prompted("consent"), self.now());
        let (auto, wanted, allowed) = (split(&client.autoapprove), request.scopes, split(&client.scopes));
        let session = digest(visitor.cookie.expose());
        let decide = move |conn: &mut Db| {
            // a changed password ends sessions, and no code may slip through
            if store::sessions::find(conn, &session)?.is_none() {
                return Ok(Decision::LogIn);
            }
            let groups = super::users::all_groups(conn, &code.user_id)?;
            let scopes = match scopes::of_user(&wanted, &allowed, &groups) {
                Ok(scopes) => scopes,
                Err(Error::Scope(why)) => return Ok(Decision::Refused(Refusal("invalid_scope", why))),
                Err(other) => return Err(other),
            };
            let approved = store::codes::approved(conn, &code.user_id, &code.client_id, now)?;
            let open = |scope: &String| !approved.contains(scope) && !auto.iter().any(|word| word == "true" || word == scope);
            match agreed {
                Some(false) => return Ok(Decision::Refused(Refusal("access_denied", "The user does not agree.".into()))),
                _ if !asking && !scopes.iter().any(open) => {}
                Some(true) => {
                    let until = now + APPROVAL_VALIDITY;
                    store::codes::approve(conn, &code.user_id, &code.client_id, &scopes, now, until)?;
                }
                None => return Ok(Decision::Ask(scopes)),
            }
            store::codes::insert(conn, &Code { scopes: store::join(&scopes), ..code })?;
            Ok(Decision::Go)
        };
        Ok(match self.store.run(decide).await? {
            Decision::LogIn => Step::LogIn(parameters.without_login()),
            Decision::Refused(refusal) => way.refused(&refusal),
            Decision::Ask(_) if silent => way.refused(&Refusal("consent_required", "The user was not asked yet.".into())),
            Decision::Ask(scopes) => {
                let user_name = visitor.user.user_name.clone();
                Step::Ask(Box::new(Consent {
                    client: client.name,
                    user_name,
                    scopes,
                    to: way.url,
                    token: form_token(&visitor.cookie, &purpose(query)),
                }))
            }
            Decision::Go => {
                info!(user.id = %visitor.user.id, client.id = %client.id, "made an authorization code");
                way.to(&[("code", &value)])
            }
        })
    }

    /// # Errors
    /// [`Error::Forged`] when the user was not asked about this very request.
    pub(crate) fn check_answer(&self, query: &str, visitor: &Visitor, token: &str) -> Result<()> {
        check_form(Some(&visitor.cookie), &purpose(query), token)
    }

    /// Where the browser would go after this request, as a source of the content security policy.
    pub(crate) async fn policy_of(&self, query: &str) -> Result<String> {
        self.asked(query).await.map(|(_, _, way)| policy_source(&way.url))
    }

    /// Where to go after logging out: an address that this client registered. Anything else is nowhere.
    pub(crate) async fn after_logout(&self, client: Option<&str>, hint: Option<&str>, to: Option<&str>) -> Result<Option<Url>> {
        let named = client.map(str::to_owned).or_else(|| hint.and_then(|hint| self.client_of_id_token(hint)));
        let (Some(id), Some(to)) = (named.filter(|id| is_text(id)), to) else { return Ok(None) };
        let client = self.store.run(move |conn| store::clients::find(conn, &id)).await?;
        Ok(client.and_then(|client| way_back(&client, Some(to)).ok()))
    }

    async fn asked(&self, query: &str) -> Result<(Parameters, Client, WayBack)> {
        let parameters = Parameters::read(query)?;
        let id = parameters.get("client_id").filter(|id| is_text(id)).map(str::to_owned);
        let id = id.ok_or(Error::Page("The request does not say which client it comes from (client_id)."))?;
        let client = self.store.run(move |conn| store::clients::find(conn, &id)).await?;
        let client = client.ok_or(Error::Page("No client with this name is known here (client_id)."))?;
        let url = way_back(&client, parameters.get("redirect_uri"))?;
        let state = parameters.get("state").map(str::to_owned);
        Ok((parameters, client, WayBack { url, state }))
    }

    fn new_code(&self, client: &Client, visitor: &Visitor, request: &Request, parameters: &Parameters) -> (Code, String) {
        let value = self.random_value();
        let code = Code {
            id: digest(&value),
            client_id: client.id.clone(),
            user_id: visitor.user.id.clone(),
            redirect_uri: parameters.get("redirect_uri").map(str::to_owned),
            challenge: request.challenge.clone(),
            nonce: request.nonce.clone(),
            scopes: String::new(),
            session: self.random_hex(),
            logged_in_at: visitor.logged_in_at,
            expires_at: self.now() + CODE_VALIDITY,
            used_at: None,
        };
        (code, value)
    }
}

/// An answer counts for the request that was shown, and for no other.
fn purpose(query: &str) -> String {
    format!("consent {query}")
}

/// Forgets what ended by itself.
pub(super) fn purge(conn: &mut Db, now: i64) -> Result<()> {
    store::codes::purge(conn, now - CODE_MEMORY, now)
}

enum Decision {
    LogIn,
    Refused(Refusal),
    Ask(Vec<String>),
    Go,
}

impl Parameters {
    fn read(query: &str) -> Result<Self> {
        if query.len() > LONGEST {
            return Err(Error::Page("The request is too long."));
        }
        let (mut values, mut twice) = (BTreeMap::new(), None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if values.insert(name.to_string(), value.into_owned()).is_some() {
                twice = Some(name.into_owned());
            }
        }
        match twice.as_deref() {
            // then nobody can say where to tell it
            Some("client_id" | "redirect_uri") => Err(Error::Page("The request names its client or its address twice.")),
            _ => Ok(Self { values, twice }),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The same request for after a login, which has to happen once only.
    fn without_login(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.values.iter().filter(|(name, _)| *name != "max_age") {
            match name.as_str() {
                "prompt" => {
                    query.append_pair(name, &split(value).into_iter().filter(|p| p != "login").collect::<Vec<_>>().join(" "))
                }
                _ => query.append_pair(name, value),
            };
        }
        query.finish()
    }
}

impl WayBack {
    fn to(&self, pairs: &[(&str, &str)]) -> Step {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(pairs).extend_pairs(self.state.iter().map(|state| ("state", state)));
        Step::Back(url.into())
    }

    fn refused(&self, refusal: &Refusal) -> Step {
        self.to(&[("error", refusal.0), ("error_description", &refusal.1)])
    }
}

impl Request {
    fn read(parameters: &Parameters, client: &Client) -> Result<Self, Refusal> {
        let bad = |why: &str| Refusal("invalid_request", why.to_owned());
        if let Some(name) = &parameters.twice {
            return Err(Refusal("invalid_request", format!("The parameter {name} is there more than once.")));
        }
        for (name, error) in [("request", "request_not_supported"), ("request_uri", "request_uri_not_supported")] {
            if parameters.get(name).is_some() {
                return Err(Refusal(error, format!("The parameter {name} is not supported.")));
            }
        }
        match parameters.get("response_type") {
            Some("code") => {}
            None => return Err(bad("The parameter response_type is missing.")),
            Some(_) => return Err(Refusal("unsupported_response_type", "The response_type must be code.".into())),
        }
        if parameters.get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(bad("The response_mode must be query."));
        }
        if !client.has_grant("authorization_code") {
            return Err(Refusal("unauthorized_client", "This client may not use authorization codes.".into()));
        }
        let nonce = parameters.get("nonce").map(str::to_owned);
        if nonce.as_ref().is_some_and(|nonce| !is_text(nonce)) {
            return Err(bad("The nonce is too long, or no text."));
        }
        let prompt = split(parameters.get("prompt").unwrap_or_default());
        if prompt.len() > 1 && prompt.iter().any(|word| word == "none") {
            return Err(bad("The prompt none goes with no other."));
        }
        let max_age_s = parameters.get("max_age").map(|age| age.parse::<u32>().map(i64::from));
        let max_age_s = max_age_s.transpose().map_err(|_| bad("The max_age is no number of seconds."))?;
        let scopes = split(parameters.get("scope").unwrap_or_default());
        // what the client cannot have is refused before anybody is asked to log in
        if let Err(why) = scopes::asked(&scopes, &split(&client.scopes)) {
            return Err(Refusal("invalid_scope", why.to_string()));
        }
        Ok(Self { scopes, challenge: challenge(parameters, client)?, nonce, prompt, max_age_s })
    }

    fn prompted(&self, what: &str) -> bool {
        self.prompt.iter().any(|word| word == what)
    }

    fn is_fresh(&self, visitor: &Visitor, now: i64) -> bool {
        let young = |seconds: i64| now - visitor.logged_in_at <= seconds * 1_000_000;
        !self.prompted("login") && self.max_age_s.is_none_or(young)
    }
}

/// The challenge of PKCE.
fn challenge(parameters: &Parameters, client: &Client) -> Result<Option<String>, Refusal> {
    let bad = |why: &str| Err(Refusal("invalid_request", why.to_owned()));
    let (challenge, method) = (parameters.get("code_challenge"), parameters.get("code_challenge_method"));
    match (challenge, method) {
        (None, None) if client.is_public() => bad("A client without a secret needs a code_challenge."),
        (None, None) => Ok(None),
        (None, Some(_)) => bad("A code_challenge_method without a code_challenge."),
        // without a method it would be plain, which protects nobody whose request is seen
        (Some(_), None | Some("plain")) => bad("The code_challenge_method must be S256."),
        (Some(challenge), Some("S256")) => {
            let whole = challenge.len() == 43 && challenge.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            if whole { Ok(Some(challenge.to_owned())) } else { bad("The code_challenge is not the base64url form of a SHA-256.") }
        }
        (Some(_), Some(_)) => bad("The code_challenge_method must be S256."),
    }
}

fn is_text(text: &str) -> bool {
    text.len() <= 512 && !text.contains(char::is_control)
}
