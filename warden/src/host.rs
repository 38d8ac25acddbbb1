//! All containers of this host, and what is promised to them.

mod teardown;
mod validate;

use crate::{
    cgroups::Cgroups,
    config::Config,
    error::{Error, Result},
    images::Images,
    layers::Layers,
    network::{self, Network, Ways},
    pool::Pool,
    record::{self, Record, Records, Resting},
    shim::{self, Programs, Shim, Spares},
    trust,
    volumes::{Sizes, Volumes},
};
use foundation::Shutdown;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{broadcast, watch};
use tracing::{info, warn};
use types::{Clock, Timestamp};
use warden_client::{
    ContainerInfo, ContainerSpec, Endpoint, ErrorKind, Event, Metrics, ProcessExit, ProcessSpec, Response, VolumeInfo,
    shim::{INOTIFY_INSTANCES, INOTIFY_WATCHES, Launch, ShimRequest, ShimResponse},
};

/// How many events a slow reader may be behind.
const EVENTS: usize = 4096;
/// How long the next shim waits for the present one to be out of the way.
const REFILL: Duration = Duration::from_millis(2);
/// How long a request for a handle waits while the former container of that name is taken away.
const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon's core; clones share it.
#[derive(Clone)]
pub(crate) struct Host(Arc<Inner>);

struct Inner {
    config: Config,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
    boot: String,
    host_address: Ipv4Addr,
    programs: Programs,
    cgroups: Cgroups,
    network: Network,
    images: Images,
    layers: Layers,
    volumes: Volumes,
    records: Records,
    trust: PathBuf,
    spares: Spares,
    state: Mutex<State>,
    /// Held while the ways of one container change.
    egress: tokio::sync::Mutex<()>,
    /// Held while service ports change.
    publishing: tokio::sync::Mutex<()>,
    events: broadcast::Sender<Event>,
    /// Counts changes of `state` for which somebody may wait.
    changes: watch::Sender<u64>,
}

struct State {
    containers: BTreeMap<String, Container>,
    slots: Pool,
    ports: Pool,
    /// All volumes of this host, those that are being made included.
    volumes: Sizes,
    /// The slots of the containers to which service ports lead, those that have ended included.
    published: BTreeMap<u16, u32>,
}

#[derive(Clone)]
struct Container {
    record: Record,
    phase: Phase,
}

#[derive(Clone, PartialEq)]
enum Phase {
    /// It is being made; nobody may see it yet.
    Coming,
    Running,
    Ended(ProcessExit),
    /// It is being taken away; nobody may see it any more.
    Going,
}

