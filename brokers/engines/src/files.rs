//! Private files and folders.

use crate::{Error, error::file};
use std::{
    fs::{self, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    path::Path,
};

/// Whom a server runs as: `None`, the usual case, is the broker's own user. A broker that is root (in tests) names another by
/// number, because servers refuse root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct User(pub Option<u32>);

impl User {
    /// The number to run as.
    pub fn uid(self) -> u32 {
        self.0.unwrap_or_else(|| rustix::process::geteuid().as_raw())
    }

    pub(crate) fn own(self, path: &Path) -> Result<(), Error> {
        match self.0 {
            Some(uid) => chown(path, Some(uid), Some(uid)).map_err(file("give away", path)),
            None => Ok(()),
        }
    }
}

/// Makes sure that there is this folder, for `user` alone.
///
/// # Errors
/// [`Error::File`].
pub fn folder(path: &Path, user: User) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(file("make", path))?;
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(file("protect", path))?;
    user.own(path)
}

/// Writes a file that only `user` may read: all of it or nothing, also after a power cut.
///
/// # Errors
/// [`Error::File`].
pub fn write(path: &Path, content: &[u8], user: User) -> Result<(), Error> {
    let fresh = path.with_added_extension("new");
    let mut options = OpenOptions::new();
    let opened = options.create(true).truncate(true).write(true).mode(0o600).open(&fresh);
    let mut out = opened.map_err(file("make", &fresh))?;
    out.write_all(content).and_then(|()| out.sync_all()).map_err(file("write", &fresh))?;
    user.own(&fresh)?;
    rename(&fresh, path)
}

/// Renames so that the new name is there after a power cut.
///
/// # Errors
/// [`Error::File`].
pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(file("rename", from))?;
    match to.parent() {
        Some(parent) => fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(file("sync", parent)),
        None => Ok(()),
    }
}

/// Copies a file (a certificate, a key) for `user` alone; true if the copy was missing or had another content.
///
/// # Errors
/// [`Error::File`].
pub fn copy_if_changed(from: &Path, to: &Path, user: User) -> Result<bool, Error> {
    let content = fs::read(from).map_err(file("read", from))?;
    if fs::read(to).is_ok_and(|present| present == content) {
        return Ok(false);
    }
    write(to, &content, user)?;
    Ok(true)
}

/// Certificate, key and authority as a server wants them: copies of its own in `folder`, named `server.pem`, `server.key` and
/// `ca.pem`. True if any of them changed.
///
/// # Errors
/// [`Error::File`].
pub fn copy_tls(tls: &foundation::config::TlsSection, folder: &Path, user: User) -> Result<bool, Error> {
    self::folder(folder, user)?;
    let mut changed = false;
    for (from, name) in [(&tls.certificate, "server.pem"), (&tls.key, "server.key"), (&tls.ca, "ca.pem")] {
        changed |= copy_if_changed(from, &folder.join(name), user)?;
    }
    Ok(changed)
}

/// Removes a folder and all in it; it may be gone already.
///
/// # Errors
/// [`Error::File`].
pub fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(file("remove", path)),
    }
}

/// Bytes that ordinary users may still write on the disk that holds `path`.
///
/// # Errors
/// [`Error::File`].
pub fn free_bytes(path: &Path) -> Result<u64, Error> {
    let stat = rustix::fs::statvfs(path).map_err(|e| file("ask about the disk of", path)(e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes of the files below a folder; files that vanish meanwhile do not count.
pub fn size_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => size_bytes(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_is_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.txt");
        write(&path, b"one", User(None)).unwrap();
        write(&path, b"other", User(None)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"other");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let copy = folder.path().join("copy");
        assert!(copy_if_changed(&path, &copy, User(None)).unwrap());
        assert!(!copy_if_changed(&path, &copy, User(None)).unwrap());
        assert_eq!(size_bytes(folder.path()), 10);
    }
}
