//! Tokens out of authorization codes.

use super::{
    Error, Result, Uaa,
    grants::{Granted, Login, digest},
    redirects::way_back,
    scopes,
};
use crate::store::{
    self, Db,
    clients::Client,
    codes::Code,
    split,
    tokens::{Token, Which},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use foundation::Secret;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

/// A code, and what came with it.
#[derive(Debug)]
pub(crate) struct Presented {
    pub(crate) code: Secret,
    pub(crate) redirect_uri: Option<String>,
    /// Of PKCE.
    pub(crate) verifier: Option<Secret>,
}

impl Uaa {
    /// Tokens for a code. It serves once: a failed try is one, and a second use ends what came of the first.
    pub(super) async fn code(&self, client: &Client, presented: Presented) -> Result<Granted> {
        let (id, client_id) = (digest(presented.code.expose()), client.id.clone());
        let look = move |conn: &mut Db| {
            let Some(code) = store::codes::find(conn, &id)?.filter(|code| code.client_id == client_id) else { return Ok(None) };
            let Some(user) = store::users::find(conn, &code.user_id)?.filter(|user| user.active) else { return Ok(None) };
            let groups = super::users::all_groups(conn, &user.id)?;
            Ok(Some((code, user, groups)))
        };
        let found = self.store.run(look).await?;
        let (code, user, groups) = found.ok_or(Error::Grant("The authorization code is unknown, or of another client."))?;
        let now = self.now();
        if let Err(why) = check(&code, client, &presented, now) {
            self.use_up(code, vec![]).await?;
            return Err(why);
        }
        let scopes = scopes::of_refresh(&[], &split(&code.scopes), &split(&client.scopes), &groups)?;
        let login = Login {
            session: code.session.clone(),
            user: Some(&user),
            at: code.logged_in_at,
            grant_type: "authorization_code",
            nonce: code.nonce.as_deref(),
        };
        let refresh = client.has_grant("refresh_token").then(|| now + self.refresh_validity(client));
        let (granted, rows) = self.tokens(client, &login, scopes, refresh)?;
        self.use_up(code, rows).await?;
        info!(user.id = %user.id, client.id = %client.id, "logged in with an authorization code");
        Ok(granted)
    }

    /// Marks a code as used and keeps its tokens, together: of two uses at once, one finds the other's mark.
    async fn use_up(&self, code: Code, rows: Vec<Token>) -> Result<()> {
        let now = self.now();
        let (user, client) = (code.user_id.clone(), code.client_id.clone());
        let keep = move |conn: &mut Db| {
            if store::codes::use_up(conn, &code.id, now)? {
                rows.iter().try_for_each(|row| store::tokens::insert(conn, row))?;
                return Ok(None);
            }
            store::tokens::revoke(conn, Which::Session(&code.session)).map(Some)
        };
        match self.store.run(keep).await? {
            None => Ok(()),
            Some(ended) => {
                warn!(user.id = %user, client.id = %client, ended, "an authorization code came back: its login was ended");
                Err(Error::Grant("The authorization code was used before, or was revoked."))
            }
        }
    }
}

fn check(code: &Code, client: &Client, presented: &Presented, now: i64) -> Result<()> {
    if code.expires_at <= now {
        return Err(Error::Grant("The authorization code has expired."));
    }
    let same_address = match (&code.redirect_uri, presented.redirect_uri.as_deref()) {
        (Some(asked), Some(given)) => asked == given,
        (Some(_), None) => false,
        (None, None) => true,
        (None, Some(given)) => way_back(client, Some(given)).is_ok(),
    };
    if !same_address {
        return Err(Error::Grant("The redirect_uri is not that of the authorization request."));
    }
    match (&code.challenge, &presented.verifier) {
        (None, None) => Ok(()),
        (Some(challenge), Some(verifier)) if answers(verifier.expose(), challenge) => Ok(()),
        (Some(_), Some(_)) => Err(Error::Grant("The code_verifier does not answer the code_challenge.")),
        (Some(_), None) => Err(Error::Grant("The code_verifier is missing.")),
        // somebody took the challenge out of the request
        (None, Some(_)) => Err(Error::Grant("There is a code_verifier, but there was no code_challenge.")),
    }
}

/// Source: RFC 7636, sections 4.1 and 4.6.
fn answers(verifier: &str, challenge: &str) -> bool {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    (43..=128).contains(&verifier.len())
        && verifier.bytes().all(unreserved)
        && BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) == challenge
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7636, appendix B.
    #[test]
    fn a_verifier_answers_its_own_challenge_alone() {
        let (verifier, challenge) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(answers(verifier, challenge));
        for wrong in ["", challenge, &verifier[1..], &verifier.replace('d', "e"), &format!("{verifier} ")] {
            assert!(!answers(wrong, challenge), "{wrong}");
        }
    }
}
