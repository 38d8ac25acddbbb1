//! The bus over NATS, and buckets over JetStream.

use crate::{Change, Delivery, Entry, Error, Result, Settings};
use async_nats::{
    ConnectOptions,
    client::RequestErrorKind,
    jetstream::{
        self,
        kv::{CreateErrorKind, Operation, Store, UpdateErrorKind},
        stream,
    },
};
use bytes::Bytes;
use futures::StreamExt;
use std::{error::Error as StdError, time::Duration};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

#[derive(Clone)]
pub(crate) struct Nats {
    client: async_nats::Client,
    jetstream: jetstream::Context,
    connected: watch::Receiver<bool>,
}

fn unavailable<E: Into<Box<dyn StdError + Send + Sync>>>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |e| Error::Unavailable(what, e.into())
}

impl Nats {
    pub(crate) async fn connect(settings: &Settings) -> Result<Self> {
        let (sender, connected) = watch::channel(false);
        let mut options = ConnectOptions::with_user_and_password(settings.user.clone(), settings.password.clone())
            .name(&settings.user)
            .custom_inbox_prefix(format!("_INBOX_{}", settings.user))
            .ping_interval(Duration::from_secs(20))
            .connection_timeout(Duration::from_secs(5))
            .retry_on_initial_connect()
            .reconnect_delay_callback(|attempts| Duration::from_millis((50 * attempts.max(1) as u64).min(2_000)))
            .event_callback(move |event| {
                let sender = sender.clone();
                async move {
                    match event {
                        async_nats::Event::Connected => {
                            sender.send_replace(true);
                            info!("connected to the bus");
                        }
                        async_nats::Event::Disconnected | async_nats::Event::Closed => {
                            sender.send_replace(false);
                            warn!("lost the bus");
                        }
                        other => warn!("bus: {other}"),
                    }
                }
            });
        if let Some(ca) = &settings.ca {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        let servers: Vec<&str> = settings.url.split(',').map(str::trim).collect();
        let client = options.connect(servers).await.map_err(unavailable("connect"))?;
        let jetstream = jetstream::new(client.clone());
        Ok(Self { client, jetstream, connected })
    }

    pub(crate) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    pub(crate) async fn publish(&self, subject: &str, payload: Bytes) -> Result<()> {
        self.client.publish(subject.to_owned(), payload).await.map_err(unavailable("publish"))
    }

    pub(crate) async fn subscribe(&self, subject: &str) -> Result<async_nats::Subscriber> {
        self.client.subscribe(subject.to_owned()).await.map_err(unavailable("subscribe"))
    }

    pub(crate) async fn request(&self, subject: &str, payload: Bytes, limit: Duration) -> Result<Bytes> {
        let request = async_nats::Request::new().payload(payload).timeout(Some(limit));
        match self.client.send_request(subject.to_owned(), request).await {
            Ok(answer) => Ok(answer.payload),
            Err(e) => Err(match e.kind() {
                RequestErrorKind::NoResponders => Error::NoResponders(subject.to_owned()),
                RequestErrorKind::TimedOut => Error::Timeout(subject.to_owned()),
                _ => Error::Unavailable("request", e.into()),
            }),
        }
    }

    pub(crate) async fn bucket(&self, name: &str) -> Result<NatsBucket> {
        let store = self.jetstream.get_key_value(name).await.map_err(unavailable("open bucket"))?;
        Ok(NatsBucket(store))
    }

    pub(crate) async fn make_bucket(&self, name: &str, replicas: usize) -> Result<()> {
        // `create_key_value` of the client forces direct gets, which may be stale; so the stream is made by hand.
        let config = stream::Config {
            name: format!("KV_{name}"),
            subjects: vec![format!("$KV.{name}.>")],
            max_messages_per_subject: 1,
            discard: stream::DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: false,
            num_replicas: replicas,
            storage: stream::StorageType::File,
            ..Default::default()
        };
        self.jetstream.get_or_create_stream(config).await.map_err(unavailable("make bucket")).map(|_| ())
    }
}

pub(crate) async fn next(subscriber: &mut async_nats::Subscriber) -> Option<Delivery> {
    let message = subscriber.next().await?;
    Some(Delivery { subject: message.subject.to_string(), payload: message.payload, reply: message.reply.map(|r| r.to_string()) })
}

#[derive(Clone)]
pub(crate) struct NatsBucket(Store);

impl NatsBucket {
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let entry = self.0.entry(key).await.map_err(unavailable("read"))?;
        Ok(entry.filter(|e| e.operation == Operation::Put).map(|e| Entry {
            key: key.to_owned(),
            value: e.value,
            revision: e.revision,
        }))
    }

    pub(crate) async fn create(&self, key: &str, value: Bytes) -> Result<u64> {
        self.0.create(key, value).await.map_err(|e| match e.kind() {
            CreateErrorKind::AlreadyExists => Error::Conflict(key.to_owned()),
            _ => Error::Unavailable("create", e.into()),
        })
    }

    pub(crate) async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64> {
        self.0.update(key, value, revision).await.map_err(|e| match e.kind() {
            UpdateErrorKind::WrongLastRevision => Error::Conflict(key.to_owned()),
            _ => Error::Unavailable("update", e.into()),
        })
    }

    pub(crate) async fn remove(&self, key: &str, revision: u64) -> Result<()> {
        let gone = self.0.purge_expect_revision(key, Some(revision)).await;
        gone.map_err(|e| match e.to_string().contains("wrong last sequence") {
            true => Error::Conflict(key.to_owned()),
            false => Error::Unavailable("remove", e.into()),
        })
    }

    pub(crate) fn watch(&self) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(4_096);
        let store = self.0.clone();
        tokio::spawn(async move {
            while !sender.is_closed() {
                if let Err(error) = watch_once(&store, &sender).await {
                    warn!(error = &*error, "a watch broke; beginning anew");
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        receiver
    }
}

/// Tells all records and then changes, until the watch breaks or the receiver is gone.
async fn watch_once(store: &Store, sender: &mpsc::Sender<Change>) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let mut watch = store.watch_with_history(">").await?;
    // Looked at after the watch began: whatever it counts, the watch will tell.
    let empty = store.status().await?.values() == 0;
    sender.send(Change::Reset).await?;
    if empty {
        sender.send(Change::Synced).await?;
    }
    let mut synced = empty;
    loop {
        let next = tokio::select! {
            next = watch.next() => next,
            () = sender.closed() => return Ok(()),
        };
        let entry = next.ok_or("the watch ended")??;
        let change = match entry.operation {
            Operation::Put => Change::Put(Entry { key: entry.key, value: entry.value, revision: entry.revision }),
            Operation::Delete | Operation::Purge => Change::Removed { key: entry.key, revision: entry.revision },
        };
        sender.send(change).await?;
        if !synced && entry.seen_current {
            synced = true;
            sender.send(Change::Synced).await?;
        }
    }
}
