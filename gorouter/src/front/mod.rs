//! The clients' side: listeners, workers, connections.
//!
//! One task accepts and hands each connection to the worker with the fewest. A worker is a thread with its own runtime, its
//! own instance of the proxy engine and so its own idle connections to the endpoints: on the way of a request no two threads
//! meet.
//!
//! - `conn`: a connection as the engine sees it.
//! - `head`: the head of a request, before the engine parses it.
//! - `tls`: certificates.

pub(crate) mod conn;
pub(crate) mod head;
pub(crate) mod tls;

use crate::proxy::{
    Gateway, Shared,
    access_log::Lines,
    backend::{KEEPALIVE, KEEPALIVE_PROBES},
    metrics::count,
};
use conn::{Conn, HeadError, Transport};
use head::HeadLimits;
use loggregator_client::Sender;
use parking_lot::Mutex;
use pingora_core::{
    apps::{HttpServerApp, HttpServerOptions, ServerApp},
    protocols::http::{ServerSession, v2::server::default_h2_options},
    server::{ShutdownWatch, configuration::ServerConf},
};
use pingora_proxy::{HttpProxy, http_proxy};
use socket2::{SockRef, TcpKeepalive};
use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Sleep},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

/// How clients are served.
#[derive(Clone)]
pub(crate) struct FrontSettings {
    pub(crate) limits: HeadLimits,
    /// From the first byte of a head to its last.
    pub(crate) head_timeout: Duration,
    /// Between two requests.
    pub(crate) idle_timeout: Duration,
    /// The longest silence of a client that owes a part of a body, or does not take its answer.
    pub(crate) body_timeout: Duration,
    /// Connections in all.
    pub(crate) max_connections: usize,
    pub(crate) max_attempts: usize,
    /// Whom endpoints' certificates are signed by.
    pub(crate) backend_ca: Option<String>,
    /// Idle connections to endpoints that a worker keeps.
    pub(crate) idle_backends: usize,
}

/// How often log lines are sent.
const FLUSH: Duration = Duration::from_millis(100);
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The workers' hands.
pub(crate) struct Workers {
    queues: Vec<Queue>,
    /// No more requests: connections end after the answer that they owe.
    drain: Vec<CancellationToken>,
}

struct Queue {
    sender: mpsc::UnboundedSender<Accepted>,
    open: Arc<AtomicUsize>,
}

struct Accepted {
    stream: TcpStream,
    client: SocketAddr,
    tls: Option<TlsAcceptor>,
}

impl Workers {
    /// Starts `threads` workers. They end when they were drained, and then take `done` with them.
    pub(crate) fn start(
        threads: usize,
        shared: &Arc<Shared>,
        settings: &FrontSettings,
        sender: &Arc<Sender>,
        done: mpsc::Sender<()>,
    ) -> io::Result<Self> {
        let mut workers = Self { queues: vec![], drain: vec![] };
        for number in 0..threads.max(1) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (sender_side, queue) = mpsc::unbounded_channel();
            let open = Arc::new(AtomicUsize::new(0));
            let drain = CancellationToken::new();
            workers.queues.push(Queue { sender: sender_side, open: open.clone() });
            workers.drain.push(drain.clone());
            let worker = (shared.clone(), settings.clone(), Arc::new(Lines::new(sender.clone())));
            let done = done.clone();
            std::thread::Builder::new().name(format!("router-{number}")).spawn(move || {
                let (shared, settings, lines) = worker;
                runtime.block_on(async {
                    // Made inside the runtime: the engine looks for one.
                    let worker = Arc::new(Worker::new(shared, settings, lines, open, drain));
                    worker.work(queue).await;
                });
                drop(done);
            })?;
        }
        Ok(workers)
    }

    /// Lets connections end after the answer that they owe.
    pub(crate) fn drain(&self) {
        self.drain.iter().for_each(CancellationToken::cancel);
    }

    fn open(&self) -> usize {
        self.queues.iter().map(|queue| queue.open.load(Relaxed)).sum()
    }

    fn hand_over(&self, accepted: Accepted) {
        let Some(queue) = self.queues.iter().min_by_key(|queue| queue.open.load(Relaxed)) else { return };
        queue.open.fetch_add(1, Relaxed);
        if queue.sender.send(accepted).is_err() {
            queue.open.fetch_sub(1, Relaxed);
        }
    }
}

