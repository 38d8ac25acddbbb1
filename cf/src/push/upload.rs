//! Packages: what the platform has already stays here, the rest travels as one zip.

use super::files::{self, Entry, Kind, Source};
use crate::{
    api::{Api, ApiError, POLL, array, text},
    net,
    problem::Problem,
    ui::{self, say},
};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{IsTerminal, Seek, SeekFrom},
    path::Path,
    time::Duration,
};
use tokio_util::io::ReaderStream;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// Files in one question.
const MATCHES: usize = 5_000;
/// Files below this are sent sooner than asked about.
const ASKED_FROM: u64 = 1;

/// Uploads an app's files as a new package; returns its guid once the platform has it.
pub(super) async fn package(api: &mut Api, app: &str, path: &Path) -> anyhow::Result<String> {
    say!("Packaging files to upload...");
    let (known, bits) = match files::check(path)? {
        Source::Folder(folder) => from_folder(api, folder).await?,
        Source::Zip(file) => (vec![], Some(File::open(&file).with_context(|| format!("cannot read {}", file.display()))?)),
    };
    let body = json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } });
    let package = api.post("/v3/packages", &body).await?.body;
    let guid = text(&package, "/guid").to_owned();
    say!("Uploading files...");
    let mut state = send(api, &guid, &known, bits).await?;
    say!();
    say!("Waiting for API to complete processing files...");
    loop {
        match text(&state, "/state") {
            "READY" => return Ok(guid),
            "FAILED" | "EXPIRED" => {
                let why = text(&state, "/data/error");
                bail!(Problem::new(format!(
                    "The platform could not use the uploaded files: {}",
                    if why.is_empty() { "it does not say why" } else { why }
                )));
            }
            _ => {
                tokio::time::sleep(POLL).await;
                state = api.get(&format!("/v3/packages/{guid}")).await?;
            }
        }
    }
}

/// Uploads the contents of a buildpack, a zip file or a folder, and waits until the platform has it.
pub(crate) async fn buildpack(api: &mut Api, guid: &str, path: &Path) -> anyhow::Result<()> {
    let bits = match files::check(path)? {
        Source::Zip(file) => File::open(&file).with_context(|| format!("cannot read {}", file.display()))?,
        Source::Folder(folder) => {
            let packed = move || files::of_folder(&folder).and_then(|entries| zipped(&folder, &entries));
            tokio::task::spawn_blocking(packed).await??
        }
    };
    let size = bits.metadata()?.len();
    let name = path.file_stem().map_or_else(|| "buildpack".into(), |stem| stem.to_string_lossy().into_owned());
    let bar = bar(size);
    let answer = api
        .authorized(
            |http, url| {
                let form = match bits.try_clone() {
                    Ok(file) => Form::new().part("bits", part(file, size, bar.clone()).file_name(format!("{name}.zip"))),
                    Err(_) => Form::new(),
                };
                http.post(url).multipart(form)
            },
            &format!("/v3/buildpacks/{guid}/upload"),
        )
        .await
        .map_err(|e| lost(e, size))?;
    bar.finish();
    let location = answer.headers().get("Location").and_then(|value| value.to_str().ok()).map(str::to_owned);
    api.job(crate::api::Reply { body: Value::Null, location }).await
}

async fn from_folder(api: &mut Api, folder: std::path::PathBuf) -> anyhow::Result<(Vec<Value>, Option<File>)> {
    let walked = folder.clone();
    let entries = tokio::task::spawn_blocking(move || files::of_folder(&walked)).await??;
    let known = matches(api, &entries).await?;
    let has: BTreeSet<String> = known.iter().map(|entry| text(entry, "/checksum/value").to_owned()).collect();
    let missing = |entry: &Entry| !matches!(&entry.kind, Kind::File { sha1, size } if *size >= ASKED_FROM && has.contains(sha1));
    let sent: Vec<Entry> = entries.into_iter().filter(missing).collect();
    if sent.is_empty() {
        return Ok((known, None));
    }
    let zip = tokio::task::spawn_blocking(move || zipped(&folder, &sent)).await??;
    Ok((known, Some(zip)))
}

