//! Zip files of strangers: checked while they are read once, and written anew with our own writer.
//!
//! What leaves here holds only relative names, files, folders and links that stay inside; no name twice, nothing through a
//! link, no set-uid bits; and its size is known. The same parser checks and copies, and an archive that can be read in two
//! ways (local headers against the central directory, overlapping or hidden entries) is refused.
//!
//! All functions block: call them on a thread for that.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    path::Path,
};
use zip::{CompressionMethod, ZipArchive, ZipWriter, result::ZipError, write::SimpleFileOptions};

/// How much an archive may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries, folders included.
    pub entries: usize,
    /// Bytes of all files together, unpacked.
    pub unpacked_bytes: u64,
    /// Unpacked bytes for each packed byte, for archives that unpack to more than [`RATIO_FREE_BYTES`].
    pub ratio: u64,
    /// Whether files are wanted for matching: their digests cost most of the time.
    pub poolable: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 100_000, unpacked_bytes: 4 << 30, ratio: 200, poolable: true }
    }
}

/// Archives that unpack to less may be packed as tightly as they like: zeros are no attack yet.
pub const RATIO_FREE_BYTES: u64 = 128 << 20;

/// Files of this size and more, below [`POOL_MAX`], are kept for matching.
pub const POOL_MIN: u64 = (64 << 10) + 1;
/// See [`POOL_MIN`].
pub const POOL_MAX: u64 = (512 << 20) - 1;

/// Why an archive is refused or cannot be handled.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It breaks a rule; the text is for its owner.
    #[error("{0}")]
    Refused(String),
    /// The disk is full.
    #[error("there is no space left to store the upload")]
    Full(#[source] io::Error),
    /// Reading or writing failed on our side.
    #[error("the upload cannot be handled")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error),
            _ => Self::Io(error),
        }
    }
}

fn refused(text: impl Into<String>) -> ArchiveError {
    ArchiveError::Refused(text.into())
}

fn broken(error: ZipError) -> ArchiveError {
    match error {
        ZipError::Io(error) if error.raw_os_error().is_some() => error.into(),
        ZipError::Io(error) => refused(format!("The zip file is broken: {error}")),
        other => refused(format!("The zip file is broken: {other}")),
    }
}

/// A file that is taken from the pool of its space instead of the upload.
#[derive(Clone, Debug, PartialEq)]
pub struct Matched {
    /// Where it goes.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// A local copy of the file.
    pub file: std::path::PathBuf,
}

/// One file of an archive that is worth keeping for later uploads.
#[derive(Clone, Debug, PartialEq)]
pub struct Poolable {
    /// What the client calls it, hex.
    pub sha1: String,
    /// What we call it, hex.
    pub sha256: String,
    /// Its size.
    pub size: u64,
    /// Its place in the checked archive.
    pub index: usize,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// sha256 of the new archive, hex.
    pub sha256: String,
    /// Its size.
    pub size: u64,
    /// Files, folders and links in it.
    pub entries: usize,
}

/// An archive whose every entry was read and found good.
#[derive(Debug)]
pub struct Checked {
    archive: ZipArchive<BufReader<File>>,
    names: Vec<Entry>,
    /// Files worth keeping for later uploads.
    pub poolable: Vec<Poolable>,
    unpacked: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// Clean relative name, with a slash at the end of a folder.
    name: String,
    kind: Kind,
    mode: u32,
    /// The entry can be copied as it is, apart from its name.
    verbatim: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Link,
}

const TYPE_MASK: u32 = 0o170_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_FOLDER: u32 = 0o040_000;
const TYPE_LINK: u32 = 0o120_000;

