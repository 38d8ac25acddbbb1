//! Frames on a Unix stream: a big-endian `u32` length, that many bytes of JSON, descriptors beside the first byte.

use crate::MAX_FRAME;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
};

/// The most descriptors that travel beside one frame: stdin, stdout, stderr.
pub const MAX_DESCRIPTORS: usize = 3;

/// A message cannot be a frame: too long, or not JSON of the right shape.
fn bad(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The bytes of one frame, its length first.
///
/// # Errors
/// `InvalidData` if it is longer than [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(bad)?;
    let length = frame.len() - 4;
    match u32::try_from(length) {
        Ok(prefix) if length <= MAX_FRAME => frame[..4].copy_from_slice(&prefix.to_be_bytes()),
        _ => return Err(bad(format!("a frame of {length} bytes"))),
    }
    Ok(frame)
}

/// Sends one message, and `descriptors` (at most [`MAX_DESCRIPTORS`]) beside its first byte.
///
/// # Errors
/// Those of the socket; `InvalidData` for a message that is too long.
pub async fn send<T: Serialize>(stream: &mut UnixStream, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let frame = encode(message)?;
    let mut sent = 0;
    if !descriptors.is_empty() {
        // Most sockets can be written to at once, and asking first takes a turn of the event loop.
        sent = match send_some(stream.as_fd(), &frame, descriptors) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                stream.async_io(Interest::WRITABLE, || send_some(stream.as_fd(), &frame, descriptors)).await?
            }
            sent => sent?,
        };
    }
    stream.write_all(&frame[sent..]).await
}

fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(bad("too many descriptors beside one frame"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives one message and the descriptors beside it; `None` where the peer has closed the connection between frames.
///
/// # Errors
/// Those of the socket; `InvalidData` for a frame that is too long or has another shape.
pub async fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut header = [0; 4];
    let (got, descriptors) = stream.async_io(Interest::READABLE, || receive_some(stream.as_fd(), &mut header)).await?;
    if got == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[got..]).await?;
    let length = u32::from_be_bytes(header) as usize;
    if length > MAX_FRAME {
        return Err(bad(format!("a frame of {length} bytes")));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some((serde_json::from_slice(&body).map_err(bad)?, descriptors)))
}

fn receive_some(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(into)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = vec![];
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    Ok((message.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;
    use std::io::{Read, Write};

    #[tokio::test]
    async fn a_message_arrives_with_its_descriptors() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut read_end, write_end) = io::pipe().unwrap();
        send(&mut ours, &Request::Info { handle: "a".into() }, &[write_end.as_fd()]).await.unwrap();
        drop(write_end);
        let (request, mut descriptors) = receive::<Request>(&mut theirs).await.unwrap().unwrap();
        assert!(matches!(request, Request::Info { handle } if handle == "a"));
        let mut pipe = std::fs::File::from(descriptors.pop().unwrap());
        pipe.write_all(b"through").unwrap();
        drop(pipe);
        let mut text = String::new();
        read_end.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        drop(ours);
        assert!(receive::<Request>(&mut theirs).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_container_with_ports_arrives_as_it_was_sent() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let info = crate::ContainerInfo {
            handle: "a".into(),
            labels: Default::default(),
            address: [10, 254, 0, 2].into(),
            host_address: [192, 0, 2, 1].into(),
            ports: [(8080, 61_001)].into(),
            egress: vec![crate::Endpoint::tcp([10, 254, 0, 1].into(), 5432)],
            created_at: 1,
            exit: None,
        };
        send(&mut ours, &crate::Response::Container(info.clone()), &[]).await.unwrap();
        let (response, _) = receive::<crate::Response>(&mut theirs).await.unwrap().unwrap();
        assert!(matches!(response, crate::Response::Container(arrived) if arrived == info));
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_is_refused_before_it_is_read() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        ours.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        let error = receive::<Request>(&mut theirs).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