impl Host {
    /// Sets the host up and finds the containers that are there.
    pub(crate) async fn start(config: Config, clock: Arc<dyn Clock>, shutdown: Shutdown) -> Result<Self> {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let failed = Error::at("preparing folders");
        let boot = record::boot_id().map_err(Error::at("reading the boot id"))?;
        let scratch = config.raw.run.join("scratch");
        for folder in [&config.raw.state, &config.raw.run] {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        std::fs::create_dir_all(&scratch).map_err(failed)?;
        let spares = Spares::open(&config.raw.state, scratch).map_err(failed)?;
        let records = Records::open(&config.raw.state).map_err(failed)?;
        let layers = Layers::open(&config.raw.state, &boot).map_err(failed)?;
        let resolvers = network::resolvers(&config);
        let trust = trust::layer(&config, &resolvers).map_err(Error::at("collecting certificates"))?;
        prepare_kernel(&config);
        let found = records.all().map_err(failed)?;
        let (volumes, sizes) = Volumes::open(&config.raw.state).map_err(Error::at("reading volumes"))?;
        let mut state = State::recover(&config, &found, records.resting(), sizes);
        let ended = |record: &Record| {
            record.boot != boot || records.is_condemned(&record.handle) || records.exit(&record.handle).is_some()
        };
        state.published = published(found.iter().filter_map(|(_, record)| record.as_ref()), ended);
        let current = |record: &Record, port: u16| state.published.get(&port) == Some(&record.slot);
        let services = state
            .containers
            .values()
            .flat_map(|there| services(&there.record).filter(|(port, _)| current(&there.record, *port)))
            .collect();
        let ports = state.containers.values().flat_map(|container| leads(&container.record)).collect();
        let open = state.containers.values().flat_map(|container| ways(&container.record)).collect();
        let (events, _) = broadcast::channel(EVENTS);
        let host = Self(Arc::new(Inner {
            host_address: network::host_address(&config),
            programs: Programs::load(&config.raw.programs)?,
            cgroups: Cgroups::find(&config.raw.cgroup_parent).map_err(Error::at("finding cgroups"))?,
            network: Network::start(&config, &resolvers, &ports, &services, &open).await?,
            images: Images::open(&config.raw.state)?,
            layers,
            volumes,
            records,
            trust,
            spares,
            state: Mutex::new(state),
            egress: tokio::sync::Mutex::default(),
            publishing: tokio::sync::Mutex::default(),
            events,
            changes: watch::Sender::new(0),
            boot,
            clock,
            shutdown,
            config,
        }));
        host.clear_strangers(&found).await;
        host.forget_superseded().await;
        host.take_back().await;
        Ok(host)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes those who wait for a change.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.0.changes.send_modify(|count| *count += 1);
        result
    }

    /// Folders without a record, and links that belong to nobody: left by a daemon that was killed.
    async fn clear_strangers(&self, found: &[(String, Option<Record>)]) {
        for (handle, record) in found {
            if record.is_none()
                && let Err(e) = self.0.records.remove(handle)
            {
                warn!(error = &e as &dyn std::error::Error, "cannot remove a folder without a record");
            }
        }
        let known: BTreeSet<String> =
            self.state().containers.values().map(|container| self.0.config.link(container.record.slot)).collect();
        let prefix = &self.0.config.raw.network.link_prefix;
        let links = self.0.network.links_named(prefix).await.unwrap_or_default();
        for link in links.iter().filter(|link| !known.contains(*link) && **link != self.0.config.gateway_link()) {
            if let Err(e) = self.0.network.remove_link(link).await {
                warn!(error = &e as &dyn std::error::Error, "cannot remove the stray link `{link}`");
            }
        }
    }

    /// Of containers whose service ports lead elsewhere by now no connection stays: a daemon may have been killed in between.
    async fn forget_superseded(&self) {
        let superseded: Vec<Ipv4Addr> = {
            let state = self.state();
            let old = |record: &&Record| record.service_ports.keys().any(|port| state.published.get(port) != Some(&record.slot));
            state.containers.values().map(|there| &there.record).filter(old).map(|record| record.address).collect()
        };
        for address in superseded {
            if let Err(e) = self.0.network.forget(address).await {
                warn!(error = &e as &dyn std::error::Error, "connections to {address} are not forgotten yet");
            }
        }
    }

    /// Finds out what became of each container while no daemon ran.
    async fn take_back(&self) {
        let records: Vec<Record> = self.state().containers.values().map(|container| container.record.clone()).collect();
        let mut live = 0;
        for record in records {
            let handle = record.handle.clone();
            let exit = self.0.records.exit(&handle);
            let alive = Shim::connect(&self.socket(record.slot)).await;
            if record.boot != self.0.boot || self.0.records.is_condemned(&handle) {
                self.take_away(&handle);
            } else if let Some(exit) = exit {
                self.change(|state| state.set_phase(&handle, Phase::Ended(exit)));
            } else if let Ok(shim) = alive {
                live += 1;
                self.change(|state| state.set_phase(&handle, Phase::Running));
                self.watch(record, shim);
            } else {
                warn!(container.handle = %handle, "the shim of `{handle}` died while no daemon ran");
                self.take_away(&handle);
            }
        }
        info!(live, "took {live} running containers back");
    }

    fn socket(&self, slot: u32) -> PathBuf {
        shim::socket(&self.0.config.raw.run, slot)
    }

    /// Memory and disk that may be promised in all, and the stacks.
    pub(crate) fn capacity(&self) -> Response {
        let capacity = self.0.config.raw.capacity;
        let listed = std::fs::read_dir(&self.0.config.stacks).into_iter().flatten().flatten();
        let mut stacks: Vec<String> = listed
            .filter(|entry| entry.path().join("rootfs").is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        let aliases = &self.0.config.raw.stack_aliases;
        stacks.extend(
            aliases.iter().filter(|(_, target)| stacks.contains(target)).map(|(alias, _)| alias.clone()).collect::<Vec<_>>(),
        );
        stacks.sort();
        let kept: u64 = self.state().volumes.values().sum();
        Response::Capacity {
            memory_bytes: capacity.memory_mb << 20,
            disk_bytes: capacity.disk_mb.saturating_sub(kept) << 20,
            stacks,
            services_address: self.0.config.subnet.gateway(),
        }
    }

    /// Makes a container.
    pub(crate) async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo> {
        let mut spec = validate::spec(&self.0.config, spec)?;
        let digest = record::digest(&spec)?;
        let lowers = self.lowers(&spec)?;
        let record = loop {
            match self.reserve(&spec, &digest)? {
                Reserved::New(record) => break record,
                Reserved::There(info) => return Ok(info),
                Reserved::Busy(handle) => self.await_change(&handle).await?,
            }
        };
        validate::replace_placeholders(&mut spec, record.address, self.0.host_address, &record.ports);
        // The rest goes on even if the client goes away: half a container would need clearing just the same.
        let host = self.clone();
        let made = self.0.shutdown.spawn(async move { host.make(spec, record, lowers).await });
        made.await.map_err(Error::at("making the container"))?
    }

    async fn make(&self, spec: ContainerSpec, record: Record, lowers: Vec<PathBuf>) -> Result<ContainerInfo> {
        let handle = record.handle.clone();
        let mut made = vec![];
        let launched = async {
            self.0.records.write(&record).map_err(Error::at("writing the record"))?;
            self.prepare_volumes(&spec, &mut made).await?;
            let template = self.0.images.template(record.disk_bytes).await?;
            let launch = Launch {
                folder: self.0.records.folder(&handle),
                lowers,
                volumes: record.volumes.iter().map(|id| self.0.volumes.image(id)).collect(),
                id_base: self.0.config.id_base(record.slot),
                cgroup: self.0.cgroups.path(&handle),
                link: self.0.config.link(record.slot),
                address: record.address,
                gateway: self.0.config.subnet.gateway(),
                log_socket: self.0.config.raw.log_socket.clone(),
                spec,
            };
            let socket = self.socket(record.slot);
            let (ports, ways) = (leads(&record).collect(), ways(&record).collect());
            let started = self.0.spares.launch(&self.0.programs, &template, &launch, &socket);
            tokio::try_join!(started, self.0.network.open(&ports, &ways))?;
            self.publish(&record).await?; // never given up halfway: what is taken over is noted as well
            self.refill(template);
            Ok(Shim::connect(&socket).await)
        };
        match launched.await {
            Ok(shim) => {
                self.change(|state| state.set_phase(&handle, Phase::Running));
                match (shim, self.0.records.exit(&handle)) {
                    (Ok(shim), _) => self.watch(record.clone(), shim),
                    // It ran, and has ended already.
                    (Err(_), Some(exit)) => self.note_end(&handle, exit),
                    (Err(e), None) => {
                        self.clear_now(&record).await;
                        return Err(Error::at("reaching the shim")(e));
                    }
                }
                let exit = self.visible(&handle).ok().and_then(|there| there.phase.exit());
                Ok(record.info(self.0.host_address, exit))
            }
            Err(e) => {
                self.clear_now(&record).await;
                for id in made {
                    // Nothing was ever in it.
                    if let Err(e) = self.delete_volume(&id).await {
                        warn!(error = &e as &dyn std::error::Error, "the volume `{id}` of a container that failed stays");
                    }
                }
                Err(e)
            }
        }
    }

    /// Lets a container's service ports lead to it, and ends what goes on with one that had them before and has ended.
    async fn publish(&self, record: &Record) -> Result<()> {
        if record.service_ports.is_empty() {
            return Ok(());
        }
        let _turn = self.0.publishing.lock().await;
        let before: BTreeMap<u16, u32> = {
            let state = self.state();
            record.service_ports.keys().filter_map(|port| Some((*port, *state.published.get(port)?))).collect()
        };
        let taken = before.keys().copied().collect();
        self.0.network.publish(&taken, &services(record).collect()).await?;
        self.change(|state| state.published.extend(record.service_ports.keys().map(|port| (*port, record.slot))));
        for slot in before.into_values().collect::<BTreeSet<_>>() {
            self.0.network.forget(self.0.config.subnet.address(slot)).await?;
        }
        Ok(())
    }

    /// Ends that, as far as its ports do not lead to another by now.
    async fn unpublish(&self, record: &Record) -> Result<()> {
        if record.service_ports.is_empty() {
            return Ok(());
        }
        let _turn = self.0.publishing.lock().await;
        let own = |state: &State, port: &u16| state.published.get(port) == Some(&record.slot);
        let leads = {
            let state = self.state();
            services(record).filter(|(port, _)| own(&state, port)).collect()
        };
        self.0.network.unpublish(&leads).await?;
        self.change(|state| state.published.retain(|port, _| !leads.contains_key(port)));
        Ok(())
    }

    /// Makes a shim ready for the next container, once this one is told.
    fn refill(&self, template: PathBuf) {
        let host = self.clone();
        self.0.shutdown.spawn(async move {
            tokio::time::sleep(REFILL).await;
            if let Err(e) = host.0.spares.refill(&host.0.programs, &template).await {
                warn!(error = &e as &dyn std::error::Error, "no shim is ready for the next container");
            }
        });
    }

    /// Makes volumes that are named for the first time, which are noted, and grows those that are asked for larger than they are.
    async fn prepare_volumes(&self, spec: &ContainerSpec, made: &mut Vec<String>) -> Result<()> {
        for asked in &spec.volumes {
            let before = self.0.volumes.size_mb(&asked.id);
            let prepared = match before {
                None => {
                    made.push(asked.id.clone());
                    self.0.volumes.make(&asked.id, asked.size_mb).await
                }
                Some(size_mb) => {
                    // Its last container is dead; the kernel may let go of the disk a moment later.
                    teardown::await_disk(&self.0.volumes.image(&asked.id)).await.map_err(Error::at("taking a volume over"))?;
                    if size_mb < asked.size_mb { self.0.volumes.grow(&asked.id, asked.size_mb).await } else { Ok(()) }
                }
            };
            if let Err(e) = prepared {
                self.change(|state| match before {
                    None => state.volumes.remove(&asked.id),
                    Some(size_mb) => state.volumes.insert(asked.id.clone(), size_mb),
                });
                return Err(e);
            }
        }
        Ok(())
    }

    /// All volumes.
    pub(crate) fn volumes(&self) -> Vec<VolumeInfo> {
        let state = self.state();
        let info = |(id, size_mb): (&String, &u64)| VolumeInfo {
            id: id.clone(),
            size_mb: *size_mb,
            container: state.holder(id).map(|holder| holder.record.handle.clone()),
        };
        state.volumes.iter().map(info).collect()
    }

    /// Removes a volume that no container has.
    pub(crate) async fn delete_volume(&self, id: &str) -> Result<()> {
        let failed = Error::at("removing a volume");
        if !self.state().volumes.contains_key(id) {
            return Ok(());
        }
        let held = |state: &State| match state.holder(id) {
            Some(holder) => Err(Error::Conflict(format!("volume `{id}` belongs to container `{}` now", holder.record.handle))),
            None => Ok(()),
        };
        held(&self.state())?;
        teardown::await_disk(&self.0.volumes.image(id)).await.map_err(failed)?;
        let gone = self.change(|state| {
            held(state)?;
            let gone = self.0.volumes.forget(id).map_err(failed)?;
            state.volumes.remove(id);
            Ok(gone)
        })?;
        let removed = tokio::task::spawn_blocking(move || crate::error::ignore_missing(std::fs::remove_dir_all(gone)));
        removed.await.map_err(Error::at("removing a volume"))?.map_err(failed)
    }

    /// Host folders that make up the root file system, lowest first.
    fn lowers(&self, spec: &ContainerSpec) -> Result<Vec<PathBuf>> {
        let config = &self.0.config;
        let name = config.raw.stack_aliases.get(&spec.stack).unwrap_or(&spec.stack);
        let stack = config.stacks.join(name).join("rootfs");
        if !crate::config::is_word(&name.replace('.', "_"), 64) || !stack.is_dir() {
            return Err(Error::NotFound(format!("stack {}", spec.stack)));
        }
        let mut lowers = vec![stack, self.0.trust.clone()];
        for layer in &spec.layers {
            lowers.push(self.0.layers.find(layer)?);
        }
        Ok(lowers)
    }

    fn reserve(&self, spec: &ContainerSpec, digest: &str) -> Result<Reserved> {
        let now = self.0.clock.now();
        let mut state = self.state();
        if let Some(there) = state.containers.get(&spec.handle) {
            return match &there.phase {
                Phase::Going => Ok(Reserved::Busy(spec.handle.clone())),
                _ if there.record.spec_sha256 != digest => {
                    Err(Error::Conflict(format!("a container `{}` with another spec exists", spec.handle)))
                }
                Phase::Coming => Ok(Reserved::Busy(spec.handle.clone())),
                Phase::Running => Ok(Reserved::There(there.record.info(self.0.host_address, None))),
                Phase::Ended(exit) => Ok(Reserved::There(there.record.info(self.0.host_address, Some(exit.clone())))),
            };
        }
        for volume in &spec.volumes {
            let Some(holder) = state.holder(&volume.id) else { continue };
            let other = &holder.record.handle;
            if holder.phase == Phase::Going {
                return Ok(Reserved::Busy(other.clone()));
            }
            return Err(Error::Conflict(format!("volume `{}` belongs to container `{other}` now", volume.id)));
        }
        for asked in &spec.service_ports {
            if let Some(holder) = state.publisher(asked.port) {
                let (port, other) = (asked.port, &holder.record.handle);
                return Err(Error::Conflict(format!("service port {port} belongs to container `{other}` now")));
            }
        }
        let record = state.promise(&self.0.config, spec, digest, &self.0.boot, now)?;
        state.containers.insert(spec.handle.clone(), Container { record: record.clone(), phase: Phase::Coming });
        Ok(Reserved::New(record))
    }

    async fn await_change(&self, handle: &str) -> Result<()> {
        let mut changes = self.0.changes.subscribe();
        let settled = |host: &Self| {
            let state = host.state();
            !state.containers.get(handle).is_some_and(|there| matches!(there.phase, Phase::Coming | Phase::Going))
        };
        let waited = tokio::time::timeout(PATIENCE, async { while !settled(self) && changes.changed().await.is_ok() {} });
        match waited.await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::Conflict(format!("the former container `{handle}` is still being taken away"))),
        }
    }