/// Reads a zip file whole and checks it.
///
/// # Errors
/// [`ArchiveError::Refused`] with the rule and the entry.
pub fn check(path: &Path, limits: Limits) -> Result<Checked, ArchiveError> {
    let packed = std::fs::metadata(path)?.len();
    let open = || File::open(path).map(|file| BufReader::with_capacity(64 << 10, file));
    // The library keeps all entries in memory: see first that there cannot be millions of them.
    let headers = if packed / SMALLEST_HEADER > SPARE_HEADERS * limits.entries as u64 { count_headers(open()?)? } else { 0 };
    if headers > SPARE_HEADERS * limits.entries as u64 {
        return Err(refused(format!("The zip file has more than {} entries", limits.entries)));
    }
    let mut archive = ZipArchive::new(open()?).map_err(broken)?;
    let count = archive.len();
    if count > limits.entries {
        return Err(refused(format!("The zip file has {count} entries; at most {} are allowed", limits.entries)));
    }
    archive.validate_header_consistency().map_err(broken)?;
    if archive.offset() != 0 {
        return Err(refused("The zip file has foreign bytes before its first entry"));
    }
    let mut names = Vec::with_capacity(archive.len());
    let mut poolable = vec![];
    let mut unpacked = 0;
    for index in 0..archive.len() {
        let left = limits.unpacked_bytes - unpacked;
        let (entry, file, size) = read_entry(&mut archive, index, left, limits)?;
        unpacked += size;
        if unpacked > RATIO_FREE_BYTES && unpacked / packed.max(1) > limits.ratio {
            return Err(refused(format!("The zip file unpacks to more than {} times its size", limits.ratio)));
        }
        poolable.extend(file);
        names.push(entry);
    }
    check_tree(names.iter())?;
    Ok(Checked { archive, names, poolable, unpacked })
}

/// The least that an entry takes in an archive's directory.
const SMALLEST_HEADER: u64 = 46;
/// Archives inside of archives look like entries too, where they are not packed again.
const SPARE_HEADERS: u64 = 4;

fn count_headers(mut file: impl Read) -> Result<u64, ArchiveError> {
    let (mut count, mut last, mut block) = (0, 0_u32, vec![0; 64 << 10]);
    loop {
        let size = file.read(&mut block)?;
        if size == 0 {
            return Ok(count);
        }
        for byte in &block[..size] {
            last = last << 8 | u32::from(*byte);
            count += u64::from(last == u32::from_be_bytes(*b"PK\x01\x02"));
        }
    }
}

fn read_entry(
    archive: &mut ZipArchive<BufReader<File>>,
    index: usize,
    left: u64,
    limits: Limits,
) -> Result<(Entry, Option<Poolable>, u64), ArchiveError> {
    let mut file = archive.by_index(index).map_err(broken)?;
    let given = file.name().map_err(broken)?.into_owned();
    if file.encrypted() {
        return Err(refused(format!("`{}` is encrypted", shown(&given))));
    }
    let raw_mode = file.unix_mode().unwrap_or(if file.is_dir() { 0o755 } else { 0o644 });
    let kind = kind_of(&given, raw_mode, file.is_dir())?;
    let name = clean_name(&given, kind == Kind::Folder)?;
    let keep = limits.poolable && kind == Kind::File && (POOL_MIN..=POOL_MAX).contains(&file.size()) && raw_mode & 0o600 == 0o600;
    let mut sink = Sink::new(if kind == Kind::Link { 4096 } else { 0 }, keep);
    let size = io::copy(&mut (&mut file).take(left + 1), &mut sink).map_err(unpack_error(&given))?;
    if size > left {
        return Err(refused(format!("The zip file unpacks to more than {} MB", limits.unpacked_bytes >> 20)));
    }
    if size != file.size() {
        return Err(refused(format!("`{}` is not of the size that the zip file says", shown(&given))));
    }
    if kind == Kind::Folder && size > 0 {
        return Err(refused(format!("The folder `{}` has content", shown(&given))));
    }
    if kind == Kind::Link {
        check_link(&name, &sink.kept, size)?;
    }
    let mode = raw_mode & 0o777;
    let method = file.compression();
    let verbatim = raw_mode & 0o7000 == 0
        && matches!(method, CompressionMethod::Deflated | CompressionMethod::Stored)
        && kind != Kind::Folder;
    let file = keep.then(|| Poolable { sha1: hex(&sink.sha1.finalize()), sha256: hex(&sink.sha256.finalize()), size, index });
    Ok((Entry { name, kind, mode, verbatim }, file, size))
}

