//! One server: started at the first need, kept running, stopped in order.

use crate::{
    Error, Program, Signal, User,
    files::{self, remove_folder},
    log,
    process::{self, Running},
};
use async_trait::async_trait;
use foundation::Shutdown;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

/// What a kind of server is, to whoever keeps it running.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// What logs and messages call it: `postgres`.
    fn name(&self) -> &'static str;

    /// The program that fills the new, empty folder `data` with what a server needs before its first start; `None` if a
    /// server does that itself. Once it ended well, `data` is renamed to its final place, so that a half-filled folder never
    /// passes for a whole one.
    async fn initialize(&self, data: &Path) -> Result<Option<Program>, Error>;

    /// The program that runs the server on `data` in the foreground, logging to standard output or error. Called before
    /// every start: writes the configuration files too.
    async fn launch(&self, data: &Path) -> Result<Program, Error>;

    /// Whether it serves: one quick request, by the administrator's way.
    async fn probe(&self) -> Result<(), Error>;

    /// Called each time after it began to serve, and after it was adopted, before anybody else may use it: what must be there
    /// in every server. Repeatable.
    async fn settle(&self) -> Result<(), Error> {
        Ok(())
    }

    /// What asks it to end in order, without waiting for its clients.
    fn stop_signal(&self) -> Signal {
        Signal::TERM
    }
}

/// Where and how a server is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its folder, made if it is missing: `data/`, `server.log`, notes.
    pub folder: PathBuf,
    /// Whom it runs as.
    pub user: User,
    /// How long a start may take before it is given up and tried again.
    pub start_timeout: Duration,
    /// How long it may take to stop in order.
    pub stop_timeout: Duration,
}

impl Settings {
    /// With the usual times.
    pub fn new(folder: impl Into<PathBuf>, user: User) -> Self {
        let (start_timeout, stop_timeout) = (Duration::from_secs(50), Duration::from_secs(10));
        Self { folder: folder.into(), user, start_timeout, stop_timeout }
    }
}

/// Where a server is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody needs it.
    Stopped,
    /// It is being started, stopped, or looked for after the broker's own start.
    Starting,
    /// It serves.
    Running {
        /// Its process.
        pid: i32,
        /// An earlier broker started it.
        adopted: bool,
    },
    /// It did not start or ended; another attempt follows by itself.
    Failed(String),
}

/// A handle on one server; clones are the same server.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    settings: Settings,
    wanted: watch::Sender<bool>,
    phase: watch::Sender<Phase>,
    again: Notify,
    forgotten: Notify,
}

/// Pauses before the next start after a failed one.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
];
/// A server that ran for so long had been well: its next start is not delayed.
const WELL: Duration = Duration::from_secs(60);
const LOG_INTERVAL: Duration = Duration::from_secs(60);

impl Server {
    /// A server in its folder. If it was needed when the last broker ended, it is adopted or started at once, in the background;
    /// if not, one that still runs is stopped.
    ///
    /// # Errors
    /// [`Error::File`] when the folder cannot be used.
    pub fn open(mut settings: Settings, engine: Arc<dyn Engine>, shutdown: &Shutdown) -> Result<Self, Error> {
        files::folder(&settings.folder, settings.user)?;
        settings.folder = settings.folder.canonicalize().map_err(crate::error::file("find", &settings.folder))?;
        let wanted = settings.folder.join("wanted").exists();
        // Not `Stopped`, even if it is not wanted: one that was left may still run.
        let phase = Phase::Starting;
        let inner = Inner {
            engine,
            settings,
            wanted: watch::Sender::new(wanted),
            phase: watch::Sender::new(phase),
            again: Notify::new(),
            forgotten: Notify::new(),
        };
        let server = Self(Arc::new(inner));
        shutdown.spawn(server.clone().keep(shutdown.clone()));
        Ok(server)
    }

    /// Starts it if it does not run, and returns once it serves.
    ///
    /// # Errors
    /// [`Error::NotReady`] when it does not serve within the time for a start; it is still being tried.
    pub async fn ensure(&self) -> Result<(), Error> {
        let wanted = self.wanted_note();
        if !*self.0.wanted.borrow() || !wanted.exists() {
            files::write(&wanted, b"", User(None))?;
            self.0.wanted.send_replace(true);
        }
        self.running(self.0.settings.start_timeout).await
    }

