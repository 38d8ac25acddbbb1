//! Service ports: what runs in a container, reached at the services address.

use crate::{
    need_containers,
    support::{World, from_outside, spec, until},
};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use warden::config::HostService;
use warden_client::{ContainerInfo, ContainerSpec, Endpoint, ErrorKind, ServicePort};

/// Greets with its name and who connected; then says back what it hears.
const SERVER: &str = "import socket, sys, threading
def talk(c, a):
  c.sendall(f'{sys.argv[1]} {a[0]}\\n'.encode())
  while True:
    heard = c.recv(64)
    if not heard: return
    c.sendall(heard)
s = socket.create_server(('', 5432))
while True: threading.Thread(target=talk, args=s.accept(), daemon=True).start()";

const PORT: u16 = 8000;

fn server(handle: &str) -> ContainerSpec {
    let mut asked = spec(handle, &["/usr/bin/python3", "-c", SERVER, handle]);
    asked.service_ports = vec![ServicePort { port: PORT, container_port: 5432 }];
    asked
}

/// A server that listens already.
async fn serve(world: &World, handle: &str) -> ContainerInfo {
    let info = world.create(&server(handle)).await;
    until("the server listens", || TcpStream::connect((info.address, 5432)).is_ok()).await;
    info
}

fn gateway(info: &ContainerInfo) -> Ipv4Addr {
    Ipv4Addr::from_bits(info.address.to_bits() & !63 | 1)
}

/// A container that may connect to the port, if `open`.
async fn client(world: &World, handle: &str, open: Option<Ipv4Addr>) -> ContainerInfo {
    let mut asked = spec(handle, &["/bin/sleep", "1000"]);
    asked.egress = open.map(|address| Endpoint::tcp(address, PORT)).into_iter().collect();
    world.create(&asked).await
}

/// The greeting, or the name of the error.
async fn probe(world: &World, handle: &str, address: Ipv4Addr, port: u16) -> String {
    world.python(handle, "vcap", &greet(address, port)).await.1.trim().to_owned()
}

fn greet(address: Ipv4Addr, port: u16) -> String {
    format!(
        "import socket\ntry: print(socket.create_connection(('{address}', {port}), 1).recv(64).decode())\nexcept Exception as e: print(type(e).__name__)"
    )
}

/// A connection of the host's own, and how it was greeted.
fn connect(address: Ipv4Addr) -> std::io::Result<(BufReader<TcpStream>, String)> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((address, PORT)), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok((reader, line.trim().to_owned()))
}

/// Connects from inside, says so by a file, waits for another, and tells how the connection fares then.
fn hold(address: Ipv4Addr) -> String {
    format!(
        "import socket, os, time\ns = socket.create_connection(('{address}', {PORT}), 1); s.recv(64)\ns.sendall(b'a'); print(s.recv(1).decode())\nopen('/home/vcap/connected', 'w')\nwhile not os.path.exists('/home/vcap/go'): time.sleep(0.01)\ntry: s.sendall(b'b'); print(s.recv(1).decode() or 'end')\nexcept Exception as e: print(type(e).__name__)"
    )
}

async fn while_held(world: &World, handle: &str, address: Ipv4Addr, act: impl Future<Output = ()>) -> String {
    world.exec(handle, "rm -f /home/vcap/connected /home/vcap/go").await;
    let program = hold(address);
    let (told, ()) = tokio::join!(world.python(handle, "vcap", &program), async {
        world.exec(handle, "until [ -e /home/vcap/connected ]; do sleep 0.02; done").await;
        act.await;
        world.exec(handle, "touch /home/vcap/go").await;
    });
    told.1
}

/// What the kernel has of a map.
fn published(world: &World) -> String {
    let arguments = ["list", "map", "inet", &world.raw.network.table, "service_ports"];
    String::from_utf8(std::process::Command::new("nft").args(arguments).output().unwrap().stdout).unwrap()
}

