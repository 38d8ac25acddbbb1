//! The container's file system, in a mount namespace of the shim: nothing of it is ever seen by the host, and all of it goes
//! away with the last process of the container.

use crate::{
    create::{Failure, at},
    files::{self, NewFile},
    kernel::{self, IdMap, MountLook},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use rustix::fs::{Mode, OFlags, SeekFrom};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt, chown, symlink},
    },
    path::{Path, PathBuf},
};
use warden_client::shim::{ID_RANGE, Launch, Prepare};

/// Where things lie in the scratch folder, which has become the root.
pub(crate) struct Rootfs {
    /// The merged file system.
    pub(crate) root: PathBuf,
    /// Folder of the OCI bundle.
    pub(crate) bundle: PathBuf,
    /// `libcontainer`'s own records.
    pub(crate) state: PathBuf,
    /// Folder with the container's own cgroups, each a mount.
    pub(crate) cgroups: PathBuf,
    /// One prepared mount for each of the spec's, in its order.
    pub(crate) binds: Vec<PathBuf>,
    /// One for each of its volumes.
    pub(crate) volumes: Vec<PathBuf>,
    /// The private upper layer.
    pub(crate) upper: OwnedFd,
}

/// `vcap` inside.
const VCAP: u32 = 2000;
/// What limits a container on a host with unified cgroups.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// The group of terminals inside.
const TTY: u32 = 5;

/// Leaves the host's mount namespace for a copy. What the host unmounts is unmounted here too, for as long as we wait for a container.
pub(crate) fn leave_host() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    Ok(())
}

/// Prepares what does not depend on the container: the scratch folder with a private disk.
pub(crate) fn prepare(prepare: &Prepare) -> Result<(), Failure> {
    let scratch = &prepare.scratch;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), scratch, Some("tmpfs"), flags, Some("mode=0711,size=16m")).map_err(at("mounting the scratch folder"))?;
    std::env::set_current_dir(scratch).map_err(at("entering the scratch folder"))?;
    for name in ["disk", "merged", "bundle", "state", "cgroups", "binds", "volumes", "dev-new"] {
        DirBuilder::new().mode(0o711).create(name).map_err(at("making the scratch folder"))?;
    }
    disk(prepare).map_err(at("preparing the private disk"))?;
    devices().map_err(at("preparing /dev"))
}

/// Prepares everything else that the container will see.
pub(crate) fn complete(prepare: &Prepare, launch: &Launch) -> Result<Rootfs, Failure> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(at("leaving the host's mounts"))?;
    let ids = IdMap { inside: 0, outside: launch.id_base, count: ID_RANGE };
    let ids = kernel::id_map(ids, ids).map_err(at("mapping ids"))?;
    let upper = own_disk(prepare, launch).map_err(at("taking the private disk"))?;
    let lowers = lowers(&launch.lowers, &ids).map_err(at("showing stack and layers"))?;
    overlay(&lowers).map_err(at("mounting the overlay"))?;
    let root = File::open("merged").map_err(at("opening the root"))?;
    show_devices(launch, &root).map_err(at("showing /dev"))?;
    write_files(launch, &root)?;
    let binds = binds(launch)?;
    let volumes = volumes(launch, &ids).map_err(at("preparing volumes"))?;
    show_kernel().map_err(at("showing the kernel's file systems"))?;
    cgroup_view(launch).map_err(at("preparing cgroups"))?;
    enter_scratch().map_err(at("entering the scratch folder"))?;
    Ok(Rootfs {
        root: "/merged".into(),
        bundle: "/bundle".into(),
        state: "/state".into(),
        cgroups: "/cgroups".into(),
        binds,
        volumes,
        upper,
    })
}

