//! One link, as the kernel describes it.

use netlink_packet_core::{DecodeError, NlasIterator};

use crate::wire::read_u32;

/// What kind of device a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A device of a driver: network card, virtio.
    Physical,
    /// `lo`.
    Loopback,
    /// A bridge.
    Bridge,
    /// One end of a pair.
    Veth,
    /// A VLAN of another link.
    Vlan,
    /// Another kind, in the kernel's word.
    Other(String),
}

/// Counters since the link was made. Received and sent as the link sees it: at a guest's host end the guest's view is
/// the other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Bad packets received.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Received packets thrown away.
    pub rx_dropped: u64,
    /// Packets thrown away instead of sent.
    pub tx_dropped: u64,
    /// Multicast packets received.
    pub multicast: u64,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Its MAC address, if it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// The MAC address burnt into the device, if it has one.
    pub permanent_mac: Option<[u8; 6]>,
    /// Bytes.
    pub mtu: u32,
    /// Brought up by an administrator.
    pub up: bool,
    /// The other side is there (for a bridge: of at least one port).
    pub carrier: bool,
    /// The bridge (or bond) that it is a port of.
    pub master: Option<u32>,
    /// Its number among the ports of its bridge; the kernel gives the lowest that is free, from 1.
    pub port_number: Option<u16>,
    /// The link below (of a VLAN), or the other end of a veth, in whatever namespace it is.
    pub parent: Option<u32>,
    /// `ifalias`.
    pub alias: Option<String>,
    /// The VLAN, for [`LinkKind::Vlan`].
    pub vlan_id: Option<u16>,
    /// Whether a bridge filters VLANs; none where the kernel's bridges cannot.
    pub vlan_filtering: Option<bool>,
    /// Its counters, if they were asked for.
    pub stats: Option<LinkStats>,
}

/// `struct ifinfomsg`.
const HEADER: usize = 16;
const ADDRESS: u16 = 1;
const IFNAME: u16 = 3;
const MTU: u16 = 4;
const LINK: u16 = 5;
const MASTER: u16 = 10;
const LINKINFO: u16 = 18;
const IFALIAS: u16 = 20;
const STATS64: u16 = 23;
const CARRIER: u16 = 33;
const PERM_ADDRESS: u16 = 54;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const BRPORT_NO: u16 = 18;
const VLAN_ID: u16 = 1;
const BR_VLAN_FILTERING: u16 = 7;
/// `IFLA_BR_VLAN_PROTOCOL`: only kernels that can filter have it, the switch for filtering every bridge has.
const BR_VLAN_PROTOCOL: u16 = 8;

impl Link {
    /// Reads the payload of a link message. Only what [`Link`] shows is read: unknown and odd attributes of other kinds
    /// of links cannot make a list fail.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, DecodeError> {
        let header = payload.get(..HEADER).ok_or_else(|| DecodeError::from("a link message is cut short"))?;
        let flags = read_u32(&header[8..]).cast_signed();
        let kind = match u16::from_ne_bytes([header[2], header[3]]) {
            libc::ARPHRD_LOOPBACK => LinkKind::Loopback,
            _ => LinkKind::Physical,
        };
        let mut link = Self {
            index: read_u32(&header[4..]),
            name: String::new(),
            kind,
            mac: None,
            permanent_mac: None,
            mtu: 0,
            up: flags & libc::IFF_UP != 0,
            carrier: flags & libc::IFF_LOWER_UP != 0,
            master: None,
            port_number: None,
            parent: None,
            alias: None,
            vlan_id: None,
            vlan_filtering: None,
            stats: None,
        };
        for attribute in NlasIterator::new(&payload[HEADER..]) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                ADDRESS => link.mac = value.try_into().ok(),
                PERM_ADDRESS => link.permanent_mac = value.try_into().ok(),
                IFNAME => link.name = text(value),
                MTU => link.mtu = read_u32(value),
                LINK => link.parent = Some(read_u32(value)),
                MASTER => link.master = Some(read_u32(value)),
                IFALIAS => link.alias = Some(text(value)),
                CARRIER => link.carrier = value.first().is_some_and(|carrier| *carrier != 0),
                STATS64 => link.stats = Some(LinkStats::parse(value)),
                LINKINFO => link.parse_info(value)?,
                _ => {}
            }
        }
        Ok(link)
    }

    fn parse_info(&mut self, info: &[u8]) -> Result<(), DecodeError> {
        let mut bridge_port = false;
        for attribute in NlasIterator::new(info) {
            let attribute = attribute?;
            match (attribute.kind(), &self.kind) {
                (INFO_KIND, _) => {
                    self.kind = match text(attribute.value()).as_str() {
                        "bridge" => LinkKind::Bridge,
                        "veth" => LinkKind::Veth,
                        "vlan" => LinkKind::Vlan,
                        other => LinkKind::Other(other.to_owned()),
                    }
                }
                (INFO_DATA, LinkKind::Vlan) => {
                    let id = find(attribute.value(), VLAN_ID)?;
                    self.vlan_id = id.and_then(|id| id.first_chunk().map(|id| u16::from_ne_bytes(*id)));
                }
                (INFO_DATA, LinkKind::Bridge) => {
                    let known = find(attribute.value(), BR_VLAN_PROTOCOL)?;
                    let filtering = find(attribute.value(), BR_VLAN_FILTERING)?.filter(|_| known.is_some());
                    self.vlan_filtering = filtering.and_then(|value| value.first().map(|on| *on != 0));
                }
                (INFO_SLAVE_KIND, _) => bridge_port = text(attribute.value()) == "bridge",
                (INFO_SLAVE_DATA, _) if bridge_port => {
                    let number = find(attribute.value(), BRPORT_NO)?;
                    self.port_number = number.and_then(|number| number.first_chunk().map(|number| u16::from_ne_bytes(*number)));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl LinkStats {
    fn parse(value: &[u8]) -> Self {
        let number = |at: usize| value.get(at * 8..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        Self {
            rx_packets: number(0),
            tx_packets: number(1),
            rx_bytes: number(2),
            tx_bytes: number(3),
            rx_errors: number(4),
            tx_errors: number(5),
            rx_dropped: number(6),
            tx_dropped: number(7),
            multicast: number(8),
        }
    }
}

fn find(attributes: &[u8], kind: u16) -> Result<Option<Vec<u8>>, DecodeError> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if attribute.kind() == kind {
            return Ok(Some(attribute.value().to_vec()));
        }
    }
    Ok(None)
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_message_that_is_cut_short_is_an_error_and_never_a_panic() {
        let mut message = vec![0u8; HEADER];
        message.extend([8, 0, 4, 0, 0xdc, 5, 0, 0]);
        let name = [9u8, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0];
        message.extend(name);
        let link = Link::parse(&message).unwrap();
        assert_eq!((link.mtu, link.name.as_str()), (1500, "eth0"));
        for length in 0..message.len() {
            let _ = Link::parse(&message[..length]);
        }
        assert!(Link::parse(&message[..HEADER - 1]).is_err());
        assert!(Link::parse(&message[..HEADER + 6]).is_err());
    }
}
