//! Tokens out of credentials.

use super::{
    Error, Result, Uaa, clients::ClientCredentials, codes::Presented, hex, lockout::Failures, scopes, seconds, users::ORIGIN,
};
use crate::store::{
    self, Db,
    clients::Client,
    split,
    tokens::{Token, Which},
    users::User,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use foundation::Secret;
use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tracing::{info, warn};

/// The identity zone; there is one.
pub(crate) const ZONE: &str = "uaa";

/// How long a refresh token whose place was taken still serves: two commands may be running on one login. Used later than
/// that, it was stolen, and everything that came of the login ends.
const ROTATION_GRACE: Duration = Duration::from_secs(600);

/// A token request.
#[derive(Debug)]
pub(crate) enum Grant {
    Password {
        user_name: String,
        password: Secret,
        /// What the login hint names.
        origin: Option<String>,
    },
    /// In place of a password: the page `/passcode` shows it to somebody who is logged in.
    Passcode(Secret),
    Code(Presented),
    Refresh {
        token: Secret,
    },
    ClientCredentials,
}

impl Grant {
    fn name(&self) -> &'static str {
        match self {
            Self::Password { .. } | Self::Passcode(_) => "password",
            Self::Code(_) => "authorization_code",
            Self::Refresh { .. } => "refresh_token",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

/// What a token request brings.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) access_token: Secret,
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) id_token: Option<Secret>,
    pub(crate) expires_in_s: u64,
    pub(crate) scopes: Vec<String>,
    pub(crate) token_id: String,
}

/// The claims of an access token.
#[derive(Serialize)]
struct AccessClaims<'a> {
    jti: &'a str,
    sub: &'a str,
    scope: &'a [String],
    client_id: &'a str,
    cid: &'a str,
    azp: &'a str,
    revocable: bool,
    grant_type: &'a str,
    #[serde(flatten)]
    user: Option<UserClaims<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorities: Option<&'a [String]>,
    rev_sig: &'a str,
    iat: u64,
    exp: u64,
    iss: &'a str,
    zid: &'a str,
    aud: &'a [String],
}

#[derive(Clone, Copy, Serialize)]
struct UserClaims<'a> {
    user_id: &'a str,
    origin: &'a str,
    user_name: &'a str,
    email: &'a str,
    auth_time: u64,
}

/// What the tokens of one answer have in common.
pub(super) struct Login<'a> {
    pub(super) session: String,
    pub(super) user: Option<&'a User>,
    pub(super) at: i64,
    pub(super) grant_type: &'a str,
    /// For the id token.
    pub(super) nonce: Option<&'a str>,
}

/// One login at a time for each name, so that many guesses at once do not outrun the count of failures.
#[derive(Default)]
pub(crate) struct Turns(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    fn of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut names = self.0.lock();
        if names.len() > 1_000 {
            names.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        names.entry(name.to_owned()).or_default().clone()
    }
}

impl Uaa {
    /// Carries out a token request.
    pub(crate) async fn grant(&self, credentials: ClientCredentials, grant: Grant, requested: Vec<String>) -> Result<Granted> {
        let client = self.authenticate_client(credentials).await?;
        if !client.has_grant(grant.name()) {
            return Err(Error::UnauthorizedGrant(format!("Unauthorized grant type: {}", grant.name())));
        }
        match grant {
            Grant::ClientCredentials => self.client_credentials(&client, &requested).await,
            Grant::Password { user_name, password, origin } => {
                if origin.is_some_and(|origin| origin != ORIGIN) {
                    return Err(Error::Origin);
                }
                let user = self.log_in(&user_name, password).await?;
                self.logged_in(&client, user, None, &requested).await
            }
            Grant::Passcode(passcode) => {
                let (user, at) = self.take_passcode(&passcode).await?;
                self.logged_in(&client, user, Some(at), &requested).await
            }
            Grant::Code(presented) => self.code(&client, presented).await,
            Grant::Refresh { token } => self.refresh(&client, &token, requested).await,
        }
    }

    async fn client_credentials(&self, client: &Client, requested: &[String]) -> Result<Granted> {
        let scopes = scopes::of_client(requested, &split(&client.authorities))?;
        let login =
            Login { session: self.random_hex(), user: None, at: self.now(), grant_type: "client_credentials", nonce: None };
        let (granted, rows) = self.tokens(client, &login, scopes, None)?;
        self.keep(rows, None).await?;
        Ok(granted)
    }

