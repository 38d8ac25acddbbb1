//! What must be there after every boot: the platform's groups and clients, and the first user.
//!
//! Source: cloudfoundry/cf-deployment, `cf-deployment.yml`; cloudfoundry/uaa, `uaa.yml`.

use super::{Result, Uaa, scopes};
use crate::{
    config::ClientSection,
    store::{self, clients::Client, groups::Group, join},
};
use foundation::Secret;
use tracing::info;

/// Groups that exist without being asked for; the names are scopes.
const GROUPS: &[&str] = &[
    "clients.admin",
    "clients.read",
    "clients.secret",
    "clients.write",
    "cloud_controller.admin",
    "cloud_controller.admin_read_only",
    "cloud_controller.global_auditor",
    "doppler.firehose",
    "groups.update",
    "network.admin",
    "network.write",
    "routing.router_groups.read",
    "routing.router_groups.write",
    "scim.create",
    "scim.invite",
    "scim.read",
    "scim.userids",
    "scim.write",
    "uaa.admin",
    "uaa.none",
    "uaa.resource",
];

/// What the first user is in.
const ADMIN_GROUPS: &[&str] = &[
    "clients.read",
    "cloud_controller.admin",
    "doppler.firehose",
    "network.admin",
    "routing.router_groups.read",
    "routing.router_groups.write",
    "scim.read",
    "scim.write",
];

const CF_SCOPES: &[&str] = &[
    "clients.read",
    "cloud_controller.admin",
    "cloud_controller.admin_read_only",
    "cloud_controller.global_auditor",
    "cloud_controller.read",
    "cloud_controller.write",
    "doppler.firehose",
    "network.admin",
    "network.write",
    "openid",
    "password.write",
    "perm.admin",
    "routing.router_groups.read",
    "routing.router_groups.write",
    "scim.read",
    "scim.write",
    "uaa.user",
];

/// The command line client: its secret is empty, and everybody knows it.
fn cf() -> ClientSection {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    ClientSection {
        id: "cf".into(),
        secret: Secret::new(""),
        grants: owned(&["password", "refresh_token"]),
        scopes: owned(CF_SCOPES),
        authorities: owned(&[scopes::NONE]),
        redirect_uris: vec![],
        access_validity_s: Some(1_200),
        refresh_validity_s: Some(2_592_000),
    }
}

impl Uaa {
    /// Makes what is missing. Doing it again changes nothing.
    pub(crate) async fn seed(&self) -> Result<()> {
        self.seed_groups().await?;
        if !self.config.clients.iter().any(|client| client.id == "cf") {
            self.seed_client(&cf()).await?;
        }
        for client in &self.config.clients {
            self.seed_client(client).await?;
        }
        self.seed_admin().await
    }

    async fn seed_groups(&self) -> Result<()> {
        let now = self.now();
        let wanted: Vec<_> = scopes::DEFAULT_GROUPS.iter().chain(GROUPS).map(|name| (self.random_id(), *name)).collect();
        let seed = move |conn: &mut store::Db| {
            let known: Vec<String> = store::groups::list(conn, None)?.into_iter().map(|group| group.display_name).collect();
            for (id, name) in wanted.into_iter().filter(|(_, name)| !known.iter().any(|k| k == name)) {
                let display_name = name.to_owned();
                let group = Group { id, display_name, description: String::new(), version: 0, created_at: now, updated_at: now };
                store::groups::insert(conn, &group)?;
            }
            Ok(())
        };
        self.store.run(seed).await
    }

    async fn seed_client(&self, section: &ClientSection) -> Result<()> {
        let id = section.id.clone();
        let known = self.store.run(move |conn| store::clients::find(conn, &id)).await?;
        let same_secret = match &known {
            Some(known) => self.passwords.secret_matches(section.secret.clone(), &known.secret_hash).await?,
            None => false,
        };
        let (secret_hash, salt) = match &known {
            Some(known) if same_secret => (known.secret_hash.clone(), known.salt.clone()),
            _ => (self.passwords.hash_secret(section.secret.clone(), self.random()).await?, self.random_hex()),
        };
        let client = Client {
            id: section.id.clone(),
            secret_hash,
            name: section.id.clone(),
            grants: join(&section.grants),
            scopes: join(&section.scopes),
            authorities: join(&section.authorities),
            redirect_uris: join(&section.redirect_uris),
            autoapprove: "true".into(),
            access_validity_s: section.access_validity_s.map(i64::from),
            refresh_validity_s: section.refresh_validity_s.map(i64::from),
            salt,
            updated_at: known.as_ref().map_or(self.now(), |known| known.updated_at),
        };
        if known.as_ref() == Some(&client) {
            return Ok(());
        }
        let put = move |conn: &mut store::Db| {
            store::clients::put(conn, &client)?;
            if known.is_some() && !same_secret {
                store::tokens::revoke(conn, store::tokens::Which::Client(&client.id))?;
            }
            Ok(())
        };
        self.store.run(put).await
    }

    async fn seed_admin(&self) -> Result<()> {
        let admin = &self.config.admin;
        let name = admin.name.clone();
        if self.store.run(move |conn| store::users::find_by_name(conn, super::users::ORIGIN, &name)).await?.is_some() {
            return Ok(());
        }
        let new = super::users::NewUser {
            user_name: admin.name.clone(),
            password: Some(admin.password.clone()),
            email: admin.name.clone(),
            given_name: "Admin".into(),
            family_name: "User".into(),
            ..Default::default()
        };
        let user = self.prepare_user(new).await?;
        let add = move |conn: &mut store::Db| {
            store::users::insert(conn, &user)?;
            for name in ADMIN_GROUPS {
                if let Some(group) = store::groups::find_by_name(conn, name)? {
                    store::groups::add(conn, &group.id, &user.id)?;
                }
            }
            Ok(user.id)
        };
        let id = self.store.run(add).await?;
        info!(user.id = %id, "made the first user `{}`", self.config.admin.name);
        Ok(())
    }
}
