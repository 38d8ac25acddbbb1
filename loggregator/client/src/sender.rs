//! The non-blocking way to the agent.

use crate::{Envelope, EnvelopeBatch, LineBatch, MAX_DATAGRAM, build};
use parking_lot::Mutex;
use prost::{Message, encoding};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

/// What waits while the agent is away or busy.
const BACKLOG: usize = 256 << 10;
/// Sources whose losses are counted apart; further ones are counted together under an empty source.
const COUNTED_SOURCES: usize = 1_000;

/// Sends envelopes to the agent's socket: never blocks, never fails, counts what it loses.
///
/// The socket is found by its path each time that the agent was away, so the agent may restart at any moment; up to 256 KiB
/// wait for it meanwhile and go out with the next [`Sender::send`] or [`Sender::flush`]. Beyond that the oldest are dropped.
/// Clone-free: share it by reference or `Arc`; calls from several threads are safe.
pub struct Sender {
    path: PathBuf,
    backlog: usize,
    state: Mutex<State>,
}

/// What became of what was handed over so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The agent has all that was not dropped.
    All,
    /// Some waits: call [`Sender::flush`] a little later, unless more is sent anyway.
    Waits,
}

#[derive(Default)]
struct State {
    socket: Option<UnixDatagram>,
    waiting: VecDeque<Datagram>,
    waiting_bytes: usize,
    lost: BTreeMap<String, u64>,
    lost_ever: u64,
    /// Newest timestamp seen: the time of a counter of losses, as there is no clock here.
    newest: i64,
}

struct Datagram {
    bytes: Vec<u8>,
    /// Envelopes by source.
    holds: BTreeMap<String, u64>,
}

impl Sender {
    /// A sender to the agent that listens, or will listen, at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_backlog(path, BACKLOG)
    }

    /// As [`Sender::new`], with at most `bytes` waiting while the agent is away.
    pub fn with_backlog(path: impl Into<PathBuf>, bytes: usize) -> Self {
        Self { path: path.into(), backlog: bytes, state: Mutex::default() }
    }

    /// Sends, splitting into datagrams of at most [`MAX_DATAGRAM`] bytes.
    pub fn send(&self, envelopes: Vec<Envelope>) -> Sent {
        if envelopes.is_empty() {
            return self.flush();
        }
        let mut state = self.state.lock();
        state.newest = envelopes.iter().map(|e| e.timestamp).fold(state.newest, i64::max);
        state.enqueue(&envelopes);
        state.drain(&self.path);
        state.shed(self.backlog);
        state.sent()
    }

    /// Sends lines that are encoded already, as one datagram.
    pub fn send_lines(&self, lines: LineBatch) -> Sent {
        if lines.is_empty() {
            return self.flush();
        }
        let mut state = self.state.lock();
        state.newest = state.newest.max(lines.newest);
        state.push(Datagram { bytes: lines.bytes, holds: lines.holds });
        state.drain(&self.path);
        state.shed(self.backlog);
        state.sent()
    }

    /// Tries again to send what waits.
    pub fn flush(&self) -> Sent {
        let mut state = self.state.lock();
        state.drain(&self.path);
        state.sent()
    }

    /// How many envelopes were dropped since the start.
    pub fn lost(&self) -> u64 {
        self.state.lock().lost_ever
    }
}

impl State {
    fn sent(&self) -> Sent {
        if self.waiting.is_empty() { Sent::All } else { Sent::Waits }
    }

    fn enqueue(&mut self, envelopes: &[Envelope]) {
        let mut datagram = Datagram { bytes: vec![], holds: BTreeMap::new() };
        for envelope in envelopes {
            let length = envelope.encoded_len();
            let whole = 1 + encoding::encoded_len_varint(length as u64) + length;
            if whole > MAX_DATAGRAM {
                self.lose(&envelope.source_id, 1);
                continue;
            }
            if datagram.bytes.len() + whole > MAX_DATAGRAM {
                self.push(std::mem::replace(&mut datagram, Datagram { bytes: vec![], holds: BTreeMap::new() }));
            }
            // Field 1 of `EnvelopeBatch`, written one by one: a batch is the concatenation of its fields.
            encoding::message::encode(1, envelope, &mut datagram.bytes);
            match datagram.holds.get_mut(&envelope.source_id) {
                Some(count) => *count += 1,
                None => drop(datagram.holds.insert(envelope.source_id.clone(), 1)),
            }
        }
        if !datagram.bytes.is_empty() {
            self.push(datagram);
        }
    }

    fn push(&mut self, datagram: Datagram) {
        self.waiting_bytes += datagram.bytes.len();
        self.waiting.push_back(datagram);
    }

    fn pop(&mut self) -> Option<Datagram> {
        let datagram = self.waiting.pop_front()?;
        self.waiting_bytes -= datagram.bytes.len();
        Some(datagram)
    }