    /// Tokens for a user who is known now, or was in the browser at `at`.
    async fn logged_in(&self, client: &Client, user: User, at: Option<i64>, requested: &[String]) -> Result<Granted> {
        let (id, requested, allowed) = (user.id.clone(), requested.to_vec(), split(&client.scopes));
        let scopes = move |conn: &mut Db| scopes::of_user(&requested, &allowed, &super::users::all_groups(conn, &id)?);
        let scopes = self.store.run(scopes).await?;
        let at = at.unwrap_or_else(|| self.now());
        let login = Login { session: self.random_hex(), user: Some(&user), at, grant_type: "password", nonce: None };
        let refresh = client.has_grant("refresh_token").then(|| self.now() + self.refresh_validity(client));
        let (granted, rows) = self.tokens(client, &login, scopes, refresh)?;
        self.keep(rows, Some(user.clone())).await?;
        info!(user.id = %user.id, client.id = %client.id, "logged in");
        Ok(granted)
    }

    /// The user that these credentials belong to. Answer and time are the same for a wrong password and an unknown name.
    pub(super) async fn log_in(&self, user_name: &str, password: Secret) -> Result<User> {
        // PostgreSQL takes no such character, and nobody has it in a name
        let user_name = user_name.replace('\0', "\u{fffd}");
        let key: String = user_name.to_lowercase().chars().take(255).collect();
        let turn = self.turns.of(&key);
        let _turn = turn.lock().await;
        let (name, key_read) = (user_name, key.clone());
        let look =
            move |conn: &mut Db| Ok((store::failures::find(conn, &key_read)?, store::users::find_by_name(conn, ORIGIN, &name)?));
        let (failures, user): (Failures, Option<User>) = self.store.run(look).await?;
        if failures.locked(self.now()) {
            return Err(Error::Locked);
        }
        let hash = user.as_ref().and_then(|user| user.password_hash.clone());
        let good = self.passwords.matches(password, hash).await?;
        match user {
            Some(user) if good && user.active => {
                if failures != Failures::default() {
                    self.store.run(move |conn| store::failures::clear(conn, &key)).await?;
                }
                Ok(user)
            }
            user => {
                let failures = failures.failed(&self.config.lockout, self.now());
                self.store.run(move |conn| store::failures::put(conn, &key, failures)).await?;
                let id = user.map(|user| user.id).unwrap_or_default();
                warn!(user.id = %id, failures = failures.count, locked = failures.locked_until > 0, "a login failed");
                Err(Error::Credentials)
            }
        }
    }

    async fn refresh(&self, client: &Client, token: &Secret, requested: Vec<String>) -> Result<Granted> {
        let (id, now) = (digest(token.expose()), self.now());
        let (client_id, allowed) = (client.id.clone(), split(&client.scopes));
        let look = move |conn: &mut Db| {
            let row = store::tokens::find(conn, &id)?.filter(|row| row.refresh && row.expires_at > now);
            let row = row.ok_or_else(|| Error::Token("The token expired, was revoked, or the token ID is incorrect.".into()))?;
            if row.client_id != client_id {
                return Err(Error::Token(format!("Wrong client for this refresh token: {client_id}")));
            }
            let gone = || Error::Token("The user of this token is gone or inactive.".into());
            let user = match &row.user_id {
                Some(user) => store::users::find(conn, user)?.filter(|user| user.active).ok_or_else(gone)?,
                None => return Err(gone()),
            };
            let groups = super::users::all_groups(conn, &user.id)?;
            let scopes = scopes::of_refresh(&requested, &split(&row.scopes), &allowed, &groups)?;
            Ok((row, user, scopes))
        };
        let (row, user, scopes) = self.store.run(look).await?;
        if row.rotated_at.is_some_and(|at| now - at > i64::try_from(ROTATION_GRACE.as_micros()).unwrap_or(i64::MAX)) {
            let session = row.session.clone();
            self.store.run(move |conn| store::tokens::revoke(conn, Which::Session(&session))).await?;
            warn!(user.id = %user.id, client.id = %client.id, "an old refresh token came back: its login was ended");
            return Err(Error::Token("The token was used before; log in again.".into()));
        }
        let login = Login {
            session: row.session.clone(),
            user: Some(&user),
            at: row.logged_in_at,
            grant_type: &row.grant_type,
            nonce: None,
        };
        // everybody can be a public client, so only a token that changes shows that it was stolen
        let rotated = client.is_public().then_some(row.expires_at);
        let (mut granted, mut rows) = self.tokens(client, &login, scopes, rotated)?;
        match rows.iter_mut().find(|new| new.refresh) {
            // the new one can do what the login could, however much this answer was narrowed
            Some(new) => new.scopes.clone_from(&row.scopes),
            None => granted.refresh_token = Some(token.clone()),
        }
        let keep = move |conn: &mut Db| {
            // revoked in the meantime: then nothing may come of it
            if store::tokens::find(conn, &row.id)?.is_none() {
                return Err(Error::Token("The token was revoked.".into()));
            }
            if rotated.is_some() {
                store::tokens::rotate(conn, &row.id, now)?;
            }
            rows.iter().try_for_each(|new| store::tokens::insert(conn, new))
        };
        self.store.run(keep).await?;
        Ok(granted)
    }

