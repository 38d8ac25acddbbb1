//! Disks that outlive containers: a folder each, with an ext4 image of a fixed size.
//!
//! Space is taken from the file system when a volume is made, not when it is filled: a database that was told its data is on disk
//! must find it there. Who has a volume is the host's business; here only files are made, grown and removed.

use crate::{
    error::{Error, Result, ignore_missing},
    record::private_folder,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

/// Sizes in MiB, by id.
pub(crate) type Sizes = BTreeMap<String, u64>;

/// What is written beside an image.
#[derive(Serialize, Deserialize)]
struct Note {
    size_mb: u64,
}

pub(crate) struct Volumes {
    folder: PathBuf,
}

impl Volumes {
    /// Opens the folder and says what is in it. What was half made or half removed goes away.
    pub(crate) fn open(state: &Path) -> io::Result<(Self, Sizes)> {
        let folder = state.join("volumes");
        private_folder(&folder)?;
        let mut sizes = Sizes::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let Ok(id) = entry.file_name().into_string() else { continue };
            if id.ends_with(".new") || id.ends_with(".gone") {
                fs::remove_dir_all(entry.path())?;
                continue;
            }
            sizes.insert(id, 0);
        }
        let volumes = Self { folder };
        sizes.iter_mut().for_each(|(id, size_mb)| *size_mb = volumes.size_mb(id).unwrap_or(0));
        Ok((volumes, sizes))
    }

    /// The size of a volume in MiB, if it is there.
    pub(crate) fn size_mb(&self, id: &str) -> Option<u64> {
        let folder = self.folder.join(id);
        let noted = fs::read(folder.join("volume.json")).ok().and_then(|note| serde_json::from_slice::<Note>(&note).ok());
        // The file may be larger while it grows.
        noted.map(|note| note.size_mb).or_else(|| Some(fs::metadata(folder.join("disk.img")).ok()?.len() >> 20))
    }

    /// The file that is a volume's disk.
    pub(crate) fn image(&self, id: &str) -> PathBuf {
        self.folder.join(id).join("disk.img")
    }

    /// Makes a volume; it is there whole or not at all.
    pub(crate) async fn make(&self, id: &str, size_mb: u64) -> Result<()> {
        let failed = Error::at("making a volume");
        let new = self.folder.join(format!("{id}.new"));
        ignore_missing(fs::remove_dir_all(&new)).map_err(failed)?;
        private_folder(&new).map_err(failed)?;
        let made = async {
            let image = new.join("disk.img");
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&image).map_err(failed)?;
            reserve(&image, size_mb).await?;
            // Unlike private disks these are there after a power cut: with a journal.
            let options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0";
            run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-b", "4096", "-E", options]).arg(&image)).await?;
            self.note(&new, size_mb).map_err(failed)?;
            fs::rename(&new, self.folder.join(id)).and_then(|()| sync(&self.folder)).map_err(failed)
        };
        let made = made.await;
        if made.is_err() {
            let _ = fs::remove_dir_all(&new);
        }
        made
    }

    /// Makes a volume larger that nobody has. Cut short, it has its old size for the books and is grown again by the next one who asks.
    pub(crate) async fn grow(&self, id: &str, size_mb: u64) -> Result<()> {
        let image = self.image(id);
        reserve(&image, size_mb).await?;
        // 1: errors were found and mended (a journal that was not played back).
        run_allowing(Command::new("e2fsck").args(["-f", "-p"]).arg(&image), &[0, 1]).await?;
        run(Command::new("resize2fs").arg(&image)).await?;
        self.note(&self.folder.join(id), size_mb).map_err(Error::at("growing a volume"))
    }

    fn note(&self, folder: &Path, size_mb: u64) -> io::Result<()> {
        let (new, there) = (folder.join("volume.json.new"), folder.join("volume.json"));
        fs::write(&new, serde_json::to_vec(&Note { size_mb })?)?;
        File::open(&new)?.sync_all()?;
        fs::rename(new, there)?;
        sync(folder)
    }

    /// Takes a volume out of sight, at once; the folder that is returned is yet to be removed.
    pub(crate) fn forget(&self, id: &str) -> io::Result<PathBuf> {
        let gone = self.folder.join(format!("{id}.gone"));
        ignore_missing(fs::remove_dir_all(&gone))?;
        ignore_missing(fs::rename(self.folder.join(id), &gone))?;
        sync(&self.folder)?;
        Ok(gone)
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Gives a file this size, and takes the space for it as far as the file system can.
async fn reserve(image: &Path, size_mb: u64) -> Result<()> {
    let image = image.to_owned();
    let reserved = tokio::task::spawn_blocking(move || {
        let file = OpenOptions::new().write(true).open(image)?;
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size_mb << 20) {
            Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(size_mb << 20),
            other => Ok(other?),
        }
    });
    match reserved.await.map_err(Error::at("reserving disk"))? {
        Err(e) if e.kind() == io::ErrorKind::StorageFull => Err(Error::NoRoom(format!("no {size_mb} MB are free on disk"))),
        other => other.map_err(Error::at("reserving disk")),
    }
}

async fn run(command: &mut Command) -> Result<()> {
    run_allowing(command, &[0]).await
}

async fn run_allowing(command: &mut Command, good: &[i32]) -> Result<()> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().await.map_err(Error::at("starting a tool for file systems"))?;
    if done.status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].concat();
    Err(Error::Internal("preparing a volume", format!("{program}: {}", String::from_utf8_lossy(&said).trim()).into()))
}
