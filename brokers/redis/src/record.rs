//! What the broker keeps about an instance: everything from which its server can be made again.

use crate::{
    acl::User,
    plans::{InstanceParameters, PlanKind},
};
use engines::{Error, User as ServerUser, files};
use foundation::Secret;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// One instance; `instance.json` in its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// As the platform named it.
    pub id: String,
    /// Its plan.
    pub plan: PlanKind,
    /// Its port on the services' address, for life.
    pub port: u16,
    /// What the user chose.
    pub chosen: InstanceParameters,
    /// The broker's own password.
    pub admin_password: Secret,
    /// The users by binding.
    pub users: BTreeMap<String, User>,
}

/// The folder of an instance.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of the instance `id` under `instances`. Ids may hold any characters; a folder's name may not.
    pub fn of(instances: &Path, id: &str) -> Self {
        Self(instances.join(engines::names::derived('r', id)))
    }
    /// All folders under `instances`.
    pub fn all(instances: &Path) -> Result<Vec<Self>, Error> {
        let fault = |e| Error::File("list", instances.to_owned(), e);
        let entries: Vec<_> = fs::read_dir(instances).and_then(Iterator::collect).map_err(fault)?;
        Ok(entries.into_iter().map(|entry: fs::DirEntry| Self(entry.path())).filter(|folder| folder.0.is_dir()).collect())
    }
    /// Makes it.
    pub fn make(&self, user: ServerUser) -> Result<(), Error> {
        files::folder(&self.0, user)
    }
    /// Itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// Where the server keeps its data.
    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }
    /// The server's configuration.
    pub fn configuration(&self) -> PathBuf {
        self.0.join("redis.conf")
    }
    /// The server's users.
    pub fn users(&self) -> PathBuf {
        self.0.join("users.acl")
    }
    /// Where the server is ruled.
    pub fn socket(&self) -> PathBuf {
        self.0.join("admin.sock")
    }
    /// Data that is being put together to replace the present one.
    pub fn fresh_data(&self) -> PathBuf {
        self.0.join("data.restored")
    }
    /// Says that the snapshot in the data folder is one to load.
    pub fn restored(&self) -> PathBuf {
        self.data().join("restored")
    }
    /// The snapshot that the server writes.
    pub fn snapshot(&self) -> PathBuf {
        self.data().join("dump.rdb")
    }
    fn record(&self) -> PathBuf {
        self.0.join("instance.json")
    }
    /// The record; `None` if there is no such instance.
    pub fn read(&self) -> Result<Option<Record>, Error> {
        let path = self.record();
        match fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?)) {
            Ok(record) => Ok(Some(record)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::File("read", path, e)),
        }
    }
    /// Keeps the record; once this returns it survives a crash.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(record).map_err(|e| Error::File("write", self.record(), e.into()))?;
        files::write(&self.record(), &text, ServerUser(None))
    }
    /// Takes everything away, the record first.
    pub fn remove(&self) -> Result<(), Error> {
        crate::files::remove_file(&self.record())?;
        files::remove_folder(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_goes_with_its_folder() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::of(state.path(), "../../weird id");
        assert_eq!(folder.read().unwrap(), None);
        folder.make(ServerUser(None)).unwrap();
        let record = Record {
            id: "../../weird id".into(),
            plan: PlanKind::Cache,
            port: 20_000,
            chosen: InstanceParameters { memory_mb: Some(32), eviction: None },
            admin_password: Secret::new("x"),
            users: Default::default(),
        };
        folder.write(&record).unwrap();
        assert_eq!(folder.read().unwrap(), Some(record));
        assert_eq!(Folder::all(state.path()).unwrap().len(), 1);
        folder.remove().unwrap();
        assert_eq!(folder.read().unwrap(), None);
    }
}
