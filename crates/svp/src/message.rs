//! The messages.

use std::net::IpAddr;

use triton_types::Mac;

/// The number of an overlay network: 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vnet(u32);

impl Vnet {
    /// The highest number.
    pub const LAST: u32 = 0x00ff_ffff;

    /// The network with this number; none above [`Vnet::LAST`].
    pub fn new(number: u32) -> Option<Self> {
        (number <= Self::LAST).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for Vnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of an entry of the log: a UUID's bytes.
pub type LogId = [u8; 16];

/// Where a node takes encapsulated frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Underlay {
    /// Its address. An IPv4 address is never in its IPv6 form here.
    pub ip: IpAddr,
    /// Its UDP port.
    pub port: u16,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was done.
    Ok,
    /// The connection is of no use any more.
    Fatal,
    /// There is no such address.
    NotFound,
    /// The kind of IP address was not understood.
    BadL3Type,
    /// The kind of list was not understood.
    BadBulk,
    /// Another number.
    Other(u32),
}

impl Status {
    pub(crate) fn of(number: u32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::Fatal,
            2 => Self::NotFound,
            3 => Self::BadL3Type,
            4 => Self::BadBulk,
            other => Self::Other(other),
        }
    }

    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::Fatal => 1,
            Self::NotFound => 2,
            Self::BadL3Type => 3,
            Self::BadBulk => 4,
            Self::Other(number) => number,
        }
    }
}

/// Something that was changed: what is known of it counts no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEntry {
    /// Where a MAC address is.
    Vl2 {
        /// The entry.
        id: LogId,
        /// The network.
        vnet: Vnet,
        /// The address.
        mac: Mac,
    },
    /// Whose an IP address is.
    Vl3 {
        /// The entry.
        id: LogId,
        /// The network.
        vnet: Vnet,
        /// The VLAN within it; 0: untagged.
        vlan: u16,
        /// The address.
        ip: IpAddr,
    },
}

impl LogEntry {
    /// The entry's identity.
    pub fn id(&self) -> LogId {
        match self {
            Self::Vl2 { id, .. } | Self::Vl3 { id, .. } => *id,
        }
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Is somebody there?
    Ping,
    /// Yes.
    Pong,
    /// Which node carries this MAC address?
    Vl2Request {
        /// The network.
        vnet: Vnet,
        /// The address.
        mac: Mac,
    },
    /// This one.
    Vl2Ack {
        /// Anything but [`Status::Ok`]: the rest means nothing.
        status: Status,
        /// The node.
        at: Underlay,
    },
    /// Whose is this IP address?
    Vl3Request {
        /// The network.
        vnet: Vnet,
        /// The address.
        ip: IpAddr,
    },
    /// This MAC address's, and this node carries it.
    Vl3Ack {
        /// Anything but [`Status::Ok`]: the rest means nothing.
        status: Status,
        /// The address.
        mac: Mac,
        /// The node.
        at: Underlay,
    },
    /// All addresses of one kind, please. Portolan never answered one.
    BulkRequest {
        /// 1: MAC addresses, 2: IP addresses.
        kind: u32,
    },
    /// Their form was never defined.
    BulkAck {
        /// How it ended.
        status: Status,
        /// As in the request.
        kind: u32,
        /// The list.
        data: Vec<u8>,
    },
    /// What was changed?
    LogRequest {
        /// Bytes of entries that the answer may have.
        most: u32,
        /// The underlay address of the node that asks: each has a log of its own.
        ip: IpAddr,
    },
    /// This.
    LogAck {
        /// How it ended.
        status: Status,
        /// The entries.
        entries: Vec<LogEntry>,
    },
    /// These entries were followed.
    LogRemove {
        /// Their identities.
        ids: Vec<LogId>,
    },
    /// They are forgotten.
    LogRemoveAck {
        /// How it ended.
        status: Status,
    },
    /// From one node to another: a frame for this address came to the wrong node. There is no answer.
    Shootdown {
        /// The network.
        vnet: Vnet,
        /// The address.
        mac: Mac,
    },
}

impl Body {
    /// The number of the operation.
    pub fn operation(&self) -> u16 {
        match self {
            Self::Ping => 1,
            Self::Pong => 2,
            Self::Vl2Request { .. } => 3,
            Self::Vl2Ack { .. } => 4,
            Self::Vl3Request { .. } => 5,
            Self::Vl3Ack { .. } => 6,
            Self::BulkRequest { .. } => 7,
            Self::BulkAck { .. } => 8,
            Self::LogRequest { .. } => 9,
            Self::LogAck { .. } => 10,
            Self::LogRemove { .. } => 11,
            Self::LogRemoveAck { .. } => 12,
            Self::Shootdown { .. } => 13,
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// An answer has that of its request.
    pub id: u32,
    /// What it says.
    pub body: Body,
}
