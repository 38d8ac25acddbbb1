//! The store of backups: files that are whole or not there.
//!
//! A backup is written to a `.part` file while its checksum is taken, bounded in size and by a reserve of the disk, synced, and
//! then renamed; a note with size, checksum and what made it lies beside it. What a killed broker left half-written goes away
//! at the next [`Store::open`]. Layout: `<folder>/<instance>/<backup>` and `<backup>.json`, names derived from ids.

use crate::{Error, User, error::file, files, names};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use types::Timestamp;

/// Bytes of the disk that backups leave free.
const RESERVE_BYTES: u64 = 1 << 30;

/// Backups of all instances of one broker.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    user: User,
    largest_bytes: u64,
    reserve_bytes: u64,
}

/// What is known of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Its id, as the platform chose it.
    pub id: String,
    /// When it was complete.
    pub created_at: Timestamp,
    /// Length of its file.
    pub size_bytes: u64,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
    /// What made it: `postgres 15.8`.
    pub made_by: String,
}

impl Store {
    /// The store in `folder`; a backup may have up to `largest_bytes`.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(folder: impl Into<PathBuf>, user: User, largest_bytes: u64) -> Result<Self, Error> {
        let folder = folder.into();
        files::folder(&folder, user)?;
        let store = Self { folder, user, largest_bytes, reserve_bytes: RESERVE_BYTES };
        for instance in fs::read_dir(&store.folder).map_err(file("list", &store.folder))?.flatten() {
            for entry in fs::read_dir(instance.path()).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|extension| extension == "part" || extension == "new") {
                    fs::remove_file(&path).map_err(file("remove", &path))?;
                }
            }
        }
        Ok(store)
    }

    /// The same store with another reserve of the disk.
    pub fn with_reserve(self, reserve_bytes: u64) -> Self {
        Self { reserve_bytes, ..self }
    }

    /// Begins a backup; feed it, then [`Writer::finish`]. Dropped before that, nothing of it stays.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::DiskFull`].
    pub fn create(&self, instance: &str, id: &str) -> Result<Writer, Error> {
        let folder = self.folder_of(instance);
        files::folder(&folder, self.user)?;
        let target = self.path(instance, id);
        let part = target.with_added_extension("part");
        let opened = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&part);
        let out = opened.map_err(file("make", &part))?;
        self.user.own(&part)?;
        let free_bytes = files::free_bytes(&folder)?;
        if free_bytes < self.reserve_bytes {
            let _ = fs::remove_file(&part);
            return Err(Error::DiskFull { free_bytes });
        }
        let budget = self.largest_bytes.min(free_bytes - self.reserve_bytes);
        Ok(Writer { store: self.clone(), id: id.to_owned(), out, part, target, digest: Sha256::new(), size_bytes: 0, budget })
    }

    /// What is known of a backup; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Backup`] for a note that cannot be read.
    pub fn find(&self, instance: &str, id: &str) -> Result<Option<Note>, Error> {
        let path = note_path(&self.path(instance, id));
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|_| Error::Backup(id.to_owned(), "unreadable")),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(file("read", &path)(e)),
        }
    }

    /// All backups of an instance, the newest first.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn list(&self, instance: &str) -> Result<Vec<Note>, Error> {
        let folder = self.folder_of(instance);
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            entries => entries.map_err(file("list", &folder))?,
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let notes = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let mut found: Vec<Note> = notes.filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok()).collect();
        found.sort_by(|one, other| other.created_at.cmp(&one.created_at).then_with(|| one.id.cmp(&other.id)));
        Ok(found)
    }

    /// Opens a backup to read after its checksum was found right. Reads all of it: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`Error::Backup`] if it is missing or damaged; [`Error::File`].
    pub fn verified(&self, instance: &str, id: &str) -> Result<(File, PathBuf), Error> {
        let note = self.find(instance, id)?.ok_or_else(|| Error::Backup(id.to_owned(), "missing"))?;
        let path = self.path(instance, id);
        let mut open = File::open(&path).map_err(file("open", &path))?;
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match open.read(&mut buffer).map_err(file("read", &path))? {
                0 => break,
                length => digest.update(&buffer[..length]),
            }
        }
        if hex(digest) != note.sha256 {
            return Err(Error::Backup(id.to_owned(), "damaged: its checksum is wrong"));
        }
        std::io::Seek::rewind(&mut open).map_err(file("read", &path))?;
        Ok((open, path))
    }

    /// Removes a backup; true if there was one.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remove(&self, instance: &str, id: &str) -> Result<bool, Error> {
        let path = self.path(instance, id);
        let mut found = false;
        for path in [note_path(&path), path] {
            match fs::remove_file(&path) {
                Ok(()) => found = true,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(file("remove", &path)(e)),
            }
        }
        Ok(found)
    }

    /// Removes all backups of an instance; returns how many there were.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remove_all(&self, instance: &str) -> Result<usize, Error> {
        let count = self.list(instance)?.len();
        files::remove_folder(&self.folder_of(instance))?;
        Ok(count)
    }

    fn folder_of(&self, instance: &str) -> PathBuf {
        self.folder.join(names::derived('i', instance))
    }
    fn path(&self, instance: &str, id: &str) -> PathBuf {
        self.folder_of(instance).join(names::derived('b', id))
    }
}

