//! The asynchronous client.

use crate::{
    frame,
    protocol::{ErrorKind, Event, Request, Response},
    spec::{ContainerInfo, ContainerSpec, Endpoint, Metrics, ProcessExit, ProcessSpec, VolumeInfo},
};
use std::{
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::UnixStream;

/// Why a request did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon cannot be reached, or the connection broke before the answer: whether it happened is unknown. Creating
    /// and destroying may be asked again.
    #[error("no answer from warden at {0}")]
    Unreachable(PathBuf, #[source] io::Error),
    /// The daemon refused; nothing of the request stays.
    #[error("{message}")]
    Refused {
        /// What kind.
        kind: ErrorKind,
        /// What, where, why.
        message: String,
    },
    /// The daemon answered something else than what was asked.
    #[error("warden gave an answer that does not fit {0}")]
    Protocol(&'static str),
}

impl Error {
    /// The kind of a refusal.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Refused { kind, .. } => Some(*kind),
            _ => None,
        }
    }
}

/// What the host can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// All memory that containers may be promised.
    pub memory_bytes: u64,
    /// All disk that containers may be promised; what volumes have is not in it.
    pub disk_bytes: u64,
    /// Names of the stacks on this host.
    pub stacks: Vec<String>,
    /// The address of this host for services that containers may be allowed to reach.
    pub services_address: Ipv4Addr,
}

/// Descriptors of a process started by [`Client::exec`].
pub struct Streams {
    /// Its standard input.
    pub stdin: OwnedFd,
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
}