/// Shows what `libcontainer` looks at. It must come before our view of cgroups, whose mounts it would take for the host's.
fn show_kernel() -> io::Result<()> {
    for name in ["proc", "sys", "dev"] {
        DirBuilder::new().mode(0o755).create(name)?;
        let source = Path::new("/").join(name);
        mount(Some(&source), name, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    }
    Ok(())
}

/// Makes the scratch folder the root. What follows runs as a user of the container, who may not pass through the host's folders; and
/// has no need to see them.
fn enter_scratch() -> io::Result<()> {
    fs::create_dir("host")?;
    nix::unistd::pivot_root(".", "host")?;
    std::env::set_current_dir("/")?;
    nix::mount::umount2("/host", nix::mount::MntFlags::MNT_DETACH)?;
    fs::remove_dir("/host")
}

/// A private ext4 file system from the template.
fn disk(prepare: &Prepare) -> io::Result<()> {
    copy_sparse(&prepare.template, &prepare.image)?;
    mount_image(&prepare.image, Path::new("disk"))?;
    for name in ["disk/upper", "disk/work"] {
        DirBuilder::new().mode(0o755).create(name)?;
    }
    Ok(())
}

/// A `/dev` without devices, which `libcontainer` adds, and memory that processes share.
fn devices() -> io::Result<()> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), "dev-new", Some("tmpfs"), quiet | MsFlags::MS_STRICTATIME, Some("mode=755,size=64k"))?;
    for name in ["dev-new/pts", "dev-new/shm"] {
        DirBuilder::new().mode(0o755).create(name)?;
    }
    mount(Some("shm"), "dev-new/shm", Some("tmpfs"), quiet | MsFlags::MS_NODEV, Some("mode=1777,size=64m"))?;
    Ok(())
}