    /// Follows a container to its end.
    fn watch(&self, record: Record, mut shim: Shim) {
        let host = self.clone();
        self.0.shutdown.spawn(async move {
            let end = tokio::select! {
                end = host.await_end(&mut shim) => end,
                () = host.0.shutdown.requested() => return,
            };
            let handle = record.handle.clone();
            match end.or_else(|| host.0.records.exit(&handle)) {
                Some(exit) => host.note_end(&handle, exit),
                None => {
                    // The kernel has killed the container with its shim.
                    warn!(container.handle = %handle, "the shim of `{handle}` died");
                    host.take_away(&handle);
                }
            }
        });
    }

    async fn await_end(&self, shim: &mut Shim) -> Option<ProcessExit> {
        shim.send(&ShimRequest::Watch, &[]).await.ok()?;
        match shim.receive().await {
            Ok(Some(ShimResponse::Exited(exit))) => Some(exit),
            _ => None,
        }
    }

    fn note_end(&self, handle: &str, exit: ProcessExit) {
        let news = self.change(|state| match state.containers.get_mut(handle) {
            Some(there) if there.phase == Phase::Running => {
                there.phase = Phase::Ended(exit.clone());
                true
            }
            _ => false,
        });
        if news {
            let _ = self.0.events.send(Event::Exited { handle: handle.to_owned(), exit });
        }
    }

