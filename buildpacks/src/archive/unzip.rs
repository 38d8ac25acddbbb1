//! A user's zip becomes a folder.

use super::{Bounds, Error, links, shown, size_text};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};
use zip::{ZipArchive, extra_fields::ExtraField, read::ZipFile};

const TYPE: u32 = 0o170_000;
const TYPE_LINK: u32 = 0o120_000;
const TYPE_FOLDER: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const LONGEST_TARGET: u64 = 4095;

/// What came out of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unzipped {
    /// Entries.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Unpacks the zip at `archive` into `to`, which is made and must be empty.
///
/// Only files, folders and links that stay inside come out. Folders get mode 0755, files keep their permission bits (never set-user-id) and can always
/// be read and written by their owner. Times are kept. Links are made after all files, so no entry can be written through one.
///
/// # Errors
/// At the first entry that breaks a rule; `to` then holds a part.
pub fn unzip(archive: &Path, to: &Path, bounds: Bounds) -> Result<Unzipped, Error> {
    let file = File::open(archive).map_err(|e| Error::File(archive.to_owned(), e))?;
    let mut zip = ZipArchive::new(io::BufReader::new(file)).map_err(Error::Zip)?;
    if zip.len() as u64 > bounds.files {
        return Err(Error::TooMuch(format!("{} files", bounds.files)));
    }
    if zip.has_duplicate_names() {
        return Err(Error::Double);
    }
    make_empty(to)?;
    let mut done = Unzipped::default();
    let mut waiting = Vec::new();
    for index in 0..zip.len() {
        let raw = zip.name_for_index(index).and_then(Result::ok).map(|name| shown(&name)).unwrap_or_else(|| format!("#{index}"));
        let mut entry = zip.by_index(index).map_err(|e| Error::Entry { entry: raw, why: unreadable(&e) })?;
        let name = name_of(&entry);
        let path = inside_path(&name).map_err(|why| Error::entry(&name, why))?;
        done.files += 1;
        match kind(&entry) {
            Kind::Folder => make_folder(to, &path, &name)?,
            Kind::File => done.bytes += write_file(&mut entry, to, &path, &name, bounds.bytes - done.bytes, bounds)?,
            Kind::Link => waiting.push((read_target(&mut entry, &name)?, path, name)),
            Kind::Other => return Err(Error::entry(&name, "is neither a file, nor a folder, nor a link")),
        }
    }
    make_links(to, &waiting)?;
    Ok(done)
}

enum Kind {
    File,
    Folder,
    Link,
    Other,
}

fn kind<R: Read>(entry: &ZipFile<'_, R>) -> Kind {
    match entry.unix_mode().map_or(0, |mode| mode & TYPE) {
        _ if entry.is_dir() => Kind::Folder,
        0 | TYPE_FILE => Kind::File,
        TYPE_FOLDER => Kind::Folder,
        TYPE_LINK => Kind::Link,
        _ => Kind::Other,
    }
}

/// The name as its maker meant it: most tools write UTF-8 and many forget the flag that says so.
fn name_of<R: Read>(entry: &ZipFile<'_, R>) -> String {
    match std::str::from_utf8(entry.name_raw()) {
        Ok(name) => name.to_owned(),
        Err(_) => entry.name().map_or_else(|_| String::from_utf8_lossy(entry.name_raw()).into_owned(), |name| name.into_owned()),
    }
}

/// The name as a path below the root.
fn inside_path(name: &str) -> Result<PathBuf, &'static str> {
    if name.contains('\0') {
        return Err("has a zero byte in its name");
    }
    let mut path = PathBuf::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err("has `..` in its name"),
            Component::RootDir | Component::Prefix(_) => return Err("has an absolute name"),
        }
    }
    Ok(path)
}

fn make_empty(to: &Path) -> Result<(), Error> {
    let failed = |e| Error::File(to.to_owned(), e);
    fs::create_dir_all(to).map_err(failed)?;
    match fs::read_dir(to).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(failed(io::Error::from(io::ErrorKind::DirectoryNotEmpty))),
    }
}

