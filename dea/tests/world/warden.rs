//! A Warden that makes no containers and speaks the real protocol.

use super::Journal;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs::File,
    io::Write,
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::broadcast,
};
use warden_client::{ContainerInfo, ContainerSpec, ErrorKind, Event, Metrics, ProcessExit, Request, Response, VolumeInfo, frame};

#[derive(Clone)]
pub(crate) struct FakeWarden(Arc<Inner>);

struct Inner {
    journal: Journal,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

#[derive(Default)]
struct State {
    containers: BTreeMap<String, (ContainerSpec, ContainerInfo)>,
    layers: HashSet<String>,
    volumes: BTreeSet<String>,
    /// Content of files in staging containers; a staging's status file appears when `status` is set.
    files: BTreeMap<String, Vec<u8>>,
    status: Option<i32>,
    ticks: u64,
}

fn exit(status: i32, out_of_memory: bool) -> ProcessExit {
    ProcessExit { status, out_of_memory, at: 1, last_stderr: vec![] }
}

fn refuse(kind: ErrorKind, message: &str) -> Response {
    Response::Error { kind, message: message.into() }
}

impl State {
    fn holder(&self, volume: &str) -> Option<&str> {
        let has = |spec: &ContainerSpec| spec.volumes.iter().any(|mount| mount.id == volume);
        let mut live = self.containers.values().filter(|(_, info)| info.exit.is_none());
        live.find(|(spec, _)| has(spec)).map(|(spec, _)| spec.handle.as_str())
    }
}

impl FakeWarden {
    pub(crate) fn start(path: &Path, journal: Journal) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let warden = Self(Arc::new(Inner { journal, state: Mutex::default(), events: broadcast::channel(100).0 }));
        let server = warden.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        warden
    }

    pub(crate) fn containers(&self) -> Vec<String> {
        self.0.state.lock().containers.keys().cloned().collect()
    }

    pub(crate) fn spec(&self, handle: &str) -> Option<ContainerSpec> {
        self.0.state.lock().containers.get(handle).map(|(spec, _)| spec.clone())
    }

    /// What a container may reach now.
    pub(crate) fn egress(&self, handle: &str) -> Option<Vec<warden_client::Endpoint>> {
        self.0.state.lock().containers.get(handle).map(|(_, info)| info.egress.clone())
    }

    /// Volumes that are there.
    pub(crate) fn volumes(&self) -> Vec<String> {
        self.0.state.lock().volumes.iter().cloned().collect()
    }

    /// A volume that no container has.
    pub(crate) fn keep_volume(&self, id: &str) {
        self.0.state.lock().volumes.insert(id.into());
    }

    /// The main process ends.
    pub(crate) fn crash(&self, handle: &str, status: i32, out_of_memory: bool) {
        let exit = exit(status, out_of_memory);
        if let Some((_, info)) = self.0.state.lock().containers.get_mut(handle) {
            info.exit = Some(exit.clone());
        }
        let _ = self.0.events.send(Event::Exited { handle: handle.into(), exit });
    }