/// Opens a listener.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4_096)?;
    Ok(socket.into())
}

/// Accepts until asked to stop.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    workers: Arc<Workers>,
    shared: Arc<Shared>,
    max_connections: usize,
    stop: CancellationToken,
) {
    let tls = tls.map(TlsAcceptor::from);
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => return warn!(error = &e as &dyn std::error::Error, "a listener cannot be watched"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        // The stream goes to the worker's runtime: it leaves this one.
        match accepted.and_then(|(stream, client)| Ok((stream.into_std()?, client))) {
            Ok((stream, client)) => {
                if workers.open() >= max_connections {
                    count(&shared.metrics.connections_refused);
                    continue;
                }
                count(&shared.metrics.connections);
                workers.hand_over(Accepted { stream, client, tls: tls.clone() });
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                // Descriptors or memory ran out: let some connections end.
                warn!(error = &e as &dyn std::error::Error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

struct Worker {
    proxy: Arc<HttpProxy<Gateway>>,
    shared: Arc<Shared>,
    settings: FrontSettings,
    lines: Arc<Lines>,
    open: Arc<AtomicUsize>,
    drain: CancellationToken,
    /// The engine's own word for the drain.
    shutdown: Mutex<watch::Sender<bool>>,
    watch: ShutdownWatch,
}

impl Worker {
    fn new(
        shared: Arc<Shared>,
        settings: FrontSettings,
        lines: Arc<Lines>,
        open: Arc<AtomicUsize>,
        drain: CancellationToken,
    ) -> Self {
        let conf = ServerConf {
            threads: 1,
            upstream_keepalive_pool_size: settings.idle_backends,
            max_retries: settings.max_attempts,
            ca_file: settings.backend_ca.clone(),
            ..ServerConf::default()
        };
        let gateway = Gateway { shared: shared.clone(), lines: lines.clone(), rng: Mutex::new(foundation::rng()) };
        let mut proxy = http_proxy(&Arc::new(conf), gateway);
        let mut options = HttpServerOptions::default();
        // Not to serve it, but to refuse it as we refuse other things.
        options.allow_connect_method_proxying = true;
        options.h2_idle_timeout = Some(settings.idle_timeout);
        proxy.server_options = Some(options);
        let mut h2 = default_h2_options();
        h2.max_header_list_size(u32::try_from(settings.limits.bytes).unwrap_or(u32::MAX));
        h2.max_concurrent_streams(128);
        proxy.h2_options = Some(h2);
        let (shutdown, watch) = watch::channel(false);
        Self { proxy: Arc::new(proxy), shared, settings, lines, open, drain, shutdown: Mutex::new(shutdown), watch }
    }

    async fn work(self: Arc<Self>, mut queue: mpsc::UnboundedReceiver<Accepted>) {
        let tasks = TaskTracker::new();
        let mut flush = tokio::time::interval(FLUSH);
        loop {
            tokio::select! {
                accepted = queue.recv() => match accepted {
                    Some(accepted) => drop(tasks.spawn(self.clone().serve(accepted))),
                    None => break,
                },
                _ = flush.tick() => self.lines.flush(),
                () = self.drain.cancelled() => break,
            }
        }
        self.shutdown.lock().send_replace(true);
        self.proxy.cleanup().await;
        queue.close();
        while let Some(accepted) = queue.recv().await {
            tasks.spawn(self.clone().serve(accepted));
        }
        tasks.close();
        tasks.wait().await;
        self.lines.flush();
    }

    async fn serve(self: Arc<Self>, accepted: Accepted) {
        let _leaving = Leaving(self.open.clone());
        let client = accepted.client;
        match self.open(accepted).await {
            Ok(conn) if conn.is_http2() => drop(self.proxy.process_new(conn, &self.watch).await),
            Ok(conn) => self.serve_http1(conn).await,
            Err(e) => debug!("{client} did not become a connection: {e}"),
        }
    }

    async fn open(&self, accepted: Accepted) -> io::Result<Box<Conn>> {
        accepted.stream.set_nodelay(true)?;
        let [idle, interval] = KEEPALIVE;
        let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(KEEPALIVE_PROBES as u32);
        SockRef::from(&accepted.stream).set_tcp_keepalive(&keepalive)?;
        let stream = tokio::net::TcpStream::from_std(accepted.stream)?;
        let transport = match accepted.tls {
            None => Transport::Plain(stream),
            Some(tls) => Transport::Tls(Box::new(tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await??)),
        };
        Ok(Box::new(Conn::new(transport, accepted.client)))
    }

    async fn serve_http1(&self, mut conn: Box<Conn>) {
        let mut waiting = Waiting::new(self);
        loop {
            let head = match waiting.head(&mut conn, self).await {
                Ok(Some(head)) => head,
                Ok(None) | Err(HeadError::Gone) => return,
                Err(HeadError::Refused(refusal)) => {
                    count(&self.shared.metrics.malformed);
                    return conn.refuse(&refusal).await;
                }
            };
            let mut session = ServerSession::new_http1(conn);
            session.set_pipelined_prefix(head);
            session.set_read_timeout(Some(self.settings.body_timeout));
            session.set_write_timeout(Some(self.settings.body_timeout));
            let Some(reused) = self.proxy.process_new_http(session, &self.watch).await else { return };
            let (stream, _) = reused.consume();
            match stream.into_any().downcast::<Conn>() {
                Ok(back) => conn = back,
                Err(_) => return,
            }
        }
    }
}

struct Leaving(Arc<AtomicUsize>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The wait for the next head. Its timer is set anew only when it fires, so that a request costs none.
struct Waiting {
    timer: std::pin::Pin<Box<Sleep>>,
    drained: std::pin::Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>,
}

impl Waiting {
    fn new(worker: &Worker) -> Self {
        let timer = Box::pin(tokio::time::sleep(worker.settings.head_timeout));
        Self { timer, drained: Box::pin(worker.drain.clone().cancelled_owned()) }
    }

    async fn head(&mut self, conn: &mut Conn, worker: &Worker) -> Result<Option<bytes::BytesMut>, HeadError> {
        use std::{future::Future, task::Poll};
        let (head_timeout, idle_timeout) = (worker.settings.head_timeout, worker.settings.idle_timeout);
        let mut since: Option<(Instant, bool)> = None;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(head) = conn.poll_head(cx, worker.settings.limits) {
                return Poll::Ready(head);
            }
            let begun = conn.has_begun();
            // A client that began has the time for a head, counted from where it began.
            let (from, _) = *match &mut since {
                Some(known) if known.1 == begun => known,
                other => other.insert((Instant::now(), begun)),
            };
            let deadline = from + if begun { head_timeout } else { idle_timeout };
            if self.timer.deadline() > deadline {
                self.timer.as_mut().reset(deadline);
            }
            while self.timer.as_mut().poll(cx).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(if begun { Err(HeadError::Refused(late())) } else { Ok(None) });
                }
                self.timer.as_mut().reset(deadline);
            }
            if !begun && self.drained.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(None));
            }
            Poll::Pending
        })
        .await
    }
}

fn late() -> crate::proxy::refusal::Refusal {
    crate::proxy::refusal::Refusal::new(408, "request_timeout", "The request did not arrive in time.")
}
