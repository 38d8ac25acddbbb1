//! Users.

use super::{Error, Result, Uaa, filter::Filter, scopes};
use crate::store::{
    self, Db,
    tokens::Which,
    users::{Sort, User},
};
use foundation::Secret;
use std::collections::{BTreeMap, BTreeSet};

/// Where users come from whom UAA itself knows the password of.
pub(crate) const ORIGIN: &str = "uaa";
const LONGEST: usize = 255;

/// A user to be made.
#[derive(Debug, Default)]
pub(crate) struct NewUser {
    pub(crate) user_name: String,
    pub(crate) password: Option<Secret>,
    pub(crate) origin: String,
    pub(crate) email: String,
    pub(crate) given_name: String,
    pub(crate) family_name: String,
    pub(crate) external_id: String,
    pub(crate) inactive: bool,
}

/// What may be changed of a user.
#[derive(Debug)]
pub(crate) struct UserChange {
    pub(crate) user_name: String,
    pub(crate) email: String,
    pub(crate) given_name: String,
    pub(crate) family_name: String,
    pub(crate) external_id: String,
    pub(crate) active: bool,
}

/// A group that somebody was put into.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(crate) group_id: String,
    pub(crate) name: String,
}

/// A user with the groups that it was put into.
pub(crate) struct Member {
    pub(crate) user: User,
    pub(crate) groups: Vec<Membership>,
}

/// One page of a list.
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) total: i64,
}

impl Uaa {
    /// Checks and completes a user, without keeping it.
    pub(crate) async fn prepare_user(&self, new: NewUser) -> Result<User> {
        let origin = if new.origin.is_empty() { ORIGIN.to_owned() } else { new.origin };
        check_name(&new.user_name, &origin)?;
        let texts =
            [("name.givenName", &new.given_name), ("name.familyName", &new.family_name), ("externalId", &new.external_id)];
        check_email(&new.email)?;
        for (what, text) in texts.into_iter().chain([("origin", &origin)]) {
            if text.len() > LONGEST || text.chars().any(char::is_control) {
                return Err(Error::Invalid(format!("{what} is longer than {LONGEST} bytes, or has control characters")));
            }
        }
        let password_hash = match new.password {
            Some(password) if origin == ORIGIN => {
                self.check_password(&password)?;
                Some(self.passwords.hash(password, self.random()).await?)
            }
            None if origin == ORIGIN => return Err(Error::Password("A password must be provided.".into())),
            _ => None,
        };
        let now = self.now();
        Ok(User {
            id: self.random_id(),
            origin,
            user_name_key: new.user_name.to_lowercase(),
            user_name: new.user_name,
            password_hash,
            email: new.email,
            given_name: new.given_name,
            family_name: new.family_name,
            external_id: new.external_id,
            active: !new.inactive,
            verified: true,
            salt: self.random_hex(),
            version: 0,
            created_at: now,
            updated_at: now,
            password_changed_at: now,
            last_logon_at: None,
            previous_logon_at: None,
        })
    }

    /// Makes a user.
    pub(crate) async fn create_user(&self, new: NewUser) -> Result<Member> {
        let user = self.prepare_user(new).await?;
        self.store
            .run(move |conn| {
                store::users::insert(conn, &user)?;
                Ok(Member { user, groups: vec![] })
            })
            .await
    }

    /// Changes a user whose version is still the one given; without one, whatever it is.
    pub(crate) async fn change_user(&self, id: String, version: Option<i64>, change: UserChange) -> Result<Member> {
        let now = self.now();
        check_email(&change.email)?;
        let operation = move |conn: &mut Db| {
            let mut user = store::users::find(conn, &id)?.ok_or(Error::NotFound("user"))?;
            let seen = user.version;
            if version.is_some_and(|version| version != seen) {
                return Err(Error::Changed);
            }
            check_name(&change.user_name, &user.origin)?;
            // tokens name the user and the address, and a user who is off must not go on with them
            let ends_tokens = user.user_name != change.user_name || user.email != change.email || (user.active && !change.active);
            user.user_name_key = change.user_name.to_lowercase();
            (user.user_name, user.email) = (change.user_name, change.email);
            (user.given_name, user.family_name) = (change.given_name, change.family_name);
            (user.external_id, user.active) = (change.external_id, change.active);
            (user.version, user.updated_at) = (seen + 1, now);
            if !store::users::update(conn, &user, seen)? {
                return Err(Error::Changed);
            }
            if ends_tokens {
                store::tokens::revoke(conn, Which::User(&user.id))?;
                store::sessions::end_of_user(conn, &user.id)?;
            }
            with_groups(conn, user)
        };
        self.store.run(operation).await
    }

