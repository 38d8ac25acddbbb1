//! Elements of nftables' sets and maps, put in and taken out through netlink: starting `nft` for a container costs more than the
//! rest of its network. The rules themselves are loaded as text, once.

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList, SetElementMessage},
    none::ControlMessage,
};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use std::{io, net::Ipv4Addr};
use warden_client::{Endpoint, Protocol};

/// `NFNL_SUBSYS_NFTABLES`: what a batch is for.
const NFTABLES: u16 = 10;

/// One element, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    set: &'static str,
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    data: Option<Vec<u8>>,
}

/// Fields of concatenated types are as long as registers are: 4 bytes.
fn port_field(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

impl Element {
    /// In a map of type `inet_service : ipv4_addr . inet_service`.
    pub(crate) fn lead(set: &'static str, port: u16, target: (Ipv4Addr, u16)) -> Self {
        let data = [target.0.octets(), port_field(target.1)].concat();
        Self { set, key: port.to_be_bytes().to_vec(), key_end: None, data: Some(data) }
    }

    /// In an interval set of type `ipv4_addr . ipv4_addr . inet_proto . inet_service`.
    pub(crate) fn way(set: &'static str, from: Ipv4Addr, to: &Endpoint) -> Self {
        let key = |port| [from.octets(), to.address.octets(), [number(to.protocol), 0, 0, 0], port_field(port)].concat();
        Self { set, key: key(to.ports.first), key_end: Some(key(to.ports.last)), data: None }
    }

    fn attributes(&self) -> Vec<SetElementAttribute> {
        let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(self.key.clone()))];
        if let Some(end) = &self.key_end {
            let value = DataAttribute::Value(end.clone());
            attributes.push(SetElementAttribute::KeyEnd(vec![plain(&value)]));
        }
        if let Some(data) = &self.data {
            attributes.push(SetElementAttribute::Data(DataAttribute::Value(data.clone())));
        }
        attributes
    }
}

fn plain(value: &DataAttribute) -> netlink_packet_core::DefaultNla {
    use netlink_packet_core::Nla;
    let mut bytes = vec![0; value.value_len()];
    value.emit_value(&mut bytes);
    netlink_packet_core::DefaultNla::new(value.kind(), bytes)
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// What to do with elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Delete,
}

/// Carries out all changes or none.
///
/// # Errors
/// Those of the kernel; `NotFound` if one element that should go is not there.
pub(crate) async fn change(table: &str, changes: Vec<(Verb, Element)>) -> io::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let table = table.to_owned();
    // The kernel may wait for another who loads rules.
    tokio::task::spawn_blocking(move || exchange(&table, &changes)).await.map_err(io::Error::other)?
}

fn exchange(table: &str, changes: &[(Verb, Element)]) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    let mut batch = vec![];
    put(&mut batch, 0, NetfilterProtoFamily::Unspec, NFTABLES, ControlMessage::BatchBegin.into());
    for (verb, element) in changes {
        let flags = NLM_F_ACK | if *verb == Verb::Add { NLM_F_CREATE } else { 0 };
        put(&mut batch, flags, NetfilterProtoFamily::Inet, 0, message(table, *verb, element).into());
    }
    put(&mut batch, 0, NetfilterProtoFamily::Unspec, NFTABLES, ControlMessage::BatchEnd.into());
    socket.send(&batch, 0)?;
    // One answer for each element, or one that says why nothing was done.
    let mut expected = changes.len();
    while expected > 0 {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let packet = NetlinkMessage::<NetfilterMessage>::deserialize(rest).map_err(io::Error::other)?;
            if let NetlinkPayload::Error(error) = &packet.payload {
                if error.code.is_some() {
                    return Err(error.to_io());
                }
                expected = expected.saturating_sub(1);
            }
            let length = (packet.header.length as usize).max(16).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    Ok(())
}

fn message(table: &str, verb: Verb, element: &Element) -> NfTablesMessage {
    let attributes = vec![
        SetElementList::Table(table.to_owned()),
        SetElementList::Set(element.set.to_owned()),
        SetElementList::Elements(vec![ListAttribute::Element(element.attributes())]),
    ];
    let message = SetElementMessage { attributes };
    match verb {
        Verb::Add => NfTablesMessage::NewSetElement(message),
        Verb::Delete => NfTablesMessage::DeleteSetElement(message),
    }
}

/// Appends one message.
pub(crate) fn put(batch: &mut Vec<u8>, flags: u16, family: NetfilterProtoFamily, resource: u16, inner: NetfilterMessageInner) {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, resource), inner);
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
    packet.finalize();
    let start = batch.len();
    batch.resize((start + packet.buffer_len()).next_multiple_of(4), 0);
    packet.serialize(&mut batch[start..start + packet.buffer_len()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use warden_client::PortRange;

    #[test]
    fn a_way_covers_all_its_ports_in_one_element() {
        let to = Endpoint {
            address: Ipv4Addr::new(10, 0, 0, 1),
            protocol: Protocol::Tcp,
            ports: PortRange { first: 5432, last: 5440 },
        };
        let way = Element::way("egress", Ipv4Addr::new(10, 0, 0, 9), &to);
        assert_eq!(way.key, [10, 0, 0, 9, 10, 0, 0, 1, 6, 0, 0, 0, 0x15, 0x38, 0, 0]);
        assert_eq!(way.key_end.unwrap(), [10, 0, 0, 9, 10, 0, 0, 1, 6, 0, 0, 0, 0x15, 0x40, 0, 0]);
    }
}
