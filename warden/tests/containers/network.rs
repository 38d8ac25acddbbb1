//! Addresses, ports, and what cannot be reached.

use crate::{
    need_containers,
    support::{World, from_outside, spec},
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};
use warden::config::HostService;

/// A server that answers every connection with who connected.
const SERVER: &str = "import socket\ns = socket.create_server(('', 8080))\nwhile True:\n  c, a = s.accept()\n  c.sendall(a[0].encode()); c.close()";

fn answer(address: impl Into<SocketAddr>) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.into(), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Says `open`, or the name of the error.
fn probe(address: Ipv4Addr, port: u16) -> String {
    format!(
        "import socket\ntry:\n  s = socket.create_connection(('{address}', {port}), 1); print('open', s.recv(9).decode())\nexcept Exception as e: print(type(e).__name__)"
    )
}

async fn serve(world: &World, handle: &str) -> warden_client::ContainerInfo {
    let mut asked = spec(handle, &["/usr/bin/python3", "-c", SERVER]);
    asked.ports = vec![8080];
    let info = world.create(&asked).await;
    crate::support::until("the server listens", || answer((info.address, 8080)).is_ok()).await;
    info
}

fn listen_on_host(address: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(b"host");
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_the_host_leads_into_the_container_by_every_address_of_the_host() {
    need_containers!();
    let world = World::start().await;
    let info = serve(&world, "server").await;
    let gateway = Ipv4Addr::from_bits(info.address.to_bits() & !63 | 1).to_string();
    assert_eq!(answer((info.address, 8080)).unwrap(), gateway, "straight to the address");
    assert_eq!(answer((Ipv4Addr::LOCALHOST, info.ports[&8080])).unwrap(), gateway);
    assert!(answer((info.host_address, info.ports[&8080])).is_ok());
    world.client.destroy("server").await.unwrap();
    world.all_gone().await;
    assert!(answer((Ipv4Addr::LOCALHOST, info.ports[&8080])).is_err());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a52_neighbours_and_their_host_ports_are_closed() {
    need_containers!();
    let world = World::start().await;
    let server = serve(&world, "server").await;
    world.sleeper("curious").await;
    let gateway = Ipv4Addr::from_bits(server.address.to_bits() & !63 | 1);
    for (address, port) in [
        (server.address, 8080),
        (server.host_address, server.ports[&8080]),
        (gateway, server.ports[&8080]),
        (Ipv4Addr::LOCALHOST, server.ports[&8080]),
    ] {
        let (_, text) = world.python("curious", "vcap", &probe(address, port)).await;
        assert!(!text.starts_with("open"), "{address}:{port}: {text}");
    }
    // And a container reaches itself.
    let (_, own) = world.python("server", "vcap", &probe(server.address, 8080)).await;
    assert!(own.starts_with("open"), "{own}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_ports_are_for_this_host_and_the_routers_that_are_named() {
    need_containers!();
    for (number, routers, expected) in
        [(81, vec![], "ConnectionRefusedError\n"), (82, vec!["198.18.82.0/30".to_owned()], "open\n")]
    {
        let world = World::start_with(|raw| raw.network.routers = routers).await;
        let server = serve(&world, "server").await;
        let port = server.ports[&8080];
        assert!(answer((server.host_address, port)).is_ok());
        let program = format!(
            "import socket\ntry:\n  socket.create_connection(('198.18.{number}.1', {port}), 5); print('open')\nexcept OSError as e: print(type(e).__name__)"
        );
        assert_eq!(from_outside(number, &program), expected);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a51_services_of_the_host_are_closed_but_those_that_are_named() {
    need_containers!();
    let router = listen_on_host(Ipv4Addr::LOCALHOST);
    let world = World::start_with(|raw| {
        raw.network.host_services =
            vec![HostService { port: 80, target: (std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, router)) }];
    })
    .await;
    let info = world.sleeper("curious").await;
    let gateway = Ipv4Addr::from_bits(info.address.to_bits() & !63 | 1);
    let everywhere = listen_on_host(Ipv4Addr::UNSPECIFIED);
    for address in [gateway, info.host_address, Ipv4Addr::LOCALHOST] {
        for port in [everywhere, router] {
            let (_, text) = world.python("curious", "vcap", &probe(address, port)).await;
            assert!(!text.starts_with("open"), "{address}:{port}: {text}");
        }
    }
    assert_eq!(world.python("curious", "vcap", &probe(gateway, 80)).await.1, "open host\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a50_a53_a54_metadata_addresses_ipv6_and_raw_sockets_are_closed() {
    need_containers!();
    let world = World::start().await;
    world.sleeper("box").await;
    assert_eq!(world.python("box", "vcap", &probe(Ipv4Addr::new(169, 254, 169, 254), 80)).await.1, "TimeoutError\n");
    assert_eq!(world.exec("box", "cat /proc/net/if_inet6").await, (0, String::new()));
    let raw = "import socket\nfor family, kind in ((socket.AF_INET, socket.SOCK_RAW), (socket.AF_PACKET, socket.SOCK_RAW)):\n  try: socket.socket(family, kind, 1); print('open')\n  except OSError as e: print(e.errno)";
    for user in ["vcap", "root"] {
        assert_eq!(world.python("box", user, raw).await.1, "1\n1\n");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a55_a_container_cannot_take_another_address() {
    need_containers!();
    let world = World::start().await;
    world.sleeper("box").await;
    // Changing addresses or routes needs rights over the network that not even root inside has.
    let program = "import socket, struct\ns = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\nmsg = struct.pack('=BBBBI', 2, 32, 0, 0, 2) + struct.pack('=HH4s', 8, 2, socket.inet_aton('10.1.2.3'))\ns.send(struct.pack('=IHHII', 16 + len(msg), 20, 0x605, 1, 0) + msg)\nprint(struct.unpack('=i', s.recv(99)[16:20])[0])";
    for user in ["vcap", "root"] {
        assert_eq!(world.python("box", user, program).await.1, "-1\n");
    }
    world.end().await;
}

/// The outside is a network namespace behind a link of its own, so that the test needs no internet.
#[tokio::test(flavor = "multi_thread")]
async fn containers_reach_the_outside_behind_the_host_s_address() {
    need_containers!();
    let run = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        std::process::Command::new(words[0]).args(&words[1..]).status().unwrap().success()
    };
    let name = format!("wt{}", std::process::id());
    assert!(run(&format!("ip netns add {name}")));
    assert!(run(&format!("ip link add {name}h type veth peer name {name}o netns {name}")));
    for words in [
        format!("ip addr add 198.18.77.1/30 dev {name}h"),
        format!("ip link set {name}h up"),
        format!("ip -n {name} addr add 198.18.77.2/30 dev {name}o"),
        format!("ip -n {name} link set {name}o up"),
        format!("ip -n {name} link set lo up"),
    ] {
        assert!(run(&words), "{words}");
    }
    let mut outside = std::process::Command::new("ip").args(["netns", "exec", &name, "python3", "-c", SERVER]).spawn().unwrap();
    let world = World::start().await;
    let result = async {
        crate::support::until("the outside listens", || answer((Ipv4Addr::new(198, 18, 77, 2), 8080)).is_ok()).await;
        world.sleeper("box").await;
        world
            .python("box", "vcap", "import socket\nprint(socket.create_connection(('198.18.77.2', 8080), 5).recv(99).decode())")
            .await
    }
    .await;
    outside.kill().unwrap();
    outside.wait().unwrap();
    run(&format!("ip netns del {name}"));
    run(&format!("ip link del {name}h"));
    assert_eq!(result, (0, "198.18.77.1\n".into()), "the outside sees the host");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_a_container_that_ended_never_leaves_the_host() {
    need_containers!();
    let world = World::start().await;
    let info = serve(&world, "server").await;
    world.client.destroy("server").await.unwrap();
    // Not "refused" and not "in time" by somebody behind the default route: there is no way at all.
    crate::support::until("the address leads nowhere", || {
        let refused = TcpStream::connect_timeout(&(info.address, 8080).into(), Duration::from_secs(2)).map_err(|e| e.kind());
        matches!(refused, Err(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable))
    })
    .await;
    world.end().await;
}
