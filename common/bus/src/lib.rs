//! The bus: publish, subscribe, request, and key-value buckets with compare-and-set; over NATS or, for tests, in memory.
//!
//! At-most-once: a lost message costs time. Buckets are JetStream streams with leader reads (never "direct get"), because a
//! read that feeds a compare-and-set must be the newest.
//!
//! - [`Bus`] and [`Subscription`]: messages.
//! - [`Bucket`], [`Entry`], [`Change`]: key-value.
//! - `nats` and `memory`: the two ways to have one.

mod memory;
mod nats;
mod registrar;

pub use registrar::{keep_registered, own_route};

use bytes::Bytes;
use messages::Message;
use serde::{Serialize, de::DeserializeOwned};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};

/// How to reach the bus.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `nats://host:port` or `tls://host:port`, several with commas.
    pub url: String,
    /// The component's user.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The authority that signed the servers' certificates; TLS is required when it is set.
    pub ca: Option<PathBuf>,
}

/// Why an operation on the bus did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The compare-and-set lost: the record has another revision, or exists already.
    #[error("`{0}` was changed by somebody else")]
    Conflict(String),
    /// Nobody listens on the subject.
    #[error("nobody answers on `{0}`")]
    NoResponders(String),
    /// No answer in time. The request may or may not have been carried out.
    #[error("no answer on `{0}` in time")]
    Timeout(String),
    /// The payload is not what it should be.
    #[error("unreadable payload on `{0}`")]
    Unreadable(String, #[source] serde_json::Error),
    /// The bus cannot be reached or refuses; trying again may help.
    #[error("the bus failed at {0}")]
    Unavailable(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A connection to the bus; clones share it.
#[derive(Clone)]
pub struct Bus(Kind);

#[derive(Clone)]
enum Kind {
    Nats(Box<nats::Nats>),
    Memory(Arc<memory::Memory>),
}

/// One message that arrived.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Where it was sent.
    pub subject: String,
    /// What it carries.
    pub payload: Bytes,
    /// Where an answer goes.
    pub reply: Option<String>,
}

impl Delivery {
    /// Reads the payload.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when it is not a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.payload).map_err(|e| Error::Unreadable(self.subject.clone(), e))
    }
}

/// Messages of one subject, in order of arrival. Dropping it ends the subscription.
///
/// At most 65,536 wait; then the newest are dropped, and the log says so.
pub struct Subscription(SubscriptionKind);

enum SubscriptionKind {
    Nats(async_nats::Subscriber),
    Memory(mpsc::Receiver<Delivery>),
}

impl Subscription {
    /// The next message; `None` once the bus is closed for good.
    pub async fn next(&mut self) -> Option<Delivery> {
        match &mut self.0 {
            SubscriptionKind::Nats(subscriber) => nats::next(subscriber).await,
            SubscriptionKind::Memory(receiver) => receiver.recv().await,
        }
    }
}

impl Bus {
    /// Connects, and goes on trying in the background when the server is not there yet; reconnects for ever.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for settings that can never work (an unreadable authority file).
    pub async fn connect(settings: &Settings) -> Result<Self> {
        Ok(Self(Kind::Nats(Box::new(nats::Nats::connect(settings).await?))))
    }

    /// A bus of its own inside this process, for tests.
    pub fn in_memory() -> Self {
        Self(Kind::Memory(Arc::new(memory::Memory::default())))
    }

    /// Says "connected" or "lost" on a bus of [`Bus::in_memory`]; for tests. Messages travel all the same.
    pub fn pretend_connected(&self, connected: bool) {
        if let Kind::Memory(memory) = &self.0 {
            memory.pretend_connected(connected);
        }
    }

    /// True while the server is connected. Routers and reconcilers hold destructive acts back while it is false.
    pub fn connected(&self) -> watch::Receiver<bool> {
        match &self.0 {
            Kind::Nats(nats) => nats.connected(),
            Kind::Memory(memory) => memory.connected(),
        }
    }

    /// Publishes on the message's own subject.
    pub async fn publish<M: Message>(&self, message: &M) -> Result<()> {
        self.publish_to(M::SUBJECT, encode(message)).await
    }

    /// Publishes bytes on any subject.
    pub async fn publish_to(&self, subject: &str, payload: Bytes) -> Result<()> {
        match &self.0 {
            Kind::Nats(nats) => nats.publish(subject, payload).await,
            Kind::Memory(memory) => {
                memory.publish(subject, payload, None);
                Ok(())
            }
        }
    }