fn note_path(path: &Path) -> PathBuf {
    path.with_added_extension("json")
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A backup that is being written.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    id: String,
    out: File,
    part: PathBuf,
    target: PathBuf,
    digest: Sha256,
    size_bytes: u64,
    budget: u64,
}

impl Writer {
    /// Appends a piece.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::File`].
    pub fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.size_bytes = self.size_bytes.saturating_add(piece.len() as u64);
        if self.size_bytes > self.budget {
            return Err(Error::TooLarge { limit_bytes: self.budget });
        }
        self.digest.update(piece);
        self.out.write_all(piece).map_err(file("write", &self.part))
    }

    /// Makes it a backup: from here on it is found. Waits for the disk: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn finish(self, made_by: &str, now: Timestamp) -> Result<Note, Error> {
        self.out.sync_all().map_err(file("sync", &self.part))?;
        let sha256 = hex(self.digest.clone());
        let (id, size_bytes) = (self.id.clone(), self.size_bytes);
        let note = Note { id, created_at: now, size_bytes, sha256, made_by: made_by.to_owned() };
        files::rename(&self.part, &self.target)?;
        let text = serde_json::to_vec(&note).map_err(Error::server)?;
        files::write(&note_path(&self.target), &text, self.store.user)?;
        Ok(note)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(folder: &Path) -> Store {
        Store::open(folder, User(None), 100).unwrap().with_reserve(0)
    }

    #[test]
    fn a_backup_is_found_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let mut writer = store.create("instance", "one").unwrap();
        writer.write(b"hello ").unwrap();
        assert_eq!(store.find("instance", "one").unwrap(), None);
        writer.write(b"world").unwrap();
        let note = writer.finish("engine 1", Timestamp::from_secs(5)).unwrap();
        assert_eq!((note.size_bytes, store.list("instance").unwrap()), (11, vec![note.clone()]));
        let mut text = String::new();
        store.verified("instance", "one").unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello world");
        assert!(store.remove("instance", "one").unwrap() && !store.remove("instance", "one").unwrap());
    }

    #[test]
    fn a_damaged_backup_is_not_handed_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let mut writer = store.create("instance", "one").unwrap();
        writer.write(b"hello").unwrap();
        writer.finish("engine 1", Timestamp::from_secs(5)).unwrap();
        fs::write(store.path("instance", "one"), b"hallo").unwrap();
        assert!(store.verified("instance", "one").unwrap_err().to_string().contains("damaged"));
        assert!(store.verified("instance", "two").unwrap_err().to_string().contains("missing"));
        assert_eq!(store.remove_all("instance").unwrap(), 1);
    }

    #[test]
    fn too_much_is_refused_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let kept = store(folder.path());
        let mut writer = kept.create("instance", "one").unwrap();
        assert!(matches!(writer.write(&[0; 101]), Err(Error::TooLarge { limit_bytes: 100 })));
        drop(writer);
        std::mem::forget(kept.create("instance", "two").unwrap());
        store(folder.path());
        assert_eq!(fs::read_dir(kept.folder_of("instance")).unwrap().count(), 0);
        assert!(matches!(kept.with_reserve(u64::MAX).create("instance", "one"), Err(Error::DiskFull { .. })));
    }
}
