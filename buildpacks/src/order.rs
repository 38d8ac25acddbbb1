//! What a DEA asks the builder to do.

use crate::archive::Bounds;
use serde::{Deserialize, Serialize};

/// The file `/tmp/staging.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Candidates in order of position, or those that the user chose.
    pub buildpacks: Vec<Candidate>,
    /// True: the user chose them; all take part and the last is final. False: the first whose `detect` agrees is the only one.
    #[serde(default)]
    pub skip_detect: bool,
    /// The stack; `CF_STACK` of the scripts unless the environment has it.
    pub stack: String,
    /// Time for everything.
    #[serde(default = "fifteen_minutes")]
    pub timeout_s: u64,
    /// What an app may bring and make.
    #[serde(default)]
    pub limits: Limits,
}

/// A buildpack that may take part. Exactly one of `key` and `url` is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Its name, or the URL as the user wrote it.
    pub name: String,
    /// An admin buildpack: its folder below `/tmp/buildpacks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A git repository (`#branch` or `#tag` at will) or a zip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Bounds against archives that grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of the unpacked app.
    pub app_bytes: u64,
    /// Entries of the package.
    pub app_files: u64,
    /// Bytes of the packed droplet; a larger build cache is not kept either.
    pub droplet_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { app_bytes: 4 << 30, app_files: 500_000, droplet_bytes: 4 << 30 }
    }
}

impl Limits {
    pub(crate) fn app(self) -> Bounds {
        Bounds { bytes: self.app_bytes, files: self.app_files }
    }
}

fn fifteen_minutes() -> u64 {
    900
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_is_an_order() {
        let order: Order = serde_json::from_str(include_str!("../example-staging.json")).unwrap();
        assert_eq!(order.buildpacks.len(), 2);
        assert!(order.skip_detect);
        let short: Order = serde_json::from_str(r#"{"buildpacks": [], "stack": "debian12"}"#).unwrap();
        assert_eq!(short.timeout_s, 900);
        assert_eq!(short.limits, order.limits);
    }
}
