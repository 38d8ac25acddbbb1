use super::*;
use loggregator_client::{DROPPED, Envelope, LogType, Payload, Sender, counter, log_line};
use std::collections::BTreeMap;
use types::{ManualClock, Timestamp};

fn config(socket: &Path) -> AgentConfig {
    AgentConfig {
        socket: socket.to_owned(),
        flush: Duration::from_millis(20),
        queue_envelopes: 100,
        queue_bytes: 1 << 20,
        tags: BTreeMap::from([("job".into(), "cell".into()), ("source_type".into(), "never".into())]),
        bus: bus::Settings { url: String::new(), user: String::new(), password: String::new(), ca: None },
    }
}

fn queue() -> Queue {
    Queue::new(&config(Path::new("/x")), "one".into())
}

fn line(source: &str, text: &str) -> Envelope {
    log_line(source, "0", "APP/PROC/WEB", BTreeMap::new(), text.as_bytes(), LogType::Out, 5)
}

fn take(queue: &Queue) -> Vec<Envelope> {
    EnvelopeBatch::decode(&*queue.take(MAX_BATCH).unwrap()).unwrap().batch
}

fn count(envelope: &Envelope) -> (&str, &str, u64, u64) {
    match &envelope.message {
        Some(Payload::Counter(counter)) => (&envelope.source_id, &counter.name, counter.delta, counter.total),
        other => panic!("{other:?}"),
    }
}

#[test]
fn tags_of_the_host_are_added_where_the_name_is_free() {
    let queue = queue();
    queue.push(vec![line("a", "x")], 9);
    let batch = take(&queue);
    assert_eq!(batch[1].tags["job"], "cell");
    assert_eq!(batch[1].tags["source_type"], "APP/PROC/WEB");
}

#[test]
fn a_full_queue_drops_the_oldest_and_tells_by_source() {
    let queue = queue();
    queue.push((0..60).map(|_| line("a", "x")).collect(), 9);
    queue.push((0..70).map(|_| line("b", "x")).collect(), 9);
    let batch = take(&queue);
    assert_eq!(count(&batch[0]), (queue::AGENT, queue::SENT, 101, 101));
    assert_eq!(count(&batch[1]), ("a", DROPPED, 30, 30));
    assert_eq!(batch.iter().filter(|e| e.source_id == "a").count(), 31);
    assert_eq!(batch.iter().filter(|e| e.source_id == "b").count(), 70);
    assert_eq!(queue.take(MAX_BATCH), None);
}

#[test]
fn news_of_a_loss_survive_a_further_loss() {
    let queue = queue();
    queue.push(vec![loggregator_client::dropped("a", "sender", 7, 5)], 9);
    queue.push((0..100).map(|_| line("b", "x")).collect(), 9);
    assert_eq!(count(&take(&queue)[1]), ("a", DROPPED, 7, 7));
}

#[test]
fn counters_are_added_up() {
    let queue = queue();
    let tick = || counter("a", "0", BTreeMap::new(), "requests", 2, 5);
    queue.push(vec![tick(), tick()], 9);
    queue.push(vec![tick()], 9);
    let totals: Vec<u64> = take(&queue)[1..].iter().map(|envelope| count(envelope).3).collect();
    assert_eq!(totals, [2, 4, 6]);
}

#[test]
fn batches_are_bounded() {
    let queue = queue();
    queue.push((0..10).map(|_| line("a", &"x".repeat(60_000))).collect(), 9);
    let sizes: Vec<usize> = std::iter::from_fn(|| queue.take(MAX_BATCH)).map(|batch| batch.len()).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().all(|size| *size <= MAX_BATCH + 200), "{sizes:?}");
}

#[tokio::test]
async fn what_a_producer_sends_comes_out_on_the_bus() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    std::fs::write(&socket, "left by an earlier run").unwrap();
    let (bus, shutdown) = (Bus::in_memory(), Shutdown::new());
    let mut heard = bus.subscribe(ENVELOPES_SUBJECT).await.unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1)));
    start(config(&socket), bus.clone(), clock, &mut foundation::rng(), &shutdown).unwrap();
    let sender = Sender::new(&socket);
    sender.send(vec![line("a", "one"), line("a", "two")]);
    let batch = EnvelopeBatch::decode(heard.next().await.unwrap().payload).unwrap().batch;
    assert_eq!(batch.len(), 3);
    UnixDatagram::unbound().unwrap().send_to(b"\xff\xff", &socket).unwrap();
    let batch = EnvelopeBatch::decode(heard.next().await.unwrap().payload).unwrap().batch;
    assert_eq!(count(&batch[1]), (queue::AGENT, DROPPED, 1, 1));
    sender.send(vec![line("a", "the last")]);
    assert_eq!(shutdown.finish(Duration::from_secs(5)).await, 0);
    assert!(heard.next().await.is_some(), "what was sent before the end still goes out");
}
