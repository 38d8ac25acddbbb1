//! What is offered, and what applications get.

use crate::{
    cluster::{PostgresCluster, USUAL_COLLATION},
    engine::{self, SharedServer},
    way::Way,
};
use async_trait::async_trait;
use broker_sdk::osb::{Credentials, ServiceOffering, backup};
use engines::{Error, settings::EngineSettings};
use serde_json::{Map, json};
use sql_broker::{Address, Around, Cluster, Place, Product, Remote, Schemas, Shared, escaped};
use std::{path::Path, sync::Arc};

/// PostgreSQL.
pub struct Postgres;

/// Extensions that the server trusts everybody with.
const EXTENSIONS: &[&str] = &[
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "lo",
    "ltree",
    "pg_trgm",
    "pgcrypto",
    "seg",
    "tablefunc",
    "tcn",
    "tsm_system_rows",
    "tsm_system_time",
    "unaccent",
    "uuid-ossp",
];

/// `C.UTF-8` sorts by code point; the others by the rules of a language, as ICU knows them.
const COLLATIONS: &[&str] = &[
    "C.UTF-8", "und", "ar", "cs", "da", "de", "el", "en", "en-GB", "en-US", "es", "fi", "fr", "he", "hi", "hu", "it", "ja", "ko",
    "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh",
];

/// Connections of the administrator to the shared server,
const CONNECTIONS: usize = 10;
/// and to one of an instance's own.
const OWN_CONNECTIONS: usize = 4;

#[async_trait]
impl Product for Postgres {
    fn service(&self) -> &'static str {
        "postgres"
    }
    fn title(&self) -> &'static str {
        "PostgreSQL"
    }

    fn offering(&self) -> ServiceOffering {
        let metadata = json!({
            "displayName": "PostgreSQL",
            "longDescription": "Relational databases on PostgreSQL, with backup, restore and clone. Connections need TLS.",
            "documentationUrl": "https://www.postgresql.org/docs/",
            "shareable": true,
            backup::METADATA_KEY: true,
        });
        ServiceOffering {
            id: "cupola-postgres".into(),
            name: "postgres".into(),
            description: "PostgreSQL databases".into(),
            bindable: true,
            tags: ["postgres", "postgresql", "relational", "sql"].map(String::from).to_vec(),
            instances_retrievable: true,
            bindings_retrievable: true,
            plan_updateable: true,
            metadata: metadata.as_object().cloned(),
            ..ServiceOffering::default()
        }
    }

    fn parameters(&self) -> Schemas {
        let extensions = json!({
            "type": "array", "uniqueItems": true, "items": { "type": "string", "enum": EXTENSIONS },
            "description": "Extensions to be there; others stay"
        });
        let collation = json!({
            "type": "string", "enum": COLLATIONS,
            "description": "How text is sorted: by code point (C.UTF-8, usual), or by the rules of a language"
        });
        let update = Map::from_iter([("extensions".to_owned(), extensions)]);
        let mut create = update.clone();
        create.insert("collation".into(), collation);
        Schemas { create, update }
    }

    fn usual_collation(&self) -> &'static str {
        USUAL_COLLATION
    }
    fn usual_spare(&self) -> Option<usize> {
        Some(8)
    }

    async fn version(&self, settings: &EngineSettings, data: &Path) -> Result<String, Error> {
        engine::version(settings, Some(data)).await
    }

    fn shared(&self, place: Place) -> Result<Shared, Error> {
        let Place { around, folder, password } = place;
        let settings = around.settings.clone();
        let way = Way::Socket { folder: folder.join("sockets"), port: settings.port, password: password.clone() };
        let data = Some(folder.join("data"));
        let cluster: Arc<dyn Cluster> = Arc::new(PostgresCluster::new(way, data, CONNECTIONS, around)?);
        let engine = SharedServer::new(settings, folder, password, cluster.clone());
        Ok((cluster, Arc::new(engine)))
    }

    fn remote(&self, remote: Remote, around: Around) -> Result<Arc<dyn Cluster>, Error> {
        Ok(Arc::new(PostgresCluster::new(Way::Network(remote), None, OWN_CONNECTIONS, around)?))
    }

    fn script(&self) -> &'static str {
        include_str!("server.sh")
    }

    /// `sslmode=require` in the URLs makes every driver encrypt; one that has the authority (`sslrootcert`) can ask for
    /// `verify-full`, because the certificate is good for `hostname`.
    fn credentials(&self, address: &Address, user: &str, password: &str, database: &str) -> Credentials {
        let (server, user_part, password_part) = (address.authority_part(), escaped(user), escaped(password));
        let uri = format!("postgresql://{user_part}:{password_part}@{server}/{database}?sslmode=require");
        let jdbc = format!("jdbc:postgresql://{server}/{database}?user={user_part}&password={password_part}&sslmode=require");
        address.credentials(uri, jdbc, user, password, database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_urls_want_them() {
        let address = Address { host: "fd00::1".into(), port: 5432, authority: "PEM".into() };
        let credentials = Postgres.credentials(&address, "u1", "p/w", "d1");
        assert_eq!(credentials["uri"], "postgresql://u1:p%2Fw@[fd00::1]:5432/d1?sslmode=require");
        assert_eq!(credentials["hostname"], "fd00::1");
        assert_eq!(address.endpoints()[0].ports, ["5432"]);
    }
}
