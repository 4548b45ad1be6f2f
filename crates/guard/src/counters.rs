//! What the guard dropped, for operators (ruling 34).

use triton_nft::Counter;

use crate::table::Reason;

/// Frames of one NIC that were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Sent with the MAC address of another.
    pub mac: Counter,
    /// Neither ARP nor IPv4 nor IPv6, tagged, or with headers that hide what follows.
    pub restricted: Counter,
    /// Sent from, or speaking for, an address of another.
    pub address: Counter,
    /// Answers of a DHCP server, or questions on behalf of another.
    pub dhcp: Counter,
    /// To a blocked TCP port.
    pub port: Counter,
    /// To the node itself.
    pub host: Counter,
}

impl Drops {
    /// Each with its name, as `vmadm info` and metrics show them.
    pub fn named(&self) -> [(&'static str, Counter); 6] {
        [
            ("macspoofed", self.mac),
            ("restricted", self.restricted),
            ("ipspoofed", self.address),
            ("dhcpspoofed", self.dhcp),
            ("blockedport", self.port),
            ("tohost", self.host),
        ]
    }

    pub(crate) fn set(&mut self, reason: Reason, counter: Counter) {
        let place = match reason {
            Reason::Mac => &mut self.mac,
            Reason::Restricted => &mut self.restricted,
            Reason::Address => &mut self.address,
            Reason::Dhcp => &mut self.dhcp,
            Reason::Port => &mut self.port,
            Reason::Host => &mut self.host,
        };
        *place = counter;
    }
}
