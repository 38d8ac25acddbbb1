//! Spaces.

use crate::{
    domain::{Access, OrgRole, Result},
    store::{
        Conn,
        orgs::Org,
        schema::{orgs, spaces},
    },
};
use diesel::{prelude::*, sql_types::Bool};

/// A space as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = spaces)]
pub struct Space {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub name: String,
    pub name_key: String,
    pub org_guid: String,
    pub suspended: bool,
    pub deleting: bool,
    pub allow_ssh: bool,
    pub quota_guid: Option<String>,
}

/// Finds a space.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Space>> {
    Ok(spaces::table.find(guid).select(Space::as_select()).first(conn).optional()?)
}

/// Finds a space with its organization.
pub fn find_with_org(conn: &mut Conn, guid: &str) -> Result<Option<(Space, Org)>> {
    let query = spaces::table.inner_join(orgs::table.on(orgs::guid.eq(spaces::org_guid))).filter(spaces::guid.eq(guid));
    Ok(query.select((Space::as_select(), Org::as_select())).first(conn).optional()?)
}

/// Spaces by guid, in order of creation.
pub fn find_all(conn: &mut Conn, guids: &[String]) -> Result<Vec<Space>> {
    let query = spaces::table.filter(spaces::guid.eq_any(guids)).order((spaces::created_at, spaces::guid));
    Ok(query.select(Space::as_select()).load(conn)?)
}

/// A sub-query: guids of the spaces that the caller reads (R): `spaces::guid.eq_any(readable(...))`.
pub fn readable(who: &Access) -> Visible {
    visible(who.global_reader(), who.own_spaces(), who.orgs_with(&[OrgRole::Manager]))
}

/// A sub-query: guids of the spaces whose routes the caller reads (RR).
pub fn route_readable(who: &Access) -> Visible {
    visible(who.global_reader(), who.own_spaces(), who.orgs_with(&[OrgRole::Manager, OrgRole::Auditor]))
}

/// A sub-query: guids of the spaces of these organizations.
pub fn of_orgs(orgs: Vec<String>) -> Visible {
    visible(false, vec![], orgs)
}

/// The type of the sub-queries. It is not boxed: a boxed one cannot be part of another query on either back end.
pub type Visible = visible;

#[diesel::dsl::auto_type]
fn visible(everything: bool, in_spaces: Vec<String>, in_orgs: Vec<String>) -> _ {
    let one_of: diesel::dsl::EqAny<spaces::guid, Vec<String>> = spaces::guid.eq_any(in_spaces);
    let below: diesel::dsl::EqAny<spaces::org_guid, Vec<String>> = spaces::org_guid.eq_any(in_orgs);
    let all: diesel::dsl::AsExprOf<bool, Bool> = everything.into_sql::<Bool>();
    spaces::table.select(spaces::guid).filter(all.or(one_of).or(below))
}
