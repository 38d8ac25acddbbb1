//! What every operation gets.

use crate::{
    domain::{Access, Result},
    store::Conn,
    vault::Vault,
};
use rand::rngs::StdRng;
use std::{sync::Arc, time::Duration};
use types::{AppId, Timestamp};

/// A "look sooner" note, sent once the transaction is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// The feed has grown up to this change.
    Desired(u64),
    /// The routes of an app changed.
    Routes(AppId),
    /// The stagings of an app are to stop.
    StagingStop(AppId),
    /// There is work to be done at brokers.
    Operations,
}

/// One operation: its connection, who asks, and when it is.
///
/// Its connection is inside a transaction where the operation may write (`Api::write`), else not (`Api::read`).
pub struct Tx<'a> {
    /// The connection.
    pub conn: &'a mut Conn,
    /// Who asks.
    pub who: Arc<Access>,
    /// The moment of the operation: all its rows carry the same one.
    pub now: Timestamp,
    /// Where ids come from.
    pub rng: StdRng,
    /// Seals and opens values.
    pub vault: &'a Vault,
    /// How long brokers may work on something, unless the plan says less.
    pub max_polling: Duration,
    /// What to tell after the commit.
    pub hints: Vec<Hint>,
}

impl Tx<'_> {
    /// A new guid.
    pub fn guid(&mut self) -> String {
        AppId::random(&mut self.rng).to_string()
    }
    /// The moment as the tables keep it.
    pub fn micros(&self) -> i64 {
        micros(self.now)
    }
    /// Notes something to tell after the commit; telling it twice is telling it once.
    pub fn hint(&mut self, hint: Hint) {
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
    }
    /// Seals a text for its place.
    pub fn seal(&mut self, bound_to: &str, plain: &[u8]) -> Result<Vec<u8>> {
        self.vault.seal(&mut self.rng, bound_to, plain)
    }
    /// Opens what [`Tx::seal`] made.
    pub fn open(&self, bound_to: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        self.vault.open(bound_to, sealed)
    }
}

/// A moment as the tables keep it.
pub fn micros(moment: Timestamp) -> i64 {
    i64::try_from(moment.0).unwrap_or(i64::MAX)
}
