//! Log lines of busy producers, encoded as they come.

use crate::{Envelope, LogType, MAX_DATAGRAM, build};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};
use std::collections::BTreeMap;

/// What all lines of one stream share (source, instance, type, tags), encoded once.
#[derive(Clone, Debug)]
pub struct LineSource {
    source_id: String,
    head: Vec<u8>,
}

impl LineSource {
    /// The stream of `source_id` (an app's guid) as `source_type` (`RTR`, ...); `instance_id` is a number as text.
    pub fn new(source_id: &str, instance_id: &str, source_type: &str, mut tags: BTreeMap<String, String>) -> Self {
        tags.insert("source_type".into(), source_type.into());
        // Default values are not encoded: neither a time nor a body here, so a line may follow as further fields.
        let shared = Envelope { source_id: source_id.into(), instance_id: instance_id.into(), tags, ..Envelope::default() };
        Self { source_id: source_id.into(), head: shared.encode_to_vec() }
    }
}

/// Lines for one datagram. [`LineBatch::fits`] says whether another one has room.
#[derive(Debug, Default)]
pub struct LineBatch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) holds: BTreeMap<String, u64>,
    pub(crate) newest: i64,
}

impl LineBatch {
    /// True while a line of `payload` bytes of that source can be added.
    pub fn fits(&self, source: &LineSource, payload: usize) -> bool {
        self.bytes.len() + source.head.len() + payload + 64 <= MAX_DATAGRAM
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if there is no line.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds a line. Payloads over [`crate::MAX_LINE`] bytes are cut.
    pub fn push(&mut self, source: &LineSource, payload: &[u8], kind: LogType, timestamp_nanos: i64) {
        let payload = &payload[..build::cut(payload)];
        let kind_len = if kind == LogType::Out { 0 } else { 2 };
        let log = 1 + encoded_len_varint(payload.len() as u64) + payload.len() + kind_len;
        let time = 1 + encoded_len_varint(timestamp_nanos as u64);
        let envelope = time + source.head.len() + 1 + encoded_len_varint(log as u64) + log;
        let out = &mut self.bytes;
        encode_key(1, WireType::LengthDelimited, out);
        encode_varint(envelope as u64, out);
        encode_key(1, WireType::Varint, out);
        encode_varint(timestamp_nanos as u64, out);
        out.extend_from_slice(&source.head);
        encode_key(4, WireType::LengthDelimited, out);
        encode_varint(log as u64, out);
        encode_key(1, WireType::LengthDelimited, out);
        encode_varint(payload.len() as u64, out);
        out.extend_from_slice(payload);
        if kind_len > 0 {
            encode_key(2, WireType::Varint, out);
            encode_varint(kind as u64, out);
        }
        self.newest = self.newest.max(timestamp_nanos);
        match self.holds.get_mut(&source.source_id) {
            Some(count) => *count += 1,
            None => drop(self.holds.insert(source.source_id.clone(), 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EnvelopeBatch, log_line};

    #[test]
    fn lines_read_back_as_the_envelopes_that_others_send() {
        let tags = BTreeMap::from([("process_type".to_owned(), "web".to_owned())]);
        let source = LineSource::new("app", "0", "RTR", tags.clone());
        let mut batch = LineBatch::default();
        let long = vec![b'x'; 300];
        for (payload, kind, time) in [(&b"one"[..], LogType::Out, 7), (&long, LogType::Err, i64::MAX)] {
            assert!(batch.fits(&source, payload.len()));
            batch.push(&source, payload, kind, time);
        }
        let read = EnvelopeBatch::decode(&batch.bytes[..]).unwrap().batch;
        let expected = [
            log_line("app", "0", "RTR", tags.clone(), b"one", LogType::Out, 7),
            log_line("app", "0", "RTR", tags, &long, LogType::Err, i64::MAX),
        ];
        assert_eq!(read, expected);
        assert_eq!((batch.newest, batch.holds["app"]), (i64::MAX, 2));
    }
}
