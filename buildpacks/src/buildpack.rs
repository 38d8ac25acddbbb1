//! A buildpack on disk.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A buildpack that is there: a folder with `bin/` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buildpack {
    /// As the order names it.
    pub name: String,
    folder: PathBuf,
}

/// Why there is no buildpack.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// The folder is not there.
    #[error("buildpack `{0}` is not available to this staging")]
    Folder(String),
    /// It is something else.
    #[error("malformed buildpack does not contain a /bin dir: {0}")]
    NoBin(String),
    /// It cannot be fetched.
    #[error("buildpack `{0}` cannot be fetched: {1}")]
    Fetch(String, String),
}

impl Buildpack {
    /// The buildpack `name` in `folder`, or in the only folder inside it, as zips of repositories have it.
    ///
    /// # Errors
    /// When neither has a `bin` folder.
    pub fn open(name: &str, folder: &Path) -> Result<Self, Missing> {
        let found =
            |folder: &Path| folder.join("bin").is_dir().then(|| Self { name: name.to_owned(), folder: folder.to_owned() });
        if let Some(buildpack) = found(folder) {
            return Ok(buildpack);
        }
        let entries = fs::read_dir(folder).map_err(|_| Missing::Folder(name.to_owned()))?;
        let mut paths = entries.flatten().map(|entry| entry.path());
        match (paths.next(), paths.next()) {
            (Some(only), None) => found(&only),
            _ => None,
        }
        .ok_or_else(|| Missing::NoBin(name.to_owned()))
    }

    /// The script `bin/<name>`, if it is there.
    #[must_use]
    pub fn script(&self, name: impl AsRef<OsStr>) -> Option<PathBuf> {
        let path = self.folder.join("bin").join(name.as_ref());
        path.is_file().then_some(path)
    }

    /// True when the script can be executed by somebody.
    #[must_use]
    pub fn executable(script: &Path) -> bool {
        fs::metadata(script).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_folder_inside_is_looked_into() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("ruby-buildpack-1.2/bin");
        fs::create_dir_all(&nested).unwrap();
        fs::write(nested.join("detect"), "").unwrap();
        let buildpack = Buildpack::open("ruby", dir.path()).unwrap();
        assert_eq!(buildpack.script("detect").unwrap(), nested.join("detect"));
        assert_eq!(buildpack.script("supply"), None);
        assert!(!Buildpack::executable(&nested.join("detect")));

        fs::create_dir(dir.path().join("another")).unwrap();
        assert!(matches!(Buildpack::open("ruby", dir.path()), Err(Missing::NoBin(_))));
        assert!(matches!(Buildpack::open("ruby", &dir.path().join("none")), Err(Missing::Folder(_))));
    }
}
