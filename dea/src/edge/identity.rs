//! The two facts that this DEA keeps on disk: its id, and the newest fencing number that it obeyed.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};
use types::DeaId;

/// Why there is no id.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot use {0}")]
    File(PathBuf, #[source] io::Error),
    /// A file holds something else than an id. It is not overwritten: containers carry the old one.
    #[error("{0} does not hold an id")]
    Unreadable(PathBuf),
}

/// The id of this DEA: the same after every restart.
///
/// # Errors
/// When it can neither be read nor made.
pub fn id(state: &Path) -> Result<DeaId, IdentityError> {
    let path = state.join("id");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| IdentityError::Unreadable(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let id = DeaId::random(&mut foundation::rng());
            keep(&path, &id.to_string()).map_err(|e| IdentityError::File(path, e))?;
            Ok(id)
        }
        Err(e) => Err(IdentityError::File(path, e)),
    }
}

/// The newest fencing number that was kept; 0 if there is none.
pub fn fence(state: &Path) -> u64 {
    fs::read_to_string(state.join("fence")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Keeps a fencing number.
///
/// # Errors
/// Those of the file.
pub fn keep_fence(state: &Path, fence: u64) -> io::Result<()> {
    keep(&state.join("fence"), &fence.to_string())
}

fn keep(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(id(folder.path()).unwrap(), id(folder.path()).unwrap());
        fs::write(folder.path().join("id"), "torn").unwrap();
        assert!(matches!(id(folder.path()), Err(IdentityError::Unreadable(_))));
    }

    #[test]
    fn the_fence_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(fence(folder.path()), 0);
        keep_fence(folder.path(), 7).unwrap();
        assert_eq!(fence(folder.path()), 7);
    }
}
