//! Where symbolic links lead.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// Hops after which the kernel gives up too.
const HOPS: u32 = 40;

/// True when following `path` (relative to `root`) never leaves `root`, whatever links lie on the way. A circle stays inside; the
/// missing end of a dangling link is taken literally.
///
/// # Errors
/// When the file system cannot be read.
pub(super) fn stays_inside(root: &Path, path: &Path) -> io::Result<bool> {
    let mut todo = VecDeque::new();
    if !prepend(&mut todo, path) {
        return Ok(false);
    }
    let mut at = PathBuf::new();
    let mut hops = 0;
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            if !at.pop() {
                return Ok(false);
            }
            continue;
        }
        at.push(part);
        let full = root.join(&at);
        match fs::symlink_metadata(&full) {
            Ok(meta) if meta.is_symlink() => {
                hops += 1;
                if hops > HOPS {
                    return Ok(true);
                }
                at.pop();
                if !prepend(&mut todo, &fs::read_link(&full)?) {
                    return Ok(false);
                }
            }
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

/// Puts the parts of `path` before what is to do; false for an absolute path.
fn prepend(todo: &mut VecDeque<OsString>, path: &Path) -> bool {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => todo.push_front(name.to_owned()),
            Component::ParentDir => todo.push_front("..".into()),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}
