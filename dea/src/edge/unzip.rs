//! Buildpack archives: unpacked once, on the host, so with suspicion.
//!
//! Refused: `..`, absolute paths, links that lead out, devices, two entries of one name, more than the limits. Links are made
//! last, after all files, so that no file is written through one. Of the permission bits only "executable" is taken over.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};
use zip::{ZipArchive, result::ZipError};

/// What an archive may bring.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of all files.
    pub bytes: u64,
    /// Entries.
    pub entries: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: 4 << 30, entries: 200_000 }
    }
}

/// Why an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UnzipError {
    /// It is not a zip, or a broken one.
    #[error("the archive is broken")]
    Broken(#[from] ZipError),
    /// An entry is not allowed.
    #[error("the archive has an entry `{0}` that {1}")]
    Entry(String, &'static str),
    /// It is too large.
    #[error("the archive unpacks to more than {0}")]
    TooLarge(String),
    /// The disk failed.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
}

/// Unpacks `archive` into the new folder `to`.
///
/// # Errors
/// See [`UnzipError`]; a part may stay at `to`.
pub fn unzip(archive: &Path, to: &Path, bounds: Bounds) -> Result<(), UnzipError> {
    let file = File::open(archive).map_err(|e| UnzipError::Write(archive.to_owned(), e))?;
    let mut zip = ZipArchive::new(io::BufReader::new(file))?;
    if zip.len() > bounds.entries {
        return Err(UnzipError::TooLarge(format!("{} entries", bounds.entries)));
    }
    folder(to)?;
    let (mut left, mut links, mut seen) = (bounds.bytes, vec![], BTreeSet::new());
    for at in 0..zip.len() {
        let mut entry = zip.by_index(at)?;
        let name: String = entry.name()?.chars().take(200).collect();
        let refuse = |why| Err(UnzipError::Entry(name.clone(), why));
        let Some(inside) = entry.enclosed_name().filter(|path| !path.as_os_str().is_empty()) else {
            return refuse("leads out of its folder");
        };
        if !seen.insert(inside.clone()) && !entry.is_dir() {
            return refuse("comes twice");
        }
        let path = to.join(&inside);
        match entry.unix_mode().map_or(0, |mode| mode & 0o170_000) {
            0o120_000 => {
                let mut target = String::new();
                (&mut entry).take(4_096).read_to_string(&mut target).map_err(|e| UnzipError::Write(path.clone(), e))?;
                if !stays(&inside, Path::new(&target)) {
                    return refuse("is a link that leads out");
                }
                links.push((path, target));
            }
            _ if entry.is_dir() => folder(&path)?,
            0 | 0o100_000 => {
                let executable = match entry.unix_mode() {
                    Some(mode) => mode & 0o111 != 0,
                    None => inside.components().any(|part| part.as_os_str() == "bin"),
                };
                left -= write(&mut entry, &path, executable, left, bounds)?;
            }
            _ => return refuse("is neither file nor folder nor link"),
        }
    }
    for (path, _) in &links {
        path.parent().map_or(Ok(()), folder)?;
    }
    for (path, target) in links {
        symlink(&target, &path).map_err(|e| UnzipError::Write(path, e))?;
    }
    lift(to)
}

fn folder(path: &Path) -> Result<(), UnzipError> {
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|e| UnzipError::Write(path.to_owned(), e))?;
    // The umask must not matter: containers read this as somebody else.
    fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(|e| UnzipError::Write(path.to_owned(), e))
}

fn write(from: &mut impl Read, path: &Path, executable: bool, left: u64, bounds: Bounds) -> Result<u64, UnzipError> {
    path.parent().map_or(Ok(()), folder)?;
    let failed = |e| UnzipError::Write(path.to_owned(), e);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map_err(failed)?;
    let written = io::copy(&mut from.take(left.saturating_add(1)), &mut file).map_err(failed)?;
    if written > left {
        return Err(UnzipError::TooLarge(format!("{} bytes", bounds.bytes)));
    }
    let mode = if executable { 0o755 } else { 0o644 };
    file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    Ok(written)
}

/// Whether a link at `at` to `target` stays inside, both seen from the top of the archive.
fn stays(at: &Path, target: &Path) -> bool {
    let mut depth = at.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    !target.as_os_str().is_empty()
}

