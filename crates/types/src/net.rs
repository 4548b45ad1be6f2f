//! Link-layer addresses, NIC tags and the addresses a NIC may have.

use std::{fmt, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text that is not the network word it was used as; the message says what was wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct NetError {
    what: &'static str,
    text: String,
}

impl NetError {
    fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.chars().take(64).collect() }
    }
}

/// An Ethernet address. Read with or without leading zeros (`2:8:20:0:0:1`), printed in lower case with them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        let error = || NetError::new("a MAC address (six hex octets with colons)", text);
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(error)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(octets)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A NIC tag: letters, digits and underscores, at most 31, optionally `<overlay>/<number>` for fabrics.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NicTag(String);

impl NicTag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NicTag {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        let name = text.split('/').next().unwrap_or_default();
        let legal = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'/');
        if legal && !name.is_empty() && name.len() <= 31 && text.len() <= 42 {
            Ok(Self(text.to_owned()))
        } else {
            Err(NetError::new("a NIC tag (letters, digits and '_', at most 31)", text))
        }
    }
}

impl fmt::Display for NicTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NicTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One element of a NIC's `ips` (instances.md section 2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NicAddress {
    /// `dhcp`: the guest asks for an IPv4 address.
    Dhcp,
    /// `addrconf`: the guest takes IPv6 addresses from router advertisements.
    Addrconf,
    /// An address with its prefix length: IPv4 /8 to /32, IPv6 /0 to /128.
    Static(IpNet),
}

impl NicAddress {
    /// The address, unless it is configured by the guest.
    pub fn net(&self) -> Option<IpNet> {
        match self {
            Self::Static(net) => Some(*net),
            Self::Dhcp | Self::Addrconf => None,
        }
    }
}

impl FromStr for NicAddress {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        let wanted = "dhcp, addrconf, or an address with a prefix length (IPv4 8-32, IPv6 0-128)";
        match text {
            "dhcp" => Ok(Self::Dhcp),
            "addrconf" => Ok(Self::Addrconf),
            _ => match text.parse::<IpNet>() {
                Ok(IpNet::V4(net)) if net.prefix_len() < 8 => Err(NetError::new(wanted, text)),
                Ok(net) => Ok(Self::Static(net)),
                Err(_) => Err(NetError::new(wanted, text)),
            },
        }
    }
}

impl fmt::Display for NicAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dhcp => f.write_str("dhcp"),
            Self::Addrconf => f.write_str("addrconf"),
            Self::Static(net) => write!(f, "{}/{}", net.addr(), net.prefix_len()),
        }
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
as_text!(Mac, NicTag, NicAddress);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_without_leading_zeros_is_the_same_mac() {
        assert_eq!("1:2:3:4:5:6".parse::<Mac>().unwrap().to_string(), "01:02:03:04:05:06");
        for bad in ["", "1:2:3:4:5", "1:2:3:4:5:6:7", "1:2:3:4:5:g", "001:2:3:4:5:6", "1:2:3:4:5:+6"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_keep_their_host_part() {
        let address: NicAddress = "10.254.254.254/24".parse().unwrap();
        assert_eq!(address.to_string(), "10.254.254.254/24");
        assert!("10.0.0.1/7".parse::<NicAddress>().is_err());
        assert!("10.0.0.1".parse::<NicAddress>().is_err());
        assert!("fd00::1/64".parse::<NicAddress>().is_ok());
    }

    #[test]
    fn tags_are_words() {
        assert!("sdc_overlay/1234".parse::<NicTag>().is_ok());
        for bad in ["", "eth0:1", "ens3.100", "a-b", "/7", &"x".repeat(32)] {
            assert!(bad.parse::<NicTag>().is_err(), "{bad}");
        }
    }
}