    /// Sends until nothing waits or the agent does not take more now. News of losses goes first, apart from what waits:
    /// it must not be dropped with it.
    fn drain(&mut self, path: &Path) {
        let mut failures = 0;
        while let Some(next) = self.waiting.front() {
            let Some(socket) = &self.socket else {
                match connect(path) {
                    Ok(socket) => self.socket = Some(socket),
                    Err(_) => return,
                }
                continue;
            };
            let outcome = match self.lost.is_empty() {
                true => socket.send(&next.bytes),
                false => socket.send(&self.losses()),
            };
            match outcome {
                Ok(_) if self.lost.is_empty() => drop(self.pop()),
                Ok(_) => self.lost.clear(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.raw_os_error() == Some(ENOBUFS) => return,
                Err(e) if e.raw_os_error() == Some(EMSGSIZE) => self.lose_front(),
                // The agent that we knew is gone; perhaps a new one listens at the same path.
                Err(_) => {
                    self.socket = None;
                    failures += 1;
                    if failures > 1 {
                        return;
                    }
                }
            }
        }
    }

    fn losses(&self) -> Vec<u8> {
        let told = self.lost.iter().map(|(source, lost)| build::dropped(source, "sender", *lost, self.newest));
        EnvelopeBatch { batch: told.collect() }.encode_to_vec()
    }

    /// Drops the oldest until what waits fits the limit.
    fn shed(&mut self, limit: usize) {
        while self.waiting_bytes > limit {
            self.lose_front();
        }
    }

    fn lose_front(&mut self) {
        let Some(datagram) = self.pop() else { return };
        for (source, count) in datagram.holds {
            self.lose(&source, count);
        }
    }

    fn lose(&mut self, source: &str, count: u64) {
        self.lost_ever += count;
        let known = self.lost.contains_key(source) || self.lost.len() < COUNTED_SOURCES;
        *self.lost.entry(if known { source.to_owned() } else { String::new() }).or_default() += count;
    }
}

const EMSGSIZE: i32 = 90;
const ENOBUFS: i32 = 105;

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DROPPED, LogType, Payload, log_line};

    fn line(source: &str, size: usize) -> Envelope {
        log_line(source, "0", "APP/PROC/WEB", BTreeMap::new(), &vec![b'x'; size], LogType::Out, 7)
    }

    fn receive(socket: &UnixDatagram) -> Vec<Envelope> {
        let mut buffer = vec![0; MAX_DATAGRAM + 1];
        let size = socket.recv(&mut buffer).unwrap();
        EnvelopeBatch::decode(&buffer[..size]).unwrap().batch
    }

    fn losses(envelopes: &[Envelope]) -> BTreeMap<String, u64> {
        let loss = |e: &Envelope| match &e.message {
            Some(Payload::Counter(c)) if c.name == DROPPED => Some((e.source_id.clone(), c.delta)),
            _ => None,
        };
        envelopes.iter().filter_map(loss).collect()
    }

    #[test]
    fn what_was_sent_arrives_in_order_and_split() {
        let folder = tempfile::tempdir().unwrap();
        let agent = UnixDatagram::bind(folder.path().join("agent")).unwrap();
        let sender = Sender::new(folder.path().join("agent"));
        assert_eq!(sender.send((0..3).map(|i| line(&format!("s{i}"), 50_000)).collect()), Sent::All);
        let first = receive(&agent);
        let second = receive(&agent);
        let sources: Vec<_> = first.iter().chain(&second).map(|e| e.source_id.as_str()).collect();
        assert_eq!((first.len(), sources), (2, vec!["s0", "s1", "s2"]));
    }

    #[test]
    fn what_was_sent_while_the_agent_was_away_arrives_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let sender = Sender::new(&path);
        assert_eq!(sender.send(vec![line("early", 10)]), Sent::Waits);
        let agent = UnixDatagram::bind(&path).unwrap();
        assert_eq!(sender.flush(), Sent::All);
        assert_eq!(receive(&agent)[0].source_id, "early");
        drop(agent);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(sender.send(vec![line("between", 10)]), Sent::Waits);
        let agent = UnixDatagram::bind(&path).unwrap();
        assert_eq!(sender.send(vec![line("late", 10)]), Sent::All);
        assert_eq!(receive(&agent)[0].source_id, "between");
        assert_eq!(receive(&agent)[0].source_id, "late");
        assert_eq!(sender.lost(), 0);
    }

    #[test]
    fn what_finds_no_room_is_dropped_counted_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let sender = Sender::with_backlog(&path, 30_000);
        for _ in 0..5 {
            sender.send(vec![line("a", 10_000), line("b", 10)]);
        }
        assert_eq!(sender.lost(), 6, "two of five batches fit");
        let agent = UnixDatagram::bind(&path).unwrap();
        assert_eq!(sender.send(vec![line("c", 10)]), Sent::All);
        let arrived: Vec<Envelope> = (0..4).flat_map(|_| receive(&agent)).collect();
        let told: u64 = losses(&arrived).values().sum();
        let lines = arrived.iter().filter(|e| matches!(e.message, Some(Payload::Log(_)))).count();
        assert_eq!((told, lines), (6, 5), "{arrived:?}");
    }

    #[test]
    fn a_busy_agent_never_blocks_the_producer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let agent = UnixDatagram::bind(&path).unwrap();
        let sender = Sender::new(&path);
        for _ in 0..2_000 {
            sender.send(vec![line("flood", 1_000)]);
        }
        assert!(sender.lost() > 0);
        agent.set_nonblocking(true).unwrap();
        let (mut arrived, mut told) = (0, 0);
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            while let Ok(size) = agent.recv(&mut buffer) {
                let batch = EnvelopeBatch::decode(&buffer[..size]).unwrap().batch;
                arrived += batch.iter().filter(|e| matches!(e.message, Some(Payload::Log(_)))).count() as u64;
                told += losses(&batch).values().sum::<u64>();
            }
            if sender.flush() == Sent::All {
                sender.send(vec![line("flood", 1)]);
                break;
            }
        }
        while let Ok(size) = agent.recv(&mut buffer) {
            let batch = EnvelopeBatch::decode(&buffer[..size]).unwrap().batch;
            arrived += batch.iter().filter(|e| matches!(e.message, Some(Payload::Log(_)))).count() as u64;
            told += losses(&batch).values().sum::<u64>();
        }
        assert_eq!(arrived + told, 2_001, "every line arrived or was told as lost");
    }
}
