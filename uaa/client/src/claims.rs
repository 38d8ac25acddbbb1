//! What a checked token says.

use serde::Deserialize;

/// What a checked access token says about its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The user; absent in tokens that a client got for itself.
    pub user_id: Option<String>,
    /// The user's name.
    pub user_name: Option<String>,
    /// The user's address.
    pub email: Option<String>,
    /// The client that got the token.
    pub client_id: String,
    /// What the holder may do.
    pub scopes: Vec<String>,
    /// Where the user comes from; `uaa` for UAA's own users.
    pub origin: Option<String>,
    /// The user's or the client's id.
    pub subject: String,
    /// Who made the token.
    pub issuer: String,
    /// Whom it is meant for.
    pub audience: Vec<String>,
    /// The token's own id.
    pub token_id: String,
    /// How it was got: `password`, `client_credentials`, ...
    pub grant_type: Option<String>,
    /// Made at: seconds since the epoch.
    pub issued_at: Option<u64>,
    /// Ends at: seconds since the epoch.
    pub exp: u64,
    /// The identity zone.
    pub zone: Option<String>,
}

impl Claims {
    /// True when the token carries this scope; names are case-sensitive.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|s| s == scope)
    }
    /// The id that stands for the holder: the user's, or the client's for tokens without a user.
    pub fn holder(&self) -> &str {
        self.user_id.as_deref().unwrap_or(&self.client_id)
    }
}

/// The wire form.
#[derive(Deserialize)]
pub(crate) struct Wire {
    sub: String,
    iss: String,
    exp: u64,
    aud: OneOrMany,
    #[serde(default)]
    jti: String,
    #[serde(default)]
    iat: Option<u64>,
    #[serde(default)]
    scope: Option<OneOrMany>,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    cid: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    user_name: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    origin: Option<String>,
    #[serde(default)]
    grant_type: Option<String>,
    #[serde(default)]
    zid: Option<String>,
    /// Only refresh tokens and tokens exchanged for another purpose name a type.
    #[serde(default)]
    granted_scopes: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => one.split(' ').filter(|s| !s.is_empty()).map(str::to_owned).collect(),
            Self::Many(many) => many,
        }
    }
}

impl Wire {
    /// True for refresh tokens: they name themselves by a suffix of their id, and carry the scopes they could grant.
    pub(crate) fn is_refresh_token(&self) -> bool {
        self.jti.ends_with("-r") || self.granted_scopes.is_some()
    }

    /// `None` when no client is named.
    pub(crate) fn into_claims(self) -> Option<Claims> {
        Some(Claims {
            client_id: self.client_id.or(self.cid)?,
            user_id: self.user_id,
            user_name: self.user_name,
            email: self.email,
            scopes: self.scope.map(OneOrMany::into_vec).unwrap_or_default(),
            origin: self.origin,
            subject: self.sub,
            issuer: self.iss,
            audience: self.aud.into_vec(),
            token_id: self.jti,
            grant_type: self.grant_type,
            issued_at: self.iat,
            exp: self.exp,
            zone: self.zid,
        })
    }
}
