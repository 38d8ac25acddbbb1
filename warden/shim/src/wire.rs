//! Between keeper and init, over an inherited socket: a little-endian `u32` length, then that many bytes.
//!
//! Init is in the container, so the keeper believes nothing that it reads: every length is checked, and unknown ids are ignored.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, send,
    sendmsg,
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// The longest message; arguments and environment of a process fit well.
const LONGEST: usize = 8 << 20;

/// Keeper to init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start a process; three descriptors travel beside it.
    Spawn(Spawn),
    /// Send a signal to a process, or to its whole session.
    Signal {
        /// Whose.
        id: u32,
        /// Which.
        signal: i32,
        /// To its process group too.
        group: bool,
    },
}

/// A process to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// The keeper's name for it.
    pub id: u32,
    /// User and group inside the container.
    pub user: u32,
    /// Working directory.
    pub cwd: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Exactly its environment.
    pub env: Vec<String>,
}

/// Init to keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The process runs its program.
    Started {
        /// Which.
        id: u32,
    },
    /// It could not be started.
    Failed {
        /// Which.
        id: u32,
        /// In which step.
        step: Step,
        /// Why.
        errno: i32,
    },
    /// It has ended.
    Exited {
        /// Which.
        id: u32,
        /// Exit status; 128 + n for signal n.
        status: i32,
    },
}

/// Steps on the way to a running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Making a process.
    Fork = 0,
    /// Becoming its user.
    User = 1,
    /// Entering its working directory.
    Cwd = 2,
    /// Running its program.
    Exec = 3,
}

impl Step {
    /// The step with this number; an unknown one counts as the last.
    pub fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Fork,
            1 => Self::User,
            2 => Self::Cwd,
            _ => Self::Exec,
        }
    }
}

/// One end of the socket: collects bytes until a message is whole.
pub struct Channel {
    socket: OwnedFd,
    inbox: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Takes the socket over.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, inbox: vec![], descriptors: vec![] }
    }

    /// Reads what is there, waiting if nothing is. False: the peer is gone.
    ///
    /// # Errors
    /// Those of the socket; `InvalidData` if a message is too long.
    pub fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 16 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut chunk)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(got) => got.bytes,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(true),
            Err(rustix::io::Errno::CONNRESET) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = part {
                self.descriptors.extend(received);
            }
        }
        self.inbox.extend_from_slice(&chunk[..got]);
        if self.next_length().is_some_and(|length| length > LONGEST) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
        }
        Ok(got > 0)
    }

    fn next_length(&self) -> Option<usize> {
        let prefix = self.inbox.get(..4)?.try_into().ok()?;
        Some(u32::from_le_bytes(prefix) as usize)
    }

    fn next_body(&mut self) -> Option<Vec<u8>> {
        let end = self.next_length()?.saturating_add(4);
        if self.inbox.len() < end {
            return None;
        }
        let body = self.inbox[4..end].to_vec();
        self.inbox.drain(..end);
        Some(body)
    }

    /// The next whole report, if one is there; nonsense is skipped.
    pub fn next_report(&mut self) -> Option<Report> {
        loop {
            let body = self.next_body()?;
            if let Some(report) = read_report(&body) {
                return Some(report);
            }
        }
    }

    /// The next whole order, if one is there.
    pub fn next_order(&mut self) -> Option<(Order, Vec<OwnedFd>)> {
        loop {
            let body = self.next_body()?;
            if let Some(order) = read_order(&body) {
                let count = if matches!(order, Order::Spawn(_)) { self.descriptors.len().min(3) } else { 0 };
                return Some((order, self.descriptors.drain(..count).collect()));
            }
        }
    }

    /// Sends an order, waiting until the socket has taken it.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send_order(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut body = Writer(vec![]);
        match order {
            Order::Spawn(spawn) => {
                body.number(1).number(spawn.id).number(spawn.user).text(&spawn.cwd);
                body.texts(&spawn.argv).texts(&spawn.env);
            }
            Order::Signal { id, signal, group } => {
                body.number(2).number(*id).number(signal.cast_unsigned()).number(u32::from(*group));
            }
        }
        self.send(&body.0, descriptors)
    }

    /// Sends a report.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send_report(&self, report: Report) -> io::Result<()> {
        let mut body = Writer(vec![]);
        match report {
            Report::Started { id } => body.number(1).number(id),
            Report::Failed { id, step, errno } => {
                body.number(2).number(id).number(u32::from(step as u8)).number(errno.cast_unsigned())
            }
            Report::Exited { id, status } => body.number(3).number(id).number(status.cast_unsigned()),
        };
        self.send(&body.0, &[])
    }

    fn send(&self, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut message = length.to_le_bytes().to_vec();
        message.extend_from_slice(body);
        let mut sent = 0;
        if !descriptors.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
            }
            sent = sendmsg(&self.socket, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)?;
        }
        while sent < message.len() {
            match send(&self.socket, &message[sent..], SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }
    fn text(&mut self, text: &str) -> &mut Self {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(text.as_bytes());
        self
    }
    fn texts(&mut self, texts: &[String]) -> &mut Self {
        self.number(u32::try_from(texts.len()).unwrap_or(u32::MAX));
        for text in texts {
            self.text(text);
        }
        self
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }
    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
    fn texts(&mut self) -> Option<Vec<String>> {
        let count = self.number()?;
        (0..count).map(|_| self.text()).collect()
    }
}

