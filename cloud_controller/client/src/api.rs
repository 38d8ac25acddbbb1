//! A typed client of the internal API.

use crate::types::*;
use ::types::{BuildId, VersionId};
use futures::StreamExt;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::{path::Path, time::Duration};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cloud controller says that it is not there, or not wanted any more.
    #[error("the cloud controller does not know {0}")]
    NotFound(String),
    /// It cannot be reached, or is not well; trying again may help.
    #[error("the cloud controller cannot be reached for {0}")]
    Unavailable(String, #[source] reqwest::Error),
    /// It refuses; trying again does not help.
    #[error("the cloud controller refuses {path}: {status} {body}")]
    Refused {
        /// What was asked.
        path: String,
        /// The status.
        status: u16,
        /// The beginning of the answer.
        body: String,
    },
    /// The local side of a transfer failed.
    #[error("cannot use {0}")]
    File(std::path::PathBuf, #[source] std::io::Error),
}

/// Calls the internal API of one cloud controller.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// A client of `base` (`https://127.0.0.1:9023`) with the caller's own certificate in `tls`.
    ///
    /// # Errors
    /// When `tls` cannot be used.
    pub fn new(base: &str, tls: rustls::ClientConfig) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(Duration::from_secs(3))
            .no_proxy()
            .build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned() })
    }

    /// Changes of the desired state after `after`, at most `limit`.
    pub async fn desired(&self, after: u64, limit: u32) -> Result<DesiredPage, Error> {
        self.json(self.short(Method::GET, &format!("/internal/v1/desired?after={after}&limit={limit}"))).await
    }

    /// What starting an instance of this version needs.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the version is no longer wanted.
    pub async fn launch_spec(&self, version: VersionId) -> Result<LaunchSpec, Error> {
        self.json(self.short(Method::GET, &format!("/internal/v1/versions/{version}/launch"))).await
    }

    /// The routes of these versions now.
    pub async fn routes(&self, versions: &[VersionId]) -> Result<RoutesAnswer, Error> {
        let body = RoutesRequest { versions: versions.to_vec() };
        self.json(self.short(Method::POST, "/internal/v1/routes").json(&body)).await
    }

    /// Tells that an instance ended by itself.
    pub async fn crashed(&self, report: &CrashReport) -> Result<(), Error> {
        self.send(self.short(Method::POST, "/internal/v1/crashes").json(report)).await.map(|_| ())
    }

    /// What staging this build needs.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not staging any more.
    pub async fn staging_spec(&self, build: BuildId) -> Result<StagingSpec, Error> {
        self.json(self.short(Method::GET, &format!("/internal/v1/builds/{build}/spec"))).await
    }

    /// Tells how a staging ended. Telling it again is harmless.
    pub async fn staging_completed(&self, build: BuildId, result: &StagingResult) -> Result<(), Error> {
        self.send(self.short(Method::POST, &format!("/internal/v1/builds/{build}/completed")).json(result)).await.map(|_| ())
    }

    /// Uploads what a staging made; `what` is `droplet` or `cache`.
    pub async fn upload(&self, build: BuildId, what: &str, file: tokio::fs::File) -> Result<Uploaded, Error> {
        let request = self.http.request(Method::PUT, format!("{}/internal/v1/builds/{build}/{what}", self.base));
        self.json(request.timeout(Duration::from_secs(900)).body(reqwest::Body::from(file))).await
    }

    /// Downloads a blob (`droplets/<guid>`, ...) into a new file at `to`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none; [`Error::File`] when it cannot be kept. A part of it may stay at `to`.
    pub async fn download(&self, blob: &str, to: &Path) -> Result<(), Error> {
        let file_error = |e| Error::File(to.to_owned(), e);
        let request = self.http.request(Method::GET, format!("{}/internal/v1/blobs/{blob}", self.base));
        let answer = self.send(request.timeout(Duration::from_secs(900))).await?;
        let mut file = tokio::fs::File::create(to).await.map_err(file_error)?;
        let mut bytes = answer.bytes_stream();
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(|e| Error::Unavailable(blob.to_owned(), e))?;
            file.write_all(&chunk).await.map_err(file_error)?;
        }
        file.flush().await.map_err(file_error)
    }

    /// Has a workload run as `spec` says, or stopped. Answers at once; [`Client::workload`] tells what became of it.
    ///
    /// # Errors
    /// [`Error::Refused`] for what cannot be.
    pub async fn put_workload(&self, guid: Uuid, spec: &WorkloadSpec) -> Result<WorkloadStatus, Error> {
        self.json(self.short(Method::PUT, &format!("/internal/v1/workloads/{guid}")).json(spec)).await
    }

    /// What has become of a workload; `None` when nothing is left of it.
    pub async fn workload(&self, guid: Uuid) -> Result<Option<WorkloadStatus>, Error> {
        found(self.json(self.short(Method::GET, &format!("/internal/v1/workloads/{guid}"))).await)
    }

    /// Stops a workload and removes its volume with all data; false when nothing was left of it. Its end is told by
    /// [`Client::workload`].
    pub async fn delete_workload(&self, guid: Uuid) -> Result<bool, Error> {
        let gone = self.send(self.short(Method::DELETE, &format!("/internal/v1/workloads/{guid}"))).await;
        Ok(found(gone)?.is_some())
    }

    /// Tells which volumes a DEA has; answers with those that it may remove.
    pub async fn volumes(&self, report: &VolumesReport) -> Result<VolumesAnswer, Error> {
        self.json(self.short(Method::POST, "/internal/v1/volumes").json(report)).await
    }

    /// True when the holder of `authorization` (the user's own header) may read the logs of `source`.
    pub async fn may_read_logs(&self, source: &str, authorization: &str) -> Result<bool, Error> {
        let path = format!("/internal/v1/log_access/{source}");
        match self.send(self.short(Method::GET, &path).header("Authorization", authorization)).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    fn short(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).timeout(Duration::from_secs(30))
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let answer = self.send(request).await?;
        let path = answer.url().path().to_owned();
        answer.json().await.map_err(|e| Error::Unavailable(path, e))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let (client, request) = request.build_split();
        let request = request.map_err(|e| Error::Unavailable("a request that cannot be built".into(), e))?;
        let path = request.url().path().to_owned();
        let answer = client.execute(request).await.map_err(|e| Error::Unavailable(path.clone(), e))?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            StatusCode::NOT_FOUND => Err(Error::NotFound(path)),
            status if status.is_server_error() => {
                let cause = answer.error_for_status().expect_err("a 5xx status is an error");
                Err(Error::Unavailable(path, cause))
            }
            status => {
                let body = answer.text().await.unwrap_or_default().chars().take(500).collect();
                Err(Error::Refused { path, status: status.as_u16(), body })
            }
        }
    }
}

fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(other) => Err(other),
    }
}
