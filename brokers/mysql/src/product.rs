//! What is offered, and what applications get.

use crate::{
    cluster::{MariaDbCluster, USUAL_COLLATION},
    engine::{self, SharedServer},
    way::Way,
};
use async_trait::async_trait;
use broker_sdk::osb::{Credentials, ServiceOffering, backup};
use engines::{Error, settings::EngineSettings};
use serde_json::{Map, json};
use sql_broker::{Address, Around, Cluster, Place, Product, Remote, Schemas, Shared, escaped};
use std::{path::Path, sync::Arc};

/// MariaDB.
pub struct MariaDb;

/// The first is the usual one.
const COLLATIONS: &[&str] = &[
    USUAL_COLLATION,
    "utf8mb4_unicode_ci",
    "utf8mb4_unicode_520_ci",
    "utf8mb4_bin",
    "utf8mb4_german2_ci",
    "utf8mb4_swedish_ci",
    "utf8mb4_spanish_ci",
    "utf8mb4_turkish_ci",
    "latin1_swedish_ci",
    "latin1_bin",
    "ascii_general_ci",
    "binary",
];

/// Connections of the administrator to the shared server,
const CONNECTIONS: usize = 12;
/// and to one of an instance's own.
const OWN_CONNECTIONS: usize = 4;

#[async_trait]
impl Product for MariaDb {
    fn service(&self) -> &'static str {
        "mysql"
    }
    fn title(&self) -> &'static str {
        "MariaDB"
    }

    fn offering(&self) -> ServiceOffering {
        let metadata = json!({
            "displayName": "MySQL (MariaDB)",
            "longDescription": "Relational databases on MariaDB, which MySQL's drivers speak to, with backup, restore and clone. Connections need TLS.",
            "documentationUrl": "https://mariadb.com/kb/en/documentation/",
            "shareable": true,
            backup::METADATA_KEY: true,
        });
        ServiceOffering {
            id: "cupola-mysql".into(),
            name: "mysql".into(),
            description: "MySQL databases, on MariaDB".into(),
            bindable: true,
            tags: ["mysql", "mariadb", "relational", "sql"].map(String::from).to_vec(),
            instances_retrievable: true,
            bindings_retrievable: true,
            plan_updateable: true,
            metadata: metadata.as_object().cloned(),
            ..ServiceOffering::default()
        }
    }

    fn parameters(&self) -> Schemas {
        let collation = json!({
            "type": "string", "enum": COLLATIONS,
            "description": "How text is encoded, compared and sorted unless a table says otherwise"
        });
        Schemas { create: Map::from_iter([("collation".to_owned(), collation)]), update: Map::new() }
    }

    fn usual_collation(&self) -> &'static str {
        USUAL_COLLATION
    }

    async fn version(&self, settings: &EngineSettings, _: &Path) -> Result<String, Error> {
        engine::version(settings).await
    }

    fn shared(&self, place: Place) -> Result<Shared, Error> {
        let Place { around, folder, password } = place;
        let settings = around.settings.clone();
        let way = Way::Socket { path: engine::socket(&folder), password: password.clone() };
        let cluster: Arc<dyn Cluster> = Arc::new(MariaDbCluster::new(way, Some(folder.join("data")), CONNECTIONS, around));
        let engine = SharedServer::new(settings, folder, password, cluster.clone());
        Ok((cluster, Arc::new(engine)))
    }

    fn remote(&self, remote: Remote, around: Around) -> Result<Arc<dyn Cluster>, Error> {
        Ok(Arc::new(MariaDbCluster::new(Way::Network(remote), None, OWN_CONNECTIONS, around)))
    }

    fn script(&self) -> &'static str {
        include_str!("server.sh")
    }

    /// The URL says nothing of TLS, because every driver says it in another way; the server takes nothing else. A driver that has
    /// the authority (`sslrootcert`) can check the server's name, because the certificate is good for `hostname`.
    fn credentials(&self, address: &Address, user: &str, password: &str, database: &str) -> Credentials {
        let (server, user_part, password_part) = (address.authority_part(), escaped(user), escaped(password));
        let uri = format!("mysql://{user_part}:{password_part}@{server}/{database}");
        let jdbc = format!("jdbc:mysql://{server}/{database}?user={user_part}&password={password_part}&sslMode=REQUIRED");
        address.credentials(uri, jdbc, user, password, database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_urls_want_them() {
        let address = Address { host: "fd00::1".into(), port: 3306, authority: "PEM".into() };
        let credentials = MariaDb.credentials(&address, "u1", "p/w", "d1");
        assert_eq!(credentials["uri"], "mysql://u1:p%2Fw@[fd00::1]:3306/d1");
        assert_eq!(credentials["hostname"], "fd00::1");
        assert_eq!(address.endpoints()[0].ports, ["3306"]);
    }
}
