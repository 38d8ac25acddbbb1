//! Our extension: backups of an instance, restore, clone.
//!
//! Source: docs/broker-backups.md.

use serde::{Deserialize, Serialize};

/// Key in an offering's `metadata` that says that its instances can be backed up.
pub const METADATA_KEY: &str = "cupola.dev/backups";

/// Body of `POST /v2/service_instances/:instance_id/backups`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRequest {
    /// Chosen by the platform, so that a repeat is the same backup.
    pub id: String,
}

/// Body of `POST /v2/service_instances/:instance_id/restore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// The backup to go back to.
    pub backup_id: String,
}

/// Where a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupState {
    /// It is being made.
    #[serde(rename = "in progress")]
    InProgress,
    /// It can be restored.
    #[serde(rename = "succeeded")]
    Succeeded,
    /// It could not be made.
    #[serde(rename = "failed")]
    Failed,
    /// It is being deleted.
    #[serde(rename = "deleting")]
    Deleting,
}

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// As the platform chose it.
    pub id: String,
    /// Where it is.
    pub state: BackupState,
    /// RFC 3339 in UTC.
    pub created_at: String,
    /// How much it takes, once it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// For the user; why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// In a 202: what is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

/// Answer to `GET /v2/service_instances/:instance_id/backups`: the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupList {
    /// All of them.
    pub backups: Vec<Backup>,
}
