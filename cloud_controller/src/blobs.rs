//! Packages, droplets, buildpacks, build caches and matched files: everything that is too large for the tables.
//!
//! Every key is made of our own guids and digests, never of a name that a user chose. A blob appears whole or not at all:
//! the store writes beside it and renames. What no row speaks of any more is swept by `reconcile::blobs`.

use crate::domain::{Error, Result, Rule, archive::hex};
use actix_web::web::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, buffered::BufWriter, local::LocalFileSystem, path::Path as Key};
use sha2::{Digest, Sha256};
use std::{error::Error as StdError, io, path::Path, path::PathBuf, sync::Arc};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

/// Uploads are cut into parts of this size.
const PART: usize = 4 << 20;

/// Where blobs are kept, and a folder for files under way.
#[derive(Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    under_way: PathBuf,
}

/// What an upload was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// sha256 in hex.
    pub sha256: String,
    /// Its size.
    pub size_bytes: u64,
}

/// A blob on its way out.
pub struct Download {
    /// Its size.
    pub size_bytes: u64,
    /// Its bytes.
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

impl Blobs {
    /// Uses a folder, makes it if it is missing, and removes what an earlier run left half-way. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let under_way = folder.join("under-way");
        match std::fs::remove_dir_all(&under_way) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => std::fs::create_dir_all(&under_way)?,
        }
        let kept = folder.join("kept");
        std::fs::create_dir_all(&kept)?;
        remove_staged(&kept)?;
        let store = LocalFileSystem::new_with_prefix(&kept).map_err(io::Error::other)?;
        Ok(Self { store: Arc::new(store.with_fsync(true)), under_way })
    }

    /// A file of its own for something under way; it goes when it is dropped.
    pub fn temporary(&self) -> Result<NamedTempFile> {
        NamedTempFile::new_in(&self.under_way).map_err(|e| failed("making a temporary file", e))
    }

    /// Keeps a stream under `key`, at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`], a full disk, or what the stream fails with: then there is no blob.
    pub async fn put<S, E>(&self, key: &str, mut bytes: S, limit: u64) -> Result<Stored>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Into<Error>,
    {
        let mut writer = BufWriter::with_capacity(self.store.clone(), Key::from(key), PART).with_max_concurrency(1);
        let mut digest = Sha256::new();
        let mut size_bytes = 0_u64;
        let outcome = async {
            while let Some(chunk) = bytes.next().await {
                let chunk = chunk.map_err(Into::into)?;
                size_bytes += chunk.len() as u64;
                if size_bytes > limit {
                    return Err(Error::TooLarge(limit));
                }
                digest.update(&chunk);
                writer.put(chunk).await.map_err(|e| failed("keeping a blob", e))?;
            }
            Ok(())
        };
        if let Err(e) = outcome.await {
            // Whatever aborting says, the first reason is the one to tell.
            let _ = writer.abort().await;
            return Err(e);
        }
        writer.shutdown().await.map_err(|e| failed("keeping a blob", e))?;
        Ok(Stored { sha256: hex(&digest.finalize()), size_bytes })
    }

    /// Keeps a local file under `key`.
    pub async fn put_file(&self, key: &str, file: &Path) -> Result<Stored> {
        let file = tokio::fs::File::open(file).await.map_err(|e| failed("reading a temporary file", e))?;
        let bytes = tokio_util::io::ReaderStream::with_capacity(file, 1 << 20);
        self.put(key, bytes.map_err(|e| failed("reading a temporary file", e)), u64::MAX).await
    }

    /// Streams a blob; `None`: there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Download>> {
        match self.store.get(&Key::from(key)).await {
            Ok(found) => {
                let size_bytes = found.meta.size;
                let bytes = found.into_stream().map_err(|e| failed("reading a blob", e)).boxed();
                Ok(Some(Download { size_bytes, bytes }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed("reading a blob", e)),
        }
    }

    /// Copies a blob into a file of its own; `None`: there is no such blob.
    pub async fn fetch(&self, key: &str) -> Result<Option<NamedTempFile>> {
        let Some(mut blob) = self.get(key).await? else { return Ok(None) };
        let file = self.temporary()?;
        let mut out = tokio::fs::File::from_std(file.reopen().map_err(|e| failed("opening a temporary file", e))?);
        while let Some(chunk) = blob.bytes.next().await {
            out.write_all(&chunk?).await.map_err(|e| failed("writing a temporary file", e))?;
        }
        out.flush().await.map_err(|e| failed("writing a temporary file", e))?;
        Ok(Some(file))
    }

    /// True when there is such a blob.
    pub async fn exists(&self, key: &str) -> Result<bool> {
        match self.store.head(&Key::from(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(failed("looking for a blob", e)),
        }
    }

    /// Copies a blob to another key.
    pub async fn copy(&self, from: &str, to: &str) -> Result<()> {
        self.store.copy(&Key::from(from), &Key::from(to)).await.map_err(|e| failed("copying a blob", e))
    }

    /// Removes a blob; no error when there is none.
    pub async fn remove(&self, key: &str) -> Result<()> {
        match self.store.delete(&Key::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(failed("removing a blob", e)),
        }
    }

    /// All blobs whose key begins with this folder.
    pub fn list(&self, folder: &str) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(Some(&Key::from(folder))).map_err(|e| failed("listing blobs", e)).boxed()
    }
}

