//! The envelopes that producers make.

use crate::{Counter, DROPPED, Envelope, Gauge, GaugeValue, Log, LogType, MAX_LINE, Payload};
use std::collections::BTreeMap;

/// One log line of `source_id` (an app's guid) as `source_type` (`APP/PROC/WEB`, `STG`, `RTR`, `API`, `CELL`).
///
/// `instance_id` is the instance's number as text. Payloads over [`MAX_LINE`] bytes are cut.
pub fn log_line(
    source_id: &str,
    instance_id: &str,
    source_type: &str,
    mut tags: BTreeMap<String, String>,
    bytes: &[u8],
    kind: LogType,
    timestamp_nanos: i64,
) -> Envelope {
    tags.insert("source_type".into(), source_type.into());
    let log = Log { payload: bytes[..cut(bytes)].to_vec(), kind: kind.into() };
    Envelope { tags, ..envelope(source_id, instance_id, timestamp_nanos, Payload::Log(log)) }
}

/// Several measures with one timestamp: (name, unit, value).
///
/// `cpu`, `memory`, `memory_quota`, `disk` and `disk_quota` of an instance travel in one envelope of exactly these five.
pub fn gauge(
    source_id: &str,
    instance_id: &str,
    tags: BTreeMap<String, String>,
    metrics: &[(&str, &str, f64)],
    timestamp_nanos: i64,
) -> Envelope {
    let value = |&(name, unit, value): &(&str, &str, f64)| (name.to_owned(), GaugeValue { unit: unit.into(), value });
    let gauge = Gauge { metrics: metrics.iter().map(value).collect() };
    Envelope { tags, ..envelope(source_id, instance_id, timestamp_nanos, Payload::Gauge(gauge)) }
}

/// `delta` more of something that is counted.
pub fn counter(
    source_id: &str,
    instance_id: &str,
    tags: BTreeMap<String, String>,
    name: &str,
    delta: u64,
    timestamp_nanos: i64,
) -> Envelope {
    let counter = Counter { name: name.into(), delta, total: 0 };
    Envelope { tags, ..envelope(source_id, instance_id, timestamp_nanos, Payload::Counter(counter)) }
}

/// `lost` envelopes of `source_id` did not get through, lost by `by` (`sender`, `agent`, `cache`).
pub fn dropped(source_id: &str, by: &str, lost: u64, timestamp_nanos: i64) -> Envelope {
    counter(source_id, "0", BTreeMap::from([("direction".into(), by.into())]), DROPPED, lost, timestamp_nanos)
}

/// The tags that every envelope of an app carries; `space` and `organization` are (guid, name).
///
/// A process's envelopes also carry `process_id`, `process_type`, `process_instance_id`, `instance_id`.
pub fn app_tags(app: (&str, &str), space: (&str, &str), organization: (&str, &str)) -> BTreeMap<String, String> {
    let tags = [
        ("source_id", app.0),
        ("app_id", app.0),
        ("app_name", app.1),
        ("space_id", space.0),
        ("space_name", space.1),
        ("organization_id", organization.0),
        ("organization_name", organization.1),
    ];
    tags.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn envelope(source_id: &str, instance_id: &str, timestamp: i64, message: Payload) -> Envelope {
    Envelope {
        timestamp,
        source_id: source_id.into(),
        instance_id: instance_id.into(),
        tags: BTreeMap::new(),
        message: Some(message),
    }
}

/// Where to cut: at [`MAX_LINE`], moved back up to three bytes so that no UTF-8 character is torn.
pub(crate) fn cut(bytes: &[u8]) -> usize {
    if bytes.len() <= MAX_LINE {
        return bytes.len();
    }
    let continues = |at: &usize| bytes[*at] & 0b1100_0000 == 0b1000_0000;
    (MAX_LINE - 3..=MAX_LINE).rev().find(|at| !continues(at)).unwrap_or(MAX_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(bytes: &[u8]) -> Vec<u8> {
        match log_line("s", "0", "APP", BTreeMap::new(), bytes, LogType::Out, 1).message {
            Some(Payload::Log(log)) => log.payload,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut line = vec![b'x'; MAX_LINE - 2];
        line.extend("🦀🦀".as_bytes());
        assert_eq!(payload(&line).len(), MAX_LINE - 2);
        assert_eq!(payload(&vec![b'x'; MAX_LINE + 9]).len(), MAX_LINE);
        assert_eq!(payload(&vec![0x80; MAX_LINE + 9]).len(), MAX_LINE, "what is not UTF-8 is cut at the limit");
    }
}
