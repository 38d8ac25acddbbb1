//! Failed logins in a row lock a name for a while: also a name that nobody has, so that the answer tells nothing.
//!
//! Source: cloudfoundry/uaa-release, `jobs/uaa/spec` (5 failures in 1,200 s lock for 300 s).

use crate::config::LockoutSection;

/// What is known of a name. Times are microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// In a row.
    pub(crate) count: i64,
    pub(crate) last_at: i64,
    pub(crate) locked_until: i64,
}

impl Failures {
    /// True while nobody may log in under this name.
    pub(crate) fn locked(self, now: i64) -> bool {
        now < self.locked_until
    }

    /// One more failure.
    pub(crate) fn failed(self, policy: &LockoutSection, now: i64) -> Self {
        // a lock that is over starts the count anew, or one more wrong try would lock again at once
        let stale = now - self.last_at > micros(policy.window_s) || self.locked_until > 0;
        let count = if stale { 1 } else { self.count + 1 };
        let locked_until = if count >= i64::from(policy.failures) { now + micros(policy.locked_s) } else { 0 };
        Self { count, last_at: now, locked_until }
    }
}

/// Seconds as microseconds.
pub(crate) fn micros(seconds: u32) -> i64 {
    i64::from(seconds) * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn fail(start: Failures, times: i64, now: i64) -> Failures {
        (0..times).fold(start, |failures, _| failures.failed(&LockoutSection::default(), now))
    }

    #[test]
    fn the_fifth_failure_in_a_row_locks_for_five_minutes() {
        let four = fail(Failures::default(), 4, SECOND);
        assert!(!four.locked(SECOND));
        let five = fail(four, 1, 2 * SECOND);
        assert!(five.locked(2 * SECOND) && five.locked(301 * SECOND) && !five.locked(302 * SECOND));
    }

    #[test]
    fn after_a_lock_there_are_five_tries_again() {
        let locked = fail(Failures::default(), 5, SECOND);
        let later = 400 * SECOND;
        assert!(!fail(locked, 4, later).locked(later));
        assert!(fail(locked, 5, later).locked(later));
    }

    #[test]
    fn failures_older_than_the_window_do_not_count() {
        let four = fail(Failures::default(), 4, SECOND);
        let later = 1300 * SECOND;
        assert!(!fail(four, 1, later).locked(later));
    }
}
