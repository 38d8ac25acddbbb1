//! When a crashed instance is started again.

use std::time::Duration;
use types::InstanceId;

const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(16 * 60);

/// How long the slot rests after its `crash_count`-th crash in a row: nothing for the first three, then 30 s doubling to
/// 16 min, and up to a fifth more, so that instances that crashed together do not come back together.
///
/// The extra is drawn from the id of the instance that crashed: the same question always has the same answer.
///
/// Source: cloudfoundry-attic/hm9000, `analyzer/crash_delay.go` (whose count starts at 0).
pub(crate) fn rest(crash_count: u32, crashed: InstanceId) -> Duration {
    if crash_count <= 3 {
        return Duration::ZERO;
    }
    let doublings = (crash_count - 4).min(16);
    let base = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let noise = u32::from(u16::from_be_bytes([crashed.uuid().as_bytes()[0], crashed.uuid().as_bytes()[1]]));
    base + base * noise / (5 * 65_536)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn three_restarts_are_at_once_and_then_the_wait_doubles_up_to_sixteen_minutes() {
        let quiet = InstanceId::from(Uuid::nil());
        let waits: Vec<u64> = (1..=12).map(|crashes| rest(crashes, quiet).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 30, 60, 120, 240, 480, 960, 960, 960, 960]);
    }

    #[test]
    fn instances_that_crashed_together_come_back_apart() {
        let loud = InstanceId::from(Uuid::from_u128(u128::MAX));
        let wait = rest(u32::MAX, loud);
        assert!(wait > Duration::from_secs(1_140) && wait <= Duration::from_secs(1_152), "{wait:?}");
    }
}
