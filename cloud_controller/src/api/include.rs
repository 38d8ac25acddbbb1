//! What `include` adds to a document: full objects, each once, in order of creation.

use crate::{
    api::{Api, apps, domains, organizations, routes, service_instances, spaces, users},
    domain::{Result, Tx},
    store::{
        self,
        apps::App,
        domains::Domain,
        metadata::{Described, describe},
        orgs::Org,
        routes::RouteRow,
        spaces::Space,
        users::User,
    },
};
use serde_json::{Map, Value};

/// Objects to include, by kind; a kind that was not asked for is absent.
#[derive(Default)]
pub struct Included {
    spaces: Option<Vec<Described<Space>>>,
    orgs: Option<Vec<Described<Org>>>,
    users: Option<Vec<Described<User>>>,
    domains: Option<Vec<Described<Domain>>>,
    apps: Option<Vec<Described<App>>>,
    routes: Option<Vec<routes::View>>,
    service_instances: Option<Vec<service_instances::View>>,
}

impl Included {
    /// Includes spaces; with `orgs`, their organizations instead of or besides them.
    pub fn spaces(&mut self, tx: &mut Tx<'_>, guids: Vec<String>, show: bool, orgs: bool) -> Result<()> {
        if !show && !orgs {
            return Ok(());
        }
        let rows = store::spaces::find_all(tx.conn, &guids)?;
        if orgs {
            self.orgs(tx, rows.iter().map(|space| space.org_guid.clone()).collect())?;
        }
        if show {
            self.spaces = Some(describe(tx.conn, store::spaces::KIND, rows, |space| &space.guid)?);
        }
        Ok(())
    }
    /// Includes organizations.
    pub fn orgs(&mut self, tx: &mut Tx<'_>, guids: Vec<String>) -> Result<()> {
        let rows = store::orgs::find_all(tx.conn, &guids)?;
        self.orgs = Some(describe(tx.conn, store::orgs::KIND, rows, |org| &org.guid)?);
        Ok(())
    }
    /// Includes users.
    pub fn users(&mut self, tx: &mut Tx<'_>, guids: Vec<String>) -> Result<()> {
        let rows = store::users::find_all(tx.conn, &guids)?;
        self.users = Some(describe(tx.conn, store::users::KIND, rows, |user| &user.guid)?);
        Ok(())
    }
    /// Includes domains.
    pub fn domains(&mut self, tx: &mut Tx<'_>, guids: Vec<String>) -> Result<()> {
        let rows = store::domains::find_all(tx.conn, &guids)?;
        self.domains = Some(describe(tx.conn, store::domains::KIND, rows, |domain| &domain.guid)?);
        Ok(())
    }
    /// Includes apps.
    pub fn apps(&mut self, tx: &mut Tx<'_>, guids: Vec<String>) -> Result<()> {
        let rows = store::apps::find_all(tx.conn, &guids)?;
        self.apps = Some(describe(tx.conn, store::apps::KIND, rows, |app| &app.guid)?);
        Ok(())
    }
    /// Includes service instances.
    pub fn service_instances(&mut self, tx: &mut Tx<'_>, guids: Vec<String>) -> Result<()> {
        let rows = store::service_instances::find_all(tx.conn, &guids)?;
        self.service_instances = Some(service_instances::views(tx, rows)?);
        Ok(())
    }
    /// Includes routes.
    pub fn routes(&mut self, tx: &mut Tx<'_>, guids: Vec<String>) -> Result<()> {
        let rows: Vec<RouteRow> = store::routes::find_all(tx.conn, &guids)?;
        self.routes = Some(routes::views(tx, rows)?);
        Ok(())
    }

    /// The value of `included`; none when nothing was asked for.
    pub fn body(&self, api: &Api) -> Option<Value> {
        let mut map = Map::new();
        if let Some(rows) = &self.spaces {
            map.insert("spaces".into(), rows.iter().map(|row| spaces::body(api, row)).collect());
        }
        if let Some(rows) = &self.orgs {
            map.insert("organizations".into(), rows.iter().map(|row| organizations::body(api, row)).collect());
        }
        if let Some(rows) = &self.users {
            map.insert("users".into(), rows.iter().map(|row| users::body(api, row)).collect());
        }
        if let Some(rows) = &self.domains {
            map.insert("domains".into(), rows.iter().map(|row| domains::body(api, row, &[])).collect());
        }
        if let Some(rows) = &self.apps {
            map.insert("apps".into(), rows.iter().map(|row| apps::body(api, row)).collect());
        }
        if let Some(rows) = &self.routes {
            map.insert("routes".into(), rows.iter().map(|row| routes::body(api, row)).collect());
        }
        if let Some(rows) = &self.service_instances {
            map.insert("service_instances".into(), rows.iter().map(|row| service_instances::body(api, row)).collect());
        }
        if map.is_empty() { None } else { Some(map.into()) }
    }

    /// Adds `included` to the document of one resource.
    pub fn add_to(&self, api: &Api, body: &mut Value) {
        if let Some(included) = self.body(api) {
            body["included"] = included;
        }
    }
}
