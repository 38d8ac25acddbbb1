//! Who holds this token, and what may it do here.

use super::{Error, Result, Uaa};
use crate::store;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::Value;

/// The holder of a good access token.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) client_id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) scopes: Vec<String>,
}

impl Caller {
    /// # Errors
    /// [`Error::Forbidden`] when the token carries none of these scopes.
    pub(crate) fn needs(&self, any: &'static [&'static str]) -> Result<()> {
        if self.has(any) { Ok(()) } else { Err(Error::Forbidden(any)) }
    }
    /// True when the token carries one of these scopes.
    pub(crate) fn has(&self, any: &[&str]) -> bool {
        self.scopes.iter().any(|scope| any.contains(&scope.as_str()))
    }
    /// True for the user with this id.
    pub(crate) fn is_user(&self, id: &str) -> bool {
        self.user_id.as_deref() == Some(id)
    }
    /// True for a client that acts for itself and has this id.
    pub(crate) fn is_client(&self, id: &str) -> bool {
        self.user_id.is_none() && self.client_id == id
    }
}

impl Uaa {
    /// The claims of an access token that is good now: our signature, our issuer, not ended, not revoked, and not of
    /// another kind.
    ///
    /// # Errors
    /// [`Error::Token`], saying why it is not.
    pub(crate) async fn claims(&self, token: &str) -> Result<Value> {
        let bad = |why: &str| Error::Token(why.to_owned());
        let claims = self.signed(token)?;
        let expires_at = claims["exp"].as_u64().unwrap_or(0);
        if expires_at <= self.clock.now().as_secs() {
            return Err(bad("Token has expired"));
        }
        // refresh tokens and id tokens are not among the access tokens that are kept
        let id = claims["jti"].as_str().unwrap_or_default().to_owned();
        let known = self.store.run(move |conn| store::tokens::find(conn, &id)).await?;
        match known {
            Some(row) if !row.refresh => Ok(claims),
            _ => Err(bad("The token expired, was revoked, or the token ID is incorrect.")),
        }
    }

    /// The claims of anything that we signed, however old.
    fn signed(&self, token: &str) -> Result<Value> {
        let bad = |why: &str| Error::Token(why.to_owned());
        let header = jsonwebtoken::decode_header(token).map_err(|_| bad("Cannot convert access token to JSON"))?;
        let key = self.keys.checking(header.kid.as_deref().unwrap_or_default()).ok_or_else(|| bad("Unknown signing key"))?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[self.issuer()]);
        (validation.validate_exp, validation.validate_aud) = (false, false); // below, and by the scopes of each endpoint
        Ok(jsonwebtoken::decode::<Value>(token, key, &validation).map_err(|_| bad("Invalid token"))?.claims)
    }

    /// The client that an id token was made for; it may have ended.
    pub(super) fn client_of_id_token(&self, token: &str) -> Option<String> {
        self.signed(token).ok()?["client_id"].as_str().map(str::to_owned)
    }

    /// The holder of a bearer token.
    pub(crate) async fn caller(&self, token: &str) -> Result<Caller> {
        let claims = self.claims(token).await?;
        let text = |name: &str| claims[name].as_str().map(str::to_owned);
        let scopes = claims["scope"].as_array().map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        Ok(Caller {
            client_id: text("client_id").unwrap_or_default(),
            user_id: text("user_id"),
            scopes: scopes.unwrap_or_default(),
        })
    }
}
