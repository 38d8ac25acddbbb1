//! Output of a container: lines, limits, envelopes.
//!
//! Source: cloudfoundry/executor, `depot/log_streamer` (splitting, sizes, notice).

use loggregator_client::{Counter, Envelope, EnvelopeBatch, Log, LogType, MAX_DATAGRAM, Payload};
use prost::Message;
use std::{collections::VecDeque, io, os::unix::net::UnixDatagram, path::PathBuf};
use warden_client::LogTarget;

/// The longest payload of one envelope.
pub const LONGEST_LINE: usize = 61_440;
/// How much of standard error is remembered for explanations.
const REMEMBERED: usize = 8 << 10;
/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// Cuts a stream of bytes into lines: at LF or CR, empty ones dropped, long ones cut between characters.
#[derive(Default)]
pub struct Splitter {
    partial: Vec<u8>,
}

impl Splitter {
    /// Takes bytes in and hands each whole line to `line`.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n' || b == b'\r') {
            self.append(&bytes[..end], &mut line);
            self.flush(&mut line);
            bytes = &bytes[end + 1..];
        }
        self.append(bytes, &mut line);
    }

    /// Hands on what has no end of line yet.
    pub fn flush(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            line(&self.partial);
            self.partial.clear();
        }
    }

    fn append(&mut self, mut bytes: &[u8], line: &mut impl FnMut(&[u8])) {
        while self.partial.len() + bytes.len() > LONGEST_LINE {
            let (now, later) = bytes.split_at(LONGEST_LINE - self.partial.len());
            self.partial.extend_from_slice(now);
            let cut = character_end(&self.partial);
            line(&self.partial[..cut]);
            self.partial.drain(..cut);
            bytes = later;
        }
        self.partial.extend_from_slice(bytes);
    }
}

/// The length without a character that is torn at the end; at most 3 bytes less.
fn character_end(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(4) {
        let at = bytes.len() - back;
        match bytes[at] {
            byte if byte & 0b1100_0000 == 0b1000_0000 => {}
            byte if byte >= 0b1100_0000 => {
                let needed = if byte >= 0b1111_0000 { 4 } else { 2 + usize::from(byte >= 0b1110_0000) };
                return if needed > back && back < 4 { at } else { bytes.len() };
            }
            _ => return bytes.len(),
        }
    }
    bytes.len()
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    PassWithNotice,
    Drop,
}

/// A token bucket of one second's worth; once it runs dry everything is dropped for a second.
struct Limiter {
    bytes_per_second: i64,
    tokens: f64,
    filled_at: i64,
    closed_until: i64,
}

impl Limiter {
    fn new(bytes_per_second: i64, now: i64) -> Self {
        Self { bytes_per_second, tokens: bytes_per_second as f64, filled_at: now, closed_until: i64::MIN }
    }

    fn take(&mut self, bytes: usize, now: i64) -> Verdict {
        if self.bytes_per_second < 0 {
            return Verdict::Pass;
        }
        if self.bytes_per_second == 0 || now < self.closed_until {
            return Verdict::Drop;
        }
        let rate = self.bytes_per_second as f64;
        let passed = (now - self.filled_at).max(0) as f64 / SECOND as f64;
        self.tokens = (self.tokens + passed * rate).min(rate);
        self.filled_at = now;
        if bytes as f64 <= self.tokens {
            self.tokens -= bytes as f64;
            return Verdict::Pass;
        }
        self.closed_until = now + SECOND;
        Verdict::PassWithNotice
    }
}

/// Sends lines of one container to the agent; never waits for it.
pub struct Sender {
    target: Option<LogTarget>,
    path: PathBuf,
    socket: Option<UnixDatagram>,
    limiter: Limiter,
    batch: Vec<Envelope>,
    batch_bytes: usize,
    dropped: u64,
    passed_bytes: u64,
    stderr: VecDeque<Vec<u8>>,
    stderr_bytes: usize,
}

impl Sender {
    /// Lines of `target` (none: thrown away) go to the socket at `path`.
    pub fn new(target: Option<LogTarget>, path: PathBuf, bytes_per_second: i64, now: i64) -> Self {
        Self {
            target,
            path,
            socket: None,
            limiter: Limiter::new(bytes_per_second, now),
            batch: vec![],
            batch_bytes: 0,
            dropped: 0,
            passed_bytes: 0,
            stderr: VecDeque::new(),
            stderr_bytes: 0,
        }
    }

    /// Log bytes passed on so far.
    pub fn passed_bytes(&self) -> u64 {
        self.passed_bytes
    }

