//! The routing table: who serves which host and path.
//!
//! Readers take no lock: hosts are spread over shards, each an immutable map behind an atomic pointer, so that a lookup
//! costs the same with a hundred and with a hundred thousand routes, and a registration copies one small map. Registrations
//! that only repeat themselves, as nearly all do, write one number.
//!
//! - `key`: names of routes in canonical form.
//! - `instance`: what a registration says.
//! - `pool`: the endpoints of a route, and the choice among them.
//!
//! Time is an argument: milliseconds of a clock that never steps.

mod instance;
mod key;
mod pool;

pub(crate) use instance::{Attributes, Balance, Instance};
pub(crate) use key::{MAX_HOST, MAX_PATH, RouteKey, host_key};
pub(crate) use pool::{Choice, Endpoint, Lease, NoEndpoint, Pool};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

const SHARDS: usize = 1_024;

/// A moment in milliseconds of a clock that never steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl std::ops::Add<Duration> for Moment {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// What the table may grow to, and when it forgets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Routes in all.
    pub(crate) routes: usize,
    /// Endpoints of one route.
    pub(crate) endpoints: usize,
    /// When a silent plain endpoint is dropped.
    pub(crate) stale: Duration,
    /// How long a route without endpoints is remembered, so that it answers 503 and not 404.
    pub(crate) empty: Duration,
}

/// What a registration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A new endpoint, or new attributes.
    Changed,
    /// Nothing new; it lives on.
    Refreshed,
    /// Older than what the table knows.
    Stale,
    /// The table, or the route, is full.
    Full,
}

/// What a lookup found.
#[derive(Debug)]
pub(crate) enum Found {
    /// A route with endpoints.
    Pool(Arc<Pool>),
    /// A route that has lost its endpoints.
    Empty,
    /// No route.
    Nothing,
}

type Hosts = HashMap<Arc<str>, Arc<Host>>;

/// The routes of one host, sorted by path.
#[derive(Debug, Default)]
struct Host {
    pools: Vec<Arc<Pool>>,
}

#[derive(Default)]
struct Shard {
    hosts: ArcSwap<Hosts>,
    writing: Mutex<()>,
}

/// The routing table.
pub(crate) struct Table {
    shards: Box<[Shard]>,
    spread: RandomState,
    limits: Limits,
    routes: AtomicUsize,
    endpoints: AtomicUsize,
    changes: AtomicU64,
}

