//! Sending blobs.

use crate::{
    api::{Answer, Api, Failure},
    domain::{Error, Rule},
};
use actix_web::{
    HttpResponse,
    body::SizedStream,
    http::header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use futures::TryStreamExt;

/// Streams a blob under a file name.
///
/// # Errors
/// The rule of a blob that should be there and is not.
pub async fn send(api: &Api, key: &str, content_type: &str, filename: &str) -> Answer {
    let missing = || Error::rule(Rule::BlobstoreUnavailable, "The bits are not there any more");
    let blob = api.blobs.get(key).await?.ok_or_else(missing)?;
    let disposition = format!("attachment; filename=\"{filename}\"");
    let bytes = blob.bytes.map_err(|e| -> Box<dyn std::error::Error> { Box::new(Cut(e)) });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CONTENT_DISPOSITION, disposition))
        .body(SizedStream::new(blob.size_bytes, bytes)))
}

/// Why a download ended early.
#[derive(Debug, thiserror::Error)]
#[error("a download was cut")]
struct Cut(#[source] Error);

/// For a blob that nobody promised: 404.
pub async fn send_or_not_found(api: &Api, key: &str) -> Answer {
    let blob = api.blobs.get(key).await?.ok_or(Failure(Error::NotFound("Blob")))?;
    let bytes = blob.bytes.map_err(|e| -> Box<dyn std::error::Error> { Box::new(Cut(e)) });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/octet-stream"))
        .body(SizedStream::new(blob.size_bytes, bytes)))
}
