//! Who leads.
//!
//! A leader trusts its lease only by its own clock, from the moment before it asked. A follower never reads the leader's
//! clock: it takes over a foreign lease once it has not seen it change for a whole lease time. Its own lease, left by an
//! earlier run under the same name, it takes back at once; the fencing number grows either way.

use messages::claims::Lease;
use std::time::Duration;
use types::Timestamp;

/// How a write of the lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Done; the record's new revision.
    Yes(u64),
    /// Somebody else was first.
    Conflict,
    /// Perhaps done, perhaps not.
    Unknown,
}

/// A lease to be written over the given revision; 0: to be made.
pub(crate) type Write = (Lease, u64);

#[derive(Debug)]
pub(crate) struct Leadership {
    name: String,
    lifetime: Duration,
    /// The record as last told, and since when it is unchanged.
    seen: Option<Seen>,
    /// Told at least once what the bucket holds.
    told: bool,
    writing: Option<Timestamp>,
    role: Role,
}

#[derive(Debug)]
struct Seen {
    lease: Option<Lease>,
    revision: u64,
    since: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
enum Role {
    Follower {
        /// Another process leads under our own name: it is waited for like a stranger.
        displaced: bool,
    },
    Leader {
        fence: u64,
        until: Timestamp,
        renew: Timestamp,
    },
}

impl Leadership {
    pub(crate) fn new(name: String, lifetime: Duration) -> Self {
        Self { name, lifetime, seen: None, told: false, writing: None, role: Role::Follower { displaced: false } }
    }

    /// The fencing number, while this process leads and will for another moment.
    pub(crate) fn fence(&self, now: Timestamp) -> Option<u64> {
        match self.role {
            Role::Leader { fence, until, .. } if now + self.lifetime / 10 < until => Some(fence),
            _ => None,
        }
    }

    /// The bucket holds this (or nothing).
    pub(crate) fn saw(&mut self, lease: Option<Lease>, revision: u64, now: Timestamp) {
        self.told = true;
        let own = lease.as_ref().is_some_and(|l| l.holder == self.name);
        if let Role::Leader { fence, .. } = self.role
            && !(own && lease.as_ref().is_some_and(|l| l.fence == fence))
            && self.seen.as_ref().is_none_or(|seen| revision > seen.revision)
        {
            self.role = Role::Follower { displaced: own };
        }
        // News of an older revision than our own write, still on their way: the next renewal must not build on them.
        let late = matches!(self.role, Role::Leader { .. }) && self.seen.as_ref().is_some_and(|seen| revision < seen.revision);
        if late {
            return;
        }
        let changed = self.seen.as_ref().is_none_or(|seen| seen.revision != revision);
        if changed {
            self.seen = Some(Seen { lease, revision, since: now });
        }
    }

    /// A write asked for by [`Leadership::step`] ended.
    pub(crate) fn wrote(&mut self, lease: Lease, outcome: Written, now: Timestamp) {
        let asked = self.writing.take();
        match (outcome, asked) {
            (Written::Yes(revision), Some(asked)) => {
                let until = asked + self.lifetime;
                self.role = Role::Leader { fence: lease.fence, until, renew: asked + self.lifetime / 3 };
                self.seen = Some(Seen { lease: Some(lease), revision, since: now });
            }
            (Written::Conflict, _) => {
                self.role = Role::Follower { displaced: matches!(self.role, Role::Leader { .. }) };
            }
            _ => {}
        }
    }

    /// What to write now, if anything.
    pub(crate) fn step(&mut self, now: Timestamp) -> Option<Write> {
        if let Role::Leader { until, .. } = self.role
            && now >= until
        {
            self.role = Role::Follower { displaced: false };
        }
        // A write that never came back is given up after a while; the revision protects what it may still do.
        if !self.told || self.writing.is_some_and(|asked| now.since(asked) < self.lifetime) {
            return None;
        }
        let (revision, last) = match &self.seen {
            Some(seen) => (if seen.lease.is_some() { seen.revision } else { 0 }, seen.lease.as_ref()),
            None => (0, None),
        };
        let last_fence = last.map_or(0, |lease| lease.fence);
        let fence = match self.role {
            Role::Leader { renew, fence, .. } => (now >= renew).then_some(fence)?,
            Role::Follower { displaced } => {
                let own = last.is_some_and(|lease| lease.holder == self.name) && !displaced;
                let abandoned = self.seen.as_ref().is_some_and(|seen| now.since(seen.since) > self.lifetime + self.lifetime / 5);
                (last.is_none() || own || abandoned).then_some(last_fence + 1)?
            }
        };
        self.writing = Some(now);
        Some((Lease { holder: self.name.clone(), fence, until: now + self.lifetime }, revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000 + seconds)
    }

    fn leading(name: &str) -> Leadership {
        let mut one = Leadership::new(name.into(), LIFE);
        one.saw(None, 0, at(0));
        let (lease, revision) = one.step(at(0)).unwrap();
        assert_eq!((lease.fence, revision), (1, 0));
        one.wrote(lease, Written::Yes(7), at(0));
        one
    }

    #[test]
    fn the_first_leads_and_renews_with_the_same_number() {
        let mut one = leading("a");
        assert_eq!(one.fence(at(1)), Some(1));
        assert_eq!(one.step(at(1)), None);
        let (lease, revision) = one.step(at(4)).unwrap();
        assert_eq!((lease.fence, revision), (1, 7));
    }

    #[test]
    fn a_leader_that_cannot_renew_stops_leading_before_its_lease_ends() {
        let one = leading("a");
        assert_eq!(one.fence(at(8)), Some(1));
        assert_eq!(one.fence(at(9)), None);
    }

    #[test]
    fn a_stranger_waits_until_the_lease_did_not_change_for_its_whole_time() {
        let lease = Lease { holder: "a".into(), fence: 5, until: at(1_000_000) };
        let mut two = Leadership::new("b".into(), LIFE);
        two.saw(Some(lease.clone()), 3, at(0));
        assert_eq!(two.step(at(11)), None);
        two.saw(Some(lease), 4, at(11));
        assert_eq!(two.step(at(22)), None, "it was renewed");
        let (taken, revision) = two.step(at(24)).unwrap();
        assert_eq!((taken.fence, revision), (6, 4));
    }

    #[test]
    fn a_restarted_leader_takes_its_own_lease_back_at_once() {
        let mut one = Leadership::new("a".into(), LIFE);
        one.saw(Some(Lease { holder: "a".into(), fence: 5, until: at(9) }), 3, at(0));
        assert_eq!(one.step(at(0)).unwrap().0.fence, 6);
    }

    #[test]
    fn two_processes_of_one_name_do_not_take_the_lease_from_each_other_in_turn() {
        let mut one = leading("a");
        one.saw(Some(Lease { holder: "a".into(), fence: 2, until: at(9) }), 8, at(1));
        assert_eq!(one.fence(at(1)), None);
        assert_eq!(one.step(at(2)), None);
        assert_eq!(one.step(at(14)).unwrap().0.fence, 3);
    }

    #[test]
    fn an_old_record_told_late_does_not_end_leadership() {
        let mut one = leading("a");
        one.saw(Some(Lease { holder: "b".into(), fence: 0, until: at(0) }), 6, at(1));
        assert_eq!(one.fence(at(1)), Some(1));
    }
}