/// Gives it to the container and puts it into its place, which must be a folder and no link.
fn show_devices(launch: &Launch, root: &File) -> io::Result<()> {
    use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
    let options = format!("newinstance,ptmxmode=0666,mode=0620,gid={}", launch.id_base + TTY);
    mount(Some("devpts"), "dev-new/pts", Some("devpts"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, Some(options.as_str()))?;
    for name in ["dev-new", "dev-new/shm", "dev-new/pts", "dev-new/pts/ptmx"] {
        chown(name, Some(launch.id_base), Some(launch.id_base))?;
    }
    let resolve = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS;
    let place = rustix::fs::openat2(root, "dev", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let tree = open_tree(rustix::fs::CWD, "dev-new", OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(&tree, "", &place, "", flags)?)
}

/// Makes the prepared disk the container's; returns its upper layer.
fn own_disk(prepare: &Prepare, launch: &Launch) -> io::Result<OwnedFd> {
    fs::rename(&prepare.image, launch.folder.join("disk.img"))?;
    chown("disk/upper", Some(launch.id_base), Some(launch.id_base))?;
    Ok(rustix::fs::open("disk/upper", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn mount_image(image: &Path, at: &Path) -> io::Result<()> {
    let (device, held) = kernel::loop_device(image)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    mount(Some(&device), at, Some("ext4"), flags, None::<&str>)?;
    drop(held); // from here on the mount alone keeps the device
    Ok(())
}

/// Volumes, with ids on their disks as they are inside: another container, with another range of ids, finds the same owners.
fn volumes(launch: &Launch, ids: &OwnedFd) -> io::Result<Vec<PathBuf>> {
    let mut prepared = vec![];
    for (number, (volume, image)) in launch.spec.volumes.iter().zip(&launch.volumes).enumerate() {
        let (disk, shown) = (PathBuf::from(format!("volumes/disk{number}")), PathBuf::from(format!("volumes/{number}")));
        fs::create_dir(&disk)?;
        fs::create_dir(&shown)?;
        mount_image(image, &disk)?;
        hand_over_empty(&disk, if launch.spec.process.user == "root" { 0 } else { VCAP })?;
        let source = open_path(&disk)?;
        let look = MountLook { read_only: volume.read_only, noexec: volume.noexec, ids: Some(ids.as_fd()) };
        kernel::show(source.as_fd(), &shown, look)?;
        drop(source);
        nix::mount::umount2(&disk, nix::mount::MntFlags::MNT_DETACH)?;
        prepared.push(Path::new("/").join(shown));
    }
    Ok(prepared)
}

/// As long as nothing is in a volume, its top belongs to the process's user and is empty: databases insist on that.
fn hand_over_empty(disk: &Path, user: u32) -> io::Result<()> {
    let found: Vec<_> = fs::read_dir(disk)?.collect::<io::Result<_>>()?;
    if found.iter().all(|entry| entry.file_name() == "lost+found") {
        for entry in found {
            fs::remove_dir(entry.path())?;
        }
        chown(disk, Some(user), Some(user))?;
    }
    Ok(())
}

/// Copies only what has been written of a file.
fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&source, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return Ok(()), // holes to the end
            Err(e) => return Err(e.into()),
        };
        let end = rustix::fs::seek(&source, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let (mut from_at, mut to_at) = (at, at);
            let length = usize::try_from(end - at).unwrap_or(usize::MAX);
            let copied = rustix::fs::copy_file_range(&source, Some(&mut from_at), &target, Some(&mut to_at), length)?;
            if copied == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += copied as u64;
        }
    }
    Ok(())
}

/// Shows each lower layer with the container's own ids; returns their names, lowest first.
fn lowers(layers: &[PathBuf], ids: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = vec![];
    for (number, layer) in layers.iter().enumerate() {
        let name = format!("l{number}");
        fs::create_dir(&name)?;
        let source = open_path(layer)?;
        let look = MountLook { read_only: true, noexec: false, ids: Some(ids.as_fd()) };
        kernel::show(source.as_fd(), Path::new(&name), look)?;
        names.push(name);
    }
    Ok(names)
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

fn overlay(lowers: &[String]) -> io::Result<()> {
    let highest_first: Vec<&str> = lowers.iter().rev().map(String::as_str).collect();
    // `volatile`: the upper layer never outlives its container, so nothing waits for it to be synced.
    let options = format!(
        "lowerdir={},upperdir=disk/upper,workdir=disk/work,index=off,metacopy=off,redirect_dir=nofollow,volatile",
        highest_first.join(":")
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("overlay"), "merged", Some("overlay"), flags, Some(options.as_str()))?;
    Ok(())
}

fn write_files(launch: &Launch, root: &File) -> Result<(), Failure> {
    let host = hostname(&launch.spec.handle);
    let hosts = format!("127.0.0.1 localhost\n::1 localhost\n{} {host}\n", launch.address);
    let system = [("/etc/hosts", hosts), ("/etc/hostname", format!("{host}\n"))];
    for (path, content) in &system {
        let file = NewFile { path: Path::new(path), mode: 0o644, owner: launch.id_base, content: content.as_bytes() };
        files::write(root.as_fd(), &file, launch.id_base).map_err(at("writing host names"))?;
    }
    let user = if launch.spec.process.user == "root" { 0 } else { VCAP };
    for wanted in &launch.spec.files {
        let owner = launch.id_base + if wanted.user_owned { user } else { 0 };
        let file = NewFile { path: &wanted.path, mode: wanted.mode, owner, content: wanted.content.as_bytes() };
        files::write(root.as_fd(), &file, owner)
            .map_err(|e| Failure::invalid(format!("cannot write {}: {e}", wanted.path.display())))?;
    }
    Ok(())
}

/// The container's host name: its handle as far as a host name may be long.
pub(crate) fn hostname(handle: &str) -> String {
    handle.replace('_', "-").chars().take(63).collect()
}

/// Host paths, shown with their owner as `vcap`: what `vcap` writes there belongs to that owner on the host, and nobody else inside
/// can make files there.
fn binds(launch: &Launch) -> Result<Vec<PathBuf>, Failure> {
    let mut prepared = vec![];
    for (number, bind) in launch.spec.mounts.iter().enumerate() {
        let wrong = |e: io::Error| Failure::invalid(format!("cannot show {}: {e}", bind.source.display()));
        let target = PathBuf::from(format!("binds/{number}"));
        let source = open_path(&bind.source).map_err(wrong)?;
        let about = rustix::fs::fstat(&source).map_err(|e| wrong(e.into()))?;
        match rustix::fs::FileType::from_raw_mode(about.st_mode) {
            rustix::fs::FileType::Directory => fs::create_dir(&target).map_err(wrong)?,
            rustix::fs::FileType::RegularFile => drop(File::create(&target).map_err(wrong)?),
            _ => return Err(Failure::invalid(format!("{} is neither a file nor a folder", bind.source.display()))),
        }
        let map = |id: u32| IdMap { inside: id, outside: launch.id_base + VCAP, count: 1 };
        let ids = kernel::id_map(map(about.st_uid), map(about.st_gid)).map_err(wrong)?;
        let look = MountLook { read_only: bind.read_only, noexec: false, ids: Some(ids.as_fd()) };
        kernel::show(source.as_fd(), &target, look).map_err(wrong)?;
        prepared.push(Path::new("/").join(target));
    }
    Ok(prepared)
}

/// Shows the container its own cgroups, read-only from outside its user namespace, so that it can never be undone inside.
fn cgroup_view(launch: &Launch) -> io::Result<()> {
    let top = Path::new("/sys/fs/cgroup");
    let below = launch.cgroup.trim_start_matches('/');
    if top.join("cgroup.controllers").exists() {
        let folder = top.join(below);
        fs::create_dir_all(&folder)?;
        offer_controllers(top, &folder)?;
        return show_cgroup(&folder, Path::new("cgroups"));
    }
    for controller in ["memory", "cpu", "cpuacct", "pids"] {
        let Ok(hierarchy) = fs::canonicalize(top.join(controller)) else { continue };
        let Some(name) = hierarchy.file_name() else { continue };
        let view = Path::new("cgroups").join(name);
        if !view.exists() {
            fs::create_dir(&view)?;
            show_cgroup(&hierarchy.join(below), &view)?;
        }
        if name != controller {
            symlink(name, Path::new("cgroups").join(controller))?;
        }
    }
    Ok(())
}

/// Has each cgroup above a container's offer what limits it (v2); `libcontainer` does so only where it makes the cgroup itself.
fn offer_controllers(top: &Path, folder: &Path) -> io::Result<()> {
    let above: Vec<_> = folder.ancestors().skip(1).take_while(|path| path.starts_with(top)).collect();
    for path in above.into_iter().rev() {
        let control = path.join("cgroup.subtree_control");
        let offered = fs::read_to_string(&control)?;
        let missing = CONTROLLERS.iter().filter(|name| !offered.split_whitespace().any(|offer| offer == **name));
        let order = missing.map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
        // A write waits for cgroups that are going away, even one that changes nothing.
        if !order.is_empty() {
            fs::write(&control, &order)
                .map_err(|e| io::Error::new(e.kind(), format!("writing {order} to {}: {e}", control.display())))?;
        }
    }
    Ok(())
}

fn show_cgroup(folder: &Path, view: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let source = open_path(folder)?;
    kernel::show(source.as_fd(), view, MountLook { read_only: true, noexec: true, ids: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Seek, Write},
        os::unix::fs::MetadataExt,
    };

    #[test]
    fn cgroups_above_a_container_offer_what_limits_it() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("parent/box");
        fs::create_dir_all(&folder).unwrap();
        let controls = [top.path(), folder.parent().unwrap()].map(|path| path.join("cgroup.subtree_control"));
        fs::write(&controls[0], "memory pids\n").unwrap();
        fs::write(&controls[1], "").unwrap();
        offer_controllers(top.path(), &folder).unwrap();
        // Ordinary files keep what was written last.
        assert_eq!(fs::read_to_string(&controls[0]).unwrap(), "+cpu");
        assert_eq!(fs::read_to_string(&controls[1]).unwrap(), "+cpu +memory +pids");
        assert!(!folder.join("cgroup.subtree_control").exists());
        for control in &controls {
            fs::write(control, "cpuset cpu io memory pids\n").unwrap();
        }
        offer_controllers(top.path(), &folder).unwrap();
        assert_eq!(fs::read_to_string(&controls[1]).unwrap(), "cpuset cpu io memory pids\n");
    }

    #[test]
    fn a_sparse_copy_has_the_same_bytes_and_the_same_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        let mut file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        for at in [0, 5 << 20, (64 << 20) - 4096] {
            file.seek(io::SeekFrom::Start(at)).unwrap();
            file.write_all(&[7; 4096]).unwrap();
        }
        file.sync_all().unwrap();
        copy_sparse(&from, &to).unwrap();
        assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
        assert!(copy_sparse(&from, &to).is_err(), "an image is never used twice");
    }

    #[test]
    fn a_handle_becomes_a_host_name() {
        assert_eq!(hostname("a_b-c"), "a-b-c");
        assert_eq!(hostname(&"x".repeat(64)).len(), 63);
    }
}
