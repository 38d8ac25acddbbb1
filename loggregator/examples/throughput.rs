//! How many lines a second travel from producers through agent and bus (in memory) into the cache, and whether every one is
//! there or counted as lost.
//!
//! `cargo run --release -p loggregator --example throughput -- [lines] [lines a batch]`

use bus::Bus;
use foundation::{Shutdown, SystemClock, config::TlsSection};
use loggregator::{
    agent,
    config::{AgentConfig, KeepSection, LogCacheConfig},
    log_cache::{self, LogAccess, Outside},
};
use loggregator_client::{DROPPED, ENVELOPES_SUBJECT, EnvelopeBatch, LogType, Payload, Sender, Sent, app_tags, log_line};
use prost::Message;
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use uaa_client::{Expect, KeySet, TokenVerifier};

const APP: &str = "11111111-1111-4111-8111-111111111111";

struct Nobody;

impl LogAccess for Nobody {
    fn may_read<'a>(
        &'a self,
        _source: &'a str,
        _authorization: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<bool, cloud_controller_client::Error>> + Send + 'a>> {
        Box::pin(async { Ok(false) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |at| std::env::args().nth(at).and_then(|text: String| text.parse::<u64>().ok());
    let (lines, per_batch) = (number(1).unwrap_or(500_000), number(2).unwrap_or(50));
    foundation::tls::install_crypto();
    let (bus, shutdown, clock) = (Bus::in_memory(), Shutdown::new(), Arc::new(SystemClock));
    let mut heard = bus.subscribe(ENVELOPES_SUBJECT).await?;
    let expect = Expect { issuer: String::new(), audiences: vec![] };
    let tokens = TokenVerifier::fixed(KeySet::default(), &expect, clock.clone());
    let outside = Outside { bus: bus.clone(), tokens, access: Arc::new(Nobody), clock: clock.clone() };
    let nowhere = bus::Settings { url: String::new(), user: String::new(), password: String::new(), ca: None };
    let config = LogCacheConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        system_domain: "cf.test".into(),
        uaa: "http://127.0.0.1:1".parse()?,
        issuer: String::new(),
        cloud_controller: "https://127.0.0.1:1".parse()?,
        keep: KeepSection::default(),
        bus: nowhere.clone(),
        tls: TlsSection { ca: "/".into(), certificate: "/".into(), key: "/".into() },
    };
    log_cache::start(&config, outside, &shutdown).await?;
    let socket = std::env::temp_dir().join(format!("throughput-{}.sock", std::process::id()));
    let settings = AgentConfig {
        socket: socket.clone(),
        flush: Duration::from_millis(20),
        queue_envelopes: 20_000,
        queue_bytes: 16 << 20,
        tags: Default::default(),
        bus: nowhere,
    };
    agent::start(settings, bus, clock, &mut foundation::rng(), &shutdown)?;

    let from = Instant::now();
    let cpu = cpu_time();
    let path = socket.clone();
    let produced = std::thread::spawn(move || produce(&path, lines, per_batch));
    let (mut arrived, mut lost) = (0, 0);
    while arrived + lost < lines {
        let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_secs(3), heard.next()).await else { break };
        for envelope in EnvelopeBatch::decode(delivery.payload)?.batch {
            match envelope.message {
                Some(Payload::Log(_)) => arrived += 1,
                Some(Payload::Counter(counter)) if counter.name == DROPPED => lost += counter.delta,
                _ => {}
            }
        }
    }
    let took = from.elapsed();
    let produced_in = produced.join().map_err(|_| "the producer failed")?;
    println!(
        "{lines} lines: {arrived} arrived, {lost} told as lost, {} unaccounted",
        lines - arrived.min(lines) - lost.min(lines)
    );
    println!("produced in {produced_in:?}, all told after {took:?}: {:.0} lines/s", arrived as f64 / took.as_secs_f64());
    println!(
        "CPU of all parts (producer, agent, cache, and this count): {:.2} us a line",
        (cpu_time() - cpu) * 1e6 / lines as f64
    );
    shutdown.finish(Duration::from_secs(5)).await;
    std::fs::remove_file(socket)?;
    Ok(())
}

fn produce(socket: &std::path::Path, lines: u64, per_batch: u64) -> Duration {
    let sender = Sender::new(socket);
    let tags = app_tags((APP, "shop"), ("s", "dev"), ("o", "acme"));
    let from = Instant::now();
    let mut sent = 0;
    while sent < lines {
        let batch = (0..per_batch.min(lines - sent))
            .map(|n| {
                let text = format!("GET /cart/{} 200 12ms something that a web server would say of a request", sent + n);
                log_line(APP, "0", "APP/PROC/WEB", tags.clone(), text.as_bytes(), LogType::Out, (sent + n) as i64 + 1)
            })
            .collect();
        sent += per_batch.min(lines - sent);
        sender.send(batch);
    }
    let took = from.elapsed();
    // News of losses go out with what still waits.
    while sender.flush() == Sent::Waits {
        std::thread::sleep(Duration::from_millis(1));
    }
    took
}

fn cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