/// A handle to the daemon. Each call has its own connection, so that the daemon may restart between calls; clones are cheap.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client of the daemon that listens at `path`, once the daemon answers.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if nobody listens there now.
    pub async fn connect(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let client = Self::new(path);
        client.open().await?;
        Ok(client)
    }

    /// A client of the daemon that listens at `path`, now or later.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// What the host can hold.
    pub async fn capacity(&self) -> Result<Capacity, Error> {
        match self.ask(&Request::Capacity, &[]).await? {
            Response::Capacity { memory_bytes, disk_bytes, stacks, services_address } => {
                Ok(Capacity { memory_bytes, disk_bytes, stacks, services_address })
            }
            other => refuse(other, "capacity"),
        }
    }

    /// Makes the container and starts its process. Asking again with an equal spec answers with the container that is there.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the handle is taken by another spec, [`ErrorKind::NoRoom`], [`ErrorKind::Invalid`],
    /// [`ErrorKind::NotFound`] for an unknown stack or layer.
    pub async fn create(&self, spec: &ContainerSpec) -> Result<ContainerInfo, Error> {
        self.container(&Request::Create(Box::new(spec.clone())), "create").await
    }

    /// All containers whose labels have these values, in order of handle; without labels: all.
    pub async fn list(&self, labels: &BTreeMap<String, String>) -> Result<Vec<ContainerInfo>, Error> {
        match self.ask(&Request::List { labels: labels.clone() }, &[]).await? {
            Response::Containers { containers } => Ok(containers),
            other => refuse(other, "list"),
        }
    }

    /// One container.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn info(&self, handle: &str) -> Result<ContainerInfo, Error> {
        self.container(&Request::Info { handle: handle.to_owned() }, "info").await
    }

    /// What containers use now; unknown handles are left out.
    pub async fn metrics(&self, handles: &[String]) -> Result<BTreeMap<String, Metrics>, Error> {
        match self.ask(&Request::Metrics { handles: handles.to_vec() }, &[]).await? {
            Response::Metrics { metrics } => Ok(metrics),
            other => refuse(other, "metrics"),
        }
    }

    /// Runs one more process inside and waits for its end. Dropping the future kills the process.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such container or its main process has ended, [`ErrorKind::Invalid`].
    pub async fn exec(&self, handle: &str, process: &ProcessSpec, streams: Streams) -> Result<ProcessExit, Error> {
        let request = Request::Exec { handle: handle.to_owned(), process: process.clone() };
        let mut connection = self.open().await?;
        let descriptors = [streams.stdin.as_fd(), streams.stdout.as_fd(), streams.stderr.as_fd()];
        self.send(&mut connection, &request, &descriptors).await?;
        drop(streams); // the readers see the end only once nobody here holds the other ends
        exited(self.receive(&mut connection).await?, "exec")
    }

    /// TERM to the main process, KILL to all after `grace`; answers once it has ended. An ended container answers at once.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn stop(&self, handle: &str, grace: Duration) -> Result<ProcessExit, Error> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        exited(self.ask(&Request::Stop { handle: handle.to_owned(), grace_ms }, &[]).await?, "stop")
    }

    /// What the container may reach on this host from here on, besides what every container may; the whole list.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Invalid`] for an address that is never opened.
    pub async fn set_egress(&self, handle: &str, endpoints: &[Endpoint]) -> Result<(), Error> {
        let request = Request::SetEgress { handle: handle.to_owned(), endpoints: endpoints.to_vec() };
        self.done(&request, "set_egress").await
    }

    /// Takes the container away: from here on its handle is unknown. What remains of it is cleared in the background, and
    /// again after a restart of the daemon until nothing is left. An unknown handle is a success.
    pub async fn destroy(&self, handle: &str) -> Result<(), Error> {
        self.done(&Request::Destroy { handle: handle.to_owned() }, "destroy").await
    }

    /// Makes a read-only layer from a gzip tar; at once if it is there.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an archive that is broken, too large, or leads out of its folder.
    pub async fn create_layer(&self, layer: &str, archive: &Path, prefix: &Path) -> Result<(), Error> {
        let request = Request::CreateLayer { layer: layer.to_owned(), archive: archive.to_owned(), prefix: prefix.to_owned() };
        self.done(&request, "create_layer").await
    }

    /// Removes layers that no container uses and that are not named here.
    pub async fn keep_layers(&self, keep: &[String]) -> Result<(), Error> {
        self.done(&Request::KeepLayers { keep: keep.to_vec() }, "keep_layers").await
    }

    /// All volumes of this host, in order of id.
    pub async fn volumes(&self) -> Result<Vec<VolumeInfo>, Error> {
        match self.ask(&Request::ListVolumes, &[]).await? {
            Response::Volumes { volumes } => Ok(volumes),
            other => refuse(other, "list_volumes"),
        }
    }

    /// Removes a volume with all that is in it. An unknown one is a success.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] while a container has it.
    pub async fn delete_volume(&self, id: &str) -> Result<(), Error> {
        self.done(&Request::DeleteVolume { id: id.to_owned() }, "delete_volume").await
    }

    /// What happens to containers from here on, after one event for each container that has ended already.
    pub async fn events(&self) -> Result<Events, Error> {
        let mut connection = self.open().await?;
        self.send(&mut connection, &Request::Events, &[]).await?;
        Ok(Events { client: self.clone(), connection })
    }

    async fn container(&self, request: &Request, what: &'static str) -> Result<ContainerInfo, Error> {
        match self.ask(request, &[]).await? {
            Response::Container(info) => Ok(info),
            other => refuse(other, what),
        }
    }

    async fn done(&self, request: &Request, what: &'static str) -> Result<(), Error> {
        match self.ask(request, &[]).await? {
            Response::Ok => Ok(()),
            other => refuse(other, what),
        }
    }

    async fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Response, Error> {
        let mut connection = self.open().await?;
        self.send(&mut connection, request, descriptors).await?;
        self.receive(&mut connection).await
    }

    async fn open(&self) -> Result<UnixStream, Error> {
        UnixStream::connect(&self.path).await.map_err(|e| self.unreachable(e))
    }

    async fn send(&self, to: &mut UnixStream, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        frame::send(to, request, descriptors).await.map_err(|e| self.unreachable(e))
    }

    async fn receive(&self, from: &mut UnixStream) -> Result<Response, Error> {
        match frame::receive(from).await.map_err(|e| self.unreachable(e))? {
            Some((response, _)) => Ok(response),
            None => Err(self.unreachable(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn unreachable(&self, cause: io::Error) -> Error {
        Error::Unreachable(self.path.clone(), cause)
    }
}

/// The stream of [`Event`]s of one connection.
#[derive(Debug)]
pub struct Events {
    client: Client,
    connection: UnixStream,
}

impl Events {
    /// The next event.
    ///
    /// # Errors
    /// [`Error::Unreachable`] once the daemon is gone, or has dropped a reader that was too slow: subscribe again, and compare with
    /// [`Client::list`].
    pub async fn next(&mut self) -> Result<Event, Error> {
        match frame::receive(&mut self.connection).await.map_err(|e| self.client.unreachable(e))? {
            Some((event, _)) => Ok(event),
            None => Err(self.client.unreachable(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

fn exited(response: Response, what: &'static str) -> Result<ProcessExit, Error> {
    match response {
        Response::Exited(exit) => Ok(exit),
        other => refuse(other, what),
    }
}

fn refuse<T>(response: Response, what: &'static str) -> Result<T, Error> {
    match response {
        Response::Error { kind, message } => Err(Error::Refused { kind, message }),
        _ => Err(Error::Protocol(what)),
    }
}
