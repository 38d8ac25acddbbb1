//! Pauses between tries.

use rand::RngExt;
use std::time::Duration;

/// Pauses that double up to a limit, each with jitter, so that many who wait do not come at once.
pub struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    /// From `first` up to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// For calls to peers: 100 ms up to 5 s.
    pub fn peers() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// Waits.
    pub async fn pause(&mut self) {
        let share = foundation::rng().random_range(0.75..1.25);
        tokio::time::sleep(self.next.mul_f64(share)).await;
        self.next = (self.next * 2).min(self.most);
    }
}