    /// Opens and closes what a container may reach on this host.
    pub(crate) async fn set_egress(&self, handle: &str, endpoints: Vec<Endpoint>) -> Result<()> {
        let egress = validate::egress(&self.0.config, endpoints)?;
        // One after the other, so that rules, record and state end with the same list.
        let _turn = self.0.egress.lock().await;
        let old = self.visible(handle)?.record;
        let new = Record { egress, ..old.clone() };
        // A daemon that is killed in between loads the new ones.
        self.0.records.write(&new).map_err(Error::at("writing the record"))?;
        let (old_ways, new_ways): (Ways, Ways) = (ways(&old).collect(), ways(&new).collect());
        if let Err(e) = self.0.network.replace(&old_ways, &new_ways).await {
            self.0.records.write(&old).map_err(Error::at("writing the record"))?;
            return Err(e);
        }
        let kept = self.change(|state| {
            let there =
                state.containers.get_mut(handle).filter(|there| there.phase.is_visible() && there.record.slot == old.slot);
            there.map(|there| there.record.egress = new.egress.clone())
        });
        if kept.is_none() {
            // It is being taken away, by its former list.
            self.0.network.close(&BTreeMap::new(), &new_ways).await?;
            return Err(Error::NotFound(format!("container {handle}")));
        }
        Ok(())
    }

