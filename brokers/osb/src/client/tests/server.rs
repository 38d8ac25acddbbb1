//! A server that answers with given bytes, or not at all.

use parking_lot::Mutex;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

enum Manner {
    /// One after the other; the last one again and again.
    Say(Vec<Vec<u8>>),
    Hang,
    Trickle,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// The bytes of an answer.
pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}{length}\r\n{body}").into_bytes()
}

impl Server {
    pub(super) async fn always(reply: Vec<u8>) -> Self {
        Self::start(Manner::Say(vec![reply])).await
    }
    pub(super) async fn script(replies: Vec<Vec<u8>>) -> Self {
        Self::start(Manner::Say(replies)).await
    }
    pub(super) async fn hanging() -> Self {
        Self::start(Manner::Hang).await
    }
    pub(super) async fn trickling() -> Self {
        Self::start(Manner::Trickle).await
    }
    /// An address where nobody listens.
    pub(super) async fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }
    /// What was asked so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.lock().clone()
    }

    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(vec![]));
        let (manner, log) = (Arc::new(manner), seen.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, manner.clone(), log.clone()));
            }
        });
        Self { address, seen, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, manner: Arc<Manner>, log: Arc<Mutex<Vec<String>>>) {
    let Some(request) = read(&mut stream).await else { return };
    let number = {
        let mut log = log.lock();
        log.push(request);
        log.len() - 1
    };
    match &*manner {
        Manner::Say(replies) => {
            let reply = replies.get(number).or(replies.last()).cloned().unwrap_or_default();
            let _ = stream.write_all(&reply).await;
            let _ = stream.shutdown().await;
        }
        Manner::Hang => std::future::pending().await,
        Manner::Trickle => {
            let _ = stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n").await;
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// The head of a request, once its body is there too.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = vec![];
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(format!("{head}\r\n\r\n"));
            }
        }
    }
}
