//! Unpacking a layer: a gzip tar that a tenant has written, read by a process that has nothing to lose.
//!
//! `warden_shim layer <folder> <id> <bytes> <entries>`, the archive on standard input. The process sees the folder alone, as its
//! root, as an unprivileged id that nothing else on the host has; an id-mapped mount shows `vcap` of the layer as that id.
//! Exit code: 0, 1 our fault, 2 the archive's fault; the reason is on standard error.

use crate::kernel::{self, IdMap, MountLook};
use flate2::read::MultiGzDecoder;
use nix::{
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, setrlimit},
    unistd::{Gid, Uid, chdir, chroot, setgroups, setresgid, setresuid},
};
use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps, fchmod, futimens, linkat, mkdirat, openat2, statat, symlinkat,
    unlinkat,
};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
    process::ExitCode,
};
use tar::{Archive, Entry, EntryType};

/// `vcap`, as layers have it on disk.
const VCAP: u32 = 2000;
/// Memory of the process: decoder, names, and no more.
const MEMORY: u64 = 1 << 30;

const BELOW: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

enum Failure {
    Archive(String),
    Ours(String),
}

fn ours<E: std::fmt::Display>(step: &'static str) -> impl FnOnce(E) -> Failure {
    move |e| Failure::Ours(format!("{step}: {e}"))
}

pub(crate) fn run() -> ExitCode {
    match arguments().and_then(|arguments| unpack_in_sandbox(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Ours(why)) => {
            eprintln!("{why}");
            ExitCode::from(1)
        }
        Err(Failure::Archive(why)) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

struct Arguments {
    folder: PathBuf,
    id: u32,
    bytes: u64,
    entries: u64,
}

fn arguments() -> Result<Arguments, Failure> {
    let words: Vec<String> = std::env::args().skip(2).collect();
    let wrong = || Failure::Ours("usage: warden_shim layer <folder> <id> <bytes> <entries>".into());
    let [folder, id, bytes, entries] = words.as_slice() else { return Err(wrong()) };
    let number = |text: &String| text.parse::<u64>().map_err(|_| wrong());
    let id = u32::try_from(number(id)?).map_err(|_| wrong())?;
    Ok(Arguments { folder: folder.into(), id, bytes: number(bytes)?, entries: number(entries)? })
}

fn unpack_in_sandbox(arguments: &Arguments) -> Result<(), Failure> {
    let archive: OwnedFd = io::stdin().as_fd().try_clone_to_owned().map_err(ours("opening the archive"))?;
    enter_sandbox(arguments)?;
    let root = rustix::fs::open(".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(ours("opening the layer"))?;
    unpack(File::from(archive), root.as_fd(), arguments.bytes, arguments.entries)
}

fn enter_sandbox(arguments: &Arguments) -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC).map_err(ours("leaving the network"))?;
    crate::rootfs::leave_host().map_err(ours("leaving the host's mounts"))?;
    let map = IdMap { inside: VCAP, outside: arguments.id, count: 1 };
    let ids = kernel::id_map(map, map).map_err(ours("mapping ids"))?;
    let folder = rustix::fs::open(&arguments.folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(ours("opening the folder"))?;
    let look = MountLook { read_only: false, noexec: true, ids: Some(ids.as_fd()) };
    kernel::show(folder.as_fd(), &arguments.folder, look).map_err(ours("mounting the folder"))?;
    drop((ids, folder));
    chroot(&arguments.folder).and_then(|()| chdir("/")).map_err(ours("entering the folder"))?;
    let limits = [
        (Resource::RLIMIT_AS, MEMORY),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, 32),
        (Resource::RLIMIT_NPROC, 0),
        (Resource::RLIMIT_FSIZE, arguments.bytes),
    ];
    for (resource, limit) in limits {
        setrlimit(resource, limit, limit).map_err(ours("setting limits"))?;
    }
    let (uid, gid) = (Uid::from_raw(arguments.id), Gid::from_raw(arguments.id));
    setgroups(&[]).map_err(ours("dropping groups"))?;
    setresgid(gid, gid, gid).map_err(ours("dropping privileges"))?;
    setresuid(uid, uid, uid).map_err(ours("dropping privileges"))?;
    rustix::thread::set_no_new_privs(true).map_err(ours("dropping privileges"))?;
    rustix::process::umask(Mode::empty());
    Ok(())
}

fn unpack(archive: impl Read, root: BorrowedFd<'_>, bytes: u64, entries: u64) -> Result<(), Failure> {
    let broken = |e: io::Error| Failure::Archive(format!("the archive cannot be read: {e}"));
    // Headers count too: an archive of empty entries is bounded as well.
    let limit = bytes.saturating_add(entries.saturating_mul(1536));
    let mut archive = Archive::new(MultiGzDecoder::new(archive).take(limit));
    let mut layer = Layer { root, left: bytes, folders: BTreeMap::new() };
    for (number, entry) in (0u64..).zip(archive.entries().map_err(broken)?) {
        if number >= entries {
            return Err(Failure::Archive(format!("the archive has more than {entries} entries")));
        }
        let mut entry = entry.map_err(broken)?;
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        layer.add(&mut entry).map_err(|e| match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::Ours(format!("writing {shown}: {e}")),
            _ => Failure::Archive(format!("entry {shown:?}: {e}")),
        })?;
    }
    layer.finish().map_err(ours("finishing the layer"))
}

