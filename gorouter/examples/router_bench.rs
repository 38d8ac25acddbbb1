//! The two processes of the router benchmark (`specs/bench/router.sh`).
//!
//! `router_bench router <port> <status port> <agent socket> <backend port> <routes> <threads>` serves that many hosts
//! (`host-0.bench`, ...) from one endpoint, access lines on. `router_bench drain <socket>...` takes datagrams and forgets
//! them, as the log agent's place.

use foundation::{Secret, Shutdown, config::BusSection};
use gorouter::{
    Outside,
    config::{Config, Raw, RawLimits, RawTiming},
};
use messages::router::Register;
use std::{error::Error, os::unix::net::UnixDatagram, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

const APP: &str = "6f1c2d3e-aaaa-4bbb-8ccc-000000000002";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((mode, rest)) if mode == "router" && rest.len() == 6 => route(rest.to_vec()),
        Some((mode, sockets)) if mode == "drain" => drain(sockets),
        _ => {
            eprintln!(
                "usage: router_bench router <port> <status port> <agent socket> <backend port> <routes> <threads> | drain <socket>..."
            );
            ExitCode::from(64)
        }
    }
}

fn route(arguments: Vec<String>) -> ExitCode {
    foundation::run(Duration::from_secs(5), async move |shutdown: Shutdown| {
        let number = |at: usize| arguments[at].parse::<u32>();
        let loopback = |port: u32| Ok::<_, Box<dyn Error>>(format!("127.0.0.1:{port}").parse()?);
        let state = std::env::temp_dir();
        let raw = Raw {
            index: 0,
            http_listen: Some(loopback(number(0)?)?),
            https_listen: None,
            status_listen: loopback(number(1)?)?,
            certificates: vec![],
            bus: BusSection { url: String::new(), user: String::new(), password: Secret::new(""), ca: None },
            agent_socket: PathBuf::from(&arguments[2]),
            state: state.join("router_bench"),
            system_domain: "cf.localhost".into(),
            backend_ca: None,
            threads: number(5)? as usize,
            session_cookies: vec!["JSESSIONID".into()],
            forwarded_proto: "trust".into(),
            route_services: Default::default(),
            limits: RawLimits::default(),
            timing: RawTiming { snapshot_s: 3_600, start_wait_ms: 10, ..RawTiming::default() },
        };
        let bus = bus::Bus::in_memory();
        let outside = Outside { bus: bus.clone(), clock: Arc::new(foundation::SystemClock), rng: foundation::rng() };
        gorouter::start(Config::check(raw)?, outside, &shutdown).await?;
        let (backend, routes) = (number(3)?, number(4)?);
        shutdown.clone().spawn(async move {
            loop {
                register(&bus, backend, routes).await;
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(20)) => {}
                    () = shutdown.requested() => return,
                }
            }
        });
        Ok(())
    })
}

/// One message for each hundred hosts, as a registrar with that many routes would send them.
async fn register(bus: &bus::Bus, backend: u32, routes: u32) {
    for first in (0..routes).step_by(100) {
        let message = Register {
            host: "127.0.0.1".into(),
            port: u16::try_from(backend).ok(),
            uris: (first..routes.min(first + 100)).map(|i| format!("host-{i}.bench")).collect(),
            app: Some(APP.into()),
            private_instance_id: Some("9d8e7f60-aaaa-4bbb-8ccc-000000000003".into()),
            private_instance_index: Some("0".into()),
            tags: [("process_type".to_owned(), "web".to_owned()), ("app_name".to_owned(), "bench".to_owned())].into(),
            ..Register::default()
        };
        if bus.publish(&message).await.is_err() {
            return;
        }
    }
}

fn drain(sockets: &[String]) -> ExitCode {
    let threads: Vec<_> = sockets
        .iter()
        .map(|path| {
            let path = path.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                let _ = std::fs::remove_file(&path);
                let socket = UnixDatagram::bind(&path)?;
                let mut buffer = vec![0; 256 << 10];
                loop {
                    socket.recv(&mut buffer)?;
                }
            })
        })
        .collect();
    for thread in threads {
        if let Ok(Err(e)) = thread.join() {
            eprintln!("{e}");
        }
    }
    ExitCode::FAILURE
}
