//! The table on disk, for a restart while the bus is down.
//!
//! One JSON object a line, in the form of the registrations that made it. Its age is the file's: it is touched every few
//! seconds, and a file that was not for longer than the registrars' quarantine allows is not believed. Losing it costs
//! nothing but that restart.

use crate::{
    proxy::Shared,
    registrar::Registrar,
    table::{Endpoint, Pool},
};
use messages::router::{Options, Register};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{info, warn};

const FILE: &str = "routes.jsonl";

/// Writes the table whenever it changed, and says "still true" when it did not.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
    written: Option<u64>,
    /// A large table is written more rarely: never more than a twentieth of the time.
    next: Instant,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, state: &Path) -> Self {
        Self { shared, path: state.join(FILE), written: None, next: Instant::now() }
    }

    /// One round; blocks on the disk.
    pub(crate) fn round(&mut self) {
        let changes = self.shared.table.changes();
        let began = Instant::now();
        let done = if self.written == Some(changes) {
            File::options().append(true).open(&self.path).and_then(|file| file.set_modified(system_time(&self.shared)))
        } else if began < self.next {
            return;
        } else {
            write(&self.shared, &self.path)
        };
        match done {
            Ok(()) => {
                if self.written != Some(changes) {
                    self.next = began + began.elapsed() * 20;
                }
                self.written = Some(changes);
            }
            Err(e) => {
                self.written = None;
                warn!(error = &e as &dyn std::error::Error, "cannot write {}", self.path.display());
            }
        }
    }
}

fn write(shared: &Shared, path: &Path) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut out = BufWriter::new(File::create(&fresh)?);
    let mut outcome: io::Result<()> = Ok(());
    shared.table.each(|pool| {
        for endpoint in &pool.endpoints {
            if outcome.is_ok() {
                let written = serde_json::to_writer(&mut out, &registration(pool, endpoint)).map_err(io::Error::from);
                outcome = written.and_then(|()| out.write_all(b"\n"));
            }
        }
    });
    outcome?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.set_modified(system_time(shared))?;
    std::fs::rename(&fresh, path)
}

fn system_time(shared: &Shared) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::from_micros(shared.clock.now().0)
}

/// The registration that makes this endpoint of this route.
pub(crate) fn registration(pool: &Pool, endpoint: &Endpoint) -> Register {
    let attributes = &endpoint.instance.attributes;
    let port = Some(attributes.address.port());
    Register {
        host: attributes.address.ip().to_string(),
        port: port.filter(|_| !attributes.tls),
        tls_port: port.filter(|_| attributes.tls),
        uris: vec![pool.key.to_string()],
        app: attributes.app.clone(),
        private_instance_id: attributes.instance.clone(),
        private_instance_index: attributes.index.clone(),
        server_cert_domain_san: attributes.server_name.clone(),
        protocol: attributes.http2.then(|| "http2".to_owned()),
        route_service_url: attributes.route_service.clone(),
        stale_threshold_in_seconds: attributes.ttl.map(|ttl| ttl.as_secs() as u32),
        endpoint_updated_at_ns: Some(attributes.updated_ns).filter(|ns| *ns != 0),
        tags: attributes.tags.clone(),
        options: Some(Options { loadbalancing: Some(pool.balance.as_str().to_owned()) }),
    }
}

/// Fills the table from a file that is young enough; returns the number of registrations in it.
pub(crate) fn load(registrar: &Registrar, state: &Path, oldest: Duration) -> Option<usize> {
    let path = state.join(FILE);
    let file = File::open(&path).ok()?;
    let modified = file.metadata().ok()?.modified().ok()?;
    let age = system_time(&registrar.shared).duration_since(modified).unwrap_or_default();
    if age > oldest {
        info!(age_s = age.as_secs(), "the snapshot is too old to be believed");
        return None;
    }
    let mut read = 0;
    for line in BufReader::new(file).lines() {
        // A torn or foreign line is skipped: the rest is as good as before.
        let Some(message) = line.ok().and_then(|line| serde_json::from_str::<Register>(&line).ok()) else { continue };
        read += usize::from(registrar.apply(message, true).is_ok());
    }
    info!(routes = registrar.shared.table.routes(), age_ms = age.as_millis() as u64, "took the snapshot");
    Some(read)
}
