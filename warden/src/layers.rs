//! Layers: read-only folders made of archives, shared by containers.

use crate::{
    config::Config,
    error::{Error, Result, ignore_missing},
    record::private_folder,
    shim::Programs,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, chown},
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tracing::warn;

/// `vcap`, as layers have it on disk.
const VCAP: u32 = 2000;

pub(crate) struct Layers {
    folder: PathBuf,
    busy: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Layers {
    /// Opens the folder. What an interrupted unpacking left is removed, and everything after a reboot, because nothing was synced.
    pub(crate) fn open(state: &Path, boot: &str) -> io::Result<Self> {
        let folder = state.join("layers");
        private_folder(&folder)?;
        let stamp = folder.join(".boot");
        let fresh = fs::read_to_string(&stamp).is_ok_and(|known| known == boot);
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let unfinished = entry.path().extension().is_some_and(|ending| ending == "unpacking");
            if entry.file_type()?.is_dir() && (unfinished || !fresh) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        fs::write(stamp, boot)?;
        Ok(Self { folder, busy: Mutex::default() })
    }

    /// Where a layer lies, if it is there.
    pub(crate) fn find(&self, name: &str) -> Result<PathBuf> {
        check_name(name)?;
        let path = self.folder.join(name);
        if path.is_dir() { Ok(path) } else { Err(Error::NotFound(format!("layer {name}"))) }
    }

    /// Makes a layer, once however many ask for it at the same time.
    pub(crate) async fn create(
        &self,
        config: &Config,
        programs: &Programs,
        name: &str,
        archive: &Path,
        prefix: &Path,
    ) -> Result<()> {
        check_name(name)?;
        let turn = self.busy.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().clone();
        let _turn = turn.lock().await;
        let path = self.folder.join(name);
        if path.is_dir() {
            return Ok(());
        }
        let archive = open_source(config, archive)?;
        let new = self.folder.join(format!("{name}.unpacking"));
        let failed = Error::at("making a layer");
        remove_folder(&new).await.map_err(failed)?;
        let made = async {
            let target = prepare(&new, prefix)?;
            let bounds = config.raw.layers;
            programs.unpack(archive, &target, config.unpack_id(), bounds.most_mb << 20, bounds.most_entries).await?;
            fs::rename(&new, &path).map_err(failed)
        };
        let made = made.await;
        if made.is_err()
            && let Err(e) = remove_folder(&new).await
        {
            warn!(error = &e as &dyn std::error::Error, "a layer that failed stays on disk");
        }
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        made
    }

    /// Removes what is neither kept nor used.
    pub(crate) async fn keep(&self, keep: &BTreeSet<String>) -> Result<()> {
        let failed = Error::at("removing layers");
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name.trim_end_matches(".unpacking"));
            if !busy && !keep.contains(&name) && entry.path().is_dir() {
                // First out of sight, so that nobody takes half of it.
                let doomed = self.folder.join(format!("{name}.unpacking"));
                fs::rename(entry.path(), &doomed).map_err(failed)?;
                remove_folder(&doomed).await.map_err(failed)?;
            }
        }
        Ok(())
    }
}

async fn remove_folder(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || ignore_missing(fs::remove_dir_all(path))).await.map_err(io::Error::other)?
}

fn check_name(name: &str) -> Result<()> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let good =
        (1..=128).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('.') && !name.ends_with(".unpacking");
    if good { Ok(()) } else { Err(Error::Invalid(format!("{name:?} is no name for a layer"))) }
}

/// Makes the folders down to where the archive is unpacked; that one belongs to `vcap`, those above to root.
fn prepare(top: &Path, prefix: &Path) -> Result<PathBuf> {
    let failed = Error::at("making a layer");
    let mut at = top.to_owned();
    let make = |path: &Path| fs::DirBuilder::new().mode(0o755).create(path);
    make(&at).map_err(failed)?;
    if !prefix.is_absolute() {
        return Err(Error::Invalid(format!("prefix {} is not absolute", prefix.display())));
    }
    for part in prefix.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => {
                at.push(name);
                make(&at).map_err(failed)?;
            }
            _ => return Err(Error::Invalid(format!("prefix {} is not plain", prefix.display()))),
        }
    }
    chown(&at, Some(VCAP), Some(VCAP)).map_err(failed)?;
    Ok(at)
}

/// A path that clients may name: below one of the configured folders, after all links.
pub(crate) fn source(config: &Config, path: &Path) -> Result<PathBuf> {
    let wrong = |why: String| Error::Invalid(format!("{}: {why}", path.display()));
    let real = fs::canonicalize(path).map_err(|e| wrong(e.to_string()))?;
    let allowed = config.raw.sources.iter().filter_map(|folder| fs::canonicalize(folder).ok());
    match allowed.into_iter().any(|folder| real.starts_with(folder)) {
        true => Ok(real),
        false => Err(wrong("not under a folder that the configuration allows".into())),
    }
}

fn open_source(config: &Config, path: &Path) -> Result<File> {
    let real = source(config, path)?;
    let file = File::open(&real).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))?;
    match file.metadata() {
        Ok(about) if about.is_file() => Ok(file),
        _ => Err(Error::Invalid(format!("{} is not a file", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_to_a_file_system_are_refused() {
        for name in ["", ".", "..", ".boot", "a/b", "a\0", "x.unpacking", &"x".repeat(129)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("sha256-ab.1_c").is_ok());
    }
}
