//! A router on its own ports, apps behind it, and clients that speak raw HTTP.

use bus::Bus;
use foundation::{Secret, Shutdown, config::BusSection};
use gorouter::{
    Outside, Router,
    config::{CertificatePair, Config, Raw, RawLimits, RawRouteServices, RawTiming},
};
use messages::router::Register;
use rand::SeedableRng;
use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use types::{ManualClock, Timestamp};

pub(crate) const APP: &str = "6f1c2d3e-aaaa-4bbb-8ccc-000000000002";
const DEADLINE: Duration = Duration::from_secs(10);

/// A router, its bus and its folder.
pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) bus: Bus,
    pub(crate) shutdown: Shutdown,
    pub(crate) folder: Arc<TempDir>,
    pub(crate) agent: UnixDatagram,
    pub(crate) ca: rcgen::Certificate,
    pub(crate) clock: Arc<ManualClock>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Raw)) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), Bus::in_memory(), change).await
    }

    pub(crate) async fn start_in(folder: Arc<TempDir>, bus: Bus, change: impl FnOnce(&mut Raw)) -> Self {
        foundation::tls::install_crypto();
        let ca = certificates(folder.path());
        let socket = folder.path().join("agent.sock");
        let _ = std::fs::remove_file(&socket);
        let agent = UnixDatagram::bind(&socket).unwrap();
        agent.set_nonblocking(true).unwrap();
        let mut raw = raw(folder.path());
        change(&mut raw);
        let shutdown = Shutdown::new();
        let clock = Arc::new(ManualClock::at(Timestamp(1_767_323_045_012_345)));
        let outside = Outside { bus: bus.clone(), clock: clock.clone(), rng: rand::rngs::StdRng::seed_from_u64(1) };
        let router = gorouter::start(Config::check(raw).unwrap(), outside, &shutdown).await.unwrap();
        Self { router, bus, shutdown, folder, agent, ca, clock }
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.router.http.unwrap()
    }

    pub(crate) async fn register(&self, message: Register) {
        self.bus.publish(&message).await.unwrap();
    }

    pub(crate) async fn unregister(&self, message: &Register) {
        self.bus.publish_to(messages::router::UNREGISTER, serde_json::to_vec(message).unwrap().into()).await.unwrap();
    }

    /// Registers and waits until the route answers something else than 404.
    pub(crate) async fn route(&self, message: Register) {
        let uri = message.uris[0].clone();
        self.register(message).await;
        wait_for(|| async { self.routes().await.contains(&format!("\"{uri}\":")) }).await;
    }

    pub(crate) async fn routes(&self) -> String {
        get(self.router.status, "GET /routes HTTP/1.1\r\nHost: status\r\nConnection: close\r\n\r\n").await.body
    }

    pub(crate) async fn varz(&self) -> serde_json::Value {
        let answer = get(self.router.status, "GET /varz HTTP/1.1\r\nHost: status\r\nConnection: close\r\n\r\n").await;
        serde_json::from_str(&answer.body).unwrap()
    }

    /// `GET path` for that host, with further header lines.
    pub(crate) async fn get(&self, host: &str, path: &str, headers: &str) -> Answer {
        get(self.http(), &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n")).await
    }

    /// Log lines that reached the agent until now.
    pub(crate) async fn lines(&self, count: usize) -> Vec<loggregator_client::Envelope> {
        use prost::Message;
        let mut lines = vec![];
        let mut buffer = vec![0; 256 << 10];
        wait_for(|| {
            while let Ok(size) = self.agent.recv(&mut buffer) {
                lines.extend(loggregator_client::EnvelopeBatch::decode(&buffer[..size]).unwrap().batch);
            }
            std::future::ready(lines.len() >= count)
        })
        .await;
        lines
    }

    pub(crate) async fn stop(&self) {
        assert_eq!(self.shutdown.finish(DEADLINE).await, 0, "tasks were left");
    }
}

