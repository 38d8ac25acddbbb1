//! Writing into a root file system that a tenant has filled: every path is resolved inside it, whatever links it has.

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, mkdirat, openat2};
use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// A file to be written.
pub(crate) struct NewFile<'a> {
    /// Absolute, as the container sees it.
    pub(crate) path: &'a Path,
    pub(crate) mode: u32,
    /// Owner and group on the host.
    pub(crate) owner: u32,
    pub(crate) content: &'a [u8],
}

/// Writes a file below `root`; missing folders are made for `folder_owner`.
pub(crate) fn write(root: BorrowedFd<'_>, file: &NewFile<'_>, folder_owner: u32) -> io::Result<()> {
    let path = plain(file.path)?;
    let name = path.file_name().ok_or_else(|| invalid("it names no file"))?;
    let folder = folder(root, path.parent().unwrap_or(Path::new("")), folder_owner)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    // A link at the end would be written through; a regular file is what was asked for.
    let _ = rustix::fs::unlinkat(&folder, name, rustix::fs::AtFlags::empty());
    let made = openat2(&folder, name, flags, Mode::from_raw_mode(0o600), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?;
    let mut made = File::from(made);
    made.write_all(file.content)?;
    own(made.as_fd(), file.owner, file.mode)
}

/// Opens a folder below `root`, making what is missing of it.
pub(crate) fn folder(root: BorrowedFd<'_>, path: &Path, owner: u32) -> io::Result<OwnedFd> {
    let path = plain(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = PathBuf::new();
    let mut open = openat2(root, ".", flags, Mode::empty(), INSIDE)?;
    for part in path.components() {
        at.push(part);
        open = match openat2(root, &at, flags, Mode::empty(), INSIDE) {
            Ok(there) => there,
            Err(rustix::io::Errno::NOENT) => {
                mkdirat(&open, part.as_os_str(), Mode::from_raw_mode(0o755))?;
                let made = openat2(root, &at, flags, Mode::empty(), INSIDE)?;
                own(made.as_fd(), owner, 0o755)?;
                made
            }
            Err(e) => return Err(e.into()),
        };
    }
    Ok(open)
}

fn own(file: BorrowedFd<'_>, owner: u32, mode: u32) -> io::Result<()> {
    fchown(file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
    // Never setuid, setgid or sticky.
    fchmod(file, Mode::from_raw_mode(mode & 0o777))?;
    Ok(())
}

/// The path without its leading `/`; refuses `..`.
fn plain(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(invalid("`..` in a path")),
        }
    }
    Ok(clean)
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn write_one(root: &Path, path: &str) -> io::Result<()> {
        let owner = std::fs::metadata(root)?.uid();
        let open = File::open(root)?;
        write(open.as_fd(), &NewFile { path: Path::new(path), mode: 0o4644, owner, content: b"x" }, owner)
    }

    #[test]
    fn a_link_of_the_tenant_stays_inside_the_root() {
        let world = tempfile::tempdir().unwrap();
        let (root, outside) = (world.path().join("root"), world.path().join("outside"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&outside).unwrap();
        symlink(&outside, root.join("app")).unwrap();
        symlink("../../../../../../../..", root.join("up")).unwrap();
        symlink(outside.join("file"), root.join("hosts")).unwrap();
        assert!(write_one(&root, "/app/file").is_err(), "the link leads nowhere inside");
        write_one(&root, "/up/made/file").unwrap();
        write_one(&root, "/hosts").unwrap();
        assert!(root.join("made/file").is_file() && root.join("hosts").is_file());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(std::fs::metadata(root.join("hosts")).unwrap().mode() & 0o7777, 0o644);
        assert!(write_one(&root, "/a/../b").is_err());
    }
}
