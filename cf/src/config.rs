//! Target and tokens, in `$CF_HOME/.cf/cupola.json`, for the user's eyes alone.

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use std::{
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What is kept between commands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    /// The API's address.
    pub(crate) target: Option<String>,
    pub(crate) api_version: String,
    /// Where tokens come from.
    pub(crate) login: String,
    pub(crate) uaa: String,
    pub(crate) log_cache: String,
    pub(crate) skip_ssl_validation: bool,
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
    /// A client that logged in as itself; its secret is not kept.
    pub(crate) client: Option<String>,
    pub(crate) org: Option<Named>,
    pub(crate) space: Option<Named>,
    /// The file it came from and goes to.
    #[serde(skip)]
    pub(crate) path: PathBuf,
}

/// A targeted org or space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) guid: String,
    pub(crate) name: String,
}

impl Config {
    /// Reads it; an empty one if there is none.
    pub(crate) fn load() -> anyhow::Result<Self> {
        Self::read(&path()?)
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let config: Self = match std::fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("{} is not valid; remove it and log in again", path.display()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Self { path: path.to_owned(), ..config })
    }

    /// What is kept now, perhaps by another command.
    pub(crate) fn again(&self) -> anyhow::Result<Self> {
        Self::read(&self.path)
    }

    /// One that knows nothing, for the same file.
    pub(crate) fn empty(&self) -> Self {
        Self { path: self.path.clone(), ..Self::default() }
    }

    /// Keeps it: whole or not at all, readable by its owner only.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let path = &self.path;
        let folder = path.parent().ok_or_else(|| anyhow!("{} has no folder", path.display()))?;
        let cannot = || format!("cannot write {}", path.display());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(cannot)?;
        // of its own for each process: two commands may renew their tokens at once
        let draft = path.with_extension(format!("{}.new", std::process::id()));
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).with_context(cannot)?;
        file.write_all(&serde_json::to_vec_pretty(self)?).with_context(cannot)?;
        std::fs::rename(&draft, path).with_context(cannot)
    }

    /// Forgets who the user is.
    pub(crate) fn forget_user(&mut self) {
        (self.access_token, self.refresh_token) = (String::new(), String::new());
        (self.client, self.org, self.space) = (None, None, None);
    }
}

fn path() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("CF_HOME").or_else(|| std::env::var_os("HOME"));
    let home = home.filter(|home| !home.is_empty()).ok_or_else(|| anyhow!("neither CF_HOME nor HOME is set"))?;
    Ok(PathBuf::from(home).join(".cf").join("cupola.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_kept_is_read_back_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".cf/cupola.json");
        let nothing = Config::read(&path).unwrap();
        assert_eq!(nothing, Config { path: path.clone(), ..Config::default() });
        let config = Config { target: Some("https://api.x".into()), refresh_token: "r".into(), ..nothing };
        config.save().unwrap();
        config.save().unwrap();
        assert_eq!(Config::read(&path).unwrap(), config);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_broken_file_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cupola.json");
        std::fs::write(&path, "{").unwrap();
        assert!(Config::read(&path).unwrap_err().to_string().contains("remove it and log in again"));
    }
}