fn make_folder(to: &Path, path: &Path, name: &str) -> Result<(), Error> {
    fs::create_dir_all(to.join(path)).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => Error::entry(name, "is both a file and a folder"),
        _ => Error::File(to.join(path), e),
    })
}

fn write_file<R: Read>(
    entry: &mut ZipFile<'_, R>,
    to: &Path,
    path: &Path,
    name: &str,
    left: u64,
    bounds: Bounds,
) -> Result<u64, Error> {
    if path.as_os_str().is_empty() {
        return Err(Error::entry(name, "has no name"));
    }
    if let Some(parent) = path.parent() {
        make_folder(to, parent, name)?;
    }
    let full = to.join(path);
    let mode = entry.unix_mode().map_or(0o644, |mode| mode & 0o777) | 0o600;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&full).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => Error::entry(name, "appears twice, or is both a file and a folder"),
        _ => Error::File(full.clone(), e),
    })?;
    let modified = modified(entry);
    // One byte more than allowed shows an archive that goes on.
    let written = io::copy(&mut entry.take(left.saturating_add(1)), &mut file).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            Error::entry(name, format!("is damaged: {e}"))
        }
        _ => Error::File(full.clone(), e),
    })?;
    if written > left {
        return Err(Error::TooMuch(size_text(bounds.bytes)));
    }
    if let Some(modified) = modified {
        file.set_modified(modified).map_err(|e| Error::File(full, e))?;
    }
    Ok(written)
}

fn read_target<R: Read>(entry: &mut ZipFile<'_, R>, name: &str) -> Result<String, Error> {
    let mut target = String::new();
    entry
        .take(LONGEST_TARGET + 1)
        .read_to_string(&mut target)
        .map_err(|e| Error::entry(name, format!("is a link that cannot be read: {e}")))?;
    if target.is_empty() || target.len() as u64 > LONGEST_TARGET || target.contains('\0') {
        return Err(Error::entry(name, "is a link to nothing that can be"));
    }
    Ok(target)
}

fn make_links(to: &Path, links: &[(String, PathBuf, String)]) -> Result<(), Error> {
    for (target, path, name) in links {
        if let Some(parent) = path.parent() {
            // An earlier link may lie on this path: following it would make folders outside.
            if !inside(to, parent)? {
                return Err(Error::entry(name, "lies behind a link that leads out of the archive"));
            }
            make_folder(to, parent, name)?;
        }
        symlink(target, to.join(path)).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Error::entry(name, "is both a link and something else"),
            _ => Error::File(to.join(path), e),
        })?;
        if !inside(to, path)? {
            return Err(Error::entry(name, format!("is a link that leads out of the archive, to `{}`", shown(target))));
        }
    }
    // A later link can change where an earlier one leads.
    for (target, path, name) in links {
        if !inside(to, path)? {
            return Err(Error::entry(name, format!("is a link that leads out of the archive, to `{}`", shown(target))));
        }
    }
    Ok(())
}

fn inside(to: &Path, path: &Path) -> Result<bool, Error> {
    links::stays_inside(to, path).map_err(|e| Error::File(to.join(path), e))
}

/// When the file was changed, in whole seconds.
fn modified<R: Read>(entry: &ZipFile<'_, R>) -> Option<SystemTime> {
    let exact = entry.extra_data_fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(times) => times.mod_time(),
        _ => None,
    });
    let seconds = match exact {
        Some(seconds) => u64::from(seconds),
        None => {
            let t = entry.last_modified()?;
            let part = |n: u8| i8::try_from(n).ok();
            let year = i16::try_from(t.year()).ok()?;
            let civil = jiff::civil::DateTime::new(
                year,
                part(t.month())?,
                part(t.day())?,
                part(t.hour())?,
                part(t.minute())?,
                part(t.second())?,
                0,
            );
            u64::try_from(civil.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second()).ok()?
        }
    };
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn unreadable(error: &zip::result::ZipError) -> String {
    match error {
        zip::result::ZipError::UnsupportedArchive(why) => format!("cannot be read: {why}"),
        other => format!("is damaged: {other}"),
    }
}

#[cfg(test)]
mod tests;