    /// Changes a password. `old` is `None` when an administrator does it.
    ///
    /// # Errors
    /// [`Error::Credentials`] when the old password is not the right one, [`Error::Password`] when the new one cannot be.
    pub(crate) async fn change_password(&self, id: String, old: Option<Secret>, new: Secret) -> Result<()> {
        let user = self.user(id.clone()).await?.user;
        if user.origin != ORIGIN {
            return Err(Error::Invalid("the password of this user is kept elsewhere".into()));
        }
        if let Some(old) = old
            && !self.passwords.matches(old, user.password_hash.clone()).await?
        {
            return Err(Error::Credentials);
        }
        self.check_password(&new)?;
        if self.passwords.matches(new.clone(), user.password_hash.clone()).await? {
            return Err(Error::Password("Your new password cannot be the same as the old password.".into()));
        }
        let (hash, salt, now) = (self.passwords.hash(new, self.random()).await?, self.random_hex(), self.now());
        let operation = move |conn: &mut Db| {
            let mut user = store::users::find(conn, &id)?.ok_or(Error::NotFound("user"))?;
            let seen = user.version;
            (user.password_hash, user.salt, user.password_changed_at) = (Some(hash), salt, now);
            (user.version, user.updated_at) = (seen + 1, now);
            if !store::users::update(conn, &user, seen)? {
                return Err(Error::Changed);
            }
            store::tokens::revoke(conn, Which::User(&id))?;
            store::sessions::end_of_user(conn, &id)?;
            Ok(())
        };
        self.store.run(operation).await
    }

    /// Removes a user; hands back who it was.
    pub(crate) async fn delete_user(&self, id: String) -> Result<Member> {
        let operation = move |conn: &mut Db| {
            let user = store::users::find(conn, &id)?.ok_or(Error::NotFound("user"))?;
            let member = with_groups(conn, user)?;
            store::users::delete(conn, &id)?;
            Ok(member)
        };
        self.store.run(operation).await
    }

    /// A user by id.
    pub(crate) async fn user(&self, id: String) -> Result<Member> {
        let operation = move |conn: &mut Db| {
            let user = store::users::find(conn, &id)?.ok_or(Error::NotFound("user"))?;
            with_groups(conn, user)
        };
        self.store.run(operation).await
    }

    /// One page of users with their groups, in a fixed number of queries.
    pub(crate) async fn users(
        &self,
        filter: Option<Filter>,
        sort: (Sort, bool),
        offset: i64,
        limit: i64,
    ) -> Result<Page<Member>> {
        let operation = move |conn: &mut Db| {
            let (users, total) = store::users::list(conn, filter.as_ref(), sort, offset, limit)?;
            let ids: Vec<String> = users.iter().map(|user| user.id.clone()).collect();
            let mut groups: BTreeMap<String, Vec<Membership>> = BTreeMap::new();
            for (user, group_id, name) in store::groups::of_users(conn, &ids)? {
                groups.entry(user).or_default().push(Membership { group_id, name });
            }
            let items =
                users.into_iter().map(|user| Member { groups: groups.remove(&user.id).unwrap_or_default(), user }).collect();
            Ok(Page { items, total })
        };
        self.store.run(operation).await
    }

    fn check_password(&self, password: &Secret) -> Result<()> {
        let length = password.expose().chars().count();
        let least = self.config.password_min_length;
        if length < least {
            return Err(Error::Password(format!("Password must be at least {least} characters in length.")));
        }
        if length > LONGEST {
            return Err(Error::Password(format!("Password must be no more than {LONGEST} characters in length.")));
        }
        Ok(())
    }
}

/// Everything that the user may do: the groups of everybody, and those that it was put into.
pub(crate) fn all_groups(conn: &mut Db, user: &str) -> Result<BTreeSet<String>> {
    let own = store::groups::of_user(conn, user)?;
    Ok(own.into_iter().chain(scopes::DEFAULT_GROUPS.iter().map(|group| (*group).to_owned())).collect())
}

fn with_groups(conn: &mut Db, user: User) -> Result<Member> {
    let rows = store::groups::of_users(conn, std::slice::from_ref(&user.id))?;
    Ok(Member { user, groups: rows.into_iter().map(|(_, group_id, name)| Membership { group_id, name }).collect() })
}

/// Source of the characters: cloudfoundry/uaa, `ScimUtils.java`.
fn check_name(name: &str, origin: &str) -> Result<()> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '+' | '-' | '_' | '.' | '@' | '\'' | '!');
    if name.is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
        return Err(Error::Invalid(format!("A username of 1 to {LONGEST} bytes must be provided.")));
    }
    if origin == ORIGIN && !name.chars().all(allowed) {
        return Err(Error::Invalid(format!("Username must match letters, digits and + - _ . @ ' !: `{name}` does not.")));
    }
    Ok(())
}

fn check_email(email: &str) -> Result<()> {
    if email.is_empty() || email.len() > LONGEST || email.chars().any(char::is_control) {
        return Err(Error::Invalid("Exactly one email must be provided.".into()));
    }
    Ok(())
}
