//! The secrets of a node: made once, kept in one file for root alone.

use crate::files::{self, Owner};
use anyhow::Context;
use foundation::Secret;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// `<state>/secrets.toml`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secrets {
    /// Secrets by name: `admin`, `bus-<part>`, `client-<OAuth client>`, `encryption-key`.
    by_name: BTreeMap<String, Secret>,
}

impl Secrets {
    /// Reads the secrets of a node, and makes those of `names` that are missing.
    pub(crate) fn open(state: &Path, names: &[String], rng: &mut dyn rand::Rng) -> anyhow::Result<Self> {
        let path = state.join("secrets.toml");
        let mut secrets = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let before = secrets.by_name.len();
        for name in names {
            secrets.by_name.entry(name.clone()).or_insert_with(|| random(rng));
        }
        if secrets.by_name.len() != before {
            files::write(&path, toml::to_string(&secrets)?.as_bytes(), Owner::root(0o600))?;
        }
        Ok(secrets)
    }

    /// A secret by name.
    pub(crate) fn get(&self, name: &str) -> anyhow::Result<&Secret> {
        self.by_name.get(name).with_context(|| format!("there is no secret `{name}`"))
    }

    /// The password of a part on the bus.
    pub(crate) fn bus_password(&self, part: &str) -> anyhow::Result<&Secret> {
        self.get(&format!("bus-{part}"))
    }
}

/// 256 random bits in hexadecimal.
fn random(rng: &mut dyn rand::Rng) -> Secret {
    let mut bytes = [0_u8; 32];
    rng.fill_bytes(&mut bytes);
    Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_made_once() {
        let state = tempfile::tempdir().unwrap();
        let names = ["admin".to_owned(), "bus-dea".to_owned()];
        let first = Secrets::open(state.path(), &names[..1], &mut foundation::rng()).unwrap();
        let second = Secrets::open(state.path(), &names, &mut foundation::rng()).unwrap();
        assert_eq!(first.get("admin").unwrap(), second.get("admin").unwrap());
        assert_ne!(second.get("admin").unwrap(), second.bus_password("dea").unwrap());
        assert_eq!(first.get("admin").unwrap().expose().len(), 64);
    }
}