impl Table {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            shards: std::iter::repeat_with(Shard::default).take(SHARDS).collect(),
            spread: RandomState::new(),
            limits,
            routes: AtomicUsize::new(0),
            endpoints: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
        }
    }

    /// Finds the route of a request: the exact host first, then wildcards from the left; the longest path that has endpoints.
    pub(crate) fn lookup(&self, host: &[u8], path: &[u8]) -> Found {
        let mut buffer = [0; MAX_HOST + 1];
        let Some(length) = host_key(host, &mut buffer).map(|host| host.len()) else { return Found::Nothing };
        let mut emptied = false;
        let mut from = 0;
        loop {
            let name = std::str::from_utf8(&buffer[from..length]).unwrap_or_default();
            let hosts = self.shard(name).hosts.load();
            if let Some(host) = hosts.get(name) {
                match host.longest(path) {
                    Found::Pool(pool) => return Found::Pool(pool),
                    Found::Empty => emptied = true,
                    Found::Nothing => {}
                }
            }
            // `a.b.c` -> `*.b.c` -> `*.c`: the star takes the place of the last byte before the dot.
            let label = if from == 0 && buffer[0] != b'*' { 0 } else { from + 2 };
            let Some(dot) = buffer[label.min(length)..length].iter().position(|b| *b == b'.').map(|at| at + label) else { break };
            from = dot - 1;
            buffer[from] = b'*';
        }
        if emptied { Found::Empty } else { Found::Nothing }
    }

    /// Adds an endpoint to a route, or keeps it alive.
    pub(crate) fn register(&self, key: &RouteKey, instance: &Arc<Instance>, balance: Option<Balance>, now: Moment) -> Outcome {
        if let Some(outcome) = self.refresh(key, instance, balance, now) {
            return outcome;
        }
        let shard = self.shard(&key.host);
        let _writing = shard.writing.lock();
        let hosts = shard.hosts.load_full();
        let host = hosts.get(&key.host);
        let known = host.and_then(|host| host.pool(&key.path));
        if known.is_none() && self.routes.load(Relaxed) >= self.limits.routes {
            return Outcome::Full;
        }
        let fresh = known.is_none().then(|| Pool::new(key.clone(), self.spread.hash_one(key) as usize & 0xffff));
        let Some(pool) = known.map(|pool| &**pool).or(fresh.as_ref()) else { return Outcome::Full };
        let mut endpoints = pool.endpoints.to_vec();
        let at = endpoints.iter().position(|e| e.address() == instance.attributes.address);
        match at {
            Some(at) if older(instance.attributes.updated_ns, endpoints[at].instance.attributes.updated_ns) => {
                return Outcome::Stale;
            }
            Some(at) => endpoints[at] = Arc::new(endpoints[at].updated(instance.clone(), now)),
            None if endpoints.len() >= self.limits.endpoints => return Outcome::Full,
            None => {
                endpoints.push(Arc::new(Endpoint::new(instance.clone(), now)));
                self.endpoints.fetch_add(1, Relaxed);
            }
        }
        self.routes.fetch_add(usize::from(known.is_none()), Relaxed);
        let pool = Arc::new(pool.with(endpoints, balance.unwrap_or_default(), now));
        shard.replace(&hosts, &key.host, host.map_or_else(Host::default, |host| host.copy()).with(pool));
        self.changes.fetch_add(1, Relaxed);
        Outcome::Changed
    }

    /// The usual case: the registration says what is known already.
    fn refresh(&self, key: &RouteKey, instance: &Instance, balance: Option<Balance>, now: Moment) -> Option<Outcome> {
        let hosts = self.shard(&key.host).hosts.load();
        let pool = hosts.get(&key.host)?.pool(&key.path)?;
        let endpoint = pool.endpoints.iter().find(|e| e.address() == instance.attributes.address)?;
        let same = endpoint.instance.same_as(instance) && balance.unwrap_or_default() == pool.balance;
        same.then(|| {
            endpoint.touch(now);
            Outcome::Refreshed
        })
    }

    /// Takes an endpoint off a route; false if it is not there, or is there for another instance or by a later registration.
    pub(crate) fn unregister(&self, key: &RouteKey, gone: &Attributes, now: Moment) -> bool {
        let matches = |e: &Endpoint| {
            let known = &e.instance.attributes;
            let other_instance = gone.instance.is_some() && known.instance.is_some() && gone.instance != known.instance;
            e.address() == gone.address && !other_instance && !older(gone.updated_ns, known.updated_ns)
        };
        self.remove(key, now, matches) > 0
    }

    /// Takes an endpoint off a route because it is not what it was registered as.
    pub(crate) fn drop_endpoint(&self, key: &RouteKey, address: SocketAddr, now: Moment) -> bool {
        self.remove(key, now, |e| e.address() == address) > 0
    }

    /// Drops endpoints that were silent for too long, and forgets routes that have been empty for long enough.
    /// Returns how many endpoints went.
    pub(crate) fn prune(&self, now: Moment) -> usize {
        let mut pruned = 0;
        for shard in &self.shards {
            let stale = |e: &Endpoint| e.instance.expires(e.seen(), self.limits.stale).is_some_and(|at| at <= now);
            let due = |p: &Pool| {
                if p.is_empty() { p.empty_since + self.limits.empty <= now } else { p.endpoints.iter().any(|e| stale(e)) }
            };
            let hosts = shard.hosts.load_full();
            let keys: Vec<RouteKey> = hosts.values().flat_map(|h| &h.pools).filter(|p| due(p)).map(|p| p.key.clone()).collect();
            for key in keys {
                self.forget(&key, now);
                pruned += self.remove(&key, now, stale);
            }
        }
        pruned
    }

    /// Gives every endpoint a whole lifetime from now; for the moment when a lost bus is back.
    pub(crate) fn refresh_all(&self, now: Moment) {
        self.each(|pool| pool.endpoints.iter().for_each(|e| e.touch(now)));
    }

    /// Shows every route.
    pub(crate) fn each(&self, mut see: impl FnMut(&Arc<Pool>)) {
        for shard in &self.shards {
            shard.hosts.load_full().values().flat_map(|host| &host.pools).for_each(&mut see);
        }
    }

    /// Routes, empty ones too.
    pub(crate) fn routes(&self) -> usize {
        self.routes.load(Relaxed)
    }

    /// Endpoints, counted once for each route.
    pub(crate) fn endpoints(&self) -> usize {
        self.endpoints.load(Relaxed)
    }

    /// Grows with every change that a reader could notice.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// Removes the endpoints of a route that match; returns how many.
    fn remove(&self, key: &RouteKey, now: Moment, gone: impl Fn(&Endpoint) -> bool) -> usize {
        let mut removed = 0;
        self.edit(key, |host, pool| {
            let kept: Vec<_> = pool.endpoints.iter().filter(|e| !gone(e)).cloned().collect();
            removed = pool.endpoints.len() - kept.len();
            (removed > 0).then(|| host.with(Arc::new(pool.with(kept, pool.balance, now))))
        });
        self.endpoints.fetch_sub(removed, Relaxed);
        removed
    }

    /// Forgets a route that has been empty for long enough.
    fn forget(&self, key: &RouteKey, now: Moment) {
        let mut forgotten = false;
        self.edit(key, |host, pool| {
            forgotten = pool.is_empty() && pool.empty_since + self.limits.empty <= now;
            forgotten.then(|| host.without(&key.path))
        });
        self.routes.fetch_sub(usize::from(forgotten), Relaxed);
    }

    /// Puts another host in the place of the one that has this route, if there is one.
    fn edit(&self, key: &RouteKey, change: impl FnOnce(Host, &Pool) -> Option<Host>) {
        let shard = self.shard(&key.host);
        let _writing = shard.writing.lock();
        let hosts = shard.hosts.load_full();
        let Some((host, pool)) = hosts.get(&key.host).and_then(|host| Some((host, host.pool(&key.path)?))) else { return };
        if let Some(host) = change(host.copy(), pool) {
            shard.replace(&hosts, &key.host, host);
            self.changes.fetch_add(1, Relaxed);
        }
    }

    fn shard(&self, host: &str) -> &Shard {
        &self.shards[self.spread.hash_one(host) as usize % SHARDS]
    }
}

