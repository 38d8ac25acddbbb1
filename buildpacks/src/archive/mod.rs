//! Archives, in and out. What comes in is hostile until shown otherwise.

mod links;
mod pack;
mod unzip;

pub use pack::{Packed, Times, pack, unpack_cache};
pub use unzip::{Unzipped, unzip};

use std::{io, path::PathBuf};

/// How much an archive may hold, counted while it is unpacked: what its headers promise is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Entries.
    pub files: u64,
}

/// Why an archive was not unpacked or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An entry that no honest archive has, or that cannot be kept.
    #[error("entry `{entry}` {why}")]
    Entry {
        /// Its name, shortened, control characters escaped.
        entry: String,
        /// Which rule it breaks.
        why: String,
    },
    /// Two entries with one name.
    #[error("an entry of it appears twice")]
    Double,
    /// Too much of everything.
    #[error("it holds more than {0}")]
    TooMuch(String),
    /// Not a zip, or a damaged one.
    #[error("it is not a readable zip archive")]
    Zip(#[source] zip::result::ZipError),
    /// The file system refuses.
    #[error("cannot use {0}")]
    File(PathBuf, #[source] io::Error),
    /// The result grew beyond its limit.
    #[error("it is larger than the limit of {0}")]
    TooLarge(String),
}

impl Error {
    fn entry(name: &str, why: impl Into<String>) -> Self {
        Self::Entry { entry: shown(name), why: why.into() }
    }
}

/// A name as a log may show it.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(200).collect();
    let dots = if short.len() < name.len() { "..." } else { "" };
    format!("{}{dots}", short.escape_debug())
}

/// Bytes as people read them: `4.0G`, `12.3M`, `700B`.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    let units = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];
    for (name, unit) in units {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return format!("{}.{}{name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes}B")
}
