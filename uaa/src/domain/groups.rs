//! Groups: their names are scopes.

use super::{Error, Result, Uaa};
use crate::store::{self, Db, groups::Group};

/// A group with its members: user id and origin.
pub(crate) struct GroupMembers {
    pub(crate) group: Group,
    pub(crate) members: Vec<(String, String)>,
}

impl Uaa {
    /// Makes a group.
    pub(crate) async fn create_group(&self, display_name: String, description: String) -> Result<GroupMembers> {
        let bad = |c: char| c.is_control() || c.is_whitespace();
        if display_name.is_empty() || display_name.len() > 255 || display_name.contains(bad) {
            return Err(Error::Invalid("A displayName of 1 to 255 bytes without spaces must be provided.".into()));
        }
        let now = self.now();
        let group = Group { id: self.random_id(), display_name, description, version: 0, created_at: now, updated_at: now };
        self.store
            .run(move |conn| {
                store::groups::insert(conn, &group)?;
                Ok(GroupMembers { group, members: vec![] })
            })
            .await
    }

    /// A group by id.
    pub(crate) async fn group(&self, id: String) -> Result<GroupMembers> {
        self.store.run(move |conn| with_members(conn, &id)).await
    }

    /// All groups, or the one of that name; without members.
    pub(crate) async fn groups(&self, name: Option<String>) -> Result<Vec<Group>> {
        self.store.run(move |conn| store::groups::list(conn, name.as_deref())).await
    }

    /// Removes a group; hands back what it was.
    pub(crate) async fn delete_group(&self, id: String) -> Result<GroupMembers> {
        let operation = move |conn: &mut Db| {
            let group = with_members(conn, &id)?;
            store::groups::delete(conn, &id)?;
            Ok(group)
        };
        self.store.run(operation).await
    }

    /// Puts a user into a group; hands back the user's origin.
    pub(crate) async fn add_member(&self, group: String, user: String) -> Result<String> {
        let operation = move |conn: &mut Db| {
            store::groups::find(conn, &group)?.ok_or(Error::NotFound("group"))?;
            let origin = store::users::find(conn, &user)?.ok_or(Error::NotFound("user"))?.origin;
            store::groups::add(conn, &group, &user)?;
            Ok(origin)
        };
        self.store.run(operation).await
    }

    /// Takes a user out of a group.
    pub(crate) async fn remove_member(&self, group: String, user: String) -> Result<()> {
        let operation = move |conn: &mut Db| match store::groups::remove(conn, &group, &user)? {
            true => Ok(()),
            false => Err(Error::NotFound("member")),
        };
        self.store.run(operation).await
    }
}

fn with_members(conn: &mut Db, id: &str) -> Result<GroupMembers> {
    let group = store::groups::find(conn, id)?.ok_or(Error::NotFound("group"))?;
    let members = store::groups::members(conn, id)?;
    Ok(GroupMembers { group, members })
}
