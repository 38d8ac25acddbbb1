//! What a container may reach on the host besides what all may: endpoints of bound services.

use crate::{
    need_containers,
    support::{World, from_outside, spec},
};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, UdpSocket},
};
use warden_client::{Endpoint, ErrorKind, PortRange, Protocol};

/// Says `open`, or the name of the error.
async fn probe(world: &World, handle: &str, address: Ipv4Addr, port: u16) -> String {
    let program = format!(
        "import socket\ntry:\n  s = socket.create_connection(('{address}', {port}), 1); print(s.recv(9).decode())\nexcept Exception as e: print(type(e).__name__)"
    );
    world.python(handle, "vcap", &program).await.1.trim().to_owned()
}

/// Greets and then says back what it hears; tells who connected by the greeting.
fn serve(address: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let _ = stream.write_all(b"service");
                let mut heard = [0; 64];
                while let Ok(got @ 1..) = stream.read(&mut heard) {
                    let _ = stream.write_all(&heard[..got]);
                }
            });
        }
    });
    port
}

async fn services_address(world: &World) -> Ipv4Addr {
    world.client.capacity().await.unwrap().services_address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_closed_until_its_endpoint_is_opened_and_nothing_else_opens_with_it() {
    need_containers!();
    let world = World::start().await;
    let address = services_address(&world).await;
    assert!(!address.is_loopback() && address.is_private());
    let (bound, other) = (serve(address), serve(address));
    world.sleeper("unbound").await;
    let mut asked = spec("bound", &["/bin/sleep", "1000"]);
    asked.egress = vec![Endpoint::tcp(address, bound)];
    let info = world.create(&asked).await;
    assert_eq!(info.egress, asked.egress);
    assert_eq!(probe(&world, "bound", address, bound).await, "service");
    assert_eq!(probe(&world, "bound", address, other).await, "TimeoutError");
    assert_eq!(probe(&world, "bound", info.host_address, bound).await, "TimeoutError", "only under that address");
    for port in [bound, other] {
        assert_eq!(probe(&world, "unbound", address, port).await, "TimeoutError");
    }
    // Asked again, it is the same container.
    assert_eq!(world.create(&asked).await.address, info.address);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_open_and_close_while_the_container_runs_and_stay_over_a_restart_of_the_daemon() {
    need_containers!();
    let mut world = World::start().await;
    let address = services_address(&world).await;
    let (first, second) = (serve(address), serve(address));
    world.sleeper("box").await;
    world.sleeper("neighbour").await;
    let (one, two) = (Endpoint::tcp(address, first), Endpoint::tcp(address, second));
    let open = async |world: &World| {
        [probe(world, "box", address, first).await == "service", probe(world, "box", address, second).await == "service"]
    };
    for (mut endpoints, expected) in [(vec![one], [true, false]), (vec![one, two], [true, true]), (vec![two], [false, true])] {
        world.client.set_egress("box", &endpoints).await.unwrap();
        assert_eq!(open(&world).await, expected);
        endpoints.sort();
        assert_eq!(world.client.info("box").await.unwrap().egress, endpoints);
    }
    world.client.set_egress("box", &[two]).await.unwrap(); // again is nothing new
    world.halt().await;
    assert_eq!(rules(&world.raw.network.table).matches(&format!(" . {second}")).count(), 1);
    world.boot().await;
    assert_eq!(open(&world).await, [false, true]);
    assert_eq!(world.client.info("box").await.unwrap().egress, [two]);
    world.client.set_egress("box", &[]).await.unwrap();
    assert_eq!(open(&world).await, [false, false]);
    assert_eq!(probe(&world, "neighbour", address, second).await, "TimeoutError");
    let missing = world.client.set_egress("nobody", &[two]).await.unwrap_err();
    assert_eq!(missing.kind(), Some(ErrorKind::NotFound));
    world.end().await;
}

fn rules(table: &str) -> String {
    let listed = std::process::Command::new("nft").args(["list", "set", "inet", table, "egress"]).output().unwrap();
    String::from_utf8(listed.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_datagrams_are_opened_exactly_and_all_is_closed_with_the_container() {
    need_containers!();
    let world = World::start().await;
    let address = services_address(&world).await;
    let socket = UdpSocket::bind((address, 0)).unwrap();
    let datagrams = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut heard = [0; 64];
        while let Ok((got, from)) = socket.recv_from(&mut heard) {
            let _ = socket.send_to(&heard[..got], from);
        }
    });
    let streams = serve(address);
    let range = PortRange { first: streams.saturating_sub(1), last: streams.saturating_add(1) };
    let mut asked = spec("box", &["/bin/sleep", "1000"]);
    asked.egress = vec![
        Endpoint { address, protocol: Protocol::Tcp, ports: range },
        Endpoint { address, protocol: Protocol::Udp, ports: PortRange { first: datagrams, last: datagrams } },
    ];
    world.create(&asked).await;
    assert_eq!(probe(&world, "box", address, streams).await, "service");
    let echo = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)\ns.sendto(b'ping', ('{address}', {datagrams})); print(s.recv(9).decode())"
    );
    assert_eq!(world.python("box", "vcap", &echo).await, (0, "ping\n".into()));
    assert!(rules(&world.raw.network.table).contains("udp"));
    world.client.destroy("box").await.unwrap();
    world.all_gone().await;
    assert!(!rules(&world.raw.network.table).contains("elements"), "{}", rules(&world.raw.network.table));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_an_endpoint_ends_connections_that_are_open() {
    need_containers!();
    let world = World::start().await;
    let address = services_address(&world).await;
    let port = serve(address);
    let mut asked = spec("box", &["/bin/sleep", "1000"]);
    asked.egress = vec![Endpoint::tcp(address, port)];
    world.create(&asked).await;
    let talk = format!(
        "import socket, os, time\ns = socket.create_connection(('{address}', {port}), 1); s.recv(9)\ns.sendall(b'a'); print(s.recv(1).decode())\nopen('/home/vcap/connected', 'w')\nwhile not os.path.exists('/home/vcap/closed'): time.sleep(0.01)\ntry: s.sendall(b'b'); print(s.recv(1).decode())\nexcept Exception as e: print(type(e).__name__)"
    );
    let (told, ()) = tokio::join!(world.python("box", "vcap", &talk), async {
        world.exec("box", "until [ -e /home/vcap/connected ]; do sleep 0.02; done").await;
        world.client.set_egress("box", &[]).await.unwrap();
        world.exec("box", "touch /home/vcap/closed").await;
    });
    assert_eq!(told.1, "a\nTimeoutError\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_closed_to_other_hosts() {
    need_containers!();
    let world = World::start().await;
    let address = services_address(&world).await;
    let port = serve(address);
    let program = format!(
        "import socket\ntry: socket.create_connection(('{address}', {port}), 1); print('open')\nexcept Exception as e: print(type(e).__name__)"
    );
    assert_eq!(from_outside(78, &program), "TimeoutError\n");
    std::net::TcpStream::connect((address, port)).unwrap(); // from the host itself it is open
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a52_neighbours_loopback_and_metadata_addresses_are_never_opened() {
    need_containers!();
    let world = World::start().await;
    let neighbour = world.sleeper("neighbour").await.address;
    world.sleeper("box").await;
    for address in [neighbour, Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(169, 254, 169, 254)] {
        let mut asked = spec("other", &["/bin/sleep", "1000"]);
        asked.egress = vec![Endpoint::tcp(address, 80)];
        let refused = [
            world.client.create(&asked).await.unwrap_err().kind(),
            world.client.set_egress("box", &asked.egress).await.unwrap_err().kind(),
        ];
        assert_eq!(refused, [Some(ErrorKind::Invalid); 2], "{address}");
    }
    world.end().await;
}