fn unpack_error(name: &str) -> impl FnOnce(io::Error) -> ArchiveError {
    let name = shown(name);
    move |error| match error.raw_os_error() {
        Some(_) => error.into(),
        None => refused(format!("`{name}` cannot be unpacked: {error}")),
    }
}

fn kind_of(name: &str, mode: u32, is_folder: bool) -> Result<Kind, ArchiveError> {
    match mode & TYPE_MASK {
        TYPE_LINK if is_folder => Err(refused(format!("`{}` is a folder and a link at once", shown(name)))),
        TYPE_LINK => Ok(Kind::Link),
        TYPE_FOLDER if is_folder => Ok(Kind::Folder),
        TYPE_FOLDER => Err(refused(format!("`{}` is a folder and a file at once", shown(name)))),
        0 | TYPE_FILE if is_folder => Ok(Kind::Folder),
        0 | TYPE_FILE => Ok(Kind::File),
        _ => Err(refused(format!("`{}` is neither a file, nor a folder, nor a link", shown(name)))),
    }
}

/// A name without `.` and empty parts.
fn clean_name(given: &str, folder: bool) -> Result<String, ArchiveError> {
    if given.starts_with(['/', '\\']) {
        return Err(refused(format!("`{}` is an absolute name", shown(given))));
    }
    if given.contains('\0') || given.len() > 4096 {
        return Err(refused(format!("`{}` is not a name that files can have", shown(given))));
    }
    if given.split(['/', '\\']).any(|part| part == "..") {
        return Err(refused(format!("`{}` leads out of the app", shown(given))));
    }
    let parts: Vec<_> = given.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.iter().any(|part| part.len() > 255) || parts.len() > 200 {
        return Err(refused(format!("`{}` is too long or too deep", shown(given))));
    }
    let name = parts.join("/");
    if name.is_empty() && !folder {
        return Err(refused("An entry of the zip file has no name"));
    }
    Ok(if folder { format!("{name}/") } else { name })
}

fn check_link(name: &str, target: &[u8], size: u64) -> Result<(), ArchiveError> {
    let link = || shown(name);
    if size == 0 || size > 4095 {
        return Err(refused(format!("The link `{}` has a target of {size} bytes", link())));
    }
    let target = std::str::from_utf8(target).map_err(|_| refused(format!("The target of the link `{}` is not UTF-8", link())))?;
    if target.starts_with('/') || target.contains('\0') {
        return Err(refused(format!("The link `{}` leads out of the app: `{}`", link(), shown(target))));
    }
    let mut depth = name.split('/').count() - 1;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => {
                return Err(refused(format!("The link `{}` leads out of the app: `{}`", link(), shown(target))));
            }
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    Ok(())
}

/// No name twice, nothing below a file or a link.
fn check_tree<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> Result<(), ArchiveError> {
    let mut seen = BTreeSet::new();
    let mut leaves = BTreeMap::new();
    for entry in entries.clone() {
        let bare = entry.name.trim_end_matches('/');
        if !seen.insert(bare) {
            return Err(refused(format!("`{}` is in the zip file twice", shown(bare))));
        }
        if entry.kind != Kind::Folder {
            leaves.insert(bare, entry.kind);
        }
    }
    for entry in entries {
        let mut rest = entry.name.trim_end_matches('/');
        while let Some((parent, _)) = rest.rsplit_once('/') {
            if let Some(kind) = leaves.get(parent) {
                let what = if *kind == Kind::Link { "link" } else { "file" };
                return Err(refused(format!("`{}` lies below the {what} `{}`", shown(&entry.name), shown(parent))));
            }
            rest = parent;
        }
    }
    Ok(())
}