/// The files that the platform has already, as it names them.
async fn matches(api: &mut Api, entries: &[Entry]) -> anyhow::Result<Vec<Value>> {
    let asked: Vec<Value> = entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            Kind::File { size, sha1 } if *size >= ASKED_FROM => Some(json!({
                "path": entry.path, "mode": format!("{:o}", entry.mode), "size_in_bytes": size, "checksum": { "value": sha1 },
            })),
            _ => None,
        })
        .collect();
    let mut known = vec![];
    for part in asked.chunks(MATCHES) {
        let answer = api.post("/v3/resource_matches", &json!({ "resources": part })).await?.body;
        known.extend(array(&answer, "/resources").cloned());
    }
    Ok(known)
}

/// A zip file without a name, gone with its handle.
fn zipped(folder: &Path, entries: &[Entry]) -> anyhow::Result<File> {
    let mut zip = ZipWriter::new(tempfile::tempfile().context("cannot make a temporary file")?);
    for entry in entries {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(entry.mode);
        match &entry.kind {
            Kind::Folder => zip.add_directory(format!("{}/", entry.path), options)?,
            Kind::Link { target } => zip.add_symlink(&entry.path, target, options)?,
            Kind::File { size, .. } => {
                zip.start_file(&entry.path, options.large_file(*size >= 1 << 32))?;
                let path = folder.join(&entry.path);
                let mut file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
                std::io::copy(&mut file, &mut zip).with_context(|| format!("cannot pack {}", path.display()))?;
            }
        }
    }
    let mut file = zip.finish()?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

async fn send(api: &mut Api, package: &str, known: &[Value], bits: Option<File>) -> anyhow::Result<Value> {
    let path = format!("/v3/packages/{package}/upload");
    let resources = serde_json::to_string(known)?;
    let size = match &bits {
        Some(file) => file.metadata()?.len(),
        None => 0,
    };
    let bar = bar(size);
    // a renewed token means a second try: then it begins at the start again
    let answer = api
        .authorized(
            |http, url| {
                let mut form = Form::new().text("resources", resources.clone());
                if let Some(file) = bits.as_ref().and_then(|file| file.try_clone().ok()) {
                    form = form.part("bits", part(file, size, bar.clone()));
                }
                http.post(url).multipart(form)
            },
            &path,
        )
        .await
        .map_err(|e| lost(e, size))?;
    bar.finish();
    answer.json().await.map_err(|e| net::no_answer(e).into())
}

/// An upload without an answer; one that was refused did arrive.
fn lost(error: anyhow::Error, size: u64) -> anyhow::Error {
    match error.is::<ApiError>() {
        true => error,
        false => error.context(format!("the upload of {} did not arrive", ui::size(size))),
    }
}

fn part(mut file: File, size: u64, bar: ProgressBar) -> Part {
    let _ = file.seek(SeekFrom::Start(0));
    bar.reset();
    let stream = ReaderStream::with_capacity(bar.wrap_async_read(tokio::fs::File::from_std(file)), 256 << 10);
    let part = Part::stream_with_length(reqwest::Body::wrap_stream(stream), size).file_name("package.zip");
    part.mime_str("application/zip").unwrap_or_else(|_| Part::text(""))
}

/// A bar on a terminal, one line elsewhere.
fn bar(size: u64) -> ProgressBar {
    if size == 0 || !std::io::stderr().is_terminal() {
        if size > 0 {
            say!(" {} to send", ui::size(size));
        }
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr_with_hz(10));
    let style = ProgressStyle::with_template(" {bytes} / {total_bytes} [{bar:40}] {percent}% {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_zip_keeps_modes_links_and_empty_folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("run.sh"), "#!/bin/sh\n").unwrap();
        let entries = [
            Entry { path: "empty".into(), kind: Kind::Folder, mode: 0o755 },
            Entry { path: "run.sh".into(), kind: Kind::File { size: 10, sha1: String::new() }, mode: 0o755 },
            Entry { path: "start".into(), kind: Kind::Link { target: "run.sh".into() }, mode: 0o777 },
        ];
        let mut zip = zip::ZipArchive::new(zipped(folder.path(), &entries).unwrap()).unwrap();
        assert!(zip.by_name("empty/").unwrap().is_dir());
        let mut text = String::new();
        let mut file = zip.by_name("run.sh").unwrap();
        assert_eq!(file.unix_mode().unwrap() & 0o777, 0o755);
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "#!/bin/sh\n");
        drop(file);
        assert!(zip.by_name("start").unwrap().is_symlink());
    }
}
