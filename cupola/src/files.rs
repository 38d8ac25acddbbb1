//! Files with the right owner and mode from their first byte on.

use anyhow::Context;
use nix::unistd::{Gid, Uid, chown};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Who may use a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

impl Owner {
    /// The operator.
    pub(crate) fn root(mode: u32) -> Self {
        Self { uid: 0, gid: 0, mode }
    }
    /// One part of the platform, with its own group.
    pub(crate) fn service(uid: u32, mode: u32) -> Self {
        Self { uid, gid: uid, mode }
    }
}

/// Replaces a file as a whole: readers see the old or the new one.
pub(crate) fn write(path: &Path, content: &[u8], owner: Owner) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = Path::new(&name);
    let _ = fs::remove_file(fresh);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        own(fresh, owner)?;
        fs::rename(fresh, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a folder, and its parents, if it is missing; sets its owner in any case.
pub(crate) fn folder(path: &Path, owner: Owner) -> anyhow::Result<()> {
    fs::create_dir_all(path).and_then(|()| own(path, owner)).with_context(|| format!("cannot make {}", path.display()))
}

fn own(path: &Path, owner: Owner) -> std::io::Result<()> {
    if nix::unistd::geteuid().is_root() {
        chown(path, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(owner.mode))
}
