//! The exit record on disk.

use std::{
    fs::{File, rename},
    io::{self, Write},
    path::Path,
};
use warden_client::ProcessExit;

/// Writes `exit.json` so that it is there after a power cut, whole or not at all.
///
/// # Errors
/// Those of the file system.
pub fn write_exit(folder: &Path, exit: &ProcessExit) -> io::Result<()> {
    let (written, record) = (folder.join("exit.json.new"), folder.join("exit.json"));
    let mut file = File::create(&written)?;
    file.write_all(&serde_json::to_vec(exit)?)?;
    file.sync_all()?;
    rename(written, record)?;
    File::open(folder)?.sync_all()
}
