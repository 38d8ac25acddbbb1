//! Apps.

use crate::{
    domain::{Access, Result, Tx},
    store::{
        Conn,
        orgs::Org,
        query::{List, Listed, filter_common, key, order_and_page},
        schema::{apps, orgs, spaces},
        spaces::{self as space_store, Space},
    },
};
use diesel::{
    dsl::{EqAny, Filter, Select},
    prelude::*,
};

/// The kind under which labels and annotations of apps are kept.
pub const KIND: &str = "apps";

/// An app as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = apps, treat_none_as_null = true)]
pub struct App {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub name: String,
    pub name_key: String,
    pub space_guid: String,
    /// `STOPPED` or `STARTED`
    pub state: String,
    /// `buildpack`
    pub lifecycle: String,
    /// A JSON array of names and URLs.
    pub buildpacks: String,
    pub stack: Option<String>,
    /// A sealed JSON object.
    pub env: Option<Vec<u8>>,
    pub droplet_guid: Option<String>,
    pub ssh_enabled: bool,
    pub revisions_enabled: bool,
    pub binding_k8s_enabled: bool,
    pub file_based_services_enabled: bool,
}

impl App {
    /// True when it should run.
    pub fn started(&self) -> bool {
        self.state == "STARTED"
    }
    /// The buildpacks that the user chose.
    pub fn chosen_buildpacks(&self) -> Vec<String> {
        serde_json::from_str(&self.buildpacks).unwrap_or_default()
    }
}

/// Adds an app; a taken name shows as a broken unique key.
pub fn insert(conn: &mut Conn, row: &App) -> QueryResult<usize> {
    diesel::insert_into(apps::table).values(row).execute(conn)
}

/// Writes all columns of an app; a taken name shows as a broken unique key.
pub fn update(conn: &mut Conn, row: &App) -> QueryResult<usize> {
    diesel::update(apps::table.find(&row.guid)).set(row).execute(conn)
}

/// Removes an app with everything that hangs on its row.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(apps::table.find(guid)).execute(conn)?;
    Ok(())
}

/// Finds an app with its space and organization.
pub fn find_with_scope(conn: &mut Conn, guid: &str) -> Result<Option<(App, Space, Org)>> {
    let query = apps::table
        .inner_join(spaces::table.on(spaces::guid.eq(apps::space_guid)))
        .inner_join(orgs::table.on(orgs::guid.eq(spaces::org_guid)))
        .filter(apps::guid.eq(guid));
    Ok(query.select((App::as_select(), Space::as_select(), Org::as_select())).first(conn).optional()?)
}

/// Apps by guid, in order of creation.
pub fn find_all(conn: &mut Conn, guids: &[String]) -> Result<Vec<App>> {
    let query = apps::table.filter(apps::guid.eq_any(guids)).order((apps::created_at, apps::guid));
    Ok(query.select(App::as_select()).load(conn)?)
}

/// Finds an app of a space by name, without regard to case.
pub fn find_by_name(conn: &mut Conn, space: &str, name: &str) -> Result<Option<App>> {
    let query = apps::table.filter(apps::space_guid.eq(space).and(apps::name_key.eq(key(name))));
    Ok(query.select(App::as_select()).first(conn).optional()?)
}

/// True when the caller reads (R) the space of this app.
pub fn is_readable(tx: &mut Tx<'_>, guid: &str) -> Result<bool> {
    let query = apps::table.filter(apps::guid.eq(guid)).filter(apps::space_guid.eq_any(space_store::readable(&tx.who)));
    Ok(query.select(apps::guid).first::<String>(tx.conn).optional()?.is_some())
}

type Guids = Select<apps::table, apps::guid>;
/// The type of sub-queries by readable spaces. They are not boxed: a boxed one cannot be part of another query on either
/// back end.
pub type OfVisible = Filter<Guids, EqAny<apps::space_guid, space_store::Visible>>;
/// The type of sub-queries by given spaces.
pub type OfSpaces = Filter<Guids, EqAny<apps::space_guid, Vec<String>>>;

/// A sub-query: guids of the apps that the caller reads.
pub fn readable(who: &Access) -> OfVisible {
    apps::table.select(apps::guid).filter(apps::space_guid.eq_any(space_store::readable(who)))
}

/// A sub-query: guids of the apps of these spaces.
pub fn of_spaces(spaces: Vec<String>) -> OfSpaces {
    apps::table.select(apps::guid).filter(apps::space_guid.eq_any(spaces))
}

/// A sub-query: guids of the apps of these organizations.
pub fn of_orgs(orgs: Vec<String>) -> OfVisible {
    apps::table.select(apps::guid).filter(apps::space_guid.eq_any(space_store::of_orgs(orgs)))
}

/// A page of the apps that the caller may see.
pub fn list(conn: &mut Conn, who: &Access, list: &List) -> Result<Listed<App>> {
    let filtered = || {
        let mut query = apps::table.into_boxed();
        if !who.global_reader() {
            query = query.filter(apps::space_guid.eq_any(space_store::readable(who)));
        }
        filter_common!(query, apps, list, KIND);
        if let Some(names) = list.keys("names") {
            query = query.filter(apps::name_key.eq_any(names));
        }
        if let Some(spaces) = list.values("space_guids") {
            query = query.filter(apps::space_guid.eq_any(spaces));
        }
        if let Some(orgs) = list.values("organization_guids") {
            query = query.filter(apps::space_guid.eq_any(space_store::of_orgs(orgs)));
        }
        if let Some(kinds) = list.values("lifecycle_type") {
            query = query.filter(apps::lifecycle.eq_any(kinds));
        }
        if let Some(mut stacks) = list.values("stacks") {
            let none = stacks.iter().any(String::is_empty);
            stacks.retain(|stack| !stack.is_empty());
            query = match none {
                true => query.filter(apps::stack.is_null().or(apps::stack.eq_any(stacks).assume_not_null())),
                false => query.filter(apps::stack.eq_any(stacks).assume_not_null()),
            };
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    order_and_page!(query, apps, list, "updated_at" => apps::updated_at, "name" => apps::name_key, "state" => apps::state);
    Ok(Listed { rows: query.select(App::as_select()).load(conn)?, total })
}

/// Space and state of each of these apps.
pub fn places(conn: &mut Conn, guids: &[String]) -> Result<Vec<(String, String, String)>> {
    Ok(apps::table.filter(apps::guid.eq_any(guids)).select((apps::guid, apps::space_guid, apps::state)).load(conn)?)
}
