//! Spaces.

use crate::{
    domain::{Access, OrgRole, Result},
    store::{
        Conn, Db,
        apps::App,
        orgs::Org,
        query::{self, List, Listed},
        schema::{apps, orgs, spaces},
    },
};
use diesel::{prelude::*, sql_types::Bool};

/// The kind under which their metadata is kept.
pub const KIND: &str = "spaces";

/// A space as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = spaces, primary_key(guid), treat_none_as_null = true)]
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

/// Adds a space; organization and name are a unique key.
pub fn insert(conn: &mut Conn, space: &Space) -> QueryResult<()> {
    diesel::insert_into(spaces::table).values(space).execute(conn).map(drop)
}

/// Writes all columns; organization and name are a unique key.
pub fn save(conn: &mut Conn, space: &Space) -> QueryResult<()> {
    diesel::update(spaces::table.find(&space.guid)).set(space).execute(conn).map(drop)
}

/// Removes a space and its roles; apps and routes must be gone.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(spaces::table.find(guid)).execute(conn)?;
    Ok(())
}

/// The apps of a space.
pub fn apps_of(conn: &mut Conn, space: &str) -> Result<Vec<App>> {
    let query = apps::table.filter(apps::space_guid.eq(space)).order((apps::created_at, apps::guid));
    Ok(query.select(App::as_select()).load(conn)?)
}

/// The spaces of an organization.
pub fn of_org(conn: &mut Conn, org: &str) -> Result<Vec<Space>> {
    let query = spaces::table.filter(spaces::org_guid.eq(org)).order((spaces::created_at, spaces::guid));
    Ok(query.select(Space::as_select()).load(conn)?)
}

/// A page of the spaces that the caller reads (R).
pub fn list(conn: &mut Conn, who: &Access, list: &List) -> Result<Listed<Space>> {
    let filtered = || -> spaces::BoxedQuery<'static, Db> {
        let mut query = spaces::table.into_boxed();
        if !who.global_reader() {
            let managed = who.orgs_with(&[OrgRole::Manager]);
            query = query.filter(spaces::guid.eq_any(who.own_spaces()).or(spaces::org_guid.eq_any(managed)));
        }
        query::filter_common!(query, spaces, list, KIND);
        if let Some(names) = list.keys("names") {
            query = query.filter(spaces::name_key.eq_any(names));
        }
        if let Some(orgs) = list.values("organization_guids") {
            query = query.filter(spaces::org_guid.eq_any(orgs));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, spaces, list, "updated_at" => spaces::updated_at, "name" => spaces::name_key);
    Ok(Listed { rows: query.select(Space::as_select()).load(conn)?, total })
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
