//! Formatted file system images, one for each size that was ever asked for: copying one takes a hundredth of making one.

use crate::{
    error::{Error, Result},
    record::private_folder,
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};
use tokio::{process::Command, sync::OnceCell};

/// The smallest private disk.
pub(crate) const SMALLEST: u64 = 16 << 20;

pub(crate) struct Images {
    folder: PathBuf,
    made: Mutex<BTreeMap<u64, Arc<OnceCell<PathBuf>>>>,
}

impl Images {
    pub(crate) fn open(state: &Path) -> Result<Self> {
        let folder = state.join("templates");
        private_folder(&folder).map_err(Error::at("making the folder of templates"))?;
        Ok(Self { folder, made: Mutex::default() })
    }

    /// The template of this size, rounded up to whole MiB.
    pub(crate) async fn template(&self, bytes: u64) -> Result<PathBuf> {
        let size = bytes.next_multiple_of(1 << 20);
        let cell = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner).entry(size).or_default().clone();
        cell.get_or_try_init(|| self.make(size)).await.cloned()
    }

    async fn make(&self, size: u64) -> Result<PathBuf> {
        let path = self.folder.join(format!("{size}.ext4"));
        if path.exists() {
            return Ok(path);
        }
        let new = path.with_extension("new");
        let failed = Error::at("formatting a disk image");
        let sized = fs::remove_file(&new).or(Ok(())).and_then(|()| File::create(&new)?.set_len(size));
        if let Err(e) = sized {
            return Err(failed(e));
        }
        // Private disks never outlive their containers: no journal. One file per 8 kB: packages have many small ones.
        let done = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0", "-b", "4096", "-i", "8192", "-O", "^has_journal,^resize_inode"])
            .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"])
            .arg(&new)
            .stdin(Stdio::null())
            .output()
            .await;
        let made = done.and_then(|done| match done.status.success() {
            true => fs::rename(&new, &path),
            false => Err(std::io::Error::other(format!("mkfs.ext4: {}", String::from_utf8_lossy(&done.stderr).trim()))),
        });
        made.map(|()| path).map_err(failed)
    }
}