impl Checked {
    /// The content of a small file, by its clean name.
    ///
    /// # Errors
    /// When reading fails; a file of more than `most` bytes counts as missing.
    pub fn read(&mut self, name: &str, most: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(index) = self.names.iter().position(|entry| entry.name == name && entry.kind == Kind::File) else {
            return Ok(None);
        };
        let mut file = self.archive.by_index(index).map_err(broken)?;
        if file.size() > most {
            return Ok(None);
        }
        let mut content = vec![];
        file.read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// True when an entry has this name or lies below it.
    pub fn holds(&self, name: &str) -> bool {
        self.names.iter().any(|entry| entry.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    /// The folder that everything lies in, if there is one.
    pub fn only_folder(&self) -> Option<String> {
        let mut tops =
            self.names.iter().filter(|entry| entry.name != "/").map(|entry| entry.name.split('/').next().unwrap_or_default());
        let first = tops.next()?.to_owned();
        tops.all(|top| top == first).then_some(first)
    }

    /// Unpacks one file of [`Checked::poolable`].
    ///
    /// # Errors
    /// When reading or writing fails.
    pub fn unpack(&mut self, index: usize, into: &mut impl Write) -> Result<(), ArchiveError> {
        let mut file = self.archive.by_index(index).map_err(broken)?;
        io::copy(&mut file, into)?;
        Ok(())
    }
}

/// Writes a new archive of the upload's entries and the matched files.
///
/// # Errors
/// [`ArchiveError::Refused`] for a matched file with a bad name, one that is in the upload too, or too much in all.
pub fn pack(mut upload: Option<&mut Checked>, matched: &[Matched], out: File, limits: Limits) -> Result<Packed, ArchiveError> {
    let (entries, mut unpacked) = match &upload {
        Some(upload) => (upload.names.clone(), upload.unpacked),
        None => (vec![], 0),
    };
    let mut all = entries.clone();
    for file in matched {
        let name = clean_name(&file.path, false)?;
        unpacked += std::fs::metadata(&file.file)?.len();
        all.push(Entry { name, kind: Kind::File, mode: file.mode & 0o777, verbatim: false });
    }
    check_tree(all.iter())?;
    if all.len() > limits.entries || unpacked > limits.unpacked_bytes {
        return Err(refused(format!("The app has more than {} files or {} MB", limits.entries, limits.unpacked_bytes >> 20)));
    }
    let (bits_entries, matched_entries) = all.split_at(entries.len());
    let mut writer = ZipWriter::new(BufWriter::with_capacity(256 << 10, out)).set_auto_large_file();
    if let Some(upload) = &mut upload {
        for (index, entry) in bits_entries.iter().enumerate() {
            copy_entry(&mut upload.archive, index, entry, &mut writer)?;
        }
    }
    for (file, entry) in matched.iter().zip(matched_entries) {
        writer.start_file(entry.name.as_str(), options(entry.mode)).map_err(broken)?;
        io::copy(&mut File::open(&file.file)?, &mut writer)?;
    }
    let out = writer.finish().map_err(broken)?.into_inner().map_err(io::IntoInnerError::into_error)?;
    out.sync_all()?;
    digest(out, all.len())
}

fn copy_entry<W: Write + Seek>(
    archive: &mut ZipArchive<BufReader<File>>,
    index: usize,
    entry: &Entry,
    writer: &mut ZipWriter<W>,
) -> Result<(), ArchiveError> {
    if entry.name == "/" {
        return Ok(()); // the app's own folder
    }
    match entry.kind {
        Kind::Folder => writer.add_directory(entry.name.as_str(), options(entry.mode)).map_err(broken),
        _ if entry.verbatim => {
            let file = archive.by_index_raw(index).map_err(broken)?;
            writer.raw_copy_file_rename(file, entry.name.as_str()).map_err(broken)
        }
        Kind::Link => {
            let mut target = String::new();
            archive.by_index(index).map_err(broken)?.read_to_string(&mut target)?;
            writer.add_symlink(entry.name.as_str(), target, options(entry.mode)).map_err(broken)
        }
        Kind::File => {
            writer.start_file(entry.name.as_str(), options(entry.mode)).map_err(broken)?;
            io::copy(&mut archive.by_index(index).map_err(broken)?, writer)?;
            Ok(())
        }
    }
}

fn options(mode: u32) -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(mode)
}

/// sha256 of a file, hex.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String, ArchiveError> {
    let mut digest = Sha256::new();
    let mut file = File::open(path)?;
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex(&digest.finalize())),
            size => digest.update(&block[..size]),
        }
    }
}

