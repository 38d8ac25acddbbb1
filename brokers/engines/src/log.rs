//! The log file of a server: appended to by the server itself, cut by us.

use crate::{Error, error::file};
use std::{fs, io, path::Path};

/// A log file is cut when it is larger than this.
const LARGEST_BYTES: u64 = 10 << 20;
/// Older pieces that are kept: `server.log.1` is the newest.
const KEPT: u32 = 3;

/// Cuts the file if it is too large. The server goes on writing to the same file, at its new end; what it writes between copy
/// and cut is lost.
pub(crate) fn rotate(log: &Path) -> Result<(), Error> {
    if fs::metadata(log).map_or(0, |about| about.len()) < LARGEST_BYTES {
        return Ok(());
    }
    let piece = |number: u32| log.with_added_extension(number.to_string());
    for number in (1..KEPT).rev() {
        match fs::rename(piece(number), piece(number + 1)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(file("rename", &piece(number))(e)),
            _ => {}
        }
    }
    fs::copy(log, piece(1)).map_err(file("copy", log))?;
    let cut = fs::OpenOptions::new().write(true).open(log).and_then(|open| open.set_len(0));
    cut.map_err(file("cut", log))
}

/// The last lines, for an error message.
pub(crate) fn tail(log: &Path, from: u64) -> String {
    use io::{Read, Seek};
    let read = || -> io::Result<Vec<u8>> {
        let mut open = fs::File::open(log)?;
        let length = open.metadata()?.len();
        open.seek(io::SeekFrom::Start(from.max(length.saturating_sub(2_000)).min(length)))?;
        let mut text = vec![];
        open.take(2_000).read_to_end(&mut text)?;
        Ok(text)
    };
    last_lines(&read().unwrap_or_default())
}

/// The last lines of a text that may be anything.
pub(crate) fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_large_log_is_cut_while_its_writer_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let mut writer = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        for _ in 0..5 {
            writer.write_all(&vec![b'x'; LARGEST_BYTES as usize]).unwrap();
            rotate(&path).unwrap();
        }
        writer.write_all(b"one\ntwo\nthree\nfour\nfive\n").unwrap();
        assert_eq!(tail(&path, 0), "two | three | four | five");
        assert_eq!(fs::metadata(&path).unwrap().len(), 24);
        assert!(path.with_added_extension("3").exists() && !path.with_added_extension("4").exists());
    }
}
