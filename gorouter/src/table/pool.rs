//! The endpoints of one route, and the choice among them.

use super::{Balance, Instance, Moment, RouteKey};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// One endpoint of one route.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) instance: Arc<Instance>,
    vitals: Arc<Vitals>,
}

/// What outlives an update of an endpoint's attributes.
#[derive(Debug, Default)]
struct Vitals {
    /// Last registration, in milliseconds.
    seen: AtomicU64,
    /// One more than the moment of the last failure, in milliseconds; 0: none.
    failed: AtomicU64,
    /// Open requests.
    open: AtomicUsize,
}

impl Endpoint {
    pub(super) fn new(instance: Arc<Instance>, seen: Moment) -> Self {
        let vitals = Vitals { seen: seen.0.into(), ..Vitals::default() };
        Self { instance, vitals: Arc::new(vitals) }
    }

    /// The same endpoint with other attributes.
    pub(super) fn updated(&self, instance: Arc<Instance>, seen: Moment) -> Self {
        self.touch(seen);
        Self { instance, vitals: self.vitals.clone() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.instance.attributes.address
    }

    pub(super) fn touch(&self, seen: Moment) {
        self.vitals.seen.store(seen.0, Relaxed);
    }

    pub(crate) fn seen(&self) -> Moment {
        Moment(self.vitals.seen.load(Relaxed))
    }

    /// Sets the endpoint aside for a while; true if it was not so already.
    pub(crate) fn fail(&self, now: Moment) -> bool {
        self.vitals.failed.swap(now.0 + 1, Relaxed) == 0
    }

    fn aside(&self, now: Moment, span: Duration) -> bool {
        let failed = self.vitals.failed.load(Relaxed);
        failed != 0 && now < Moment(failed - 1) + span
    }

    pub(crate) fn open(&self) -> usize {
        self.vitals.open.load(Relaxed)
    }
}

/// A place at an endpoint, given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Endpoint>);

impl Lease {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.vitals.open.fetch_add(1, Relaxed);
        Self(endpoint.clone())
    }
}

impl std::ops::Deref for Lease {
    type Target = Endpoint;
    fn deref(&self) -> &Endpoint {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.vitals.open.fetch_sub(1, Relaxed);
    }
}

/// What a choice has to respect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<'a> {
    /// Endpoints that failed this request already.
    pub(crate) tried: &'a [SocketAddr],
    /// Open requests at which an endpoint takes no more; 0: no limit.
    pub(crate) max_open: usize,
    /// How long a failed endpoint is set aside.
    pub(crate) aside_for: Duration,
    pub(crate) now: Moment,
}

/// Why there is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoEndpoint {
    /// There is none left to try.
    Exhausted,
    /// All that are left are at their limit.
    Overloaded,
}

/// The endpoints of one route. Never changes: a registration makes another one.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) key: RouteKey,
    pub(crate) endpoints: Box<[Arc<Endpoint>]>,
    pub(crate) balance: Balance,
    /// Where the next turn begins; shared with the pools before and after this one.
    cursor: Arc<AtomicUsize>,
    /// Since when it has no endpoint.
    pub(super) empty_since: Moment,
}

impl Pool {
    pub(super) fn new(key: RouteKey, start: usize) -> Self {
        let cursor = Arc::new(AtomicUsize::new(start));
        Self { key, endpoints: Box::default(), balance: Balance::default(), cursor, empty_since: Moment::default() }
    }

