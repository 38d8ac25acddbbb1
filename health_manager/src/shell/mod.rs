//! Feeds the rules from bus, bucket and feed, and carries out what they say.
//!
//! One task owns the [`Core`]; all others send it inputs through one bounded queue and wait while it is full. Requests run
//! beside it, and send back how they went. The rules bound how many are under way.

mod feed;
mod listen;
mod perform;

pub use feed::Feed;

use crate::domain::{Core, Input, Settings};
use bus::Bus;
use foundation::Shutdown;
use perform::Performer;
use rand::rngs::StdRng;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tracing::{info, warn};
use types::{Clock, Timestamp};

/// What the service needs of the world.
#[derive(Clone)]
pub struct Outside {
    /// The bus.
    pub bus: Bus,
    /// The cloud controller.
    pub feed: Arc<dyn Feed>,
    /// The time at the start; from then on a steady clock counts.
    pub clock: Arc<dyn Clock>,
}

const QUEUE: usize = 4_096;
const TICK: Duration = Duration::from_millis(250);

/// Time that is not changed when somebody sets the machine's clock: leases and silences are measured by it.
#[derive(Clone, Copy)]
struct Steady {
    base: Timestamp,
    from: Instant,
}

impl Steady {
    fn now(&self) -> Timestamp {
        self.base + self.from.elapsed()
    }
}

pub(crate) fn start(rules: Settings, outside: Outside, rng: StdRng, shutdown: &Shutdown) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let steady = Steady { base: outside.clock.now(), from: Instant::now() };
    let hint = Arc::new(Notify::new());
    let listen = |task: &'static str, work: futures_task::Work| {
        let ended = shutdown.clone();
        shutdown.spawn(async move {
            tokio::select! {
                () = work => if !ended.is_requested() { warn!(task, "a task ended by itself") },
                () = ended.requested() => {}
            }
        });
    };
    listen("ticks", Box::pin(tick(sender.clone())));
    listen("bus", Box::pin(listen::connection(outside.bus.clone(), sender.clone())));
    listen("claims", Box::pin(listen::claims(outside.bus.clone(), sender.clone())));
    listen("leases", Box::pin(listen::leases(outside.bus.clone(), sender.clone())));
    listen("advertisements", Box::pin(listen::advertisements(outside.bus.clone(), sender.clone())));
    listen("heartbeats", Box::pin(listen::heartbeats(outside.bus.clone(), sender.clone())));
    listen("hints", Box::pin(listen::hints(outside.bus.clone(), sender.clone(), hint.clone())));
    listen("feed", Box::pin(feed::follow(outside.feed.clone(), hint, steady, sender.clone())));
    let core = Core::new(rules, rng, steady.now());
    let performer = Performer::new(outside, sender, shutdown.clone());
    let ended = shutdown.clone();
    shutdown.spawn(async move {
        tokio::select! {
            () = decide(core, receiver, performer, steady) => {}
            () = ended.requested() => {}
        }
    });
}

/// Names the type of a task's work.
mod futures_task {
    pub(super) type Work = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Owns the rules' state.
async fn decide(mut core: Core, mut inputs: mpsc::Receiver<Input>, performer: Performer, steady: Steady) {
    let mut led = false;
    let mut batch = Vec::with_capacity(256);
    while inputs.recv_many(&mut batch, 256).await > 0 {
        for input in batch.drain(..) {
            for effect in core.handle(input, steady.now()) {
                performer.perform(effect);
            }
        }
        let leads = core.leads(steady.now());
        if leads != led {
            info!(leads, "leadership changed");
            led = leads;
        }
        // A replay of many records must not keep others on this thread waiting.
        tokio::task::yield_now().await;
    }
}

async fn tick(sender: mpsc::Sender<Input>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if sender.send(Input::Tick).await.is_err() {
            return;
        }
    }
}
