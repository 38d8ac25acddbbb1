//! What the builder tells the DEA.

use crate::processes::Sidecar;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io, path::Path};

/// The file `/tmp/output/result.json`: the lifecycle part of `cloud_controller_client`, and the error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResultFile {
    /// Name or URL of the final buildpack.
    pub buildpack_key: String,
    /// What its `detect` printed, else its own name.
    pub detected_buildpack: String,
    /// All that took part, in order.
    pub buildpacks: Vec<UsedBuildpack>,
    /// Type to command.
    pub process_types: BTreeMap<String, String>,
    /// Helpers of processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<Sidecar>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StagingError>,
}

/// A buildpack that took part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsedBuildpack {
    /// Name or URL, as asked for.
    pub key: String,
    /// Its own name, from `config.yml`.
    pub name: String,
    /// Its version, from `config.yml`.
    pub version: String,
    /// What `detect` printed, where it ran.
    pub detect_output: String,
}

/// A failure, without the official sentence that belongs to its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StagingError {
    /// `NoAppDetectedError`, `BuildpackCompileFailed`, `BuildpackReleaseFailed`, `StagingTimeExpired` or `StagingError`.
    pub id: String,
    /// One line.
    pub message: String,
}

impl ResultFile {
    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, to: &Path) -> io::Result<()> {
        let part = to.with_extension("part");
        fs::write(&part, serde_json::to_vec_pretty(self)?)?;
        fs::rename(part, to)
    }
}
