use super::*;
use crate::proxy::backend::BackendSettings;
use messages::router::Register;
use proptest::prelude::*;
use std::collections::BTreeMap;

const STALE: Duration = Duration::from_secs(120);
const EMPTY: Duration = Duration::from_secs(30);

fn table() -> Table {
    Table::new(Limits { routes: 1_000, endpoints: 10, stale: STALE, empty: EMPTY })
}

fn settings() -> BackendSettings {
    let second = Duration::from_secs(1);
    BackendSettings {
        router_index: "0".into(),
        connect_timeout: second,
        endpoint_timeout: second,
        idle_timeout: second,
        verifies: true,
    }
}

fn key(uri: &str) -> RouteKey {
    RouteKey::parse(uri).unwrap()
}

fn address(port: u16) -> SocketAddr {
    ([10, 0, 0, 1], port).into()
}

fn message(port: u16) -> Register {
    Register { app: Some("app".into()), private_instance_id: Some(format!("i-{port}")), ..Register::default() }
}

fn attributes(port: u16) -> Attributes {
    Attributes::new(&message(port), address(port), false)
}

fn instance(attributes: Attributes) -> Arc<Instance> {
    Arc::new(Instance::new(attributes, &settings()))
}

fn add(table: &Table, uri: &str, port: u16, now: u64) -> Outcome {
    table.register(&key(uri), &instance(attributes(port)), None, Moment(now))
}

fn found(table: &Table, host: &str, path: &str) -> Option<String> {
    match table.lookup(host.as_bytes(), path.as_bytes()) {
        Found::Pool(pool) => Some(pool.key.to_string()),
        Found::Empty => Some("(empty)".to_owned()),
        Found::Nothing => None,
    }
}

fn choice(tried: &[SocketAddr], now: u64) -> Choice<'_> {
    Choice { tried, max_open: 2, aside_for: Duration::from_secs(30), now: Moment(now) }
}

