//! How `cupola status` and `cupola down` reach the supervisor: one JSON line each way on a Unix socket for root alone.

use crate::supervisor::PartStatus;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

/// What the supervisor is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    Status,
    Down,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// True once the platform serves its API.
    pub(crate) ready: bool,
    pub(crate) parts: Vec<PartStatus>,
    /// Its state folder.
    #[serde(default)]
    pub(crate) state: PathBuf,
}

/// Opens the socket, replacing one that a killed supervisor left. The caller holds the node's lock.
pub(crate) fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    std::fs::set_permissions(socket, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Reads what a caller asks.
pub(crate) async fn read(stream: &mut UnixStream) -> anyhow::Result<Ask> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(1_024));
    let limited = tokio::time::timeout(Duration::from_secs(5), reader.read_line(&mut line));
    limited.await.context("the caller says nothing")??;
    Ok(serde_json::from_str(&line)?)
}

/// Answers a caller.
pub(crate) async fn answer(stream: &mut UnixStream, answer: &Answer) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    Ok(stream.write_all(&line).await?)
}

/// Asks the supervisor; `None` when there is none.
pub(crate) async fn ask(socket: &Path, question: &Ask) -> anyhow::Result<Option<Answer>> {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return Ok(None) };
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text).await?;
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&text).context("the supervisor's answer is not readable")?))
}
