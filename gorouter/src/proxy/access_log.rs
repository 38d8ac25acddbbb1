//! The access line of a request, as the app's log stream gets it.
//!
//! Source: cloudfoundry/gorouter, `accesslog/schema/access_log_record.go` (order, quoting, cuts).

use loggregator_client::{LineBatch, LineSource, LogType, Sender};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use types::Timestamp;

/// Longest value of a header in a line that is cut.
const SMALL: usize = 1_000;
/// Longest URI in a line that is cut.
const LARGE: usize = 20_000;
/// Lines over this are made again with their parts cut.
const MAX_RECORD: usize = 65_400;
/// A batch of this size is sent at once.
const FULL: usize = 48 << 10;

/// What a line tells. Empty texts are written as `"-"`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record<'a> {
    pub(crate) host: &'a [u8],
    pub(crate) started: Timestamp,
    pub(crate) method: &'a [u8],
    pub(crate) uri: &'a [u8],
    pub(crate) protocol: &'a str,
    pub(crate) status: u16,
    pub(crate) received: usize,
    pub(crate) sent: usize,
    pub(crate) referer: &'a [u8],
    pub(crate) user_agent: &'a [u8],
    pub(crate) client: &'a str,
    pub(crate) backend: &'a str,
    pub(crate) forwarded_for: &'a [u8],
    pub(crate) forwarded_proto: &'a [u8],
    pub(crate) request_id: &'a [u8],
    pub(crate) took: Duration,
    /// Time in the router alone.
    pub(crate) router_took: Option<Duration>,
    pub(crate) app: &'a str,
    pub(crate) index: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) error: &'a str,
}

/// Collects lines and hands them to the agent in batches. One for each worker, so that its lock is never waited for.
pub(crate) struct Lines {
    sender: Arc<Sender>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    batch: LineBatch,
    line: Vec<u8>,
    stamp: Stamp,
}

impl Lines {
    pub(crate) fn new(sender: Arc<Sender>) -> Self {
        Self { sender, state: Mutex::default() }
    }

    /// Writes a line into the stream of the app.
    pub(crate) fn write(&self, source: &LineSource, record: &Record<'_>) {
        let mut state = self.state.lock();
        let State { batch, line, stamp } = &mut *state;
        line.clear();
        record.write(line, stamp);
        if !batch.fits(source, line.len()) {
            self.sender.send_lines(std::mem::take(batch));
        }
        batch.push(source, line, LogType::Out, record.started.as_nanos());
        if batch.len() >= FULL {
            self.sender.send_lines(std::mem::take(batch));
        }
    }

    /// Sends what there is.
    pub(crate) fn flush(&self) {
        let batch = std::mem::take(&mut self.state.lock().batch);
        self.sender.send_lines(batch);
    }
}

/// The last second written, as text.
#[derive(Default)]
pub(crate) struct Stamp {
    second: u64,
    text: String,
}

impl Stamp {
    fn write(&mut self, out: &mut Vec<u8>, at: Timestamp) {
        if self.second != at.as_secs() || self.text.is_empty() {
            self.second = at.as_secs();
            self.text = at.rfc3339();
            self.text.pop();
        }
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'.');
        digits(out, at.0 % 1_000_000, 6);
        out.extend_from_slice(b"000Z");
    }
}

impl Record<'_> {
    /// Appends the line; parts are cut only if it would not fit a datagram.
    pub(crate) fn write(&self, out: &mut Vec<u8>, stamp: &mut Stamp) {
        let before = out.len();
        self.make(out, stamp, usize::MAX, usize::MAX);
        if out.len() - before > MAX_RECORD {
            out.truncate(before);
            self.make(out, stamp, SMALL, LARGE);
        }
    }

    fn make(&self, out: &mut Vec<u8>, stamp: &mut Stamp, small: usize, large: usize) {
        out.extend_from_slice(self.host);
        out.extend_from_slice(b" - [");
        stamp.write(out, self.started);
        out.extend_from_slice(b"] \"");
        escape(out, self.method);
        out.push(b' ');
        cut(out, self.uri, "REQUEST-URI", large);
        out.push(b' ');
        out.extend_from_slice(self.protocol.as_bytes());
        out.extend_from_slice(b"\" ");
        match self.status {
            0 => out.extend_from_slice(b"\"-\""),
            status => number(out, status.into()),
        }
        out.push(b' ');
        number(out, self.received as u64);
        out.push(b' ');
        number(out, self.sent as u64);
        out.push(b' ');
        quoted(out, self.referer, "REFERER", small);
        quoted(out, self.user_agent, "USER-AGENT", small);
        quoted(out, self.client.as_bytes(), "", usize::MAX);
        quoted(out, self.backend.as_bytes(), "", usize::MAX);
        out.extend_from_slice(b"x_forwarded_for:");
        quoted(out, self.forwarded_for, "X-FORWARDED-FOR", small);
        out.extend_from_slice(b"x_forwarded_proto:");
        quoted(out, self.forwarded_proto, "X-FORWARDED-PROTO", small);
        out.extend_from_slice(b"vcap_request_id:");
        quoted(out, self.request_id, "", usize::MAX);
        out.extend_from_slice(b"response_time:");
        seconds(out, Some(self.took));
        out.extend_from_slice(b"gorouter_time:");
        seconds(out, self.router_took);
        out.extend_from_slice(b"app_id:");
        quoted(out, self.app.as_bytes(), "", usize::MAX);
        out.extend_from_slice(b"app_index:");
        quoted(out, self.index.as_bytes(), "", usize::MAX);
        out.extend_from_slice(b"instance_id:");
        quoted(out, self.instance.as_bytes(), "", usize::MAX);
        out.extend_from_slice(b"x_cf_routererror:");
        quoted(out, self.error.as_bytes(), "", usize::MAX);
        out.pop();
    }
}

