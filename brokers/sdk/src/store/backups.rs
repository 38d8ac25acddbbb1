//! Backups.

use super::Tx;
use crate::{Failure, StoredBackup};
use diesel::prelude::*;
use osb::{Backup, BackupState, PrivateObject};
use types::Timestamp;

diesel::table! {
    backups (instance_id, id) {
        instance_id -> Text,
        id -> Text,
        state -> Text,
        description -> Nullable<Text>,
        size_bytes -> Nullable<BigInt>,
        sealed -> Binary,
        created_at -> BigInt,
    }
}

/// A backup.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) instance_id: String,
    pub(crate) id: String,
    pub(crate) state: BackupState,
    pub(crate) description: Option<String>,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) created_at: Timestamp,
    /// The broker's own.
    pub(crate) private: PrivateObject,
}

type Row = (String, String, String, Option<String>, Option<i64>, Vec<u8>, i64);

impl Record {
    /// As the broker sees it.
    pub(crate) fn view(&self) -> StoredBackup {
        StoredBackup {
            id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            size_bytes: self.size_bytes,
            state: self.private.clone(),
            created_at: self.created_at,
        }
    }
    /// As the platform sees it.
    pub(crate) fn wire(&self) -> Backup {
        Backup {
            id: self.id.clone(),
            state: self.state,
            created_at: self.created_at.rfc3339(),
            size_bytes: self.size_bytes,
            description: self.description.clone(),
            operation: None,
        }
    }
}

const WORDS: [(BackupState, &str); 4] = [
    (BackupState::InProgress, "in progress"),
    (BackupState::Succeeded, "succeeded"),
    (BackupState::Failed, "failed"),
    (BackupState::Deleting, "deleting"),
];

fn word(state: BackupState) -> &'static str {
    WORDS.iter().find(|(known, _)| *known == state).map_or("failed", |(_, word)| word)
}

fn place(instance_id: &str, id: &str) -> String {
    format!("backups:{}:{instance_id}:{id}", instance_id.len())
}

fn read(tx: &Tx<'_>, row: Row) -> Result<Record, Failure> {
    let (instance_id, id, state, description, size_bytes, sealed, created_at) = row;
    let private = tx.vault.unseal(&place(&instance_id, &id), &sealed)?;
    let state = WORDS.iter().find(|(_, word)| *word == state).map_or(BackupState::Failed, |(state, _)| *state);
    let size_bytes = size_bytes.map(i64::cast_unsigned);
    Ok(Record { instance_id, id, state, description, size_bytes, created_at: Timestamp(created_at.cast_unsigned()), private })
}

/// Finds one.
pub(crate) fn find(tx: &mut Tx<'_>, instance_id: &str, id: &str) -> Result<Option<Record>, Failure> {
    let row: Option<Row> = backups::table.find((instance_id, id)).first(tx.conn).optional()?;
    row.map(|row| read(tx, row)).transpose()
}

/// Those of an instance, the newest first.
pub(crate) fn list(tx: &mut Tx<'_>, instance_id: &str) -> Result<Vec<Record>, Failure> {
    let of_instance = backups::table.filter(backups::instance_id.eq(instance_id));
    let rows: Vec<Row> = of_instance.order((backups::created_at.desc(), backups::id)).load(tx.conn)?;
    rows.into_iter().map(|row| read(tx, row)).collect()
}

/// Keeps one, new or changed.
pub(crate) fn put(tx: &mut Tx<'_>, record: &Record) -> Result<(), Failure> {
    let sealed = tx.vault.seal(&place(&record.instance_id, &record.id), &record.private)?;
    let row = (
        backups::instance_id.eq(&record.instance_id),
        backups::id.eq(&record.id),
        backups::state.eq(word(record.state)),
        backups::description.eq(&record.description),
        backups::size_bytes.eq(record.size_bytes.map(u64::cast_signed)),
        backups::sealed.eq(sealed),
        backups::created_at.eq(record.created_at.0.cast_signed()),
    );
    diesel::replace_into(backups::table).values(row).execute(tx.conn)?;
    Ok(())
}

/// Forgets one.
pub(crate) fn delete(tx: &mut Tx<'_>, instance_id: &str, id: &str) -> Result<(), Failure> {
    diesel::delete(backups::table.find((instance_id, id))).execute(tx.conn)?;
    Ok(())
}
