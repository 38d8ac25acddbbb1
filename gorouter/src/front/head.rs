//! The head of an HTTP/1 request, looked at before the engine parses it.
//!
//! Here is decided how long the head may be and how the request is framed, by the strictest reading only: what two parsers
//! could understand in two ways is refused. Grammar of names and values is left to the engine's parser.
//!
//! Source: RFC 9112 sections 2.2, 5.1 and 6.

use crate::proxy::refusal::Refusal;

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// This many bytes, possibly none.
    Sized(u64),
    /// Chunks, or what comes after an upgrade: the engine alone knows where it ends.
    Open,
}

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    pub(crate) bytes: usize,
    pub(crate) lines: usize,
}

/// Searches for the end of a head while its bytes come in.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    /// Bytes that were looked at.
    seen: usize,
    lines: usize,
    /// Where the present line began.
    line: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    /// The version of the request line is 1.0.
    old: bool,
}

/// A whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its bytes, with the blank line.
    pub(crate) length: usize,
    pub(crate) framing: Framing,
}

impl Scanner {
    /// Looks at what is new in `bytes`; `None` while the head is incomplete.
    pub(crate) fn scan(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<Option<Head>, Refusal> {
        for at in memchr::memchr_iter(b'\n', &bytes[self.seen..]) {
            let end = self.seen + at;
            if end == 0 || bytes[end - 1] != b'\r' {
                return Err(Refusal::malformed("A line does not end with CR LF."));
            }
            let line = &bytes[self.line..end - 1];
            self.line = end + 1;
            if line.is_empty() {
                return match end < limits.bytes {
                    true => self.head(end + 1).map(Some),
                    false => Err(Refusal::too_large()),
                };
            }
            if self.lines == 0 {
                self.request(line)?
            } else {
                self.field(line)?
            }
            self.lines += 1;
            if self.lines > limits.lines {
                return Err(Refusal::too_large());
            }
        }
        self.seen = bytes.len();
        if bytes.len() >= limits.bytes { Err(Refusal::too_large()) } else { Ok(None) }
    }

    fn head(&self, length: usize) -> Result<Head, Refusal> {
        if self.chunked && (self.length.is_some() || self.old) {
            return Err(Refusal::malformed("The length of the body is ambiguous."));
        }
        let framing = match self.length {
            _ if self.chunked || self.upgrade => Framing::Open,
            length => Framing::Sized(length.unwrap_or(0)),
        };
        Ok(Head { length, framing })
    }

    /// `method target version`, with one blank between each.
    fn request(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let mut parts = line.split(|b| *b == b' ');
        let (method, target, version, more) = (parts.next(), parts.next(), parts.next(), parts.next());
        let text =
            |part: Option<&[u8]>| part.is_some_and(|part| !part.is_empty() && part.iter().all(|b| *b > 0x20 && *b != 0x7f));
        self.old = version == Some(b"HTTP/1.0");
        match text(method) && text(target) && more.is_none() && (self.old || version == Some(b"HTTP/1.1")) {
            true => Ok(()),
            false => Err(Refusal::malformed("The request line is malformed.")),
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        match line[0] | 0x20 {
            b'c' => {
                let Some(value) = value(line, b"content-length") else { return Ok(()) };
                let length = decimal(value).ok_or_else(|| Refusal::malformed("The Content-Length is not a number."))?;
                if self.length.replace(length).is_some() {
                    return Err(Refusal::malformed("There are two Content-Lengths."));
                }
            }
            b't' => {
                let Some(value) = value(line, b"transfer-encoding") else { return Ok(()) };
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::malformed("The Transfer-Encoding is not supported."));
                }
                self.chunked = true;
            }
            // No other upgrade is passed on.
            b'u' => self.upgrade |= value(line, b"upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")),
            _ => {}
        }
        Ok(())
    }
}

/// The trimmed value of a field with that name.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.get(name.len()..)?;
    // A blank before the colon does not hide the name here; the engine's parser refuses it in any case.
    let rest = rest.trim_ascii_start().strip_prefix(b":")?;
    line[..name.len()].eq_ignore_ascii_case(name).then(|| rest.trim_ascii())
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1_000, lines: 20 };

    fn scan(text: &str) -> Result<Option<Head>, u16> {
        Scanner::default().scan(text.as_bytes(), LIMITS).map_err(|refusal| refusal.status)
    }

    fn framing(fields: &str) -> Result<Framing, u16> {
        scan(&format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).map(|head| head.unwrap().framing)
    }

    #[test]
    fn a_head_is_found_wherever_its_bytes_are_split() {
        let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
        for split in 0..text.len() {
            let mut scanner = Scanner::default();
            let first = scanner.scan(&text[..split], LIMITS).unwrap();
            let head = first.or_else(|| scanner.scan(text, LIMITS).unwrap());
            assert_eq!(head, Some(Head { length: text.len() - 4, framing: Framing::Sized(0) }), "{split}");
        }
    }

    #[test]
    fn bodies_are_framed_one_way_or_refused() {
        let cases = [
            ("", Ok(Framing::Sized(0))),
            ("Content-Length: 12\r\n", Ok(Framing::Sized(12))),
            ("content-LENGTH:12  \r\n", Ok(Framing::Sized(12))),
            ("Content-Lengthy: x\r\n", Ok(Framing::Sized(0))),
            ("Transfer-Encoding: Chunked\r\n", Ok(Framing::Open)),
            ("Upgrade: WebSocket\r\n", Ok(Framing::Open)),
            ("Upgrade: h2c\r\n", Ok(Framing::Sized(0))),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(400)),
            ("Content-Length: 5, 5\r\n", Err(400)),
            ("Content-Length: +5\r\n", Err(400)),
            ("Content-Length: -5\r\n", Err(400)),
            ("Content-Length: 0x5\r\n", Err(400)),
            ("Content-Length: 5 5\r\n", Err(400)),
            ("Content-Length: 5_0\r\n", Err(400)),
            ("Content-Length:\r\n", Err(400)),
            ("Content-Length: 18446744073709551616\r\n", Err(400)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("Transfer-Encoding: ,chunked\r\n", Err(400)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(400)),
            ("Transfer-Encoding: identity\r\n", Err(400)),
            ("Transfer-Encoding : chunked\r\n", Ok(Framing::Open)),
        ];
        for (fields, expected) in cases {
            assert_eq!(framing(fields), expected, "{fields:?}");
        }
        assert_eq!(scan("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(400));
    }

    #[test]
    fn bare_line_feeds_end_no_line() {
        for text in ["GET / HTTP/1.1\nHost: x\n\n", "GET / HTTP/1.1\r\nHost: x\n\r\n", "\nGET", "GET / HTTP/1.1\r\nA: b\r\r\n\n"]
        {
            assert_eq!(scan(text), Err(400), "{text:?}");
        }
    }

    #[test]
    fn a_head_is_bounded_in_bytes_and_lines() {
        assert_eq!(scan(&format!("GET /{}", "x".repeat(1_000))), Err(431));
        assert_eq!(scan(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1_000))), Err(431));
        assert_eq!(scan(&format!("GET / HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(20))), Err(431));
        assert!(scan(&format!("GET / HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(19))).unwrap().is_some());
    }
}
