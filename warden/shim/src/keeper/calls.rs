//! Connections of the daemon: frames as everywhere in Warden, without waiting.

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::{self, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};
use warden_client::{
    MAX_FRAME, ProcessSpec, frame,
    shim::{ShimRequest, ShimResponse},
};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It has not said yet.
    Unknown,
    /// The container's end.
    End,
    /// A process's end.
    Exec(u32),
}

/// One connection, with at most one request.
pub(super) struct Call {
    stream: UnixStream,
    inbox: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    pub(super) purpose: Purpose,
    pub(super) process: Option<ProcessSpec>,
}

impl Call {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, inbox: vec![], descriptors: vec![], purpose: Purpose::Unknown, process: None }
    }

    /// Reads what is there. False: the caller is gone.
    pub(super) fn fill(&mut self) -> bool {
        loop {
            match receive(&self.stream, &mut self.inbox, &mut self.descriptors) {
                Ok(0) => return false,
                Ok(_) if self.inbox.len() > MAX_FRAME + 4 => return false,
                Ok(_) => {}
                Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    pub(super) fn next_request(&mut self) -> Option<ShimRequest> {
        take_frame(&mut self.inbox)
    }

    pub(super) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }

    pub(super) fn answer(&mut self, response: &ShimResponse) {
        // Answers are small: a socket that cannot take one has no reader.
        let _ = write_frame(&mut self.stream, response);
    }
}

impl AsFd for Call {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// One read; descriptors beside it are collected.
pub(crate) fn receive(stream: &UnixStream, inbox: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut chunk = [0; 16 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream, &mut [IoSliceMut::new(&mut chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    inbox.extend_from_slice(&chunk[..got]);
    Ok(got)
}

/// The next whole message, if it is there and has the right shape.
pub(crate) fn take_frame<T: DeserializeOwned>(inbox: &mut Vec<u8>) -> Option<T> {
    let prefix: [u8; 4] = inbox.get(..4)?.try_into().ok()?;
    let end = 4 + u32::from_be_bytes(prefix) as usize;
    let message = serde_json::from_slice(inbox.get(4..end)?).ok();
    inbox.drain(..end);
    message
}

/// Sends one message.
///
/// # Errors
/// Those of the socket.
pub(crate) fn write_frame<T: Serialize>(stream: &mut UnixStream, message: &T) -> io::Result<()> {
    stream.write_all(&frame::encode(message)?)
}
