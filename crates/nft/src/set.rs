//! What a set is: the types of its key, and what its elements may have.

use crate::attributes::Writer;

/// Type of a part of a key. The numbers are `nft`'s, so that it prints the sets readably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// An interface's name.
    Interface,
    /// A MAC address.
    Mac,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A port.
    Port,
    /// Two bytes in the machine's order that are a value: a zone of connection tracking.
    Short,
    /// A VLAN in the order of the network, as a frame has it.
    Vlan,
    /// A VLAN in the machine's order, as a bridge's port has it.
    PortVlan,
}

impl DataType {
    fn number(self) -> u32 {
        match self {
            // `integer`, which has no length of its own: where it is a part of a key, `nft` 1.1 ends at a failed assertion.
            Self::Short => 4,
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Mac => 9,
            // There is no type for a VLAN alone. A service's and a link kind's are numbers of two bytes, in these orders.
            Self::Port | Self::Vlan => 13,
            Self::PortVlan => 21,
            Self::Interface => 41,
        }
    }

    /// Bytes of a value.
    fn length(self) -> u32 {
        match self {
            Self::Port | Self::Short | Self::Vlan | Self::PortVlan => 2,
            Self::Ipv4 => 4,
            Self::Mac => 6,
            Self::Ipv6 | Self::Interface => 16,
        }
    }
}

/// A set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSpec {
    /// Its name.
    pub name: String,
    /// Parts of its key.
    pub key: Vec<DataType>,
    /// Its elements may be ranges: [`crate::Element::range`] for keys of several parts, [`crate::Element::span`] for those of one.
    pub intervals: bool,
    /// Its elements may end by time.
    pub timeouts: bool,
    /// Its elements have verdicts.
    pub verdicts: bool,
    /// Its elements have values of this type.
    pub values: Option<DataType>,
    /// Its elements may count.
    pub counters: bool,
    /// Each of its elements is found at most so many times a second; more is as if it was not there.
    pub rate: Option<u32>,
}

impl SetSpec {
    /// One of plain keys.
    pub fn new(name: &str, key: &[DataType]) -> Self {
        Self {
            name: name.to_owned(),
            key: key.to_vec(),
            intervals: false,
            timeouts: false,
            verdicts: false,
            values: None,
            counters: false,
            rate: None,
        }
    }

    /// With ranges.
    #[must_use]
    pub fn intervals(mut self) -> Self {
        self.intervals = true;
        self
    }

    /// With times.
    #[must_use]
    pub fn timeouts(mut self) -> Self {
        self.timeouts = true;
        self
    }

    /// With verdicts.
    #[must_use]
    pub fn verdicts(mut self) -> Self {
        self.verdicts = true;
        self
    }

    /// With values.
    #[must_use]
    pub fn values(mut self, data: DataType) -> Self {
        self.values = Some(data);
        self
    }

    /// With counters.
    #[must_use]
    pub fn counters(mut self) -> Self {
        self.counters = true;
        self
    }

    /// Whose elements are found at most so many times a second each. Not together with counters.
    #[must_use]
    pub fn at_most(mut self, rate: u32) -> Self {
        self.rate = Some(rate);
        self
    }

    pub(crate) fn write(&self, w: &mut Writer, id: u32) {
        const INTERVAL: u32 = 0x4;
        const MAP: u32 = 0x8;
        const TIMEOUT: u32 = 0x10;
        const CONCAT: u32 = 0x80;
        /// `NFT_DATA_VERDICT`.
        const VERDICT: u32 = 0xffff_ff00;
        let joined = self.key.len() > 1;
        let mut flags = 0;
        let map = self.verdicts || self.values.is_some();
        for (flag, set) in [(INTERVAL, self.intervals), (MAP, map), (TIMEOUT, self.timeouts), (CONCAT, self.intervals && joined)] {
            flags |= if set { flag } else { 0 };
        }
        w.text(2, &self.name);
        w.number(3, flags);
        w.number(4, self.key.iter().fold(0, |all, part| all << 6 | part.number()));
        w.number(5, self.key.iter().map(|part| if joined { part.length().next_multiple_of(4) } else { part.length() }).sum());
        if self.verdicts {
            w.number(6, VERDICT);
            w.number(7, 0);
        } else if let Some(data) = self.values {
            w.number(6, data.number());
            w.number(7, data.length());
        }
        if joined && self.intervals {
            w.nested(9, |w| {
                w.nested(2, |w| {
                    for part in &self.key {
                        w.nested(1, |w| w.number(1, part.length()));
                    }
                });
            });
        }
        w.number(10, id);
        // Names of interfaces are in the machine's byte order for `nft`, which prints nothing without this.
        if self.key.first() == Some(&DataType::Interface) {
            w.bytes(13, &[0, 4, 1, 0, 0, 0]);
        }
        if self.counters {
            w.nested(17, |w| crate::Expression::Count.write_content(w));
        } else if let Some(rate) = self.rate {
            w.nested(17, |w| crate::Expression::AtMost(rate).write_content(w));
        }
    }
}