/// True if both times are known and the first one lies before the second.
fn older(message: i64, known: i64) -> bool {
    message != 0 && known != 0 && message < known
}

impl Shard {
    fn replace(&self, old: &Hosts, name: &Arc<str>, host: Host) {
        let mut hosts = old.clone();
        match host.pools.is_empty() {
            true => hosts.remove(name),
            false => hosts.insert(name.clone(), Arc::new(host)),
        };
        self.hosts.store(Arc::new(hosts));
    }
}

impl Host {
    fn copy(&self) -> Self {
        Self { pools: self.pools.clone() }
    }

    fn find(&self, path: &[u8]) -> Result<usize, usize> {
        self.pools.binary_search_by(|pool| pool.key.path.as_bytes().cmp(path))
    }

    fn pool(&self, path: &str) -> Option<&Arc<Pool>> {
        self.find(path.as_bytes()).ok().map(|at| &self.pools[at])
    }

    fn with(mut self, pool: Arc<Pool>) -> Self {
        match self.find(pool.key.path.as_bytes()) {
            Ok(at) => self.pools[at] = pool,
            Err(at) => self.pools.insert(at, pool),
        }
        self
    }

    fn without(mut self, path: &str) -> Self {
        if let Ok(at) = self.find(path.as_bytes()) {
            self.pools.remove(at);
        }
        self
    }

    /// The longest path, cut at a slash, that has endpoints.
    fn longest(&self, path: &[u8]) -> Found {
        let mut emptied = false;
        let mut see = |pool: &Arc<Pool>| match pool.is_empty() {
            true => {
                emptied = true;
                None
            }
            false => Some(pool.clone()),
        };
        if let [only] = &self.pools[..]
            && only.key.path.is_empty()
        {
            return see(only).map_or(Found::Empty, Found::Pool);
        }
        let mut lower = [0; MAX_PATH];
        // A route's path is never longer than the buffer: what lies behind matters only for where a segment ends.
        let mut end = path.len().min(MAX_PATH);
        lower[..end].copy_from_slice(&path[..end]);
        lower[..end].make_ascii_lowercase();
        let whole = |end: usize| end == 0 || path.get(end).is_none_or(|next| *next == b'/');
        loop {
            if whole(end)
                && let Ok(at) = self.find(&lower[..end])
                && let Some(pool) = see(&self.pools[at])
            {
                return Found::Pool(pool);
            }
            match lower[..end].iter().rposition(|b| *b == b'/') {
                Some(slash) => end = slash,
                // `*`, as in `OPTIONS *`, has no segments: it belongs to the root.
                None if end > 0 => end = 0,
                None => break,
            }
        }
        if emptied { Found::Empty } else { Found::Nothing }
    }
}

#[cfg(test)]
mod tests;