struct Layer<'a> {
    root: BorrowedFd<'a>,
    left: u64,
    /// Modes and times of folders, set once nothing is written into them any more.
    folders: BTreeMap<PathBuf, (u32, u64)>,
}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

impl Layer<'_> {
    fn add(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = inside(&entry.path()?)?;
        let Some(name) = path.file_name().map(OsString::from) else {
            return if kind.is_dir() { Ok(()) } else { Err(refused("it has no name")) };
        };
        let parent = self.folder(path.parent().unwrap_or(Path::new("")))?;
        let mode = entry.header().mode()? & 0o777;
        let mtime = entry.header().mtime()?;
        if kind.is_dir() {
            self.folder(&path)?;
            self.folders.insert(path, (mode | 0o700, mtime));
            return Ok(());
        }
        remove_file(&parent, &name)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(entry, &parent, &name, mode | 0o400, mtime)
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| refused("a link to nothing"))?;
                // Where it leads is decided inside the container, and nothing here ever follows it.
                Ok(symlinkat(target.as_ref(), &parent, &name)?)
            }
            EntryType::Link => {
                let target = inside(&entry.link_name()?.ok_or_else(|| refused("a link to nothing"))?)?;
                self.hard_link(&target, &parent, &name)
            }
            other => Err(refused(format!("entries of type {other:?} are not allowed"))),
        }
    }

    fn file(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        parent: &OwnedFd,
        name: &OsString,
        mode: u32,
        mtime: u64,
    ) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(openat2(parent, name, flags, Mode::from_raw_mode(0o600), BELOW)?);
        let copied = io::copy(&mut entry.take(self.left.saturating_add(1)), &mut file)?;
        self.left = self.left.checked_sub(copied).ok_or_else(|| refused("the layer is larger than allowed"))?;
        fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(futimens(&file, &moment(mtime))?)
    }

    fn hard_link(&self, target: &Path, parent: &OwnedFd, name: &OsString) -> io::Result<()> {
        let target_name = target.file_name().ok_or_else(|| refused("a link to nothing"))?;
        let folder = self.existing_folder(target.parent().unwrap_or(Path::new("")))?;
        let about = statat(&folder, target_name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !rustix::fs::FileType::from_raw_mode(about.st_mode).is_file() {
            return Err(refused("a hard link to something that is not a file"));
        }
        Ok(linkat(&folder, target_name, parent, name, AtFlags::empty())?)
    }

    fn existing_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat2(self.root, path, flags, Mode::empty(), BELOW)?)
    }

    /// Opens a folder, making what is missing of it. A link on the way is refused: nothing is written through one.
    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.existing_folder(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let above = self.folder(path.parent().ok_or_else(|| refused("it has no folder"))?)?;
        let name = path.file_name().ok_or_else(|| refused("it has no name"))?;
        mkdirat(&above, name, Mode::from_raw_mode(0o755))?;
        self.existing_folder(path)
    }

    fn finish(self) -> io::Result<()> {
        // Deepest first: a folder's own time changes with what is in it.
        for (path, (mode, mtime)) in self.folders.iter().rev() {
            let folder = self.existing_folder(path)?;
            fchmod(&folder, Mode::from_raw_mode(*mode))?;
            futimens(&folder, &moment(*mtime))?;
        }
        Ok(())
    }
}

fn remove_file(parent: &OwnedFd, name: &OsString) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn moment(seconds: u64) -> Timestamps {
    let at = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: at, last_modification: at }
}

