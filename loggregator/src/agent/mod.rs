//! The agent of a host: datagrams in, batches over the bus out.
//!
//! A thread of its own drains the socket, as the kernel lets only a handful of datagrams wait there; [`Queue`] holds what
//! the bus did not take yet and drops the oldest beyond its bounds.

mod queue;

pub use queue::Queue;
pub(crate) use queue::{AGENT, SENT};

use crate::config::AgentConfig;
use bus::Bus;
use foundation::Shutdown;
use loggregator_client::{ENVELOPES_SUBJECT, EnvelopeBatch, MAX_DATAGRAM};
use prost::Message;
use rand::Rng;
use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tracing::{error, warn};
use types::Clock;

/// The largest batch on the bus.
const MAX_BATCH: usize = 512 << 10;
/// How long the thread at the socket waits before it looks whether the end was asked for.
const LOOK: Duration = Duration::from_millis(200);

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The socket cannot be made.
    #[error("cannot listen at {0}")]
    Socket(PathBuf, #[source] io::Error),
}

/// Starts the agent; returns once producers can send.
///
/// # Errors
/// When the socket cannot be made.
pub fn start(
    config: AgentConfig,
    bus: Bus,
    clock: Arc<dyn Clock>,
    rng: &mut dyn Rng,
    shutdown: &Shutdown,
) -> Result<(), AgentError> {
    let socket = bind(&config.socket).map_err(|e| AgentError::Socket(config.socket.clone(), e))?;
    let queue = Arc::new(Queue::new(&config, format!("loggregator_agent/{:016x}", rng.next_u64())));
    let (received, ending) = (queue.clone(), shutdown.clone());
    let drained =
        std::thread::Builder::new().name("agent-socket".into()).spawn(move || drain(&socket, &received, &*clock, &ending));
    drained.map_err(|e| AgentError::Socket(config.socket.clone(), e))?;
    shutdown.spawn(flush(queue, bus, config.flush, shutdown.clone()));
    Ok(())
}

/// Takes the place of a socket that an earlier agent left. Any user may send who may enter the folder.
fn bind(path: &Path) -> io::Result<UnixDatagram> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    socket.set_read_timeout(Some(LOOK))?;
    Ok(socket)
}

fn drain(socket: &UnixDatagram, queue: &Queue, clock: &dyn Clock, ending: &Shutdown) {
    let mut buffer = vec![0; MAX_DATAGRAM + 1];
    while !ending.is_requested() {
        match socket.recv(&mut buffer) {
            Ok(size) => match EnvelopeBatch::decode(&buffer[..size]) {
                Ok(batch) => queue.push(batch.batch, clock.now().as_nanos()),
                Err(_) => queue.unreadable(),
            },
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(e) => {
                error!(error = &e as &dyn std::error::Error, "the agent's socket failed");
                ending.request();
                return;
            }
        }
    }
    // What producers sent before the end is still theirs to see.
    let _ = socket.set_nonblocking(true);
    while let Ok(size) = socket.recv(&mut buffer) {
        if let Ok(batch) = EnvelopeBatch::decode(&buffer[..size]) {
            queue.push(batch.batch, clock.now().as_nanos());
        }
    }
}

/// Sends at once after a pause, else in batches of one flush interval.
async fn flush(queue: Arc<Queue>, bus: Bus, every: Duration, shutdown: Shutdown) {
    let mut connected = bus.connected();
    let mut last = None;
    loop {
        let ready = async {
            queue.filled().await;
            if let Some(last) = last {
                tokio::time::sleep_until(last + every).await;
            }
            // While the bus is away everything waits in the queue, where losses are counted.
            let _ = connected.wait_for(|up| *up).await;
        };
        tokio::select! {
            () = ready => {}
            () = shutdown.requested() => break,
        }
        last = Some(Instant::now());
        send_all(&queue, &bus).await;
    }
    tokio::time::sleep(LOOK).await;
    if *bus.connected().borrow() {
        let _ = tokio::time::timeout(Duration::from_secs(1), send_all(&queue, &bus)).await;
    }
}

async fn send_all(queue: &Queue, bus: &Bus) {
    while let Some(batch) = queue.take(MAX_BATCH) {
        if let Err(e) = bus.publish_to(ENVELOPES_SUBJECT, batch.into()).await {
            warn!(error = &e as &dyn std::error::Error, "a batch of envelopes was lost");
        }
    }
}

#[cfg(test)]
mod tests;
