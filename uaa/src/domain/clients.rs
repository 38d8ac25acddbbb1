//! OAuth clients: who they are, and how they prove it.

use super::{Error, Result, Uaa, access::Caller, scopes};
use crate::{
    config::GRANTS,
    store::{self, Db, clients::Client, join, tokens::Which},
};
use foundation::Secret;
use std::collections::BTreeSet;
use tracing::info;

/// Who may give away everything that a client can have.
pub(crate) const ADMINS: &[&str] = &["clients.admin", "uaa.admin"];
/// The longest name, list or address.
const LONGEST: usize = 4096;
/// How many changes come in one go.
const MOST_CHANGES: usize = 1000;

/// What a client is to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) id: String,
    /// Only when it is made.
    pub(crate) secret: Option<Secret>,
    pub(crate) name: Option<String>,
    pub(crate) grants: Vec<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) authorities: Vec<String>,
    pub(crate) redirect_uris: Vec<String>,
    /// `true`, or the scopes that are.
    pub(crate) autoapprove: Vec<String>,
    pub(crate) access_validity_s: Option<i64>,
    pub(crate) refresh_validity_s: Option<i64>,
}

/// One of several changes.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Add(Wanted),
    /// The secret stays, unless there is one.
    Update(Wanted),
    Secret(String, Secret),
    Delete(String),
}

/// How a client presented itself.
#[derive(Clone, Debug)]
pub(crate) struct ClientCredentials {
    pub(crate) id: String,
    pub(crate) secret: Secret,
}

impl Client {
    pub(crate) fn has_grant(&self, grant: &str) -> bool {
        self.grants.split_ascii_whitespace().any(|g| g == grant)
    }
    /// True for a client whose secret everybody knows.
    pub(crate) fn is_public(&self) -> bool {
        self.secret_hash.is_empty()
    }
}

/// Says why an id cannot be one.
///
/// An id that looks like a user's id is refused: the cloud controller keeps both in one table.
pub(crate) fn check_id(id: &str) -> Result<(), String> {
    let bad = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | '\\' | ':');
    if id.is_empty() || id.len() > 255 || id.contains(bad) {
        return Err(format!("`{id}` cannot be a client id: up to 255 characters without spaces, slashes and colons"));
    }
    if id == "uaa" || id.parse::<types::UserId>().is_ok() {
        return Err(format!("`{id}` cannot be a client id: it is reserved, or looks like a user's id"));
    }
    Ok(())
}

impl Uaa {
    /// The client that these credentials belong to.
    ///
    /// # Errors
    /// [`Error::Client`], the same for an unknown client and a wrong secret.
    pub(crate) async fn authenticate_client(&self, credentials: ClientCredentials) -> Result<Client> {
        let id = credentials.id;
        let client = self.store.run(move |conn| store::clients::find(conn, &id)).await?;
        match client {
            Some(client) if self.passwords.secret_matches(credentials.secret, &client.secret_hash).await? => Ok(client),
            _ => Err(Error::Client),
        }
    }

    /// A client by id.
    pub(crate) async fn client(&self, id: String) -> Result<Client> {
        self.store.run(move |conn| store::clients::find(conn, &id)?.ok_or(Error::NotFound("client"))).await
    }

    /// All clients.
    pub(crate) async fn clients(&self) -> Result<Vec<Client>> {
        self.store.run(store::clients::list).await
    }
}

