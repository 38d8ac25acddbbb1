//! OAuth clients: who they are, and how they prove it.

use super::{Error, Result, Uaa};
use crate::store::{self, clients::Client};
use foundation::Secret;

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

#[cfg(test)]
mod tests {
    use super::*;

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
