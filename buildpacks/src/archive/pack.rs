//! Folders become gzip tars: droplets and build caches.

use super::{Error, size_text};
use flate2::{Compression, Crc, GzBuilder, read::GzDecoder};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use walkdir::WalkDir;

/// Fast, and on compiled code within a few percent of the default level.
const LEVEL: u32 = 3;
/// The user that apps run as.
const VCAP: u64 = 2000;
/// Where derived times begin: September 2001. Folders and links have it, whatever is in them.
const FIRST_TIME: u64 = 1_000_000_000;
/// Times before this say "unknown" (the beginning of time, of Unix or of zip).
const NO_TIME: i64 = 315_619_200;

/// What becomes of files' times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// As they are.
    Kept,
    /// The same for the same input: a time that came out of an archive (whole seconds) is kept, one that was made by writing the file (it
    /// has a fraction) is derived from the content. Servers build validators from time and size, so a constant time would make
    /// clients keep a changed file of the same size.
    Stable,
}

/// What went into an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Entries.
    pub files: u64,
    /// Size of the archive.
    pub bytes: u64,
    /// Sockets, pipes and devices that were left out.
    pub left_out: u64,
}

/// Writes the entries `names` of the folder `from` (absent ones are left out) into the gzip tar `to`, in name order, owned by `vcap`.
/// With [`Times::Stable`] the same tree gives the same bytes.
///
/// # Errors
/// When a file cannot be read or written, or the archive grows beyond `limit` bytes. A part may stay at `to`.
pub fn pack(from: &Path, names: &[&str], to: &Path, times: Times, limit: u64) -> Result<Packed, Error> {
    let out = File::create(to).map_err(|e| Error::File(to.to_owned(), e))?;
    let counted = Counted { inner: io::BufWriter::with_capacity(1 << 18, out), bytes: 0, limit };
    let gzip = GzBuilder::new().write(counted, Compression::new(LEVEL));
    let mut tar = tar::Builder::new(gzip);
    let mut packed = Packed { files: 0, bytes: 0, left_out: 0 };
    let failed = |path: &Path, e: io::Error| {
        if is_limit(&e) { Error::TooLarge(size_text(limit)) } else { Error::File(path.to_owned(), e) }
    };
    for name in names {
        let top = from.join(name);
        if fs::symlink_metadata(&top).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            continue;
        }
        for entry in WalkDir::new(&top).sort_by_file_name() {
            let entry = entry.map_err(|e| {
                let path = e.path().unwrap_or(&top).to_owned();
                Error::File(path, e.into_io_error().unwrap_or_else(|| io::ErrorKind::Other.into()))
            })?;
            let inside = entry.path().strip_prefix(from).unwrap_or(entry.path());
            if append(&mut tar, entry.path(), inside, times).map_err(|e| failed(entry.path(), e))? {
                packed.files += 1;
            } else {
                packed.left_out += 1;
            }
        }
    }
    let gzip = tar.into_inner().map_err(|e| failed(to, e))?;
    let mut counted = gzip.finish().map_err(|e| failed(to, e))?;
    counted.flush().map_err(|e| failed(to, e))?;
    packed.bytes = counted.bytes;
    Ok(packed)
}

/// False for what a droplet cannot hold.
fn append<W: Write>(tar: &mut tar::Builder<W>, full: &Path, inside: &Path, times: Times) -> io::Result<bool> {
    let meta = fs::symlink_metadata(full)?;
    let kind = meta.file_type();
    if kind.is_socket() || kind.is_fifo() || kind.is_block_device() || kind.is_char_device() {
        return Ok(false);
    }
    let mut header = tar::Header::new_gnu();
    header.set_uid(VCAP);
    header.set_gid(VCAP);
    header.set_mode(meta.permissions().mode() & 0o777);
    header.set_size(0);
    if kind.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mtime(FIRST_TIME);
        tar.append_link(&mut header, inside, fs::read_link(full)?)?;
    } else if kind.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mtime(if times == Times::Kept { seconds(meta.mtime()) } else { FIRST_TIME });
        tar.append_data(&mut header, inside, io::empty())?;
    } else {
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(meta.len());
        header.set_mtime(match times {
            Times::Kept => seconds(meta.mtime()),
            Times::Stable => stable_time(full, &meta)?,
        });
        // A file that grows meanwhile (a process that a script left behind) must not break the archive.
        let mut exact = Exact { inner: File::open(full)?.take(meta.len()), left: meta.len() };
        tar.append_data(&mut header, inside, &mut exact)?;
    }
    Ok(true)
}

fn seconds(time: i64) -> u64 {
    u64::try_from(time).unwrap_or(0)
}

fn stable_time(path: &Path, meta: &fs::Metadata) -> io::Result<u64> {
    if meta.mtime_nsec() == 0 && meta.mtime() > NO_TIME {
        return Ok(seconds(meta.mtime()));
    }
    let mut file = File::open(path)?;
    let mut crc = Crc::new();
    let mut block = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut block)?;
        if n == 0 {
            break;
        }
        crc.update(&block[..n]);
    }
    // Up to sixteen years later.
    Ok(FIRST_TIME + u64::from(crc.sum()) % 500_000_000)
}

/// Exactly as many bytes as announced; a file that shrank is an error of its own.
struct Exact {
    inner: io::Take<File>,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left -= n as u64;
        if n == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it shrank while it was read"));
        }
        Ok(n)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the archive is too large")]
struct Limit;

fn is_limit(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Limit>())
}

struct Counted<W> {
    inner: W,
    bytes: u64,
    limit: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(data)?;
        self.bytes += n as u64;
        if self.bytes > self.limit {
            return Err(io::Error::other(Limit));
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Unpacks a build cache that an earlier staging packed into the folder `to`. Entries that would lie outside are left out.
///
/// # Errors
/// When it cannot be read to its end; `to` then holds a part.
pub fn unpack_cache(archive: &Path, to: &Path) -> Result<(), Error> {
    let failed = |path: &Path, e| Error::File(PathBuf::from(path), e);
    let file = File::open(archive).map_err(|e| failed(archive, e))?;
    let mut tar = tar::Archive::new(GzDecoder::new(io::BufReader::new(file)));
    tar.set_preserve_mtime(true);
    tar.set_preserve_ownerships(false);
    tar.set_overwrite(false);
    tar.unpack(to).map_err(|e| failed(archive, e))
}

#[cfg(test)]
mod tests;
