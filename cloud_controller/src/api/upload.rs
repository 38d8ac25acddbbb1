//! Receiving multipart uploads: streamed to disk, bounded while they arrive, gone when they are cut.

use crate::{
    api::Api,
    blobs::failed,
    domain::{Error, Result, archive::ArchiveError},
};
use actix_multipart::{Field, Multipart, MultipartError};
use futures::TryStreamExt;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

/// More parts than any client sends.
const MAX_PARTS: usize = 16;
/// The largest part besides the bits.
const MAX_TEXT: usize = 16 << 20;
/// What is still read of an upload that is refused, so that the caller reads the answer instead of a broken pipe.
const MAX_DRAINED: usize = 8 << 20;

/// What arrived.
#[derive(Default)]
pub struct Received {
    /// The file of part `bits`.
    pub bits: Option<Bits>,
    /// The text of part `resources`.
    pub resources: Option<Vec<u8>>,
}

/// A file that arrived.
pub struct Bits {
    /// Where it is; gone when dropped.
    pub file: NamedTempFile,
    /// What the caller calls it; never used as a path.
    pub filename: String,
}

/// Receives an upload of at most `most` bytes.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::BadRequest`] for what is cut or is no form, a full disk.
pub async fn receive(api: &Api, form: &mut Multipart, most: u64) -> Result<Received> {
    let mut received = Received::default();
    let mut parts = 0;
    while let Some(mut field) = form.try_next().await.map_err(broken)? {
        parts += 1;
        if parts > MAX_PARTS {
            return Err(Error::BadRequest("the upload has too many parts".into()));
        }
        match field.name().unwrap_or_default() {
            "bits" if received.bits.is_some() => return Err(Error::BadRequest("the upload has two parts `bits`".into())),
            "bits" => received.bits = Some(receive_file(api, &mut field, most).await?),
            "resources" if received.resources.is_some() => {
                return Err(Error::BadRequest("the upload has two parts `resources`".into()));
            }
            "resources" => received.resources = Some(receive_text(&mut field).await?),
            // No other part means anything here, whatever it claims to name.
            _ => drop(receive_text(&mut field).await?),
        }
    }
    Ok(received)
}

async fn receive_file(api: &Api, field: &mut Field, most: u64) -> Result<Bits> {
    let filename = field.content_disposition().and_then(|header| header.get_filename()).unwrap_or_default();
    let filename: String =
        filename.rsplit(['/', '\\']).next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(255).collect();
    let file = api.blobs.temporary()?;
    let reopened = file.reopen().map_err(|e| failed("opening a temporary file", e))?;
    let mut out = tokio::io::BufWriter::with_capacity(256 << 10, tokio::fs::File::from_std(reopened));
    let mut size = 0_u64;
    while let Some(chunk) = field.try_next().await.map_err(broken)? {
        size += chunk.len() as u64;
        if size > most {
            return Err(Error::TooLarge(most));
        }
        out.write_all(&chunk).await.map_err(|e| failed("keeping an upload", e))?;
    }
    out.flush().await.map_err(|e| failed("keeping an upload", e))?;
    Ok(Bits { file, filename })
}

async fn receive_text(field: &mut Field) -> Result<Vec<u8>> {
    let mut text = vec![];
    while let Some(chunk) = field.try_next().await.map_err(broken)? {
        if text.len() + chunk.len() > MAX_TEXT {
            return Err(Error::TooLarge(MAX_TEXT as u64));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

/// Reads on for a moment after a refusal.
pub async fn drain(form: &mut Multipart) {
    let rest = async {
        let mut read = 0;
        while let Ok(Some(mut field)) = form.try_next().await {
            while let Ok(Some(chunk)) = field.try_next().await {
                read += chunk.len();
                if read > MAX_DRAINED {
                    return;
                }
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), rest).await;
}

fn broken(error: MultipartError) -> Error {
    tracing::debug!(error = %error, "an upload is broken");
    Error::BadRequest("the upload is not multipart/form-data, or was cut".into())
}

/// Runs blocking work on files; what is wrong with an archive comes as the inner error.
///
/// # Errors
/// A full disk, or a failure of ours.
pub async fn on_files<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<std::result::Result<T, String>> {
    match tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal("work on files", e))? {
        Ok(value) => Ok(Ok(value)),
        Err(ArchiveError::Refused(why)) => Ok(Err(why)),
        Err(ArchiveError::Full(e) | ArchiveError::Io(e)) => Err(failed("work on an upload", e)),
    }
}