/// The path without `.` parts; refuses absolute ones and `..`.
fn inside(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err(refused("an absolute path")),
            Component::ParentDir => return Err(refused("a path with `..`")),
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::os::unix::fs::{MetadataExt, symlink};
    use tar::{Builder, Header};

    struct Pack(Builder<GzEncoder<Vec<u8>>>);

    impl Pack {
        fn new() -> Self {
            Self(Builder::new(GzEncoder::new(vec![], Compression::fast())))
        }
        fn header(kind: EntryType, path: &str, mode: u32, size: u64) -> Header {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(size);
            header.set_mtime(1_000_000);
            // Straight into the header: the builder refuses what an attacker would write.
            let field = &mut header.as_gnu_mut().unwrap().name;
            field[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            header
        }
        fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
            let header = Self::header(EntryType::Regular, path, mode, content.len() as u64);
            self.0.append(&header, content).unwrap();
            self
        }
        fn entry(mut self, kind: EntryType, path: &str) -> Self {
            self.0.append(&Self::header(kind, path, 0o755, 0), io::empty()).unwrap();
            self
        }
        fn link(mut self, kind: EntryType, path: &str, target: &str) -> Self {
            let mut header = Self::header(kind, path, 0o777, 0);
            header.set_link_name_literal(target).unwrap();
            header.set_cksum();
            self.0.append(&header, io::empty()).unwrap();
            self
        }
        fn unpack(self, folder: &Path) -> Result<(), String> {
            self.unpack_bounded(folder, 1 << 20, 100)
        }
        fn unpack_bounded(self, folder: &Path, bytes: u64, entries: u64) -> Result<(), String> {
            let archive = self.0.into_inner().unwrap().finish().unwrap();
            let root = File::open(folder).unwrap();
            unpack(archive.as_slice(), root.as_fd(), bytes, entries).map_err(|e| match e {
                Failure::Archive(why) | Failure::Ours(why) => why,
            })
        }
    }

    #[test]
    fn a_layer_keeps_contents_modes_links_and_times_but_no_setuid_bits() {
        let folder = tempfile::tempdir().unwrap();
        Pack::new()
            .entry(EntryType::Directory, "./app/")
            .file("./app/run", 0o4755, b"#!/bin/sh")
            .file("deep/er/file", 0o000, b"x")
            .link(EntryType::Symlink, "app/python", "/usr/bin/python3")
            .link(EntryType::Link, "app/again", "./app/run")
            .unpack(folder.path())
            .unwrap();
        let about = |path: &str| std::fs::symlink_metadata(folder.path().join(path)).unwrap();
        assert_eq!(about("app/run").mode() & 0o7777, 0o755);
        assert_eq!(about("app/run").ino(), about("app/again").ino());
        assert_eq!(about("app/run").mtime(), 1_000_000);
        assert_eq!(about("app").mtime(), 1_000_000);
        assert_eq!(std::fs::read_link(folder.path().join("app/python")).unwrap(), Path::new("/usr/bin/python3"));
        assert!(about("deep/er/file").is_file());
    }

    #[test]
    fn what_leads_out_or_is_no_file_is_refused() {
        let cases: [(&str, Pack); 8] = [
            ("absolute path", Pack::new().file("/etc/passwd", 0o644, b"x")),
            ("`..`", Pack::new().file("a/../../b", 0o644, b"x")),
            ("a link", Pack::new().link(EntryType::Symlink, "a", "/etc").file("a/passwd", 0o644, b"x")),
            ("absolute path", Pack::new().link(EntryType::Link, "a", "/etc/passwd")),
            ("`..`", Pack::new().link(EntryType::Link, "a", "../secret")),
            ("not a file", Pack::new().link(EntryType::Symlink, "a", "/etc/passwd").link(EntryType::Link, "b", "a")),
            ("Char", Pack::new().entry(EntryType::Char, "null")),
            ("Fifo", Pack::new().entry(EntryType::Fifo, "pipe")),
        ];
        for (what, pack) in cases {
            let folder = tempfile::tempdir().unwrap();
            let why = pack.unpack(folder.path()).expect_err(what);
            assert!(why.starts_with("entry"), "{what}: {why}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link_that_was_there_before() {
        let world = tempfile::tempdir().unwrap();
        let (layer, outside) = (world.path().join("layer"), world.path().join("outside"));
        std::fs::create_dir(&layer).unwrap();
        std::fs::create_dir(&outside).unwrap();
        symlink(&outside, layer.join("a")).unwrap();
        Pack::new().file("a/file", 0o644, b"x").unpack(&layer).unwrap_err();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a40_a_layer_that_expands_beyond_its_bounds_is_refused() {
        let zeros = vec![0; 600 << 10];
        let folder = tempfile::tempdir().unwrap();
        let why = Pack::new().file("a", 0o644, &zeros).file("b", 0o644, &zeros).unpack(folder.path()).unwrap_err();
        assert!(why.contains("larger than allowed"), "{why}");
        let many = (0..5).fold(Pack::new(), |pack, n| pack.file(&format!("f{n}"), 0o644, b""));
        let why = many.unpack_bounded(folder.path(), 1 << 20, 4).unwrap_err();
        assert!(why.contains("more than 4 entries"), "{why}");
    }
}