fn raw(folder: &Path) -> Raw {
    let pair =
        |name: &str| CertificatePair { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
    Raw {
        index: 0,
        http_listen: Some("127.0.0.1:0".parse().unwrap()),
        https_listen: Some("127.0.0.1:0".parse().unwrap()),
        status_listen: "127.0.0.1:0".parse().unwrap(),
        certificates: vec![pair("system"), pair("apps")],
        bus: BusSection { url: String::new(), user: String::new(), password: Secret::new(""), ca: None },
        agent_socket: folder.join("agent.sock"),
        state: folder.to_owned(),
        system_domain: "cf.localhost".into(),
        backend_ca: None,
        threads: 2,
        session_cookies: vec!["JSESSIONID".into()],
        forwarded_proto: "trust".into(),
        route_services: RawRouteServices { ca: Some(folder.join("ca.crt")), allow_local: true },
        limits: RawLimits::default(),
        timing: RawTiming { start_wait_ms: 50, snapshot_s: 1, ..RawTiming::default() },
    }
}

fn certificates(folder: &Path) -> rcgen::Certificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    for (name, host) in
        [("system", "*.cf.localhost"), ("apps", "*.app.localhost"), ("backend", "instance-1"), ("service", "localhost")]
    {
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        std::fs::write(folder.join(format!("{name}.crt")), leaf.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    std::fs::write(folder.join("ca.crt"), ca.pem()).unwrap();
    ca
}

/// A registration of the app at that address.
pub(crate) fn registration(address: SocketAddr, uris: &[&str]) -> Register {
    Register {
        host: address.ip().to_string(),
        port: Some(address.port()),
        uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
        app: Some(APP.into()),
        private_instance_id: Some(format!("instance-{}", address.port())),
        private_instance_index: Some("0".into()),
        tags: BTreeMap::from([("process_type".into(), "web".into()), ("process_id".into(), "process-1".into())]),
        ..Register::default()
    }
}

/// An answer, or what there was of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// Sends bytes and reads until the router closes.
pub(crate) async fn get(address: SocketAddr, request: &str) -> Answer {
    Answer::parse(&exchange(address, request.as_bytes()).await)
}

pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = vec![];
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the router neither answers nor closes");
    answer
}

/// Reads one answer with a Content-Length from a connection that stays open.
pub(crate) async fn read_answer(stream: &mut (impl AsyncReadExt + Unpin)) -> Answer {
    let mut bytes = vec![];
    loop {
        let answer = Answer::parse(&bytes);
        let length = answer.header("content-length").and_then(|l| l.parse::<usize>().ok());
        let complete = bytes.windows(4).any(|w| w == b"\r\n\r\n");
        if complete && length.is_none_or(|length| answer.body.len() >= length) {
            return answer;
        }
        let mut part = [0; 4_096];
        let read = timeout(DEADLINE, stream.read(&mut part)).await.expect("no answer").unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&part[..read]);
    }
}

/// An app: each request's head goes to `answer`, whose bytes are sent; an empty answer closes the connection.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl App {
    pub(crate) async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), answer).await
    }

    pub(crate) async fn start_on(address: SocketAddr, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (answer, counter) = (Arc::new(answer), connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve_app(stream, answer.clone()));
            }
        });
        Self { address, connections }
    }

    /// An app that says what it was sent: the whole request with its body.
    pub(crate) async fn echo() -> Self {
        Self::start(ok).await
    }

    /// An app that says its name.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::start(move |_| ok(name)).await
    }
}

pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn serve_app(mut stream: TcpStream, answer: Arc<impl Fn(&str) -> Vec<u8>>) {
    let mut bytes: Vec<u8> = vec![];
    let mut part = [0; 64 << 10];
    loop {
        while let Some(end) = request_end(&bytes) {
            let request = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes.drain(..end);
            let answer = answer(&request);
            if answer.is_empty() || stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        match stream.read(&mut part).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&part[..read]),
            _ => return,
        }
    }
}

/// Where the first request ends, once it is whole.
fn request_end(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = Answer::parse(&bytes[..head]);
    if text.header("transfer-encoding").is_some() {
        let end = bytes[head..].windows(5).position(|w| w == b"0\r\n\r\n")?;
        return Some(head + end + 5);
    }
    let length: usize = text.header("content-length").map_or(0, |length| length.parse().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}

/// An address at which nobody listens.
pub(crate) async fn dead() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

pub(crate) async fn wait_for<F: Future<Output = bool>>(mut check: impl FnMut() -> F) {
    let waited = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waited).await.expect("waited in vain");
}
