//! Numbers that are given out, come back, and rest before they are given out again.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};
use types::Timestamp;

/// Numbers of one kind: addresses with their ids, or ports. Hands out the one that has been free longest, as far as it can tell.
#[derive(Debug)]
pub(crate) struct Pool {
    range: RangeInclusive<u32>,
    next: u32,
    taken: BTreeSet<u32>,
    resting: BTreeMap<u32, Timestamp>,
}

impl Pool {
    pub(crate) fn new(range: RangeInclusive<u32>) -> Self {
        Self { next: *range.start(), range, taken: BTreeSet::new(), resting: BTreeMap::new() }
    }

    /// A free number, or none.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<u32> {
        self.resting.retain(|_, until| *until > now);
        let free = |n: &u32| !self.taken.contains(n) && !self.resting.contains_key(n);
        let found = (self.next..=*self.range.end()).chain(*self.range.start()..self.next).find(free)?;
        self.next = if found == *self.range.end() { *self.range.start() } else { found + 1 };
        self.taken.insert(found);
        Some(found)
    }

    /// Takes one number that is in use already.
    pub(crate) fn adopt(&mut self, number: u32) {
        self.resting.remove(&number);
        self.taken.insert(number);
    }

    /// Gives a number back; it rests until then.
    pub(crate) fn rest(&mut self, number: u32, until: Timestamp) {
        self.taken.remove(&number);
        if self.range.contains(&number) {
            self.resting.insert(number, until);
        }
    }

    /// What rests, and until when.
    pub(crate) fn resting(&self) -> &BTreeMap<u32, Timestamp> {
        &self.resting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Timestamp = Timestamp::from_secs;

    #[test]
    fn a_number_rests_before_it_is_given_out_again() {
        let mut pool = Pool::new(1..=2);
        assert_eq!((pool.take(T(0)), pool.take(T(0)), pool.take(T(0))), (Some(1), Some(2), None));
        pool.rest(1, T(240));
        assert_eq!((pool.take(T(239)), pool.take(T(240))), (None, Some(1)));
    }

    #[test]
    fn numbers_go_round_so_that_the_last_one_freed_is_the_last_one_used() {
        let mut pool = Pool::new(1..=3);
        assert_eq!(pool.take(T(0)), Some(1));
        pool.rest(1, T(0));
        assert_eq!((pool.take(T(1)), pool.take(T(1)), pool.take(T(1))), (Some(2), Some(3), Some(1)));
    }

    #[test]
    fn what_is_adopted_is_not_given_out() {
        let mut pool = Pool::new(1..=2);
        pool.rest(1, T(9));
        pool.adopt(1);
        assert_eq!((pool.take(T(10)), pool.take(T(10))), (Some(2), None));
    }
}
