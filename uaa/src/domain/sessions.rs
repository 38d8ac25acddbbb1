//! Logins in a browser: sessions behind cookies, tokens against forged forms, and one-time passcodes.
//!
//! A session is a random value in a cookie; the database has its SHA-256. A form's token is an HMAC keyed with a cookie's
//! value, so nothing more has to be kept for it, and it is worth nothing beside another cookie.

use super::{Error, Result, Uaa, grants::digest, hex};
use crate::store::{
    self, Db,
    sessions::{Passcode, Session},
    users::User,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use foundation::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tracing::info;

const MINUTE: i64 = 60_000_000;
/// A session that was not used for as long is over.
///
/// Source: cloudfoundry/uaa-release, `jobs/uaa/spec`.
const IDLE: i64 = 30 * MINUTE;
/// A session is over after this, however much it is used.
const LONGEST: i64 = 12 * 60 * MINUTE;
/// Sessions of one user; the next one takes the place of the one that was not seen for longest.
const MOST: i64 = 20;
/// Source: cloudfoundry/uaa, `PasscodeEndpoint.java`.
const PASSCODE_VALIDITY: i64 = 5 * MINUTE;
/// 32 letters and digits that nobody takes for one another.
const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Somebody who is logged in with this browser.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    /// The cookie's value.
    pub(crate) cookie: Secret,
    pub(crate) user: User,
    pub(crate) logged_in_at: i64,
}

impl Uaa {
    /// A value that cannot be guessed, for a cookie or a code.
    pub(crate) fn random_value(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.random::<32>())
    }

    /// Logs somebody in; returns the value of the new cookie. A session that the browser had before ends: who planted it
    /// there is not logged in with it.
    ///
    /// # Errors
    /// [`Error::Credentials`] and [`Error::Locked`], the same whether or not there is such a user.
    pub(crate) async fn open_session(&self, before: Option<Secret>, user_name: &str, password: Secret) -> Result<Secret> {
        let user = self.log_in(user_name, password).await?;
        let (cookie, now) = (Secret::new(self.random_value()), self.now());
        let session = Session { id: digest(cookie.expose()), user_id: user.id.clone(), logged_in_at: now, seen_at: now };
        let open = move |conn: &mut Db| {
            if let Some(before) = before {
                store::sessions::end(conn, &digest(before.expose()))?;
            }
            // the password may have been changed since it was compared, and that ended all sessions
            let same = store::users::find(conn, &user.id)?.is_some_and(|now| now.salt == user.salt && now.active);
            if !same {
                return Err(Error::Credentials);
            }
            store::users::logged_in(conn, &user, now)?;
            store::sessions::insert(conn, &session, MOST)?;
            Ok(user.id)
        };
        let user = self.store.run(open).await?;
        info!(user.id = %user, "logged in with a browser");
        Ok(cookie)
    }

    /// Who is logged in with this cookie.
    pub(crate) async fn visitor(&self, cookie: Option<Secret>) -> Result<Option<Visitor>> {
        let Some(cookie) = cookie else { return Ok(None) };
        let (id, now) = (digest(cookie.expose()), self.now());
        let look = move |conn: &mut Db| {
            let Some(session) = store::sessions::find(conn, &id)?.filter(|session| lives(session, now)) else { return Ok(None) };
            let Some(user) = store::users::find(conn, &session.user_id)?.filter(|user| user.active) else { return Ok(None) };
            if now - session.seen_at > MINUTE {
                store::sessions::seen(conn, &id, now)?;
            }
            Ok(Some((user, session.logged_in_at)))
        };
        let found = self.store.run(look).await?;
        Ok(found.map(|(user, logged_in_at)| Visitor { cookie, user, logged_in_at }))
    }

    /// Ends the session of this cookie.
    pub(crate) async fn close_session(&self, cookie: Secret) -> Result<()> {
        self.store.run(move |conn| store::sessions::end(conn, &digest(cookie.expose()))).await
    }

    /// A new passcode for the command line client, in place of the one before.
    pub(crate) async fn make_passcode(&self, visitor: &Visitor) -> Result<String> {
        let passcode: String =
            self.random::<16>().iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect();
        let row = Passcode {
            user_id: visitor.user.id.clone(),
            id: digest(&passcode),
            logged_in_at: visitor.logged_in_at,
            expires_at: self.now() + PASSCODE_VALIDITY,
        };
        self.store.run(move |conn| store::sessions::put_passcode(conn, &row)).await?;
        info!(user.id = %visitor.user.id, "made a passcode");
        Ok(passcode)
    }

    /// The user of a passcode, and when it logged in. A passcode serves once.
    pub(super) async fn take_passcode(&self, passcode: &Secret) -> Result<(User, i64)> {
        let (id, now) = (digest(passcode.expose().trim()), self.now());
        let take = move |conn: &mut Db| match store::sessions::take_passcode(conn, &id)? {
            Some(row) if row.expires_at > now => {
                Ok(store::users::find(conn, &row.user_id)?.filter(|user| user.active).map(|user| (user, row.logged_in_at)))
            }
            _ => Ok(None),
        };
        self.store.run(take).await?.ok_or(Error::Passcode)
    }
}

/// Forgets what ended by itself.
pub(super) fn purge(conn: &mut Db, now: i64) -> Result<()> {
    store::sessions::purge(conn, now - LONGEST, now - IDLE, now)
}

fn lives(session: &Session, now: i64) -> bool {
    now - session.seen_at < IDLE && now - session.logged_in_at < LONGEST
}

/// The token of a form: for this purpose, and beside this cookie.
pub(crate) fn form_token(cookie: &Secret, purpose: &str) -> String {
    hex(&keyed(cookie, purpose).finalize().into_bytes())
}

/// # Errors
/// [`Error::Forged`] when a form did not come from a page that we made for this browser.
pub(crate) fn check_form(cookie: Option<&Secret>, purpose: &str, token: &str) -> Result<()> {
    let cookie = cookie.ok_or(Error::Forged)?;
    let expected = form_token(cookie, purpose);
    match subtle::ConstantTimeEq::ct_eq(expected.as_bytes(), token.as_bytes()).into() {
        true => Ok(()),
        false => Err(Error::Forged),
    }
}

fn keyed(cookie: &Secret, purpose: &str) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(cookie.expose().as_bytes()).expect("HMAC takes keys of every length");
    mac.chain_update(purpose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forms_token_is_good_for_its_purpose_beside_its_cookie_alone() {
        let (mine, other) = (Secret::new("mine"), Secret::new("other"));
        let token = form_token(&mine, "login");
        assert!(check_form(Some(&mine), "login", &token).is_ok());
        for (cookie, purpose, token) in [
            (Some(&other), "login", token.as_str()),
            (Some(&mine), "consent", &token),
            (Some(&mine), "login", ""),
            (Some(&mine), "login", &token[1..]),
            (None, "login", &token),
        ] {
            assert!(matches!(check_form(cookie, purpose, token), Err(Error::Forged)), "{purpose} {token}");
        }
    }

    #[test]
    fn a_session_ends_when_it_is_not_used_and_after_half_a_day() {
        let session = |logged_in_at, seen_at| Session { id: String::new(), user_id: String::new(), logged_in_at, seen_at };
        assert!(lives(&session(0, 0), 29 * MINUTE));
        assert!(!lives(&session(0, 0), 30 * MINUTE));
        assert!(lives(&session(0, 700 * MINUTE), 710 * MINUTE));
        assert!(!lives(&session(0, 719 * MINUTE), 720 * MINUTE));
    }
}