/// An archive whose only entry is a folder that holds the buildpack is used from inside.
fn lift(to: &Path) -> Result<(), UnzipError> {
    let failed = |e| UnzipError::Write(to.to_owned(), e);
    let entries: Vec<_> = fs::read_dir(to).and_then(Iterator::collect).map_err(failed)?;
    let [only] = entries.as_slice() else { return Ok(()) };
    let inner = only.path();
    let is_buildpack = only.file_type().map_err(failed)?.is_dir() && only.file_name() != "bin" && inner.join("bin").is_dir();
    if !is_buildpack {
        return Ok(());
    }
    let aside = to.with_extension("lift");
    fs::rename(&inner, &aside).map_err(failed)?;
    fs::remove_dir(to).map_err(failed)?;
    fs::rename(&aside, to).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::{ZipWriter, write::SimpleFileOptions};

    fn archive(folder: &Path, fill: impl FnOnce(&mut ZipWriter<File>)) -> PathBuf {
        let path = folder.join("x.zip");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        fill(&mut zip);
        zip.finish().unwrap();
        path
    }

    fn file(zip: &mut ZipWriter<File>, name: &str, mode: u32, content: &[u8]) {
        zip.start_file(name, SimpleFileOptions::default().unix_permissions(mode)).unwrap();
        zip.write_all(content).unwrap();
    }

    fn unpack(fill: impl FnOnce(&mut ZipWriter<File>), bounds: Bounds) -> (tempfile::TempDir, Result<(), UnzipError>) {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(folder.path(), fill);
        let result = unzip(&path, &folder.path().join("out"), bounds);
        (folder, result)
    }

    #[test]
    fn a_buildpack_is_unpacked_with_its_executables_and_links() {
        let (folder, result) = unpack(
            |zip| {
                file(zip, "bp/bin/detect", 0o4755, b"#!/bin/sh");
                file(zip, "bp/lib/a.txt", 0o600, b"a");
                zip.add_symlink("bp/bin/link", "../lib/a.txt", SimpleFileOptions::default()).unwrap();
            },
            Bounds::default(),
        );
        result.unwrap();
        let out = folder.path().join("out");
        assert_eq!(fs::metadata(out.join("bin/detect")).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::metadata(out.join("lib/a.txt")).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read(out.join("bin/link")).unwrap(), b"a");
    }

    #[test]
    fn what_leads_out_is_refused() {
        for name in ["../x", "/x", "a/../../x"] {
            let (folder, result) = unpack(|zip| file(zip, name, 0o644, b"x"), Bounds::default());
            assert!(matches!(result, Err(UnzipError::Entry(..))) || folder.path().join("out/x").exists(), "{name}: {result:?}");
            assert!(!folder.path().join("x").exists() && !Path::new("/x").exists());
        }
        for target in ["/etc/passwd", "../../x", ".."] {
            let link = |zip: &mut ZipWriter<File>| zip.add_symlink("l", target, SimpleFileOptions::default()).unwrap();
            assert!(matches!(unpack(link, Bounds::default()).1, Err(UnzipError::Entry(..))), "{target}");
        }
    }

    #[test]
    fn no_file_is_written_through_a_link() {
        let (folder, result) = unpack(
            |zip| {
                zip.add_symlink("a", "b", SimpleFileOptions::default()).unwrap();
                file(zip, "a/x", 0o644, b"x");
            },
            Bounds::default(),
        );
        assert!(result.is_err());
        assert!(!folder.path().join("out/b").exists());
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let bounds = Bounds { bytes: 1_000_000, entries: 10 };
        let (folder, result) = unpack(|zip| file(zip, "zeros", 0o644, &vec![0; 50_000_000]), bounds);
        assert!(matches!(result, Err(UnzipError::TooLarge(_))));
        assert!(fs::metadata(folder.path().join("out/zeros")).unwrap().len() <= 1_000_001);
        let (_folder, result) = unpack(|zip| (0..11).for_each(|n| file(zip, &n.to_string(), 0o644, b"")), bounds);
        assert!(matches!(result, Err(UnzipError::TooLarge(_))));
    }
}
