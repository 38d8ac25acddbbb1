//! Messages of a virtual host: read without taking them, written back.
//!
//! There is no way to look at a queue without touching it. All messages are fetched without being acknowledged, and then given
//! back, so that they are where they were, marked as redelivered. While a queue is read, its consumers get
//! nothing of it; what they hold unacknowledged at that time is not seen. See `docs/broker-backups.md`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use engines::Error;
use foundation::Secret;
use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm,
    message::Delivery,
    options::{BasicGetOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
    uri::{AMQPAuthority, AMQPUri, AMQPUserInfo},
};
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, time::Duration};

/// One message, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// In which queue it was.
    pub queue: String,
    /// Its properties and headers.
    pub properties: BasicProperties,
    /// Its body, in base64.
    pub body: String,
}

/// How messages can be read without taking them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A classic queue.
    Classic,
    /// A quorum queue.
    Quorum,
}

/// Most messages of one consumer, and most consumers: beyond, the order would be lost.
const SHARE: u16 = 60_000;
const MOST_CONSUMERS: usize = 30;
/// A queue that says nothing for so long has nothing for us.
const SILENCE: Duration = Duration::from_secs(5);
/// How many messages are under way to the node at a time.
const WINDOW: usize = 256;

/// A connection of the broker itself to one virtual host.
pub struct Host {
    connection: Connection,
}

impl Host {
    /// Connects over loopback.
    pub async fn enter(port: u16, host: &str, password: &Secret) -> Result<Self, Error> {
        let uri = AMQPUri {
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username: crate::api::ADMIN.to_owned(), password: password.expose().to_owned() },
                host: "127.0.0.1".to_owned(),
                port,
            },
            vhost: host.to_owned(),
            ..Default::default()
        };
        let properties = ConnectionProperties::default().with_connection_name("cupola backup".into());
        let connection = Connection::connect_uri(uri, properties).await.map_err(Error::server)?;
        Ok(Self { connection })
    }

    /// Hands out every message that waits in a queue now, in order; returns how many.
    pub async fn read(&self, queue: &str, kind: Kind, mut take: impl FnMut(Kept) -> Result<(), Error>) -> Result<u64, Error> {
        let channel = self.connection.create_channel().await.map_err(Error::server)?;
        // Bounded by what is there at the beginning, because publishers may be as fast as we are.
        let waiting = u64::from(waiting(&channel, queue).await?);
        let mut keep = |delivery: Delivery| {
            take(Kept { queue: queue.to_owned(), properties: delivery.properties, body: STANDARD.encode(&delivery.data) })
        };
        let count = match kind {
            Kind::Classic => fetch(&channel, queue, waiting, &mut keep).await?,
            Kind::Quorum => consume(&channel, queue, waiting, &mut keep).await?,
        };
        // Puts them all back where they were.
        channel.close(200, "read".into()).await.map_err(Error::server)?;
        Ok(count)
    }

    /// Puts messages back, in order; returns how many, once the node has all of them.
    pub async fn write(&self, mut next: impl FnMut() -> Result<Option<Kept>, Error>) -> Result<u64, Error> {
        let channel = self.connection.create_channel().await.map_err(Error::server)?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(Error::server)?;
        let mut count = 0;
        let mut waiting = VecDeque::new();
        while let Some(message) = next()? {
            if waiting.len() >= WINDOW
                && let Some(oldest) = waiting.pop_front()
            {
                taken(oldest).await?;
            }
            waiting.push_back(publish(&channel, message).await?);
            count += 1;
        }
        for confirm in waiting {
            taken(confirm).await?;
        }
        channel.close(200, "written".into()).await.map_err(Error::server)?;
        Ok(count)
    }

    /// Ends the connection.
    pub async fn leave(self) -> Result<(), Error> {
        self.connection.close(200, "done".into()).await.map_err(Error::server)
    }
}

async fn waiting(channel: &Channel, queue: &str) -> Result<u32, Error> {
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let found = channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
    found.map(|found| found.message_count()).map_err(Error::server)
}

/// One by one: works beside any other consumer.
async fn fetch(
    channel: &Channel,
    queue: &str,
    waiting: u64,
    keep: &mut impl FnMut(Delivery) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut count = 0;
    while count < waiting {
        let next = channel.basic_get(queue.into(), BasicGetOptions { no_ack: false }).await.map_err(Error::server)?;
        let Some(message) = next else { break };
        keep(message.delivery)?;
        count += 1;
    }
    Ok(count)
}

/// As consumers: what a quorum queue handed to one consumer it takes back in order, what it handed out one by one it does not.
async fn consume(
    channel: &Channel,
    queue: &str,
    waiting: u64,
    keep: &mut impl FnMut(Delivery) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut consumers = vec![];
    let mut count = 0;
    while count < waiting {
        if consumers.len() == MOST_CONSUMERS {
            return Err(Error::server(format!("queue `{queue}` holds more messages than can be read at once")));
        }
        let share = u16::try_from(waiting - count).unwrap_or(SHARE).min(SHARE);
        channel.basic_qos(share, BasicQosOptions { global: false }).await.map_err(Error::server)?;
        // In the order of their names it takes back what it gave to each.
        let tag = format!("backup-{:02}", consumers.len());
        let consumer = channel.basic_consume(queue.into(), tag.into(), Default::default(), FieldTable::default()).await;
        let mut consumer = consumer.map_err(Error::server)?;
        for _ in 0..share {
            match tokio::time::timeout(SILENCE, consumer.next()).await {
                Ok(Some(delivery)) => keep(delivery.map_err(Error::server)?)?,
                Ok(None) => return Err(Error::server(format!("queue `{queue}` is gone"))),
                // Others took the rest meanwhile; or there is one who alone may consume.
                Err(_) if self::waiting(channel, queue).await? == 0 => return Ok(count),
                Err(_) => {
                    return Err(Error::server(format!("queue `{queue}` gives nothing; another consumer has it for itself")));
                }
            }
            count += 1;
        }
        // Dropped it would be cancelled, and its messages go back before the others'.
        consumers.push(consumer);
    }
    Ok(count)
}

async fn publish(channel: &Channel, message: Kept) -> Result<PublisherConfirm, Error> {
    let body = STANDARD.decode(&message.body).map_err(Error::server)?;
    // The exchange without a name leads to the queue of this name.
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent = channel.basic_publish("".into(), message.queue.into(), options, &body, message.properties).await;
    sent.map_err(Error::server)
}

async fn taken(confirm: PublisherConfirm) -> Result<(), Error> {
    match confirm.await.map_err(Error::server)? {
        Confirmation::Ack(None) | Confirmation::NotRequested => Ok(()),
        Confirmation::Ack(Some(_)) => Err(Error::server("there is no queue for a message of the backup")),
        Confirmation::Nack(_) => Err(Error::server("a queue is full: the limit of the plan is below what the backup holds")),
    }
}
