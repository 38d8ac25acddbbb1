//! Thin, safe covers over system calls that no library has, or has only with names instead of descriptors.
#![expect(unsafe_code, reason = "system calls without a safe cover elsewhere")]

use nix::{
    sched::{CloneFlags, unshare},
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};
use std::{
    ffi::CStr,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// One line of an id map: `count` ids from `inside` on appear as ids from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdMap {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A user namespace that only exists to say how a mount shows ids.
pub(crate) fn id_map(users: IdMap, groups: IdMap) -> io::Result<OwnedFd> {
    let (mut ready, tell_ready) = io::pipe()?;
    let (mut hold, release) = io::pipe()?;
    // SAFETY: this process has one thread; the child makes system calls and ends.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(release);
            if unshare(CloneFlags::CLONE_NEWUSER).is_ok() {
                let _ = (&tell_ready).write_all(b"+");
                let _ = hold.read(&mut [0]);
            }
            // SAFETY: ends the child at once, without the handlers of its parent.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop((tell_ready, hold));
            let made = ready.read_exact(&mut [0]).and_then(|()| {
                let line = |map: IdMap| format!("{} {} {}", map.inside, map.outside, map.count);
                std::fs::write(format!("/proc/{child}/uid_map"), line(users))?;
                std::fs::write(format!("/proc/{child}/gid_map"), line(groups))?;
                Ok(File::open(format!("/proc/{child}/ns/user"))?.into())
            });
            drop(release);
            let _ = waitpid(child, None);
            made
        }
    }
}

/// How a copied mount differs from its source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountLook<'a> {
    pub(crate) read_only: bool,
    pub(crate) noexec: bool,
    pub(crate) ids: Option<BorrowedFd<'a>>,
}

/// Shows `source` at `target`, without what is mounted below it, never with setuid programs or device nodes.
pub(crate) fn show(source: BorrowedFd<'_>, target: &Path, look: MountLook<'_>) -> io::Result<()> {
    use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(source, c"", flags)?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if look.read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    if look.noexec {
        attributes |= libc::MOUNT_ATTR_NOEXEC;
    }
    if look.ids.is_some() {
        attributes |= libc::MOUNT_ATTR_IDMAP;
    }
    let wanted = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: look.ids.map_or(0, |ids| u64::from(ids.as_raw_fd().cast_unsigned())),
    };
    // SAFETY: the descriptor is a detached mount of ours, the path is empty and ends in NUL, and the structure has the size given.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const wanted,
            size_of::<libc::mount_attr>(),
        )
    })?;
    move_mount(tree.as_fd(), c"", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// `struct loop_info64` and `struct loop_config`.
///
/// Source: linux/loop.h
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// Pages are this size, and so are the blocks of the file systems made in images.
const BLOCK: u32 = 4096;

/// Makes a block device of a file. It goes away with the last mount or descriptor of it.
pub(crate) fn loop_device(image: &Path) -> io::Result<(PathBuf, File)> {
    let backing = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(image)?;
    let control = File::open("/dev/loop-control")?;
    for _ in 0..64 {
        // SAFETY: this request has no argument.
        let number = checked(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) }.into())?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new().read(true).write(true).open(&path)?;
        match configure(&device, &backing, image) {
            Ok(()) => return Ok((path, device)),
            // Somebody else took this one since.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other("no loop device stays free long enough to be taken"))
}

fn configure(device: &File, backing: &File, image: &Path) -> io::Result<()> {
    let mut file_name = [0; 64];
    let name = image.as_os_str().as_encoded_bytes();
    let shown = &name[name.len().saturating_sub(63)..];
    file_name[..shown.len()].copy_from_slice(shown);
    let config = LoopConfig {
        fd: backing.as_raw_fd().cast_unsigned(),
        block_size: BLOCK,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
            file_name,
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: the request takes a pointer to this structure, laid out as the kernel's, and only reads it.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }.into())?;
    Ok(())
}

/// Runs the program behind a descriptor in place of this one, with exactly these arguments and no environment.
pub(crate) fn run_program(program: RawFd, argv: &[&CStr]) -> io::Error {
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|text| text.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let no_env = [std::ptr::null::<libc::c_char>()];
    // SAFETY: all strings end in NUL, both lists end in a null pointer, and all of it outlives the call.
    unsafe {
        libc::execveat(program, c"".as_ptr(), pointers.as_ptr().cast(), no_env.as_ptr().cast(), libc::AT_EMPTY_PATH);
    }
    io::Error::last_os_error()
}

/// Gives descriptors the numbers from `first` on, marked to survive the next program, and everything above them marked to be closed
/// by it. Returns where `program` is then.
pub(crate) fn number_descriptors(first: RawFd, descriptors: &[BorrowedFd<'_>], program: BorrowedFd<'_>) -> io::Result<RawFd> {
    let end = first + RawFd::try_from(descriptors.len()).map_err(io::Error::other)?;
    let program = copy_above(program, end)?.into_raw_fd();
    // First out of the way of each other, then to their places.
    let moved: Vec<OwnedFd> = descriptors.iter().map(|fd| copy_above(*fd, end)).collect::<io::Result<_>>()?;
    for (number, fd) in (first..).zip(moved) {
        // SAFETY: whatever had this number is not used again: the next thing this process does is to run another program.
        checked(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into())?;
    }
    // SAFETY: marks descriptors only.
    checked(unsafe { libc::close_range(end.cast_unsigned(), u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) }.into())?;
    Ok(program)
}

fn copy_above(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open; the copy has no other owner.
    unsafe {
        let copy = checked(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least).into())?;
        Ok(OwnedFd::from_raw_fd(RawFd::try_from(copy).map_err(io::Error::other)?))
    }
}

/// Loads a filter of system calls.
pub(crate) fn load_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the structure names a list of that many instructions, which the kernel only reads.
    checked(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })?;
    Ok(())
}

/// The calling process gets signal KILL when its parent ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}