    /// The last lines of standard error.
    pub fn last_stderr(&self) -> Vec<String> {
        self.stderr.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    /// Takes one line; it leaves with the next [`Sender::flush`].
    pub fn line(&mut self, kind: LogType, line: &[u8], now: i64) {
        if kind == LogType::Err {
            self.remember(line);
        }
        if self.target.is_none() {
            return;
        }
        match self.limiter.take(line.len(), now) {
            Verdict::Drop => {}
            Verdict::Pass => self.push(kind, line, now),
            Verdict::PassWithNotice => {
                self.push(kind, line, now);
                let notice = format!("app instance exceeded log rate limit ({} bytes/sec)", self.limiter.bytes_per_second);
                self.push(LogType::Out, notice.as_bytes(), now);
            }
        }
    }

    fn remember(&mut self, line: &[u8]) {
        let line = &line[..line.len().min(REMEMBERED)];
        self.stderr.push_back(line.to_vec());
        self.stderr_bytes += line.len();
        while self.stderr_bytes > REMEMBERED {
            self.stderr_bytes -= self.stderr.pop_front().map_or(0, |line| line.len());
        }
    }

    fn push(&mut self, kind: LogType, line: &[u8], now: i64) {
        self.passed_bytes += line.len() as u64;
        let log = Payload::Log(Log { payload: line.to_vec(), kind: kind as i32 });
        let Some(envelope) = self.envelope(log, now) else { return };
        self.batch_bytes += envelope.encoded_len() + 8; // its own tag and length
        self.batch.push(envelope);
        if self.batch_bytes > MAX_DATAGRAM / 2 {
            self.flush(now);
        }
    }

    fn envelope(&self, payload: Payload, now: i64) -> Option<Envelope> {
        let target = self.target.as_ref()?;
        let mut tags = target.tags.clone();
        tags.insert("source_type".into(), target.source_type.clone());
        Some(Envelope {
            timestamp: now,
            source_id: target.source_id.clone(),
            instance_id: target.instance_id.clone(),
            tags,
            message: Some(payload),
        })
    }

    /// Sends what has collected. What the agent cannot take now is dropped and counted; the count goes with the next batch.
    pub fn flush(&mut self, now: i64) {
        if self.batch.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let lines = batch.len() as u64;
        if self.dropped > 0 {
            let counter = Payload::Counter(Counter { name: "dropped".into(), delta: self.dropped, total: 0 });
            batch.extend(self.envelope(counter, now));
        }
        match self.send(&EnvelopeBatch { batch }.encode_to_vec()) {
            Ok(()) => self.dropped = 0,
            Err(_) => {
                self.dropped += lines;
                self.socket = None; // a new agent listens on a new socket
            }
        }
    }

    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket.connect(&self.path)?;
                socket
            }
        };
        match socket.send(datagram) {
            // The agent is there but busy: keep the socket.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.socket = Some(socket);
                Err(e)
            }
            Err(e) => Err(e),
            Ok(_) => {
                self.socket = Some(socket);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn split(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = vec![];
        let mut splitter = Splitter::default();
        for piece in pieces {
            splitter.push(piece, |line| lines.push(line.to_vec()));
        }
        splitter.flush(|line| lines.push(line.to_vec()));
        lines
    }

    #[test]
    fn lines_end_at_either_mark_and_empty_ones_are_dropped() {
        assert_eq!(
            split(&[b"one\r\ntwo\n\n", b"thr", b"ee\r", b"rest"]),
            [b"one".to_vec(), b"two".to_vec(), b"three".to_vec(), b"rest".to_vec()]
        );
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = "é".repeat(LONGEST_LINE);
        let odd = format!("x{text}");
        let lines = split(&[odd.as_bytes()]);
        assert!(lines.len() > 2 && lines.iter().all(|line| line.len() <= LONGEST_LINE && std::str::from_utf8(line).is_ok()));
        assert_eq!(lines.concat(), odd.as_bytes());
    }

    #[test]
    fn a64_bytes_that_are_no_text_are_cut_and_never_stall() {
        let noise = vec![0xFF; LONGEST_LINE * 3 + 5];
        assert_eq!(split(&[&noise]).concat(), noise);
        let continuation = vec![0x80; LONGEST_LINE * 2 + 1];
        assert_eq!(split(&[&continuation]).concat(), continuation);
    }

    proptest! {
        #[test]
        fn splitting_does_not_depend_on_how_the_bytes_arrive(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..300) {
            let (a, b) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(split(&[a, b]), split(&[&bytes]));
        }
    }

    #[test]
    fn a_dry_bucket_lets_one_line_and_the_notice_through_then_nothing_for_a_second() {
        let mut limiter = Limiter::new(100, 0);
        assert_eq!(limiter.take(80, 0), Verdict::Pass);
        assert_eq!(limiter.take(80, 1), Verdict::PassWithNotice);
        assert_eq!(limiter.take(1, SECOND / 2), Verdict::Drop);
        assert_eq!(limiter.take(50, SECOND + 2), Verdict::Pass);
        assert_eq!(Limiter::new(0, 0).take(1, 0), Verdict::Drop);
        assert_eq!(Limiter::new(-1, 0).take(1 << 30, 0), Verdict::Pass);
    }

    #[test]
    fn lines_reach_the_agent_with_their_tags_and_losses_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let target = LogTarget {
            source_id: "app".into(),
            instance_id: "3".into(),
            source_type: "APP/PROC/WEB".into(),
            tags: BTreeMap::from([("process_id".into(), "p".into())]),
        };
        let mut sender = Sender::new(Some(target), path.clone(), -1, 0);
        sender.line(LogType::Out, b"lost", 1);
        sender.flush(1);
        let agent = UnixDatagram::bind(&path).unwrap();
        sender.line(LogType::Err, b"seen", 2);
        sender.flush(2);
        let mut buffer = vec![0; MAX_DATAGRAM];
        let got = agent.recv(&mut buffer).unwrap();
        let batch = EnvelopeBatch::decode(&buffer[..got]).unwrap().batch;
        assert_eq!(batch[0].message, Some(Payload::Log(Log { payload: b"seen".to_vec(), kind: LogType::Err as i32 })));
        assert_eq!((batch[0].source_id.as_str(), batch[0].instance_id.as_str()), ("app", "3"));
        assert_eq!(batch[0].tags["source_type"], "APP/PROC/WEB");
        assert_eq!(batch[0].tags["process_id"], "p");
        assert_eq!(batch[1].message, Some(Payload::Counter(Counter { name: "dropped".into(), delta: 1, total: 0 })));
        assert_eq!(sender.last_stderr(), ["seen"]);
    }
}