    /// `builder` ends in every staging container, with these files left.
    pub(crate) fn stage(&self, status: i32, files: &[(&str, &[u8])]) {
        let mut state = self.0.state.lock();
        state.files = files.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec())).collect();
        state.status = Some(status);
    }

    async fn serve(self, mut stream: UnixStream) {
        let Ok(Some((request, descriptors))) = frame::receive::<Request>(&mut stream).await else { return };
        match request {
            Request::Events => {
                let mut events = self.0.events.subscribe();
                while let Ok(event) = events.recv().await {
                    if frame::send(&mut stream, &event, &[]).await.is_err() {
                        return;
                    }
                }
            }
            Request::Exec { handle, process } => {
                let mut files = descriptors.into_iter().map(File::from);
                let (_, Some(stdout)) = (files.next(), files.next()) else { return };
                let answer = self.exec(&handle, &process.argv[2], stdout).await;
                let _ = frame::send(&mut stream, &answer, &[]).await;
            }
            other => {
                let answer = self.answer(other);
                let _ = frame::send(&mut stream, &answer, &[]).await;
            }
        }
    }

    fn answer(&self, request: Request) -> Response {
        let journal = &self.0.journal;
        let mut state = self.0.state.lock();
        match request {
            Request::Capacity => Response::Capacity {
                memory_bytes: 4 << 30,
                disk_bytes: 8 << 30,
                stacks: vec!["debian12".into()],
                services_address: [10, 254, 0, 1].into(),
            },
            Request::CreateLayer { layer, archive, prefix } => {
                journal.note(format!("layer {}", prefix.display()));
                assert!(archive.is_file(), "{archive:?}");
                state.layers.insert(layer);
                Response::Ok
            }
            Request::KeepLayers { .. } => Response::Ok,
            Request::Create(spec) => {
                journal.note(format!("create {}", spec.handle));
                if !spec.layers.iter().all(|layer| state.layers.contains(layer)) {
                    return refuse(ErrorKind::NotFound, "no such layer");
                }
                if spec.volumes.iter().any(|mount| state.holder(&mount.id).is_some()) {
                    return refuse(ErrorKind::Conflict, "the volume belongs to another container now");
                }
                state.volumes.extend(spec.volumes.iter().map(|mount| mount.id.clone()));
                let info = ContainerInfo {
                    handle: spec.handle.clone(),
                    labels: spec.labels.clone(),
                    address: Ipv4Addr::LOCALHOST,
                    host_address: Ipv4Addr::new(192, 0, 2, 1),
                    ports: spec.ports.iter().map(|port| (*port, 61_001)).collect(),
                    egress: spec.egress.clone(),
                    created_at: types::Clock::now(&foundation::SystemClock).0,
                    exit: None,
                };
                state.containers.insert(spec.handle.clone(), (*spec, info.clone()));
                Response::Container(info)
            }
            Request::List { labels } => {
                let matches = |info: &&ContainerInfo| labels.iter().all(|(name, value)| info.labels.get(name) == Some(value));
                let containers = state.containers.values().map(|(_, info)| info).filter(matches).cloned().collect();
                Response::Containers { containers }
            }
            Request::Info { handle } => match state.containers.get(&handle) {
                Some((_, info)) => Response::Container(info.clone()),
                None => refuse(ErrorKind::NotFound, "no such container"),
            },
            Request::Metrics { handles } => {
                state.ticks += 1;
                let metrics = Metrics {
                    cpu_nanos: state.ticks * 10_000_000,
                    memory_bytes: 1 << 20,
                    disk_bytes: 2 << 20,
                    pids: 3,
                    log_bytes: state.ticks * 100,
                };
                Response::Metrics { metrics: handles.into_iter().map(|handle| (handle, metrics)).collect() }
            }
            Request::Stop { handle, grace_ms } => {
                journal.note(format!("stop {handle} {grace_ms}"));
                match state.containers.get_mut(&handle) {
                    Some((_, info)) => Response::Exited(info.exit.get_or_insert(exit(143, false)).clone()),
                    None => refuse(ErrorKind::NotFound, "no such container"),
                }
            }
            Request::Destroy { handle } => {
                journal.note(format!("destroy {handle}"));
                state.containers.remove(&handle);
                Response::Ok
            }
            Request::SetEgress { handle, endpoints } => {
                journal.note(format!("egress {handle}"));
                match state.containers.get_mut(&handle) {
                    Some((_, info)) => {
                        info.egress = endpoints;
                        Response::Ok
                    }
                    None => refuse(ErrorKind::NotFound, "no such container"),
                }
            }
            Request::ListVolumes => {
                let info =
                    |id: &String| VolumeInfo { id: id.clone(), size_mb: 64, container: state.holder(id).map(str::to_owned) };
                Response::Volumes { volumes: state.volumes.iter().map(info).collect() }
            }
            Request::DeleteVolume { id } => {
                journal.note(format!("delete volume {id}"));
                if state.holder(&id).is_some() {
                    return refuse(ErrorKind::Conflict, "a container has it");
                }
                state.volumes.remove(&id);
                Response::Ok
            }
            Request::Exec { .. } | Request::Events => unreachable!("served apart"),
        }
    }

    async fn exec(&self, handle: &str, line: &str, mut stdout: File) -> Response {
        if line.starts_with("until") {
            loop {
                let (there, status) = {
                    let state = self.0.state.lock();
                    (state.containers.get(handle).is_some_and(|(_, info)| info.exit.is_none()), state.status)
                };
                if !there {
                    return refuse(ErrorKind::NotFound, "no such container");
                }
                if let Some(status) = status {
                    let _ = write!(stdout, "{status}");
                    return Response::Exited(exit(0, false));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let content = {
            let state = self.0.state.lock();
            if !state.containers.contains_key(handle) {
                return refuse(ErrorKind::NotFound, "no such container");
            }
            state.files.iter().find(|(name, _)| line.contains(name.as_str())).map(|(_, content)| content.clone())
        };
        let Some(content) = content else { return Response::Exited(exit(44, false)) };
        // A pipe holds little: the reader must go on reading while this process writes.
        let written = tokio::task::spawn_blocking(move || stdout.write_all(&content)).await.unwrap();
        Response::Exited(exit(if written.is_ok() { 0 } else { 141 }, false))
    }
}