    async fn keep(&self, rows: Vec<Token>, user: Option<User>) -> Result<()> {
        let now = self.now();
        let keep = move |conn: &mut Db| {
            if let Some(user) = &user {
                store::users::logged_in(conn, user, now)?;
            }
            rows.iter().try_for_each(|row| store::tokens::insert(conn, row))
        };
        self.store.run(keep).await
    }

    pub(super) fn tokens(
        &self,
        client: &Client,
        login: &Login<'_>,
        scopes: Vec<String>,
        refresh_until: Option<i64>,
    ) -> Result<(Granted, Vec<Token>)> {
        let now = self.now();
        let token_id = self.random_hex();
        let expires_at = now + self.access_validity(client);
        let aud = scopes::audience(&client.id, &scopes);
        let issuer = self.issuer();
        let rev_sig = revocation_signature(client, login.user);
        let user = login.user.map(|user| UserClaims {
            user_id: &user.id,
            origin: &user.origin,
            user_name: &user.user_name,
            email: &user.email,
            auth_time: seconds(login.at),
        });
        let claims = AccessClaims {
            jti: &token_id,
            sub: login.user.map_or(client.id.as_str(), |user| &user.id),
            scope: &scopes,
            client_id: &client.id,
            cid: &client.id,
            azp: &client.id,
            revocable: true,
            grant_type: login.grant_type,
            user,
            authorities: login.user.is_none().then_some(&scopes),
            rev_sig: &rev_sig,
            iat: seconds(now),
            exp: seconds(expires_at),
            iss: &issuer,
            zid: ZONE,
            aud: &aud,
        };
        let access_token = Secret::new(self.keys.sign(&claims)?);
        let id_token = match login.user {
            Some(user) if scopes.iter().any(|scope| scope == "openid") => Some(self.id_token(&claims, user, login.nonce)?),
            _ => None,
        };
        let row = |id: String, refresh: bool, expires_at: i64| Token {
            id,
            refresh,
            session: login.session.clone(),
            client_id: client.id.clone(),
            user_id: login.user.map(|user| user.id.clone()),
            scopes: store::join(&scopes),
            grant_type: login.grant_type.to_owned(),
            logged_in_at: login.at,
            issued_at: now,
            expires_at,
            rotated_at: None,
        };
        let mut rows = vec![row(token_id.clone(), false, expires_at)];
        // the suffix tells resource servers that this is no access token
        let refresh_token = refresh_until.map(|until| {
            let value = format!("{}-r", BASE64_URL_SAFE_NO_PAD.encode(self.random::<32>()));
            rows.push(row(digest(&value), true, until));
            Secret::new(value)
        });
        let expires_in_s = seconds(expires_at) - seconds(now);
        Ok((Granted { access_token, refresh_token, id_token, expires_in_s, scopes, token_id }, rows))
    }

    fn id_token(&self, access: &AccessClaims<'_>, user: &User, nonce: Option<&str>) -> Result<Secret> {
        let mut claims = serde_json::json!({
            "sub": access.sub, "aud": [access.client_id], "iss": access.iss, "iat": access.iat, "exp": access.exp, "zid": ZONE,
            "azp": access.azp, "cid": access.client_id, "client_id": access.client_id, "grant_type": access.grant_type, "amr": ["pwd"],
            "jti": self.random_hex(), "scope": ["openid"], "rev_sig": access.rev_sig, "origin": user.origin, "user_id": user.id,
            "user_name": user.user_name, "email": user.email, "email_verified": user.verified,
            "auth_time": access.user.map(|user| user.auth_time),
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        Ok(Secret::new(self.keys.sign(&claims)?))
    }

    fn access_validity(&self, client: &Client) -> i64 {
        client.access_validity_s.map_or_else(|| micros(self.config.access_validity), |s| s * 1_000_000)
    }
    pub(super) fn refresh_validity(&self, client: &Client) -> i64 {
        client.refresh_validity_s.map_or_else(|| micros(self.config.refresh_validity), |s| s * 1_000_000)
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// What is kept of a refresh token.
pub(crate) fn digest(token: &str) -> String {
    hex(&Sha256::digest(token))
}

/// Changes whenever a change of the client or the user must end its tokens.
fn revocation_signature(client: &Client, user: Option<&User>) -> String {
    let mut digest = Sha256::new();
    let of_user = user.map(|user| {
        [user.id.as_str(), &user.salt, &user.email, &user.user_name, user.password_hash.as_deref().unwrap_or_default()]
    });
    for part in [client.id.as_str(), &client.salt, &client.secret_hash].into_iter().chain(of_user.into_iter().flatten()) {
        digest.update(part);
        digest.update([0]);
    }
    hex(&digest.finalize()[..4])
}