    fn visible(&self, handle: &str) -> Result<Container> {
        let state = self.state();
        let there = state.containers.get(handle).filter(|there| there.phase.is_visible());
        there.cloned().ok_or_else(|| Error::NotFound(format!("container {handle}")))
    }

    /// One container.
    pub(crate) fn info(&self, handle: &str) -> Result<ContainerInfo> {
        let there = self.visible(handle)?;
        Ok(there.record.info(self.0.host_address, there.phase.exit()))
    }

    /// Those whose labels have these values.
    pub(crate) fn list(&self, labels: &BTreeMap<String, String>) -> Vec<ContainerInfo> {
        let state = self.state();
        let visible = state.containers.values().filter(|there| there.phase.is_visible());
        let asked = visible.filter(|there| labels.iter().all(|(key, value)| there.record.labels.get(key) == Some(value)));
        asked.map(|there| there.record.info(self.0.host_address, there.phase.exit())).collect()
    }

    /// What containers use.
    pub(crate) async fn metrics(&self, handles: &[String]) -> BTreeMap<String, Metrics> {
        let known = handles.iter().filter_map(|handle| self.visible(handle).ok());
        let asked = known.map(|there| async move {
            let handle = there.record.handle;
            let mut metrics = self.0.cgroups.metrics(&handle);
            let socket = self.socket(there.record.slot);
            let usage = Shim::ask(&socket, &ShimRequest::Usage, &[]);
            if let Ok(Ok(ShimResponse::Usage { disk_bytes, log_bytes })) =
                tokio::time::timeout(Duration::from_secs(2), usage).await
            {
                metrics.disk_bytes = disk_bytes;
                metrics.log_bytes = log_bytes;
            }
            (handle, metrics)
        });
        futures::future::join_all(asked).await.into_iter().collect()
    }

