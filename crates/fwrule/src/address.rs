//! Addresses and subnets of a rule. Their text is kept as it was written: the normal form compares and prints text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::{RuleError, quoted};

/// `ip A`: one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    text: String,
    ip: IpAddr,
}

impl Address {
    /// Reads an address of the language.
    ///
    /// # Errors
    ///
    /// Upstream's message for a text that is no address, for `0.0.0.0` and for `255.255.255.255`.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let ip = literal(text).filter(|ip| *ip != Ipv4Addr::UNSPECIFIED && *ip != Ipv4Addr::BROADCAST);
        let family = if text.contains(':') { "IPv6" } else { "IPv4" };
        let ip = ip.ok_or_else(|| RuleError::text(format!("{family} address \"{}\" is invalid", quoted(text))))?;
        Ok(Self { text: text.to_owned(), ip })
    }

    /// The address as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }
}

/// `subnet A/P`. Host bits may be set; [`Subnet::net`] has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    text: String,
    net: IpNet,
}

impl Subnet {
    /// Reads a subnet of the language: an address, and a suffix that begins with `/`.
    ///
    /// # Errors
    ///
    /// Upstream's message for its address, its prefix length and, when `mask` is set, for host bits.
    pub fn parse(address: &str, suffix: &str, mask: bool) -> Result<Self, RuleError> {
        let text = format!("{address}{suffix}");
        let invalid = |what: &str| RuleError::text(format!("Subnet \"{}\" is invalid ({what})", quoted(&text)));
        let ip = literal(address).or_else(|| padded(address)).ok_or_else(|| invalid("bad address component"))?;
        let length: u16 = suffix.trim_start_matches('/').parse().map_err(|_| invalid("bad prefix length"))?;
        let net = u8::try_from(length).ok().and_then(|length| IpNet::new(ip, length).ok()).ok_or_else(|| invalid("bad prefix length"))?;
        if mask && net.trunc().addr() != ip {
            return Err(invalid("bits set to right of mask"));
        }
        Ok(Self { text, net: net.trunc() })
    }

    /// The subnet as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether upstream takes its address for one of IPv4, or of IPv6: for neither when it is padded.
    pub(crate) fn is_of(&self, v4: bool) -> bool {
        let address = self.text.split('/').next().unwrap_or_default();
        literal(address).is_some_and(|ip| ip.is_ipv4() == v4)
    }

    /// The subnet, host bits cleared.
    pub fn net(&self) -> IpNet {
        self.net
    }
}

/// An address as the language has it. An octet with a leading zero is refused: some read it as octal.
fn literal(text: &str) -> Option<IpAddr> {
    if text.contains(':') { text.parse::<Ipv6Addr>().ok().map(IpAddr::V6) } else { text.parse::<Ipv4Addr>().ok().map(IpAddr::V4) }
}

/// An IPv6 address with more zeros than its groups have room for: FWAPI accepts it in a subnet, and it can be read one way only.
fn padded(text: &str) -> Option<IpAddr> {
    let short = |group: &str| match group.trim_start_matches('0') {
        "" if !group.is_empty() => "0".to_owned(),
        digits => digits.to_owned(),
    };
    text.contains(':').then(|| text.split(':').map(short).collect::<Vec<_>>().join(":").parse::<Ipv6Addr>().ok().map(IpAddr::V6))?
}