/// Removes parts of uploads that an earlier run did not finish: the store names them `<key>#<n>`.
fn remove_staged(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_staged(&entry.path())?;
        } else if entry.file_name().to_string_lossy().contains('#') {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A failure of the store in words: a full disk is the operator's to mend and may pass, the rest is unknown.
pub fn failed(what: &'static str, cause: impl StdError + Send + Sync + 'static) -> Error {
    if is_full(&cause) {
        return Error::rule(
            Rule::BlobstoreFull,
            "There is no space left to store the upload. Try again later, or tell the operator.",
        );
    }
    Error::internal(what, cause)
}

/// True when somewhere down its causes the disk is full.
pub fn is_full(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        if let Some(inner) = io.and_then(io::Error::get_ref)
            && is_full(inner)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    fn chunks(texts: &[&'static str]) -> impl Stream<Item = Result<Bytes>> + Unpin + use<> {
        stream::iter(texts.iter().map(|text| Ok(Bytes::from_static(text.as_bytes()))).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn a_blob_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let stored = blobs.put("droplets/a", chunks(&["he", "llo"]), 5).await.unwrap();
        assert_eq!(stored, Stored { sha256: hex(&Sha256::digest(b"hello")), size_bytes: 5 });
        assert!(matches!(blobs.put("droplets/b", chunks(&["he", "llo!"]), 5).await, Err(Error::TooLarge(5))));
        let cut = stream::iter(vec![Ok(Bytes::from(vec![0; PART + 1])), Err(Error::invalid("cut"))]);
        assert!(blobs.put("droplets/c", cut, u64::MAX).await.is_err());
        for (key, there) in [("droplets/a", true), ("droplets/b", false), ("droplets/c", false)] {
            assert_eq!(blobs.exists(key).await.unwrap(), there, "{key}");
        }
        let left: Vec<_> =
            std::fs::read_dir(folder.path().join("kept/droplets")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["a"], "nothing half-written stays");
    }

    #[tokio::test]
    async fn what_an_earlier_run_left_half_way_is_removed_at_boot() {
        let folder = tempfile::tempdir().unwrap();
        Blobs::open(folder.path()).unwrap().put("packages/a", chunks(&["x"]), 5).await.unwrap();
        std::fs::write(folder.path().join("kept/packages/b#1"), "half").unwrap();
        std::fs::write(folder.path().join("under-way/half"), "half").unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        assert!(!folder.path().join("kept/packages/b#1").exists() && !folder.path().join("under-way/half").exists());
        assert_eq!(std::fs::read(blobs.fetch("packages/a").await.unwrap().unwrap().path()).unwrap(), b"x");
    }

    #[test]
    fn a_full_disk_is_told_however_deep_it_lies() {
        let inner = io::Error::from(io::ErrorKind::StorageFull);
        let outer = io::Error::other(io::Error::other(inner));
        assert!(matches!(failed("x", outer), Error::Rule(Rule::BlobstoreFull, _)));
        assert!(matches!(failed("x", io::Error::other("y")), Error::Internal(..)));
    }
}