    /// Returns once it serves; does not start it.
    ///
    /// # Errors
    /// [`Error::NotReady`] when that takes longer than `time`.
    pub async fn running(&self, time: Duration) -> Result<(), Error> {
        let mut phase = self.0.phase.subscribe();
        let runs = tokio::time::timeout(time, phase.wait_for(|phase| matches!(phase, Phase::Running { .. }))).await;
        match runs {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::NotReady(
                self.0.engine.name(),
                match self.phase() {
                    Phase::Failed(why) => why,
                    Phase::Stopped => "it is stopped".to_owned(),
                    _ => "it is starting".to_owned(),
                },
            )),
        }
    }

    /// Stops it in order: nobody needs it. Its data stays.
    ///
    /// # Errors
    /// [`Error::NotReady`] when it takes too long; it will be stopped.
    pub async fn release(&self) -> Result<(), Error> {
        match std::fs::remove_file(self.wanted_note()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(crate::error::file("remove", &self.wanted_note())(e));
            }
            _ => self.0.wanted.send_replace(false),
        };
        let (mut phase, mut wanted) = (self.0.phase.subscribe(), self.0.wanted.subscribe());
        tokio::select! {
            _ = phase.wait_for(|phase| *phase == Phase::Stopped) => Ok(()),
            // Somebody needs it again
            _ = wanted.wait_for(|wanted| *wanted) => Ok(()),
            () = tokio::time::sleep(self.0.settings.stop_timeout + Duration::from_secs(10)) => {
                Err(Error::NotReady(self.0.engine.name(), "it does not stop".to_owned()))
            }
        }
    }

    /// Stops it in order and removes its folder with all data and logs.
    ///
    /// # Errors
    /// As [`Server::release`]; [`Error::File`].
    pub async fn destroy(&self) -> Result<(), Error> {
        self.release().await?;
        self.forget();
        remove_folder(&self.0.settings.folder.join("data"))?;
        remove_folder(&self.0.settings.folder)
    }

    /// Ends the care for a server that was released and will never be needed again.
    pub fn forget(&self) {
        self.0.forgotten.notify_one();
    }

    /// Stops it in order and starts it again, with new configuration files; returns once it serves.
    ///
    /// # Errors
    /// As [`Server::ensure`].
    pub async fn restart(&self) -> Result<(), Error> {
        let mut phase = self.0.phase.subscribe();
        if let before @ Phase::Running { .. } = self.phase() {
            self.0.again.notify_one();
            let time = self.0.settings.stop_timeout + Duration::from_secs(10);
            let _ = tokio::time::timeout(time, phase.wait_for(|now| *now != before)).await;
        }
        self.ensure().await
    }

    /// Where it is in its life now.
    pub fn phase(&self) -> Phase {
        self.0.phase.borrow().clone()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.0.settings.folder.join("data")
    }

    /// Its log file.
    pub fn log(&self) -> PathBuf {
        self.0.settings.folder.join("server.log")
    }

    fn wanted_note(&self) -> PathBuf {
        self.0.settings.folder.join("wanted")
    }
    fn launch_note(&self) -> PathBuf {
        self.0.settings.folder.join("launched")
    }
    fn name(&self) -> &'static str {
        self.0.engine.name()
    }
    fn show(&self, phase: Phase) {
        self.0.phase.send_replace(phase);
    }

    async fn keep(self, shutdown: Shutdown) {
        let Some(_lock) = self.lock(&shutdown).await else { return };
        let mut wanted = self.0.wanted.subscribe();
        let mut failures = 0;
        loop {
            if !*wanted.borrow_and_update() {
                self.stop_left().await;
                self.show(Phase::Stopped);
                failures = 0;
                tokio::select! {
                    _ = wanted.wait_for(|wanted| *wanted) => {}
                    () = self.0.forgotten.notified() => return,
                    () = shutdown.requested() => return,
                }
            }
            if !matches!(self.phase(), Phase::Failed(_)) {
                self.show(Phase::Starting);
            }
            let began = Instant::now();
            let started = tokio::select! {
                started = self.start() => started,
                () = shutdown.requested() => Err(Error::NotReady(self.name(), "the broker ends".to_owned())),
            };
            if shutdown.is_requested() && started.is_err() {
                return self.stop_left().await;
            }
            let why = match started {
                Ok(running) => {
                    self.show(Phase::Running { pid: running.pid(), adopted: running.adopted });
                    info!(pid = running.pid(), adopted = running.adopted, "the {} server serves", self.name());
                    match self.watch(running, &mut wanted, &shutdown).await {
                        Some(why) => why,
                        None if shutdown.is_requested() => return,
                        None => continue,
                    }
                }
                Err(e) => e.chain(),
            };
            failures = if began.elapsed() > WELL { 0 } else { failures + 1 };
            warn!(attempt = failures, "the {} server does not run: {why}", self.name());
            self.show(Phase::Failed(why));
            let pause = PAUSES[failures.min(PAUSES.len()) - usize::from(failures > 0)];
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = wanted.wait_for(|wanted| !*wanted) => {}
                () = shutdown.requested() => {}
            }
            if shutdown.is_requested() {
                return self.stop_left().await;
            }
        }
    }

    /// Watches a server that serves until it ends (then says how), or is stopped because nobody needs it, it shall start
    /// anew, or the broker ends.
    async fn watch(&self, mut running: Running, wanted: &mut watch::Receiver<bool>, shutdown: &Shutdown) -> Option<String> {
        let mut rotation = tokio::time::interval(LOG_INTERVAL);
        loop {
            tokio::select! {
                how = running.ended() => {
                    let said = log::tail(&self.log(), running.log_from);
                    return Some(format!("it ended ({how}): {said}"));
                }
                _ = wanted.wait_for(|wanted| !*wanted) => break,
                () = self.0.again.notified() => break,
                () = shutdown.requested() => break,
                _ = rotation.tick() => {
                    if let Err(e) = log::rotate(&self.log()) {
                        warn!(error = &e as &dyn std::error::Error, "cannot cut the log of {}", self.name());
                    }
                }
            }
        }
        self.show(Phase::Starting);
        info!(pid = running.pid(), "stopping the {} server", self.name());
        running.stop(self.0.engine.stop_signal(), self.0.settings.stop_timeout, &self.log()).await;
        None
    }

    /// Adopts or starts a server; returns once it serves.
    async fn start(&self) -> Result<Running, Error> {
        let Settings { user, start_timeout, .. } = &self.0.settings;
        let (data, log) = (self.data(), self.log());
        if !data.exists() {
            self.stop_left().await;
            let fresh = self.0.settings.folder.join("data.new");
            remove_folder(&fresh)?;
            files::folder(&fresh, *user)?;
            if let Some(program) = self.0.engine.initialize(&fresh).await? {
                info!("making a data folder for {}", self.name());
                process::run_once(&program, &log, &self.launch_note()).await?;
            }
            files::rename(&fresh, &data)?;
        }
        let program = self.0.engine.launch(&data).await?;
        let mut running = match process::found(&program, &log, &self.launch_note()) {
            Some(found) => found,
            None => {
                self.stop_left().await;
                process::start(&program, &log, &self.launch_note())?
            }
        };
        let serves = tokio::select! {
            how = running.ended() => Err(format!("it ended ({how}) at its start: {}", log::tail(&log, running.log_from))),
            served = tokio::time::timeout(*start_timeout, self.serves()) => {
                served.map_err(|_| format!("it does not serve after {} s", start_timeout.as_secs()))
            }
        };
        let settled = match serves {
            Ok(()) => self.settles(&mut running).await,
            Err(why) => Err(why),
        };
        match settled {
            Ok(()) => Ok(running),
            Err(why) => {
                running.stop(self.0.engine.stop_signal(), self.0.settings.stop_timeout, &log).await;
                Err(Error::NotReady(self.name(), why))
            }
        }
    }

    /// Returns once a probe went well.
    async fn serves(&self) {
        let mut pause = Duration::from_millis(10);
        while self.0.engine.probe().await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Returns once the engine settled. A server that serves has its tenants, so it is not stopped for what does not succeed at once.
    async fn settles(&self, running: &mut Running) -> Result<(), String> {
        let mut wanted = self.0.wanted.subscribe();
        for pause in PAUSES.into_iter().chain(std::iter::repeat(PAUSES[PAUSES.len() - 1])) {
            let settled = tokio::select! {
                how = running.ended() => return Err(format!("it ended ({how}): {}", log::tail(&self.log(), running.log_from))),
                settled = tokio::time::timeout(self.0.settings.start_timeout, self.0.engine.settle()) => settled,
            };
            let why = match settled {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(e)) => e.chain(),
                Err(_) => "it takes too long".to_owned(),
            };
            warn!("the {} server serves, and cannot be set up yet: {why}", self.name());
            self.show(Phase::Failed(format!("it cannot be set up yet: {why}")));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = wanted.wait_for(|wanted| !*wanted) => return Err("nobody needs it any more".to_owned()),
            }
        }
        Ok(())
    }

    async fn stop_left(&self) {
        process::stop_left(&self.log(), self.0.engine.stop_signal(), self.0.settings.stop_timeout).await;
    }

    /// Makes sure that no other broker keeps the same folder.
    async fn lock(&self, shutdown: &Shutdown) -> Option<std::fs::File> {
        let path = self.0.settings.folder.join("lock");
        loop {
            let locked = std::fs::File::create(&path).and_then(|file| match file.try_lock() {
                Ok(()) => Ok(file),
                Err(e) => Err(e.into()),
            });
            match locked {
                Ok(file) => return Some(file),
                Err(e) => self.show(Phase::Failed(format!("cannot lock {}: {e}", path.display()))),
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
                () = shutdown.requested() => return None,
            }
        }
    }
}