    /// Runs one more process inside; dropping the future kills it.
    pub(crate) async fn exec(&self, handle: &str, process: ProcessSpec, descriptors: Vec<OwnedFd>) -> Result<ProcessExit> {
        use std::os::fd::AsFd;
        validate::process(&process)?;
        let there = self.visible(handle)?;
        if there.phase != Phase::Running {
            return Err(Error::NotFound(format!("a running container {handle}")));
        }
        let mut process = process;
        validate::replace_in(&mut process.env, there.record.address, self.0.host_address, &there.record.ports);
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut shim = Shim::connect(&self.socket(there.record.slot))
            .await
            .map_err(|_| Error::NotFound(format!("a running container {handle}")))?;
        shim.send(&ShimRequest::Exec(process), &borrowed).await.map_err(Error::at("reaching the shim"))?;
        drop(descriptors);
        match shim.receive().await {
            Ok(Some(ShimResponse::Exited(exit))) => Ok(exit),
            Ok(Some(ShimResponse::Refused { kind, message })) => Err(Error::from_shim("the shim", kind, message)),
            Ok(Some(_)) => Err(shim::unexpected()),
            Ok(None) | Err(_) => Err(Error::from_shim("the process", ErrorKind::NotFound, format!("container {handle}"))),
        }
    }

    /// TERM, then KILL.
    pub(crate) async fn stop(&self, handle: &str, grace_ms: u64) -> Result<ProcessExit> {
        let there = self.visible(handle)?;
        if let Some(exit) = there.phase.exit() {
            return Ok(exit);
        }
        let answer = Shim::ask(&self.socket(there.record.slot), &ShimRequest::Stop { grace_ms }, &[]).await;
        match answer {
            Ok(ShimResponse::Exited(exit)) => {
                self.note_end(handle, exit.clone());
                Ok(exit)
            }
            Ok(_) => Err(shim::unexpected()),
            // It ended between our look and our request.
            Err(e) => self.0.records.exit(handle).ok_or(e),
        }
    }

    /// Makes a layer.
    pub(crate) async fn create_layer(&self, layer: &str, archive: &std::path::Path, prefix: &std::path::Path) -> Result<()> {
        self.0.layers.create(&self.0.config, &self.0.programs, layer, archive, prefix).await
    }

    /// Removes layers that nobody needs.
    pub(crate) async fn keep_layers(&self, keep: Vec<String>) -> Result<()> {
        let mut keep: BTreeSet<String> = keep.into_iter().collect();
        keep.extend(self.state().containers.values().flat_map(|there| there.record.layers.clone()));
        self.0.layers.keep(&keep).await
    }