    pub(super) fn with(&self, endpoints: Vec<Arc<Endpoint>>, balance: Balance, now: Moment) -> Self {
        let (key, cursor) = (self.key.clone(), self.cursor.clone());
        Self { key, endpoints: endpoints.into(), balance, cursor, empty_since: now }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// The endpoint that serves the next request.
    pub(crate) fn pick(&self, choice: Choice<'_>) -> Result<Lease, NoEndpoint> {
        let best = match self.candidate(choice, false) {
            Err(NoEndpoint::Exhausted) => self.candidate(choice, true),
            found => found,
        }?;
        Ok(Lease::new(best))
    }

    /// The endpoint of that instance, if it can take the request.
    pub(crate) fn pick_instance(&self, id: &str, choice: Choice<'_>) -> Option<Lease> {
        let wanted = |e: &&Arc<Endpoint>| e.instance.attributes.instance.as_deref() == Some(id) && choice.allows(e);
        self.endpoints.iter().find(wanted).map(Lease::new)
    }

    /// The endpoint of that index of that app.
    pub(crate) fn pick_index(&self, app: &str, index: &str, choice: Choice<'_>) -> Result<Lease, NoEndpoint> {
        let wanted = |e: &&Arc<Endpoint>| {
            let attributes = &e.instance.attributes;
            attributes.app.as_deref() == Some(app) && attributes.index.as_deref() == Some(index)
        };
        let mut found = self.endpoints.iter().filter(wanted).peekable();
        if found.peek().is_none() {
            return Err(NoEndpoint::Exhausted);
        }
        found.find(|e| choice.allows(e)).map(Lease::new).ok_or(NoEndpoint::Overloaded)
    }

    /// An endpoint of that process, of that index if one is given.
    pub(crate) fn pick_process(&self, process: &str, index: Option<&str>, choice: Choice<'_>) -> Result<Lease, NoEndpoint> {
        let wanted = |e: &Arc<Endpoint>| {
            let attributes = &e.instance.attributes;
            attributes.tags.get("process_id").is_some_and(|id| id == process)
                && index.is_none_or(|index| attributes.index.as_deref() == Some(index))
        };
        let found: Vec<_> = self.endpoints.iter().filter(|e| wanted(e)).collect();
        if found.is_empty() {
            return Err(NoEndpoint::Exhausted);
        }
        let open = |e: &&&Arc<Endpoint>| choice.allows(e) && !choice.tried.contains(&e.address());
        let start = self.cursor.fetch_add(1, Relaxed) % found.len();
        let found = found[start..].iter().chain(&found[..start]).find(open);
        found.map(|e| Lease::new(e)).ok_or(NoEndpoint::Overloaded)
    }

    /// True if some endpoint was not tried yet.
    pub(crate) fn has_untried(&self, tried: &[SocketAddr]) -> bool {
        self.endpoints.iter().any(|e| !tried.contains(&e.address()))
    }

    /// Takes the turn; endpoints that were set aside count only with `all`, and are then taken back.
    fn candidate(&self, choice: Choice<'_>, all: bool) -> Result<&Arc<Endpoint>, NoEndpoint> {
        let count = self.endpoints.len();
        if count == 0 {
            return Err(NoEndpoint::Exhausted);
        }
        let start = self.cursor.fetch_add(1, Relaxed) % count;
        let mut best: Option<&Arc<Endpoint>> = None;
        let mut overloaded = false;
        for endpoint in self.endpoints[start..].iter().chain(&self.endpoints[..start]) {
            if choice.tried.contains(&endpoint.address()) || (!all && endpoint.aside(choice.now, choice.aside_for)) {
                continue;
            }
            if !choice.allows(endpoint) {
                overloaded = true;
                continue;
            }
            match self.balance {
                Balance::RoundRobin => {
                    best = Some(endpoint);
                    break;
                }
                Balance::LeastConnection if best.is_none_or(|b| endpoint.open() < b.open()) => best = Some(endpoint),
                Balance::LeastConnection => {}
            }
        }
        if all {
            self.endpoints.iter().for_each(|e| e.vitals.failed.store(0, Relaxed));
        }
        best.ok_or(if overloaded { NoEndpoint::Overloaded } else { NoEndpoint::Exhausted })
    }
}

impl Choice<'_> {
    fn allows(&self, endpoint: &Endpoint) -> bool {
        self.max_open == 0 || endpoint.open() < self.max_open
    }
}