/// `"text" `, or `"-" ` for none.
fn quoted(out: &mut Vec<u8>, text: &[u8], name: &str, limit: usize) {
    out.push(b'"');
    match text {
        b"" => out.push(b'-'),
        text => cut(out, text, name, limit),
    }
    out.extend_from_slice(b"\" ");
}

fn cut(out: &mut Vec<u8>, text: &[u8], name: &str, limit: usize) {
    if text.len() <= limit {
        return escape(out, text);
    }
    let mut text = text.to_vec();
    while text.len() > limit {
        text.truncate(text.len() / 2);
        text.extend_from_slice(format!("...{name}-TOO-LONG-TO-LOG--TRUNCATED").as_bytes());
    }
    escape(out, &text);
}

/// Writes what Go's `strconv.Quote` would put between the quotes.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    if text.iter().all(|b| (0x20..0x7f).contains(b) && *b != b'"' && *b != b'\\') {
        return out.extend_from_slice(text);
    }
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\u{0}'..='\u{1f}' | '\u{7f}' => out.extend_from_slice(format!("\\x{:02x}", c as u32).as_bytes()),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
}

fn seconds(out: &mut Vec<u8>, span: Option<Duration>) {
    match span {
        Some(span) => {
            number(out, span.as_secs());
            out.push(b'.');
            digits(out, span.subsec_micros().into(), 6);
        }
        None => out.extend_from_slice(b"\"-\""),
    }
    out.push(b' ');
}

fn number(out: &mut Vec<u8>, value: u64) {
    digits(out, value, value.checked_ilog10().unwrap_or(0) as usize + 1);
}

/// Writes the last `count` digits.
fn digits(out: &mut Vec<u8>, mut value: u64, count: usize) {
    let from = out.len();
    out.resize(from + count, b'0');
    for at in out[from..].iter_mut().rev() {
        *at = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(record: Record<'_>) -> String {
        let mut out = vec![];
        record.write(&mut out, &mut Stamp::default());
        String::from_utf8(out).unwrap()
    }

    const RECORD: Record<'static> = Record {
        host: b"dora.app.localhost",
        started: Timestamp(1_767_323_045_012_345),
        method: b"GET",
        uri: b"/?a=b",
        protocol: "HTTP/1.1",
        status: 200,
        received: 0,
        sent: 13,
        referer: b"",
        user_agent: b"curl/8.0 \"x\"",
        client: "127.0.0.1:5000",
        backend: "10.1.2.3:61001",
        forwarded_for: b"127.0.0.1",
        forwarded_proto: b"http",
        request_id: b"f1e2d3c4-0000-4000-8000-000000000001",
        took: Duration::from_micros(1_002_345),
        router_took: Some(Duration::from_micros(345)),
        app: "6f1c2d3e-aaaa-4bbb-8ccc-000000000002",
        index: "0",
        instance: "9d8e7f60-aaaa-4bbb-8ccc-000000000003",
        error: "",
    };

    #[test]
    fn a_line_is_written_as_the_official_router_writes_it() {
        let expected = concat!(
            r#"dora.app.localhost - [2026-01-02T03:04:05.012345000Z] "GET /?a=b HTTP/1.1" 200 0 13 "-" "curl/8.0 \"x\"" "#,
            r#""127.0.0.1:5000" "10.1.2.3:61001" x_forwarded_for:"127.0.0.1" x_forwarded_proto:"http" "#,
            r#"vcap_request_id:"f1e2d3c4-0000-4000-8000-000000000001" response_time:1.002345 gorouter_time:0.000345 "#,
            r#"app_id:"6f1c2d3e-aaaa-4bbb-8ccc-000000000002" app_index:"0" "#,
            r#"instance_id:"9d8e7f60-aaaa-4bbb-8ccc-000000000003" x_cf_routererror:"-""#,
        );
        assert_eq!(line(RECORD), expected);
    }

    #[test]
    fn what_is_missing_is_a_quoted_dash() {
        let text = line(Record { status: 0, router_took: None, error: "endpoint_failure (EOF)", ..RECORD });
        assert!(text.contains(r#"HTTP/1.1" "-" 0 13"#) && text.contains(r#"gorouter_time:"-" app_id"#), "{text}");
        assert!(text.ends_with(r#"x_cf_routererror:"endpoint_failure (EOF)""#), "{text}");
    }

    #[test]
    fn a_line_that_is_too_long_is_made_again_with_its_parts_cut() {
        let long = vec![b'a'; 30_000];
        assert!(line(Record { uri: &long, ..RECORD }).len() > 30_000, "one long part fits");
        let text = line(Record { uri: &long, user_agent: &long, referer: &long, ..RECORD });
        assert!(text.len() < MAX_RECORD, "{}", text.len());
        for name in ["REQUEST-URI", "USER-AGENT", "REFERER"] {
            assert!(text.contains(&format!("...{name}-TOO-LONG-TO-LOG--TRUNCATED")), "{name}");
        }
    }

    #[test]
    fn what_a_terminal_could_take_amiss_is_escaped() {
        let text = line(Record { user_agent: b"\x1b[31m\\\xff\xc3\xa9", ..RECORD });
        assert!(text.contains(r#""\x1b[31m\\\xffé""#), "{text}");
    }

    #[test]
    fn numbers_of_every_length_are_written_whole() {
        let mut out = vec![];
        for value in [0, 9, 10, 99, 100, u64::MAX] {
            number(&mut out, value);
            out.push(b' ');
        }
        assert_eq!(String::from_utf8(out).unwrap(), format!("0 9 10 99 100 {} ", u64::MAX));
    }
}