    /// Events from here on, and those of containers that have ended already.
    pub(crate) fn events(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let state = self.state();
        let receiver = self.0.events.subscribe();
        let ended = state
            .containers
            .iter()
            .filter_map(|(handle, there)| Some(Event::Exited { handle: handle.clone(), exit: there.phase.exit()? }));
        (ended.collect(), receiver)
    }
}

enum Reserved {
    New(Record),
    There(ContainerInfo),
    /// Another container of that name, or one that has a volume of this one, is in between.
    Busy(String),
}

impl Phase {
    fn is_visible(&self) -> bool {
        matches!(self, Self::Running | Self::Ended(_))
    }
    fn exit(&self) -> Option<ProcessExit> {
        match self {
            Self::Ended(exit) => Some(exit.clone()),
            _ => None,
        }
    }
}

/// Settings of the whole host that containers gain from. Without them they run as well, only slower or with less.
fn prepare_kernel(config: &Config) {
    if config.raw.favor_cgroup_joins {
        match Cgroups::favor_joins() {
            Ok(true) => {}
            Ok(false) => info!("this kernel cannot join cgroups without a grace period: starting containers takes longer"),
            Err(e) => warn!(error = &e as &dyn std::error::Error, "cannot remount cgroup2 with favordynmods"),
        }
    }
    // What containers use counts for root too, because root makes their user namespaces.
    for (name, each) in [("max_user_instances", INOTIFY_INSTANCES), ("max_user_watches", INOTIFY_WATCHES)] {
        if let Err(e) = raise(&format!("/proc/sys/fs/inotify/{name}"), each.saturating_mul(config.slots.into())) {
            warn!(error = &e as &dyn std::error::Error, "cannot raise `fs.inotify.{name}`");
        }
    }
}

/// Sets a number of the kernel to at least this.
fn raise(path: &str, least: u64) -> io::Result<()> {
    let least = least.min(i32::MAX.unsigned_abs().into());
    let now: u64 = std::fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)?;
    if now < least { std::fs::write(path, least.to_string()) } else { Ok(()) }
}

/// Host ports of a container and where they lead.
fn leads(record: &Record) -> impl Iterator<Item = (u16, (Ipv4Addr, u16))> + '_ {
    record.ports.iter().map(|(inside, outside)| (*outside, (record.address, *inside)))
}

/// Service ports of a container and where they lead.
fn services(record: &Record) -> impl Iterator<Item = (u16, (Ipv4Addr, u16))> + '_ {
    record.service_ports.iter().map(|(port, inside)| (*port, (record.address, *inside)))
}

/// The slots to which service ports lead: of several containers that name one, at most one has not ended.
fn published<'a>(records: impl Iterator<Item = &'a Record>, ended: impl Fn(&Record) -> bool) -> BTreeMap<u16, u32> {
    let mut records: Vec<&Record> = records.collect();
    records.sort_by_key(|record| (!ended(record), record.created_at));
    records.into_iter().flat_map(|record| record.service_ports.keys().map(|port| (*port, record.slot))).collect()
}

/// What a container may reach on this host.
fn ways(record: &Record) -> impl Iterator<Item = (Ipv4Addr, Endpoint)> + '_ {
    record.egress.iter().map(|endpoint| (record.address, *endpoint))
}

impl State {
    fn recover(config: &Config, found: &[(String, Option<Record>)], resting: Resting, volumes: Sizes) -> Self {
        let mut slots = Pool::new(0..=config.slots - 1);
        let mut ports = Pool::new(config.raw.network.first_port.into()..=config.raw.network.last_port.into());
        resting.slots.into_iter().for_each(|(slot, until)| slots.rest(slot, until));
        resting.ports.into_iter().for_each(|(port, until)| ports.rest(port, until));
        let mut containers = BTreeMap::new();
        for record in found.iter().filter_map(|(_, record)| record.as_ref()) {
            slots.adopt(record.slot);
            record.ports.values().for_each(|port| ports.adopt((*port).into()));
            containers.insert(record.handle.clone(), Container { record: record.clone(), phase: Phase::Coming });
        }
        Self { containers, slots, ports, volumes, published: BTreeMap::new() }
    }

