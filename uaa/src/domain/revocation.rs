//! Ending tokens before their time.

use super::{Error, Result, Uaa, access::Caller, grants::digest};
use crate::store::{self, Db, tokens::Which};
use tracing::info;

const ALL: &[&str] = &["tokens.revoke", "uaa.admin"];

impl Uaa {
    /// Ends one token, named by its `jti` or, for refresh tokens, its value; one's own, unless the caller may end all.
    ///
    /// Ending an access token ends the refresh tokens of the same login too: that is what logging out means, and the
    /// command line client cannot name its refresh token. Other logins of the user go on.
    pub(crate) async fn revoke_token(&self, caller: &Caller, named: String) -> Result<()> {
        let caller = caller.clone();
        let operation = move |conn: &mut Db| {
            let token = match store::tokens::find(conn, &named)?.filter(|token| !token.refresh) {
                Some(token) => Some(token),
                None => store::tokens::find(conn, &digest(&named))?,
            };
            let token = token.ok_or(Error::NotFound("token"))?;
            let own = match &token.user_id {
                Some(user) => caller.is_user(user),
                None => caller.is_client(&token.client_id),
            };
            if !own && !caller.has(ALL) {
                return Err(Error::Forbidden(ALL));
            }
            match token.refresh {
                true => store::tokens::revoke(conn, Which::One(&token.id)),
                false => store::tokens::revoke(conn, Which::Session(&token.session)),
            }
        };
        let ended = self.store.run(operation).await?;
        info!(ended, "tokens were revoked");
        Ok(())
    }

    /// Ends all tokens of a user, and its logins in browsers.
    pub(crate) async fn revoke_user(&self, caller: &Caller, user: String) -> Result<()> {
        if !caller.is_user(&user) {
            caller.needs(ALL)?;
        }
        self.revoke_all(move |conn| {
            store::users::find(conn, &user)?.ok_or(Error::NotFound("user"))?;
            store::sessions::end_of_user(conn, &user)?;
            store::tokens::revoke(conn, Which::User(&user))
        })
        .await
    }

    /// Ends all tokens of a client.
    pub(crate) async fn revoke_client(&self, caller: &Caller, client: String) -> Result<()> {
        caller.needs(ALL)?;
        self.revoke_all(move |conn| {
            store::clients::find(conn, &client)?.ok_or(Error::NotFound("client"))?;
            store::tokens::revoke(conn, Which::Client(&client))
        })
        .await
    }

    /// Ends all tokens that a user has through a client.
    pub(crate) async fn revoke_user_of_client(&self, caller: &Caller, user: String, client: String) -> Result<()> {
        if !(caller.is_user(&user) && caller.client_id == client) {
            caller.needs(ALL)?;
        }
        self.revoke_all(move |conn| store::tokens::revoke(conn, Which::UserOfClient(&user, &client))).await
    }

    /// Forgets what ended by itself.
    pub(crate) async fn purge(&self) -> Result<()> {
        let now = self.now();
        let window = super::lockout::micros(self.config.lockout.window_s);
        let operation = move |conn: &mut Db| {
            store::tokens::revoke(conn, Which::ExpiredBefore(now))?;
            super::sessions::purge(conn, now)?;
            super::authorize::purge(conn, now)?;
            store::failures::purge(conn, now - window)
        };
        self.store.run(operation).await.map(|_| ())
    }

    async fn revoke_all<F>(&self, operation: F) -> Result<()>
    where
        F: FnOnce(&mut Db) -> Result<usize> + Send + 'static,
    {
        let ended = self.store.run(operation).await?;
        info!(ended, "tokens were revoked");
        Ok(())
    }
}