impl Wanted {
    /// Checks what the caller may make.
    ///
    /// Source: cloudfoundry/uaa, `ClientAdminEndpointsValidator.java`; that others than administrators give away nothing that they
    /// do not have is CVE-2019-11270.
    fn check(&mut self, caller: &Caller, new: bool) -> Result<()> {
        let bad = |why: String| Err(Error::BadClient(why));
        if let Err(why) = check_id(&self.id) {
            return bad(why);
        }
        let words = [&self.grants, &self.scopes, &self.authorities, &self.redirect_uris, &self.autoapprove];
        let unfit = |word: &str| word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',');
        if let Some(word) = words.into_iter().flatten().find(|word| unfit(word)) {
            return bad(format!("`{word}` cannot be in a list of a client: it is empty, or has a space or a comma"));
        }
        if words.into_iter().any(|list| list.iter().map(|word| word.len() + 1).sum::<usize>() > LONGEST)
            || self.name.as_ref().is_some_and(|name| name.len() > 255)
        {
            return bad("The client is too large".into());
        }
        self.check_grants(new)?;
        if [self.access_validity_s, self.refresh_validity_s].into_iter().flatten().any(|seconds| seconds <= 0) {
            return bad("The validity of tokens must be greater than zero".into());
        }
        if caller.has(ADMINS) { Ok(()) } else { self.check_modest(caller) }
    }

    fn check_grants(&mut self, new: bool) -> Result<()> {
        let bad = |why: String| Err(Error::BadClient(why));
        if self.grants.is_empty() {
            return bad("An authorized grant type must be provided. Must be one of: ".to_owned() + &GRANTS.join(", "));
        }
        if let Some(grant) = self.grants.iter().find(|grant| !GRANTS.contains(&grant.as_str())) {
            return bad(format!("{grant} is not an allowed grant type. Must be one of: {}", GRANTS.join(", ")));
        }
        let has = |grant: &str| self.grants.iter().any(|g| g == grant);
        if has("authorization_code") && self.redirect_uris.is_empty() {
            return bad("authorization_code grant type requires at least one redirect URL.".into());
        }
        if let Some(uri) = self.redirect_uris.iter().find(|uri| !is_redirect(uri)) {
            return bad(format!("{uri} is not a valid redirect URL: it needs a scheme and a host"));
        }
        let secret = self.secret.as_ref().is_some_and(|secret| !secret.expose().is_empty());
        if new && has("client_credentials") && !secret {
            return bad("Client secret is required for grant type client_credentials".into());
        }
        if (has("authorization_code") || has("password")) && !has("refresh_token") {
            self.grants.push("refresh_token".into());
        }
        Ok(())
    }

    /// What somebody who is no administrator may make.
    fn check_modest(&self, caller: &Caller) -> Result<()> {
        let bad = |why: String| Err(Error::BadClient(why));
        if self.grants.iter().any(|grant| grant == "password") {
            return bad("The password grant is for administrators to give".into());
        }
        let prefix = format!("{}.", caller.client_id);
        let own = |scope: &str| scope.starts_with(&prefix) || caller.scopes.iter().any(|have| have == scope);
        if let Some(scope) = self.scopes.iter().find(|scope| !own(scope)) {
            return bad(format!("{scope} is not an allowed scope for caller={}", caller.client_id));
        }
        let acts = self.grants.iter().any(|grant| grant == "client_credentials");
        let harmless = |authority: &str| authority == scopes::NONE || (authority == "uaa.resource" && acts);
        if let Some(authority) = self.authorities.iter().find(|authority| !harmless(authority)) {
            return bad(format!("{authority} is not an allowed authority for caller={}", caller.client_id));
        }
        Ok(())
    }

    fn row(&self, secret_hash: String, salt: String, now: i64) -> Client {
        let or_none = |words: &[String]| if words.is_empty() { scopes::NONE.to_owned() } else { join(words) };
        Client {
            id: self.id.clone(),
            secret_hash,
            name: self.name.clone().unwrap_or_else(|| self.id.clone()),
            grants: join(&self.grants),
            scopes: or_none(&self.scopes),
            authorities: or_none(&self.authorities),
            redirect_uris: join(&self.redirect_uris),
            autoapprove: join(&self.autoapprove),
            access_validity_s: self.access_validity_s,
            refresh_validity_s: self.refresh_validity_s,
            salt,
            updated_at: now,
        }
    }
}

fn is_redirect(uri: &str) -> bool {
    // a wildcard stands for a part of a host's label, a port or a path
    let Some((scheme, rest)) = uri.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '*' | '[' | ']');
    let named = host.trim_matches(['*', '.', ':']).contains(|c: char| c.is_ascii_alphanumeric());
    !scheme.is_empty()
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        && named
        && host.chars().all(word)
}

/// A change whose secret is hashed.
enum Ready {
    Add(Client),
    Update(Client, bool),
    Secret(String, String, String),
    Delete(String),
}

impl Uaa {
    /// Makes a client.
    pub(crate) async fn create_client(&self, caller: &Caller, wanted: Wanted) -> Result<Client> {
        self.one(caller, Change::Add(wanted)).await
    }
    /// Changes a client; its secret stays.
    pub(crate) async fn update_client(&self, caller: &Caller, wanted: Wanted) -> Result<Client> {
        self.one(caller, Change::Update(Wanted { secret: None, ..wanted })).await
    }
    /// Removes a client and its tokens.
    pub(crate) async fn delete_client(&self, caller: &Caller, id: String) -> Result<Client> {
        self.one(caller, Change::Delete(id)).await
    }
    /// Gives a client a new secret, and ends its tokens. Who is no administrator must know the `old` one.
    pub(crate) async fn change_client_secret(&self, caller: &Caller, id: String, old: Option<Secret>, new: Secret) -> Result<()> {
        if !caller.has(ADMINS) {
            let kept = self.client(id.clone()).await?.secret_hash;
            let old = old.ok_or_else(|| Error::BadClient("Previous secret is required and must be valid".into()))?;
            if !self.passwords.secret_matches(old, &kept).await? {
                return Err(Error::BadClient("Previous secret is required and must be valid".into()));
            }
        }
        self.one(caller, Change::Secret(id, new)).await.map(drop)
    }