    /// The container that has a service port: one that ended, or is being taken away, has it no more.
    fn publisher(&self, port: u16) -> Option<&Container> {
        let live = self.containers.values().filter(|there| matches!(there.phase, Phase::Coming | Phase::Running));
        live.into_iter().find(|there| there.record.service_ports.contains_key(&port))
    }

    /// The container that has a volume: one that ended has it no more.
    fn holder(&self, volume: &str) -> Option<&Container> {
        let live = self.containers.values().filter(|there| !matches!(there.phase, Phase::Ended(_)));
        live.into_iter().find(|there| there.record.volumes.iter().any(|id| id == volume))
    }

    /// MiB that a spec's volumes take in addition to what they have.
    fn growth(&self, spec: &ContainerSpec) -> Result<u64> {
        let mut growth = 0;
        for volume in &spec.volumes {
            let has = self.volumes.get(&volume.id).copied().unwrap_or(0);
            if volume.size_mb < has {
                return Err(Error::Invalid(format!(
                    "volume `{}` has {has} MB and cannot shrink to {}",
                    volume.id, volume.size_mb
                )));
            }
            growth += volume.size_mb - has;
        }
        Ok(growth)
    }

    fn set_phase(&mut self, handle: &str, phase: Phase) {
        if let Some(there) = self.containers.get_mut(handle) {
            there.phase = phase;
        }
    }

    /// Takes room for a container, or says what is missing.
    fn promise(&mut self, config: &Config, spec: &ContainerSpec, digest: &str, boot: &str, now: Timestamp) -> Result<Record> {
        let promised = |of: fn(&Record) -> u64| self.containers.values().map(|there| of(&there.record)).sum::<u64>();
        let growth = self.growth(spec)? << 20;
        let kept = self.volumes.values().sum::<u64>() << 20;
        let room = [
            ("memory", spec.limits.memory_bytes, config.raw.capacity.memory_mb << 20, promised(|r| r.memory_bytes)),
            ("disk", spec.limits.disk_bytes + growth, config.raw.capacity.disk_mb << 20, promised(|r| r.disk_bytes) + kept),
        ];
        for (what, asked, all, promised) in room {
            let free = all.saturating_sub(promised);
            if asked > free {
                return Err(Error::NoRoom(format!("{} MB of {what} asked, {} MB free", asked >> 20, free >> 20)));
            }
        }
        let slot = self.slots.take(now).ok_or_else(|| Error::NoRoom("no address is free".into()))?;
        let mut ports = BTreeMap::new();
        for inside in &spec.ports {
            let Some(outside) = self.ports.take(now).and_then(|port| u16::try_from(port).ok()) else {
                self.slots.rest(slot, now);
                ports.values().for_each(|port: &u16| self.ports.rest((*port).into(), now));
                return Err(Error::NoRoom("no port of the host is free".into()));
            };
            ports.insert(*inside, outside);
        }
        for volume in &spec.volumes {
            self.volumes.insert(volume.id.clone(), volume.size_mb);
        }
        Ok(Record {
            handle: spec.handle.clone(),
            labels: spec.labels.clone(),
            spec_sha256: digest.to_owned(),
            slot,
            address: config.subnet.address(slot),
            ports,
            service_ports: spec.service_ports.iter().map(|asked| (asked.port, asked.container_port)).collect(),
            egress: spec.egress.clone(),
            layers: spec.layers.clone(),
            volumes: spec.volumes.iter().map(|volume| volume.id.clone()).collect(),
            memory_bytes: spec.limits.memory_bytes,
            disk_bytes: spec.limits.disk_bytes,
            created_at: now.0,
            boot: boot.to_owned(),
        })
    }

    /// Takes everything back; address and ports rest until then.
    fn release(&mut self, record: &Record, until: Timestamp) -> Resting {
        self.containers.remove(&record.handle);
        self.slots.rest(record.slot, until);
        record.ports.values().for_each(|port| self.ports.rest((*port).into(), until));
        Resting { slots: self.slots.resting().clone(), ports: self.ports.resting().clone() }
    }
}

/// What a task of the host reports when it cannot do its work.
fn log_failure(handle: &str, e: &(dyn std::error::Error + 'static)) {
    warn!(container.handle = %handle, error = e, "`{handle}` is not wholly taken away yet");
}

/// An error of the operating system with the thing it is about.
fn about(what: &str, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{what}: {e}"))
}