fn read_order(body: &[u8]) -> Option<Order> {
    let mut body = Reader(body);
    match body.number()? {
        1 => Some(Order::Spawn(Spawn {
            id: body.number()?,
            user: body.number()?,
            cwd: body.text()?,
            argv: body.texts()?,
            env: body.texts()?,
        })),
        2 => Some(Order::Signal { id: body.number()?, signal: body.number()?.cast_signed(), group: body.number()? != 0 }),
        _ => None,
    }
}

fn read_report(body: &[u8]) -> Option<Report> {
    let mut body = Reader(body);
    match body.number()? {
        1 => Some(Report::Started { id: body.number()? }),
        2 => Some(Report::Failed {
            id: body.number()?,
            step: Step::from_number(u8::try_from(body.number()?).unwrap_or(u8::MAX)),
            errno: body.number()?.cast_signed(),
        }),
        3 => Some(Report::Exited { id: body.number()?, status: body.number()?.cast_signed() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (Channel, Channel) {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        (Channel::new(a), Channel::new(b))
    }

    #[test]
    fn an_order_arrives_as_it_was_sent_with_its_descriptors() {
        let (ours, mut theirs) = pair();
        let spawn = Spawn {
            id: 7,
            user: 2000,
            cwd: "/home/vcap".into(),
            argv: vec!["sh".into(), "-c".into(), "true".into()],
            env: vec!["A=é".into(), String::new()],
        };
        let null = std::fs::File::open("/dev/null").unwrap();
        ours.send_order(&Order::Spawn(spawn.clone()), &[null.as_fd(), null.as_fd(), null.as_fd()]).unwrap();
        ours.send_order(&Order::Signal { id: 7, signal: 15, group: false }, &[]).unwrap();
        assert!(theirs.fill().unwrap());
        let (order, descriptors) = theirs.next_order().unwrap();
        assert_eq!((order, descriptors.len()), (Order::Spawn(spawn), 3));
        while theirs.next_length().is_none() {
            theirs.fill().unwrap();
        }
        assert_eq!(theirs.next_order().unwrap().0, Order::Signal { id: 7, signal: 15, group: false });
        drop(ours);
        assert!(!theirs.fill().unwrap());
    }

    proptest! {
        #[test]
        fn no_bytes_from_a_container_hurt_the_keeper(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (ours, mut theirs) = pair();
            rustix::io::write(&ours.socket, &bytes).unwrap();
            drop(ours);
            while let Ok(true) = theirs.fill() {
                while theirs.next_report().is_some() {}
            }
            read_order(&bytes);
        }
    }
}
