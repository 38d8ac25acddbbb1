//! A platform that runs workloads as plain local processes: the real start command with the real engine, without a container.
//!
//! Used by the suites of the brokers that are made with this crate. The volume is a folder, the services address is loopback,
//! and a port inside is the same port outside.

mod api;

pub(crate) use api::Api;

use broker_sdk::async_trait;
use cloud_controller_client::{Error, WorkloadSpec, WorkloadState, WorkloadStatus};
use sql_broker::Workloads;
use std::{
    collections::BTreeMap,
    net::TcpStream,
    os::unix::{fs::chown, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// The platform. Clones are the same one; it outlives brokers.
#[derive(Clone)]
pub(crate) struct Platform(Arc<Mutex<Inner>>);

struct Inner {
    folder: PathBuf,
    user: Option<u32>,
    /// Why it has no place, if it has none.
    full: Option<String>,
    workloads: BTreeMap<Uuid, Kept>,
    starts: usize,
}

struct Kept {
    spec: WorkloadSpec,
    version: usize,
    child: Option<Child>,
    deleting: bool,
}

impl Platform {
    pub(crate) fn new(folder: PathBuf, user: Option<u32>) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        Self(Arc::new(Mutex::new(Inner { folder, user, full: None, workloads: BTreeMap::new(), starts: 0 })))
    }

    /// From now on there is no place, for this reason; or there is one again.
    pub(crate) fn fill(&self, reason: Option<&str>) {
        self.0.lock().unwrap().full = reason.map(str::to_owned);
    }

    /// Ports and memory of the workloads that there are.
    pub(crate) fn workloads(&self) -> Vec<(u16, u32)> {
        let inner = self.0.lock().unwrap();
        inner.workloads.values().map(|kept| (kept.spec.service_port.port, kept.spec.memory_mb)).collect()
    }

    /// Volumes that there are.
    pub(crate) fn volumes(&self) -> usize {
        std::fs::read_dir(&self.0.lock().unwrap().folder).unwrap().count()
    }

    /// How often a server was started.
    pub(crate) fn starts(&self) -> usize {
        self.0.lock().unwrap().starts
    }

    /// Looks after all workloads once, as the platform does all the time.
    pub(crate) async fn look(&self) {
        let inner = &mut *self.0.lock().unwrap();
        for workload in inner.workloads.keys().copied().collect::<Vec<_>>() {
            inner.status(workload);
        }
    }

    /// KILL for the processes of all workloads.
    pub(crate) fn kill_servers(&self) {
        for kept in self.0.lock().unwrap().workloads.values() {
            kept.signal("-KILL");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for kept in self.workloads.values_mut() {
            kept.signal("-KILL");
            kept.child.as_mut().map(Child::wait);
        }
    }
}

impl Kept {
    fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            let _ = Command::new("kill").args([signal, "--", &format!("-{}", child.id())]).stderr(Stdio::null()).status();
        }
    }

    fn stop(&mut self) {
        self.signal("-TERM");
        let Some(mut child) = self.child.take() else { return };
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(child.try_wait().unwrap().is_some(), "a server does not stop within 10 s of TERM");
    }
}

impl Inner {
    fn start(&mut self, workload: Uuid) {
        let volume = self.folder.join(workload.to_string());
        let temporary = volume.join("temporary");
        std::fs::create_dir_all(&temporary).unwrap();
        for folder in [&volume, &temporary] {
            chown(folder, self.user, self.user).unwrap();
        }
        self.starts += 1;
        let kept = self.workloads.get_mut(&workload).unwrap();
        let log = std::fs::File::create(volume.join("log")).unwrap();
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(&kept.spec.command).env_clear().envs(&kept.spec.env).process_group(0).current_dir("/");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TMPDIR", &temporary);
        command.env("SERVER_VOLUME", &volume).env("SERVER_ADDRESS", "127.0.0.1");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        if let Some(uid) = self.user {
            command.uid(uid).gid(uid);
        }
        kept.child = Some(command.spawn().unwrap());
    }

    fn status(&mut self, workload: Uuid) -> Option<WorkloadStatus> {
        let kept = self.workloads.get_mut(&workload)?;
        let version = kept.version.to_string();
        let status = |state, reason: Option<String>| Some(WorkloadStatus { state, reason, version: version.clone() });
        if kept.deleting {
            self.workloads.remove(&workload);
            std::fs::remove_dir_all(self.folder.join(workload.to_string())).unwrap();
            return status(WorkloadState::Deleting, None);
        }
        let ended = kept.child.as_mut().map(|child| child.try_wait().unwrap());
        match ended {
            Some(None) if TcpStream::connect(("127.0.0.1", kept.spec.service_port.port)).is_ok() => {
                status(WorkloadState::Running, None)
            }
            Some(None) => status(WorkloadState::Starting, None),
            _ if self.full.is_some() => status(WorkloadState::Down, self.full.clone()),
            Some(Some(how)) => {
                let log = std::fs::read_to_string(self.folder.join(workload.to_string()).join("log")).unwrap_or_default();
                self.start(workload);
                status(WorkloadState::Down, Some(format!("crashed: {how}: {log}")))
            }
            None => {
                self.start(workload);
                status(WorkloadState::Starting, None)
            }
        }
    }
}

#[async_trait]
impl Workloads for Platform {
    async fn put(&self, workload: Uuid, spec: &WorkloadSpec) -> Result<WorkloadStatus, Error> {
        let inner = &mut *self.0.lock().unwrap();
        let refused = |body: &str| Err(Error::Refused { path: "workloads".into(), status: 422, body: body.into() });
        let port = spec.service_port.port;
        if inner.workloads.iter().any(|(other, kept)| *other != workload && kept.spec.service_port.port == port) {
            return refused("the port is taken");
        }
        match inner.workloads.get_mut(&workload) {
            Some(kept) if kept.spec == *spec => {}
            Some(kept) if kept.spec.volume != spec.volume => return refused("a volume never changes"),
            Some(kept) => {
                kept.stop();
                kept.spec = spec.clone();
                kept.version += 1;
            }
            None => {
                inner.workloads.insert(workload, Kept { spec: spec.clone(), version: 0, child: None, deleting: false });
            }
        }
        Ok(inner.status(workload).unwrap())
    }

    async fn status(&self, workload: Uuid) -> Result<Option<WorkloadStatus>, Error> {
        Ok(self.0.lock().unwrap().status(workload))
    }

    async fn delete(&self, workload: Uuid) -> Result<bool, Error> {
        let inner = &mut *self.0.lock().unwrap();
        let Some(kept) = inner.workloads.get_mut(&workload) else { return Ok(false) };
        if !kept.deleting {
            kept.stop();
            kept.deleting = true;
            // Where nothing ever started there is no volume
            std::fs::create_dir_all(inner.folder.join(workload.to_string())).unwrap();
        }
        Ok(true)
    }
}