fn digest(mut file: File, entries: usize) -> Result<Packed, ArchiveError> {
    file.rewind()?;
    let (mut sha256, mut size, mut block) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(Packed { sha256: hex(&sha256.finalize()), size, entries }),
            read => {
                sha256.update(&block[..read]);
                size += read as u64;
            }
        }
    }
}

/// Checks that a file is a gzip tar of a droplet's shape: readable to the end, with only inner names. Returns its
/// `staging_info.yml`, if it has one.
///
/// # Errors
/// [`ArchiveError::Refused`] with the reason.
pub fn check_droplet(path: &Path, limits: Limits) -> Result<Option<Vec<u8>>, ArchiveError> {
    const MOST_INFO: u64 = 1 << 20;
    let mut info = None;
    let bad = |error: io::Error| match error.raw_os_error() {
        Some(_) => error.into(),
        None => refused(format!("it is not a gzip tar archive: {error}")),
    };
    let packed = std::fs::metadata(path)?.len();
    let left = limits.unpacked_bytes.saturating_add(1);
    let unpacked = flate2::read::MultiGzDecoder::new(BufReader::with_capacity(64 << 10, File::open(path)?)).take(left);
    let mut tar = tar::Archive::new(unpacked);
    let mut count = 0;
    for entry in tar.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        count += 1;
        if count > limits.entries {
            return Err(refused(format!("it has more than {} entries", limits.entries)));
        }
        let kind = entry.header().entry_type();
        if !(kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link()) {
            return Err(refused("it holds something that is neither a file, nor a folder, nor a link"));
        }
        let name = entry.path_bytes().into_owned();
        if name.starts_with(b"/") || name.split(|b| *b == b'/').any(|part| part == b"..") {
            return Err(refused(format!("`{}` leads out of the droplet", shown(&String::from_utf8_lossy(&name)))));
        }
        if matches!(name.as_slice(), b"staging_info.yml" | b"./staging_info.yml") && entry.size() <= MOST_INFO {
            let mut content = vec![];
            entry.read_to_end(&mut content).map_err(bad)?;
            info = Some(content);
        }
    }
    let unpacked = left - tar.into_inner().limit();
    if unpacked == left {
        return Err(refused(format!("it unpacks to more than {} MB", limits.unpacked_bytes >> 20)));
    }
    if unpacked > RATIO_FREE_BYTES && unpacked / packed.max(1) > limits.ratio {
        return Err(refused(format!("it unpacks to more than {} times its size", limits.ratio)));
    }
    Ok(info)
}

/// Hashes all, if that is wanted, and keeps the first bytes.
struct Sink {
    sha1: Sha1,
    sha256: Sha256,
    kept: Vec<u8>,
    most: usize,
    hashes: bool,
}

impl Sink {
    fn new(most: usize, hashes: bool) -> Self {
        Self { sha1: Sha1::new(), sha256: Sha256::new(), kept: vec![], most, hashes }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.hashes {
            self.sha1.update(bytes);
            self.sha256.update(bytes);
        }
        let room = self.most.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn shown(name: &str) -> String {
    name.chars().take(200).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
