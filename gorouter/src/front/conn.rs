//! A client's connection, as the engine sees it.
//!
//! It hands the engine exactly one request at a time: bytes of the next one stay here until the answer is out. So clients
//! may pipeline, and the engine never mistakes the next request for this one's body. Once a sized body is through, a read
//! only tells whether the client went away.

use super::head::{Framing, Head, HeadLimits, Scanner};
use crate::proxy::refusal::Refusal;
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType, l4::socket::SocketAddr as EngineAddr, raw_connect::ProxyDigest, tls::SslDigest,
};
use std::{
    fmt, io,
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::AsRawFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// First size of the buffer for heads.
const HEAD_BUFFER: usize = 4_096;
/// Smaller writes are gathered until they are flushed.
const GATHER: usize = 8_192;

/// The bytes' way.
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A client's connection.
pub(crate) struct Conn {
    transport: Transport,
    /// Read, but not handed out.
    buffer: BytesMut,
    /// Written by the engine, but not sent: the head of an answer waits here for its body.
    unsent: BytesMut,
    scanner: Scanner,
    framing: Framing,
    socket: Arc<SocketDigest>,
    tls: Option<Arc<SslDigest>>,
    http2: bool,
    fd: UniqueIDType,
}

impl Conn {
    pub(crate) fn new(transport: Transport, client: SocketAddr) -> Self {
        let (fd, tls, http2) = match &transport {
            Transport::Plain(stream) => (stream.as_raw_fd(), None, false),
            Transport::Tls(stream) => {
                let (tcp, session) = stream.get_ref();
                let version = session.protocol_version().and_then(|v| v.as_str()).unwrap_or("TLS");
                let digest = SslDigest::new("", version, None, None, vec![]);
                (tcp.as_raw_fd(), Some(Arc::new(digest)), session.alpn_protocol() == Some(b"h2"))
            }
        };
        let socket = SocketDigest::from_raw_fd(fd);
        let _ = socket.peer_addr.set(Some(EngineAddr::Inet(client)));
        let (buffer, unsent, scanner) = (BytesMut::new(), BytesMut::new(), Scanner::default());
        let socket = Arc::new(socket);
        Self { transport, buffer, unsent, scanner, framing: Framing::Sized(0), socket, tls, http2, fd }
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.http2
    }

    /// True if some bytes of the next head are here.
    pub(crate) fn has_begun(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Reads the next head: its bytes, or `None` if the client went away between two requests.
    ///
    /// May be cancelled at any moment.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>, limits: HeadLimits) -> Poll<Result<Option<BytesMut>, HeadError>> {
        loop {
            self.skip_blank_lines();
            if let Some(head) = self.scanner.scan(&self.buffer, limits)? {
                return Poll::Ready(Ok(Some(self.begin(head))));
            }
            if self.buffer.capacity() == self.buffer.len() {
                let more = self.buffer.len().max(HEAD_BUFFER);
                self.buffer.reserve(more);
            }
            if ready!(self.fill(cx))? == 0 {
                return Poll::Ready(if self.buffer.is_empty() { Ok(None) } else { Err(HeadError::Gone) });
            }
        }
    }

    fn begin(&mut self, head: Head) -> BytesMut {
        self.scanner = Scanner::default();
        self.framing = head.framing;
        match head.length == self.buffer.len() {
            true => std::mem::take(&mut self.buffer),
            false => self.buffer.split_to(head.length),
        }
    }

    /// Some clients send an empty line behind a body.
    fn skip_blank_lines(&mut self) {
        if self.buffer.first() == Some(&b'\r') {
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.advance(2);
                self.scanner = Scanner::default();
            }
        }
    }

    /// Reads into the buffer's spare room.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { transport, buffer, .. } = self;
        tokio_util::io::poll_read_buf(Pin::new(transport), cx, buffer)
    }

    /// Says no, and lets the client read it before the connection ends.
    pub(crate) async fn refuse(&mut self, refusal: &Refusal) {
        use tokio::io::AsyncReadExt;
        let answer = refusal.to_http1();
        let said = async {
            self.transport.write_all(&answer).await?;
            self.transport.shutdown().await?;
            // Closing with unread bytes would reset the connection and take the answer with it.
            let mut left = [0; 4_096];
            for _ in 0..64 {
                if self.transport.read(&mut left).await? == 0 {
                    break;
                }
            }
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), said).await;
    }

    /// After the body: bytes of the next request are kept, and only the end of the connection is told.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.buffer.is_empty() {
            return Poll::Pending;
        }
        let mut space = [MaybeUninit::uninit(); 2_048];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.buffer.extend_from_slice(read.filled());
        Poll::Pending
    }
}

/// Why there is no next head.
#[derive(Debug)]
pub(crate) enum HeadError {
    /// The client has to be told.
    Refused(Refusal),
    /// The client went away in the middle.
    Gone,
}

impl From<Refusal> for HeadError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for HeadError {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.framing {
            Framing::Sized(0) if !this.http2 => this.poll_gone(cx),
            Framing::Sized(left) if !this.http2 => {
                let room = usize::try_from(left).unwrap_or(usize::MAX).min(out.remaining());
                let read = ready!(this.poll_part(cx, out, room))?;
                this.framing = Framing::Sized(left - read as u64);
                Poll::Ready(Ok(()))
            }
            _ if this.buffer.is_empty() => Pin::new(&mut this.transport).poll_read(cx, out),
            _ => this.poll_part(cx, out, out.remaining()).map_ok(|_| ()),
        }
    }
}

impl Conn {
    /// Reads at most `room` bytes.
    fn poll_part(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>, room: usize) -> Poll<io::Result<usize>> {
        if !self.buffer.is_empty() {
            let read = room.min(self.buffer.len());
            out.put_slice(&self.buffer[..read]);
            self.buffer.advance(read);
            return Poll::Ready(Ok(read));
        }
        let mut part = ReadBuf::new(out.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        out.advance(read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unsent.len() + bytes.len() > GATHER {
            ready!(this.poll_send(cx))?;
        }
        if bytes.len() >= GATHER {
            return Pin::new(&mut this.transport).poll_write(cx, bytes);
        }
        this.unsent.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.transport).poll_shutdown(cx)
    }
}

impl Conn {
    /// Sends what was gathered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.transport).poll_write(cx, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        // The room is used again by the next answer.
        self.unsent.clear();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, out),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

#[async_trait]
impl Shutdown for Conn {
    async fn shutdown(&mut self) {
        let _ = self.transport.shutdown().await;
    }
}

impl UniqueID for Conn {
    fn id(&self) -> UniqueIDType {
        self.fd
    }
}

impl Ssl for Conn {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.http2.then_some(ALPN::H2)
    }
}

impl GetTimingDigest for Conn {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![]
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.socket.clone())
    }
}

impl Peek for Conn {}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("fd", &self.fd).field("http2", &self.http2).finish_non_exhaustive()
    }
}
