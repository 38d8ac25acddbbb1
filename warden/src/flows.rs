//! Connections that the kernel translates, ended through netlink: once a port leads elsewhere, what was opened before must neither
//! go on into the void nor, when the address is given out again, into somebody else's container.

use crate::nft::put;
use netlink_packet_core::{DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP, NetlinkBuffer, NlasIterator};
use netlink_packet_netfilter::{NetfilterProtoFamily, conntrack::ConntrackMessage};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use std::{io, net::Ipv4Addr};

/// `NLMSG_ERROR`, `NLMSG_DONE`
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The header of a netlink message, and that of netfilter behind it.
const HEADERS: usize = 16 + 4;
/// `IPCTNL_MSG_CT_GET`, `IPCTNL_MSG_CT_DELETE`
const GET: u8 = 1;
const DELETE: u8 = 2;
/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`, `CTA_ID`, `CTA_FILTER`
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const FILTER: u16 = 25;
/// `CTA_TUPLE_IP` and `CTA_IP_V4_SRC` within
const ADDRESSES: u16 = 1;
const SOURCE: u16 = 1;
/// `CTA_FILTER_ORIG_FLAGS`, `CTA_FILTER_REPLY_FLAGS` within the filter; bit 0 is the source address.
const ORIGINAL_FLAGS: u16 = 1;
const REPLY_FLAGS: u16 = 2;
const NESTED: u16 = 0x8000;

/// Forgets every connection that is answered from this address: its next packet is judged as that of a new one.
///
/// # Errors
/// Those of the kernel.
pub(crate) async fn forget(answering: Ipv4Addr) -> io::Result<()> {
    tokio::task::spawn_blocking(move || exchange(answering)).await.map_err(io::Error::other)?
}

fn exchange(answering: Ipv4Addr) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    for (original, id) in list(&socket, answering)? {
        // With its number: not a later one with the same addresses and ports.
        let attributes = vec![DefaultNla::new(ORIGINAL | NESTED, original), DefaultNla::new(ID, id)];
        send(&socket, NLM_F_ACK, DELETE, attributes)?;
        let (answer, _) = socket.recv_from_full()?;
        match refusal(answer.get(16..).unwrap_or_default()) {
            Some(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {} // it has ended by itself, or now
        }
    }
    Ok(())
}

/// Who opened each of them, and the kernel's number for it; both as the kernel writes them.
fn list(socket: &Socket, answering: Ipv4Addr) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let source = DefaultNla::new(SOURCE, answering.octets().to_vec());
    // The kernel picks them out itself since Linux 5.8; before, it tells all of them.
    let flags = |direction, bits: u32| DefaultNla::new(direction, bits.to_ne_bytes().to_vec());
    let filter = nested(FILTER, &[flags(ORIGINAL_FLAGS, 0), flags(REPLY_FLAGS, 1)]);
    send(socket, NLM_F_DUMP, GET, vec![nested(REPLY, &[nested(ADDRESSES, &[source])]), filter])?;
    let mut found = vec![];
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let packet = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
            let length = (packet.length() as usize).max(16);
            match packet.message_type() {
                DONE => return Ok(found),
                ERROR => return refusal(packet.payload()).map_or(Ok(found), Err),
                _ => found.extend(read(rest.get(HEADERS..length).unwrap_or_default(), answering)),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn send(socket: &Socket, flags: u16, message_type: u8, attributes: Vec<DefaultNla>) -> io::Result<()> {
    let mut message = vec![];
    put(&mut message, flags, NetfilterProtoFamily::IPv4, 0, ConntrackMessage::Other { message_type, attributes }.into());
    socket.send(&message, 0).map(drop)
}

fn nested(kind: u16, children: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; children.buffer_len()];
    children.emit(&mut value);
    DefaultNla::new(kind | NESTED, value)
}

fn read(attributes: &[u8], answering: Ipv4Addr) -> Option<(Vec<u8>, Vec<u8>)> {
    let source = child(child(child(attributes, REPLY)?, ADDRESSES)?, SOURCE)?;
    if source != answering.octets() {
        return None;
    }
    Some((child(attributes, ORIGINAL)?.to_vec(), child(attributes, ID)?.to_vec()))
}

/// The value of the first attribute of a kind.
fn child(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes).find_map(|nla| nla.ok().filter(|nla| nla.kind() == kind))?;
    let end = usize::from(found.length());
    found.into_inner().get(4..end)
}

/// What an acknowledgement says, if it is none.
fn refusal(payload: &[u8]) -> Option<io::Error> {
    let code = i32::from_ne_bytes(payload.get(..4)?.try_into().ok()?);
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}