fn pool(table: &Table, host: &str) -> Arc<Pool> {
    match table.lookup(host.as_bytes(), b"/") {
        Found::Pool(pool) => pool,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_longest_path_wins_then_the_exact_host_then_the_nearest_wildcard() {
    let table = table();
    for uri in ["a.b.c", "a.b.c/x", "a.b.c/x/y", "*.b.c/x", "*.c"] {
        add(&table, uri, 1, 0);
    }
    for (host, path, expected) in [
        ("a.b.c", "/", Some("a.b.c")),
        ("a.b.c", "/x", Some("a.b.c/x")),
        ("a.b.c", "/x/", Some("a.b.c/x")),
        ("a.b.c", "/xy", Some("a.b.c")),
        ("a.b.c", "/x/y/z", Some("a.b.c/x/y")),
        ("a.b.c", "*", Some("a.b.c")),
        ("q.b.c", "/x", Some("*.b.c/x")),
        ("q.b.c", "/q", Some("*.c")),
        ("q.w.b.c", "/x", Some("*.b.c/x")),
        ("b.c", "/", Some("*.c")),
        ("c", "/", None),
        ("", "/", None),
    ] {
        assert_eq!(found(&table, host, path).as_deref(), expected, "{host}{path}");
    }
    let long = format!("/x/{}", "y".repeat(2 * MAX_PATH));
    assert_eq!(found(&table, "a.b.c", &long).as_deref(), Some("a.b.c/x"));
}

#[test]
fn a_repeated_registration_changes_nothing_but_its_age() {
    let table = table();
    assert_eq!(add(&table, "a.x", 1, 0), Outcome::Changed);
    let changes = table.changes();
    assert_eq!(add(&table, "a.x", 1, 100_000), Outcome::Refreshed);
    assert_eq!(table.changes(), changes);
    assert_eq!(table.prune(Moment(120_000)), 0, "it was heard 20 s ago");
    assert_eq!(table.prune(Moment(220_000)), 1);
}

#[test]
fn a_registration_with_other_attributes_takes_the_place_of_the_first() {
    let table = table();
    add(&table, "a.x", 1, 0);
    let lease = pool(&table, "a.x").pick(choice(&[], 0)).unwrap();
    let other = Attributes { index: Some("7".into()), ..attributes(1) };
    assert_eq!(table.register(&key("a.x"), &instance(other), None, Moment(1)), Outcome::Changed);
    let pool = pool(&table, "a.x");
    assert_eq!((pool.endpoints.len(), table.endpoints()), (1, 1));
    assert_eq!(pool.endpoints[0].instance.attributes.index.as_deref(), Some("7"));
    assert_eq!(pool.endpoints[0].open(), 1, "open requests are still counted");
    drop(lease);
    assert_eq!(pool.endpoints[0].open(), 0);
}

#[test]
fn late_messages_about_an_earlier_state_are_ignored() {
    let table = table();
    let at = |updated_ns| Attributes { updated_ns, ..attributes(1) };
    table.register(&key("a.x"), &instance(at(20)), None, Moment(0));
    let older = Attributes { index: Some("9".into()), ..at(10) };
    assert_eq!(table.register(&key("a.x"), &instance(older), None, Moment(1)), Outcome::Stale);
    assert!(!table.unregister(&key("a.x"), &at(10), Moment(2)));
    assert!(table.unregister(&key("a.x"), &at(20), Moment(3)));
}

#[test]
fn unregistering_takes_one_endpoint_of_one_route() {
    let table = table();
    for (uri, port) in [("a.x", 1), ("a.x", 2), ("b.x", 1)] {
        add(&table, uri, port, 0);
    }
    assert!(!table.unregister(&key("a.x/none"), &attributes(1), Moment(1)));
    assert!(!table.unregister(&key("a.x"), &attributes(3), Moment(1)));
    assert!(table.unregister(&key("a.x"), &attributes(1), Moment(1)));
    assert_eq!((table.routes(), table.endpoints()), (2, 2));
    assert_eq!(found(&table, "b.x", "/").as_deref(), Some("b.x"));
}

#[test]
fn an_old_instance_cannot_take_a_new_one_off_its_address() {
    let table = table();
    let new = Attributes { instance: Some("new".into()), ..attributes(1) };
    table.register(&key("a.x"), &instance(new.clone()), None, Moment(0));
    assert!(!table.unregister(&key("a.x"), &attributes(1), Moment(1)));
    let nameless = Attributes { instance: None, ..attributes(1) };
    assert!(table.unregister(&key("a.x"), &nameless, Moment(1)), "a foreign registrar names only the address");
}

#[test]
fn a_route_without_endpoints_is_remembered_for_a_while() {
    let table = table();
    add(&table, "a.x", 1, 0);
    add(&table, "a.x/deep", 1, 0);
    table.unregister(&key("a.x/deep"), &attributes(1), Moment(10));
    assert_eq!(found(&table, "a.x", "/deep").as_deref(), Some("a.x"), "a shorter path takes over");
    table.unregister(&key("a.x"), &attributes(1), Moment(10));
    assert_eq!(found(&table, "a.x", "/deep").as_deref(), Some("(empty)"));
    table.prune(Moment(30_009));
    assert_eq!(found(&table, "a.x", "/").as_deref(), Some("(empty)"));
    table.prune(Moment(30_010));
    assert_eq!((found(&table, "a.x", "/"), table.routes(), table.endpoints()), (None, 0, 0));
}

#[test]
fn lifetimes_are_capped_and_tls_endpoints_have_none() {
    let table = table();
    let ttl = |s, port| Attributes { ttl: Some(Duration::from_secs(s)), ..attributes(port) };
    let tls = Attributes { tls: true, ..attributes(3) };
    for attributes in [ttl(10, 1), ttl(9_999, 2), tls] {
        table.register(&key("a.x"), &instance(attributes), None, Moment(0));
    }
    assert_eq!(table.prune(Moment(9_999)), 0);
    assert_eq!(table.prune(Moment(10_000)), 1);
    assert_eq!(table.prune(Moment(120_000)), 1);
    assert_eq!(table.prune(Moment(u64::MAX)), 0);
    assert!(table.drop_endpoint(&key("a.x"), address(3), Moment(0)), "it goes when it fails");
}

#[test]
fn refreshing_gives_all_a_whole_lifetime() {
    let table = table();
    add(&table, "a.x", 1, 0);
    table.refresh_all(Moment(119_999));
    assert_eq!(table.prune(Moment(239_998)), 0);
    assert_eq!(table.prune(Moment(239_999)), 1);
}

#[test]
fn the_table_is_bounded() {
    let table = Table::new(Limits { routes: 2, endpoints: 2, stale: STALE, empty: EMPTY });
    let outcomes: Vec<_> =
        [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("c", 1)].iter().map(|(uri, port)| add(&table, uri, *port, 0)).collect();
    use Outcome::*;
    assert_eq!(outcomes, [Changed, Changed, Full, Changed, Full]);
}

#[test]
fn requests_take_turns() {
    let table = table();
    for port in 1..=3 {
        add(&table, "a.x", port, 0);
    }
    let pool = pool(&table, "a.x");
    let mut seen = BTreeMap::<SocketAddr, usize>::new();
    for _ in 0..30 {
        *seen.entry(pool.pick(choice(&[], 0)).unwrap().address()).or_default() += 1;
    }
    assert!(seen.values().all(|count| *count == 10), "{seen:?}");
}

#[test]
fn the_least_busy_endpoint_is_chosen_if_the_route_wants_that() {
    let table = table();
    for port in 1..=3 {
        table.register(&key("a.x"), &instance(attributes(port)), Some(Balance::LeastConnection), Moment(0));
    }
    let pool = pool(&table, "a.x");
    let leases: Vec<Lease> = (0..6).map(|_| pool.pick(choice(&[], 0)).unwrap()).collect();
    assert!(pool.endpoints.iter().all(|e| e.open() == 2));
    assert_eq!(pool.pick(choice(&[], 0)).unwrap_err(), NoEndpoint::Overloaded);
    drop(leases);
    assert!(pool.pick(choice(&[], 0)).is_ok());
}

#[test]
fn endpoints_that_failed_are_set_aside_until_none_is_left() {
    let table = table();
    add(&table, "a.x", 1, 0);
    add(&table, "a.x", 2, 0);
    let pool = pool(&table, "a.x");
    let fail = |port, now| pool.endpoints.iter().find(|e| e.address() == address(port)).map(|e| e.fail(Moment(now)));
    assert_eq!(fail(1, 0), Some(true));
    let ports = |now| -> Vec<u16> { (0..4).map(|_| pool.pick(choice(&[], now)).unwrap().address().port()).collect() };
    assert_eq!(ports(29_999), [2; 4]);
    assert!(ports(30_000).contains(&1), "its time is over");
    fail(1, 40_000);
    fail(2, 40_000);
    assert!(ports(40_001).contains(&1), "better a failed one than none");
    let tried = [address(1), address(2)];
    assert_eq!(pool.pick(choice(&tried, 0)).unwrap_err(), NoEndpoint::Exhausted);
}

#[test]
fn an_instance_can_be_asked_for_only_within_its_route() {
    let table = table();
    let indexed = |port, index: &str| Attributes { index: Some(index.into()), ..attributes(port) };
    for (uri, port, index) in [("a.x", 1, "0"), ("a.x", 2, "1"), ("b.x", 3, "2")] {
        table.register(&key(uri), &instance(indexed(port, index)), None, Moment(0));
    }
    let pool = pool(&table, "a.x");
    assert_eq!(pool.pick_index("app", "1", choice(&[], 0)).unwrap().address(), address(2));
    assert_eq!(pool.pick_index("app", "2", choice(&[], 0)).unwrap_err(), NoEndpoint::Exhausted);
    assert_eq!(pool.pick_index("other", "1", choice(&[], 0)).unwrap_err(), NoEndpoint::Exhausted);
    assert_eq!(pool.pick_instance("i-1", choice(&[], 0)).unwrap().address(), address(1));
    assert!(pool.pick_instance("i-3", choice(&[], 0)).is_none());
}

/// The same promises, kept the slow way.
#[derive(Default)]
struct Model {
    /// (host, path) -> port -> last seen
    routes: BTreeMap<(String, String), BTreeMap<u16, u64>>,
    emptied: BTreeMap<(String, String), u64>,
}

impl Model {
    fn drop_where(&mut self, now: u64, gone: impl Fn(&(String, String), u16, u64) -> bool) {
        for (key, ports) in &mut self.routes {
            let before = ports.len();
            ports.retain(|port, seen| !gone(key, *port, *seen));
            if before > 0 && ports.is_empty() {
                self.emptied.insert(key.clone(), now);
            }
        }
    }

    fn lookup(&self, host: &str, path: &str) -> Option<String> {
        let mut candidates = vec![host.to_owned()];
        let labels: Vec<&str> = host.split('.').collect();
        candidates.extend((1..labels.len()).map(|from| format!("*.{}", labels[from..].join("."))));
        let mut empty = None;
        for host in candidates {
            let mut best: Option<&str> = None;
            for ((known, route), ports) in &self.routes {
                let below = path.strip_prefix(route.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                if *known != host || !below {
                    continue;
                }
                if ports.is_empty() {
                    empty = Some("(empty)".to_owned());
                } else if best.is_none_or(|best| best.len() < route.len()) {
                    best = Some(route);
                }
            }
            if let Some(path) = best {
                return Some(format!("{host}{path}"));
            }
        }
        empty
    }
}

#[derive(Clone, Debug)]
enum Step {
    Register(String, u16),
    Unregister(String, u16),
    Prune,
    Refresh,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let host = prop::sample::select(vec!["a.x", "b.x", "*.x", "c.b.x", "*.b.x", "x"]);
    let path = prop::sample::select(vec!["", "/p", "/p/q", "/pq"]);
    let uri = (host, path).prop_map(|(host, path)| format!("{host}{path}"));
    let step = prop_oneof![
        5 => (uri.clone(), 1..4u16).prop_map(|(uri, port)| Step::Register(uri, port)),
        3 => (uri, 1..4u16).prop_map(|(uri, port)| Step::Unregister(uri, port)),
        1 => Just(Step::Prune),
        1 => Just(Step::Refresh),
        2 => (1..90_000u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn any_history_routes_as_the_slow_way_does(history in steps()) {
        let (table, mut model, mut now) = (table(), Model::default(), 0);
        for step in history {
            let split = |uri: &str| { let key = key(uri); (key.host.to_string(), key.path.to_string()) };
            match step {
                Step::Register(uri, port) => {
                    add(&table, &uri, port, now);
                    model.emptied.remove(&split(&uri));
                    model.routes.entry(split(&uri)).or_default().insert(port, now);
                }
                Step::Unregister(uri, port) => {
                    table.unregister(&key(&uri), &attributes(port), Moment(now));
                    model.drop_where(now, |key, known, _| *key == split(&uri) && known == port);
                }
                Step::Prune => {
                    table.prune(Moment(now));
                    let forgotten: Vec<_> = model.emptied.iter().filter(|(_, at)| **at + 30_000 <= now).map(|(k, _)| k.clone()).collect();
                    forgotten.iter().for_each(|key| { model.emptied.remove(key); model.routes.remove(key); });
                    model.drop_where(now, |_, _, seen| seen + 120_000 <= now);
                }
                Step::Refresh => {
                    table.refresh_all(Moment(now));
                    model.routes.values_mut().for_each(|ports| ports.values_mut().for_each(|seen| *seen = now));
                }
                Step::Wait(span) => now += span,
            }
            prop_assert_eq!(table.endpoints(), model.routes.values().map(BTreeMap::len).sum::<usize>());
            prop_assert_eq!(table.routes(), model.routes.len());
        }
        for host in ["a.x", "b.x", "z.x", "c.b.x", "z.b.x", "x", "q"] {
            for path in ["/", "/p", "/p/", "/p/q/r", "/pq", "/pqr"] {
                prop_assert_eq!(found(&table, host, path), model.lookup(host, path), "{}{}", host, path);
            }
        }
    }

    #[test]
    fn no_host_or_path_confuses_a_lookup(host in prop::collection::vec(any::<u8>(), 0..300), path in prop::collection::vec(any::<u8>(), 0..700)) {
        let table = table();
        add(&table, "*.x/p", 1, 0);
        table.lookup(&host, &path);
        let mut dotted = host.clone();
        dotted.extend_from_slice(b".x");
        table.lookup(&dotted, &path);
    }
}
