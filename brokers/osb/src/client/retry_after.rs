//! `Retry-After`.

use std::time::Duration;
use types::Timestamp;

/// More than this is not believed.
pub const LONGEST: Duration = Duration::from_secs(86_400);

/// Reads seconds or a date; at most [`LONGEST`].
pub fn parse(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) {
        return Some(header.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let date = jiff::fmt::rfc2822::parse(header).ok()?.timestamp();
    let date = Timestamp(u64::try_from(date.as_microsecond()).ok()?);
    Some(date.since(now).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_bounded() {
        let now = Timestamp::from_secs(1_445_412_480); // Wed, 21 Oct 2015 07:28:00 GMT
        for (header, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(86_400)),
            ("Wed, 21 Oct 2015 07:29:30 GMT", Some(90)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(parse(header, now), seconds.map(Duration::from_secs), "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(header in ".*", now: u64) {
            let _ = parse(&header, Timestamp(now));
        }
    }
}