    async fn one(&self, caller: &Caller, change: Change) -> Result<Client> {
        let mut done = self.change_clients(caller, vec![change]).await?;
        done.pop().ok_or_else(|| Error::Internal("changing a client", "nothing was changed".into()))
    }

    /// Carries out all of these changes, or none; returns the clients as they are then, removed ones as they were.
    ///
    /// # Errors
    /// [`Error::BadClient`], [`Error::ClientTaken`], [`Error::NotFound`] about the first change that cannot be.
    pub(crate) async fn change_clients(&self, caller: &Caller, changes: Vec<Change>) -> Result<Vec<Client>> {
        if changes.len() > MOST_CHANGES {
            return Err(Error::BadClient(format!("{MOST_CHANGES} changes come in one go at most")));
        }
        let mut named = BTreeSet::new();
        let mut ready = vec![];
        for change in changes {
            let id = match &change {
                Change::Add(wanted) | Change::Update(wanted) => &wanted.id,
                Change::Secret(id, _) | Change::Delete(id) => id,
            };
            if !named.insert(id.clone()) {
                return Err(Error::BadClient(format!("{id} is there twice")));
            }
            ready.push(self.ready(caller, change).await?);
        }
        let count = ready.len();
        let now = self.now();
        let changed = self.store.run(move |conn| ready.into_iter().map(|change| carry_out(conn, change, now)).collect()).await?;
        info!(count, caller = caller.client_id, "clients were changed");
        Ok(changed)
    }

    async fn ready(&self, caller: &Caller, change: Change) -> Result<Ready> {
        Ok(match change {
            Change::Add(mut wanted) => {
                wanted.check(caller, true)?;
                let hash = self.hash(wanted.secret.clone().unwrap_or_else(|| Secret::new(""))).await?;
                Ready::Add(wanted.row(hash, self.random_hex(), self.now()))
            }
            Change::Update(mut wanted) => {
                wanted.check(caller, false)?;
                let (hash, salt) = match &wanted.secret {
                    Some(secret) => (self.hash(secret.clone()).await?, self.random_hex()),
                    None => (String::new(), String::new()),
                };
                Ready::Update(wanted.row(hash, salt, self.now()), wanted.secret.is_some())
            }
            Change::Secret(id, secret) => {
                if secret.expose().is_empty() {
                    return Err(Error::BadClient("The new secret is empty".into()));
                }
                Ready::Secret(id, self.hash(secret).await?, self.random_hex())
            }
            Change::Delete(id) => Ready::Delete(id),
        })
    }

    async fn hash(&self, secret: Secret) -> Result<String> {
        if secret.expose().len() > 255 {
            return Err(Error::BadClient("A secret has 255 characters at most".into()));
        }
        self.passwords.hash_secret(secret, self.random()).await
    }
}

fn carry_out(conn: &mut Db, change: Ready, now: i64) -> Result<Client> {
    let known = |conn: &mut Db, id: &str| store::clients::find(conn, id)?.ok_or(Error::NotFound("client"));
    match change {
        Ready::Add(client) => match store::clients::find(conn, &client.id)? {
            Some(_) => Err(Error::ClientTaken(client.id)),
            None => store::clients::put(conn, &client).map(|()| client),
        },
        Ready::Update(client, new_secret) => {
            let before = known(conn, &client.id)?;
            let client = match new_secret {
                true => client,
                false => Client { secret_hash: before.secret_hash, salt: before.salt, ..client },
            };
            store::clients::put(conn, &client)?;
            if new_secret {
                store::tokens::revoke(conn, Which::Client(&client.id))?;
            }
            Ok(client)
        }
        Ready::Secret(id, secret_hash, salt) => {
            let client = Client { secret_hash, salt, updated_at: now, ..known(conn, &id)? };
            store::clients::put(conn, &client)?;
            store::tokens::revoke(conn, Which::Client(&id))?;
            Ok(client)
        }
        Ready::Delete(id) => {
            let client = known(conn, &id)?;
            store::tokens::revoke(conn, Which::Client(&id))?;
            store::clients::delete(conn, &id)?;
            Ok(client)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_come_back_to_have_a_scheme_and_a_host() {
        for good in
            ["http://dashboard.test", "https://*.app.test/**", "https://d.test:*/x?y=z", "myapp://callback", "http://[::1]:8080"]
        {
            assert!(is_redirect(good), "{good}");
        }
        for bad in ["", "dashboard.test", "/x", "http://", "http:///x", "https://*", "://x", "http://*:*/", "javascript:alert(1)"]
        {
            assert!(!is_redirect(bad), "{bad}");
        }
    }

    #[test]
    fn ids_that_could_be_taken_for_something_else_are_refused() {
        for good in ["cf", "ssh-proxy", "cloud_controller_username_lookup"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", "uaa", "a/b", "a\\b", "a:b", "a b", "00000000-0000-4000-8000-000000000001", &"x".repeat(256)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