/// Connections that the kernel knows to be answered from this address.
fn flows(answering: Ipv4Addr) -> usize {
    let known = fs::read_to_string("/proc/net/nf_conntrack").unwrap();
    known.lines().filter(|line| line.split_whitespace().any(|word| word == format!("src={answering}"))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_port_leads_into_the_container_for_the_host_and_for_those_who_have_it_in_their_egress() {
    need_containers!();
    let world = World::start().await;
    let info = serve(&world, "db").await;
    let address = gateway(&info);
    assert_eq!(address, world.client.capacity().await.unwrap().services_address);
    let bound = client(&world, "bound", Some(address)).await;
    client(&world, "stranger", None).await;
    assert_eq!(connect(address).unwrap().1, format!("db {address}"));
    assert_eq!(probe(&world, "bound", address, PORT).await, format!("db {}", bound.address), "its own address is seen");
    assert_eq!(probe(&world, "stranger", address, PORT).await, "TimeoutError");
    // Nothing else opens with it.
    for handle in ["bound", "stranger"] {
        assert_eq!(probe(&world, handle, info.address, 5432).await, "TimeoutError", "{handle}");
        assert_eq!(probe(&world, handle, info.address, PORT).await, "TimeoutError", "{handle}");
        assert_eq!(probe(&world, handle, info.host_address, PORT).await, "TimeoutError", "{handle}");
        assert_eq!(probe(&world, handle, address, 5432).await, "TimeoutError", "{handle}");
    }
    assert_eq!(probe(&world, "db", bound.address, 22).await, "TimeoutError", "not in the other direction");
    for (number, port) in [(71, PORT), (72, 5432)] {
        let to = if port == PORT { address } else { info.address };
        assert_eq!(from_outside(number, &greet(to, port)), "TimeoutError\n", "from outside the host");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_connects_to_itself_is_refused_at_once() {
    need_containers!();
    let world = World::start().await;
    let info = serve(&world, "db").await;
    let address = gateway(&info);
    assert_eq!(probe(&world, "db", address, PORT).await, "TimeoutError");
    world.client.set_egress("db", &[Endpoint::tcp(address, PORT)]).await.unwrap();
    assert_eq!(probe(&world, "db", address, PORT).await, "ConnectionRefusedError");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_the_egress_ends_what_is_open_and_opens_nothing_for_others() {
    need_containers!();
    let world = World::start().await;
    let address = gateway(&serve(&world, "db").await);
    client(&world, "one", Some(address)).await;
    client(&world, "two", Some(address)).await;
    let close = async { world.client.set_egress("one", &[]).await.unwrap() };
    assert_eq!(while_held(&world, "one", address, close).await, "a\nTimeoutError\n");
    assert_eq!(probe(&world, "one", address, PORT).await, "TimeoutError");
    assert_eq!(while_held(&world, "two", address, async {}).await, "a\nb\n", "the other's stays open");
    world.client.set_egress("one", &[Endpoint::tcp(address, PORT)]).await.unwrap();
    assert!(probe(&world, "one", address, PORT).await.starts_with("db "));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_daemon_is_not_noticed() {
    need_containers!();
    let mut world = World::start().await;
    let address = gateway(&serve(&world, "db").await);
    client(&world, "bound", Some(address)).await;
    let (mut reader, _) = connect(address).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let trying = std::thread::spawn(move || {
        let mut greetings = vec![];
        while !stopped.load(Ordering::SeqCst) {
            greetings.push(connect(address).map(|(_, greeting)| greeting));
        }
        greetings
    });
    world.halt().await;
    assert!(published(&world).contains(&format!("{PORT} : ")));
    assert_eq!(connect(address).unwrap().1, format!("db {address}"));
    world.boot().await;
    stop.store(true, Ordering::SeqCst);
    let greetings = trying.join().unwrap();
    assert!(greetings.len() > 10, "{}", greetings.len());
    let odd: Vec<_> =
        greetings.iter().filter(|greeting| !matches!(greeting, Ok(text) if *text == format!("db {address}"))).collect();
    assert!(odd.is_empty(), "{} of {}: {:?}", odd.len(), greetings.len(), odd.first());
    reader.get_mut().write_all(b"still\n").unwrap();
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "still\n", "what was open stays so");
    assert!(probe(&world, "bound", address, PORT).await.starts_with("db "));
    // The new daemon knows whose it is.
    let refused = world.client.create(&server("second")).await.unwrap_err();
    assert_eq!(refused.kind(), Some(ErrorKind::Conflict));
    world.client.destroy("db").await.unwrap();
    world.all_gone_but(&["bound"]).await;
    assert!(!published(&world).contains("elements"), "{}", published(&world));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_moves_to_the_next_container_and_no_connection_leads_to_the_former_one() {
    need_containers!();
    let world = World::start().await;
    let first = serve(&world, "first").await;
    let address = gateway(&first);
    let bound = client(&world, "bound", Some(address)).await;
    let (reader, greeting) = connect(address).unwrap();
    assert_eq!(greeting, format!("first {address}"));
    let replace = async {
        assert!(flows(first.address) >= 2);
        world.client.destroy("first").await.unwrap();
        // Asked for while the former one is being taken away.
        let second = serve(&world, "second").await;
        assert_ne!(second.address, first.address);
        assert_eq!(connect(address).unwrap().1, format!("second {address}"));
        world.all_gone_but(&["second", "bound"]).await;
        assert_eq!(flows(first.address), 0, "nothing is remembered of it");
    };
    let told = while_held(&world, "bound", address, replace).await;
    assert!(["a\nConnectionResetError\n", "a\nend\n"].contains(&told.as_str()), "it hears of its end: {told}");
    drop(reader);
    assert_eq!(probe(&world, "bound", address, PORT).await, format!("second {}", bound.address));
    assert_eq!(published(&world).matches(" : ").count(), 2, "{}", published(&world)); // the type, and one element
    world.end().await;
}

/// The first connection ends without a word on the wire (`TCP_REPAIR`): for the host's kernel it stays open for days.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_nobody_ended_does_not_lead_a_later_one_from_its_port_to_the_former_container() {
    need_containers!();
    let world = World::start().await;
    let first = serve(&world, "first").await;
    let address = gateway(&first);
    let from_one_port = || {
        let program = format!(
            "import socket\ns = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('{address}', 40123)); s.settimeout(2)\ntry: s.connect(('{address}', {PORT})); print(s.recv(64).decode().split()[0])\nexcept Exception as e: print(type(e).__name__)\ns.setsockopt(socket.IPPROTO_TCP, 19, 1)"
        );
        let told = std::process::Command::new("python3").args(["-c", &program]).output().unwrap();
        String::from_utf8(told.stdout).unwrap()
    };
    assert_eq!(from_one_port(), "first\n");
    let established = |address: Ipv4Addr| {
        let known = fs::read_to_string("/proc/net/nf_conntrack").unwrap();
        known.lines().filter(|line| line.contains("ESTABLISHED") && line.contains(&format!("src={address} "))).count()
    };
    assert_eq!(established(first.address), 1);
    world.client.destroy("first").await.unwrap();
    serve(&world, "second").await;
    assert_eq!(from_one_port(), "second\n");
    world.all_gone_but(&["second"]).await;
    assert_eq!(flows(first.address), 0);
    // Also where nobody takes the port over.
    world.client.destroy("second").await.unwrap();
    world.all_gone().await;
    let third = serve(&world, "third").await;
    assert_eq!(from_one_port(), "third\n");
    assert_eq!(established(third.address), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ended_gives_its_port_up_and_takes_nothing_with_it() {
    need_containers!();
    let mut world = World::start().await;
    let first = serve(&world, "first").await;
    let address = gateway(&first);
    world.client.stop("first", Duration::ZERO).await.unwrap();
    assert!(connect(address).is_err());
    serve(&world, "second").await;
    assert_eq!(connect(address).unwrap().1, format!("second {address}"));
    // Both are there when the daemon starts again.
    world.halt().await;
    world.boot().await;
    assert_eq!(connect(address).unwrap().1, format!("second {address}"));
    world.client.destroy("first").await.unwrap();
    world.all_gone_but(&["second"]).await;
    assert_eq!(connect(address).unwrap().1, format!("second {address}"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_outside_of_the_range_and_those_that_somebody_has_are_refused() {
    need_containers!();
    let world = World::start_with(|raw| {
        raw.network.service_ports = (8000, 8002);
        raw.network.host_services = vec![HostService { port: 8002, target: "127.0.0.1:9".parse().unwrap() }];
    })
    .await;
    world.create(&server("holder")).await;
    let refused = world.client.create(&server("second")).await.unwrap_err();
    assert_eq!(refused.kind(), Some(ErrorKind::Conflict));
    assert_eq!(refused.to_string(), "service port 8000 belongs to container `holder` now");
    let ask = async |ports: &[(u16, u16)]| {
        let mut asked = server("odd");
        asked.service_ports = ports.iter().map(|&(port, container_port)| ServicePort { port, container_port }).collect();
        world.client.create(&asked).await.unwrap_err()
    };
    let outside = ask(&[(8003, 5432)]).await;
    assert_eq!(outside.to_string(), "service port 8003 is outside of 8000 to 8002");
    for ports in [&[(8003, 5432)][..], &[(7999, 5432)], &[(8001, 0)], &[(8001, 1), (8001, 2)], &[(8002, 5432)]] {
        assert_eq!(ask(ports).await.kind(), Some(ErrorKind::Invalid), "{ports:?}");
    }
    // One that failed to start has taken nothing.
    let mut broken = server("broken");
    broken.service_ports[0].port = 8001;
    broken.process.argv = vec!["/no/such/program".into()];
    assert_eq!(world.client.create(&broken).await.unwrap_err().kind(), Some(ErrorKind::Invalid));
    assert!(!published(&world).contains("8001 : "), "{}", published(&world));
    assert!(published(&world).contains("8000 : "));
    world.end().await;
    let mut raw: warden::Raw = toml::from_str(include_str!("../../example.toml")).unwrap();
    raw.network.service_ports = (61_000, 61_001);
    assert!(warden::Config::check(raw).unwrap_err().to_string().contains("network.service_ports"));
}