    /// Listens on a subject; `*` and `>` are wildcards.
    pub async fn subscribe(&self, subject: &str) -> Result<Subscription> {
        match &self.0 {
            Kind::Nats(nats) => nats.subscribe(subject).await.map(|s| Subscription(SubscriptionKind::Nats(s))),
            Kind::Memory(memory) => Ok(Subscription(SubscriptionKind::Memory(memory.subscribe(subject)))),
        }
    }

    /// Asks and waits for one answer.
    ///
    /// # Errors
    /// [`Error::NoResponders`]: certainly not carried out. [`Error::Timeout`] and [`Error::Unavailable`]: unknown.
    pub async fn request<A: Serialize, B: DeserializeOwned>(&self, subject: &str, question: &A, limit: Duration) -> Result<B> {
        let payload = encode(question);
        let answer = match &self.0 {
            Kind::Nats(nats) => nats.request(subject, payload, limit).await?,
            Kind::Memory(memory) => memory.request(subject, payload, limit).await?,
        };
        serde_json::from_slice(&answer).map_err(|e| Error::Unreadable(subject.to_owned(), e))
    }

    /// Answers a request; nothing happens for a message that wanted none.
    pub async fn respond<A: Serialize>(&self, to: &Delivery, answer: &A) -> Result<()> {
        match &to.reply {
            Some(reply) => self.publish_to(reply, encode(answer)).await,
            None => Ok(()),
        }
    }

    /// Opens a bucket that exists (in memory: makes it).
    pub async fn bucket(&self, name: &str) -> Result<Bucket> {
        match &self.0 {
            Kind::Nats(nats) => nats.bucket(name).await.map(|b| Bucket(BucketKind::Nats(Box::new(b)))),
            Kind::Memory(memory) => Ok(Bucket(BucketKind::Memory(memory.bucket(name)))),
        }
    }

    /// Makes a bucket if it is missing, with one value a key and leader reads. For the supervisor at boot.
    pub async fn make_bucket(&self, name: &str, replicas: usize) -> Result<Bucket> {
        if let Kind::Nats(nats) = &self.0 {
            nats.make_bucket(name, replicas).await?;
        }
        self.bucket(name).await
    }
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("messages have text keys and no failing serializers").into()
}

/// Keys with values and revisions. Keys are dot-separated tokens.
#[derive(Clone)]
pub struct Bucket(BucketKind);

#[derive(Clone)]
enum BucketKind {
    Nats(Box<nats::NatsBucket>),
    Memory(memory::MemoryBucket),
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
    /// Its revision, for the next compare-and-set.
    pub revision: u64,
}

impl Entry {
    /// Reads the value.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when it is not a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.value).map_err(|e| Error::Unreadable(self.key.clone(), e))
    }
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The watch begins, or begins anew after a break: all records follow, then [`Change::Synced`].
    Reset,
    /// A record was made or changed.
    Put(Entry),
    /// A record was removed.
    Removed {
        /// Its key.
        key: String,
        /// The revision of its removal.
        revision: u64,
    },
    /// Every record that existed has been told since the last [`Change::Reset`]; what was not told is gone.
    Synced,
}

impl Bucket {
    /// The newest record of a key.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>> {
        match &self.0 {
            BucketKind::Nats(bucket) => bucket.get(key).await,
            BucketKind::Memory(bucket) => Ok(bucket.get(key)),
        }
    }

    /// Makes a record; returns its revision.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the key has one.
    pub async fn create<T: Serialize>(&self, key: &str, value: &T) -> Result<u64> {
        match &self.0 {
            BucketKind::Nats(bucket) => bucket.create(key, encode(value)).await,
            BucketKind::Memory(bucket) => bucket.set(key, Some(encode(value)), 0),
        }
    }

    /// Changes a record whose revision is still `revision`; returns the new one.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is another.
    pub async fn update<T: Serialize>(&self, key: &str, value: &T, revision: u64) -> Result<u64> {
        match &self.0 {
            BucketKind::Nats(bucket) => bucket.update(key, encode(value), revision).await,
            BucketKind::Memory(bucket) => bucket.set(key, Some(encode(value)), revision),
        }
    }

    /// Removes a record whose revision is still `revision`.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is another.
    pub async fn remove(&self, key: &str, revision: u64) -> Result<()> {
        match &self.0 {
            BucketKind::Nats(bucket) => bucket.remove(key, revision).await,
            BucketKind::Memory(bucket) => bucket.set(key, None, revision).map(|_| ()),
        }
    }

    /// All records, then all changes; survives breaks of the connection by beginning anew. Ends when the receiver is dropped.
    pub fn watch(&self) -> mpsc::Receiver<Change> {
        match &self.0 {
            BucketKind::Nats(bucket) => bucket.watch(),
            BucketKind::Memory(bucket) => bucket.watch(),
        }
    }
}

#[cfg(test)]
mod tests;
