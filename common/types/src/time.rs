//! Moments, and the clock that hands them out.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    ops::{Add, Sub},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A moment: microseconds since the Unix epoch, which is what the database keeps, so that a round trip compares equal.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `seconds` after the epoch.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000_000)
    }
    /// Whole seconds since the epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }
    /// Nanoseconds since the epoch, as log envelopes carry them.
    pub const fn as_nanos(self) -> i64 {
        (self.0 as i64).saturating_mul(1_000)
    }
    /// Time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
    /// RFC 3339 in UTC with whole seconds: `2026-01-02T03:04:05Z`, as the API writes all times.
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_second(self.as_secs() as i64).map(|t| t.to_string()).unwrap_or_default()
    }
    /// In RFC 3339 with its microseconds, as logs have it: `2026-01-02T03:04:05.000006Z`.
    pub fn rfc3339_micros(self) -> String {
        let moment = jiff::Timestamp::from_microsecond(i64::try_from(self.0).unwrap_or(i64::MAX));
        moment.map(|moment| format!("{moment:.6}")).unwrap_or_default()
    }
    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        let moment: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(moment.as_microsecond()).ok().map(Self)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}
impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}
impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.as_secs(), self.0 % 1_000_000)
    }
}

/// Where "now" comes from. `foundation::SystemClock` is the real one.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// A clock that moves only when told to.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn at(start: Timestamp) -> Self {
        Self(AtomicU64::new(start.0))
    }
    /// Moves the clock on by `span`.
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_whole_seconds() {
        let moment = Timestamp(1_767_323_045_123_456);
        assert_eq!(moment.rfc3339(), "2026-01-02T03:04:05Z");
        assert_eq!(Timestamp::parse("2026-01-02T03:04:05Z"), Some(Timestamp::from_secs(moment.as_secs())));
    }

    #[test]
    fn time_never_runs_below_zero() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(Timestamp(5) - Duration::from_secs(1), Timestamp(0));
    }
}
