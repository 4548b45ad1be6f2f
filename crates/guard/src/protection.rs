//! What one NIC may send, derived from its properties (net-agent.md sections 14 and 15). Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use ipnet::IpNet;
use triton_types::{Mac, Nic, NicAddress};

/// What one NIC may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Host end of its link.
    pub link: String,
    /// Its MAC address, the only source of its frames.
    pub mac: Mac,
    /// Frames of other MAC addresses, too.
    pub any_mac: bool,
    /// Frames other than ARP, IPv4 and IPv6, too.
    pub any_type: bool,
    /// Packets from any address. A DHCP server answers for addresses of others, so it may, too (net-agent.md section 15).
    pub any_address: bool,
    /// Answers of DHCP servers and router advertisements.
    pub dhcp_server: bool,
    /// Addresses that it may send from.
    pub addresses: BTreeSet<IpAddr>,
    /// Networks that it may send from; none of them is a single address.
    pub networks: BTreeSet<IpNet>,
    /// TCP ports that it may not reach.
    pub blocked_ports: BTreeSet<u16>,
    /// It may send from the IPv4 addresses that DHCP servers give it.
    pub dhcp: bool,
    /// It may send from the IPv6 addresses that it makes from router advertisements, or that DHCP servers give it.
    pub addrconf: bool,
    /// The only client identifiers with which it is given addresses, beside that of its MAC address; empty: any (ruling 23).
    pub client_ids: BTreeSet<Vec<u8>>,
}

/// The link-local address that a MAC address makes (EUI-64).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The bytes of `0x...`. Of an odd number of digits the first is a byte alone.
fn client_id(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let padded = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
    (0..padded.len()).step_by(2).map(|at| u8::from_str_radix(padded.get(at..at + 2)?, 16).ok()).collect()
}

impl Protection {
    /// True if it is given addresses of this kind on the wire.
    pub fn learns(&self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.dhcp } else { self.addrconf }
    }

    /// That of `nic`, whose link has the host end `link`.
    pub fn of(nic: &Nic, link: impl Into<String>) -> Self {
        let mut protection = Self {
            link: link.into(),
            mac: nic.mac,
            any_mac: nic.allow_mac_spoofing,
            any_type: nic.allow_restricted_traffic,
            any_address: nic.allow_ip_spoofing || nic.allow_dhcp_spoofing,
            dhcp_server: nic.allow_dhcp_spoofing,
            addresses: BTreeSet::from([IpAddr::V6(link_local(nic.mac))]),
            networks: BTreeSet::new(),
            blocked_ports: nic.blocked_outgoing_ports.iter().copied().collect(),
            dhcp: nic.ips.contains(&NicAddress::Dhcp),
            addrconf: nic.ips.contains(&NicAddress::Addrconf),
            client_ids: nic.allowed_dhcp_cids.iter().filter_map(|text| client_id(text)).collect(),
        };
        protection.addresses.extend(nic.ips.iter().filter_map(NicAddress::net).map(|net| net.addr()));
        protection.addresses.extend(nic.vrrp_primary_ip);
        for allowed in &nic.allowed_ips {
            // Whatever is no address was refused when the NIC was made; it allows nothing.
            match (allowed.parse::<IpAddr>(), allowed.parse::<IpNet>()) {
                (Ok(address), _) => drop(protection.addresses.insert(address)),
                (_, Ok(net)) if net.prefix_len() == net.max_prefix_len() => drop(protection.addresses.insert(net.addr())),
                (_, Ok(net)) => drop(protection.networks.insert(net.trunc())),
                _ => {}
            }
        }
        protection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic() -> Nic {
        Nic::new("net0", Mac([0x90, 0xb8, 0xd0, 1, 2, 3]), "external".parse().unwrap())
    }

    /// net-agent case 64, 66, 80
    #[test]
    fn addresses_are_those_of_the_nic_those_allowed_and_the_link_local_one_of_its_mac() {
        let mut nic = nic();
        assert_eq!(Protection::of(&nic, "vt0").addresses, BTreeSet::from(["fe80::92b8:d0ff:fe01:203".parse().unwrap()]));
        nic.ips = ["10.0.0.5/24", "fd00::5/64", "dhcp", "addrconf"].map(|ip| ip.parse().unwrap()).to_vec();
        nic.allowed_ips = ["10.1.0.7/16", "10.2.0.1", "10.3.0.1/32", "fd01::/64", "nonsense"].map(str::to_owned).to_vec();
        nic.vrrp_primary_ip = Some("10.0.0.6".parse().unwrap());
        let protection = Protection::of(&nic, "vt0");
        let expected = ["10.0.0.5", "10.0.0.6", "10.2.0.1", "10.3.0.1", "fd00::5", "fe80::92b8:d0ff:fe01:203"];
        assert_eq!(protection.addresses, expected.map(|address| address.parse().unwrap()).into());
        assert_eq!(protection.networks, ["10.1.0.0/16", "fd01::/64"].map(|net| net.parse().unwrap()).into());
    }

    #[test]
    fn client_identifiers_are_bytes_and_what_is_none_allows_none() {
        let mut nic = nic();
        nic.allowed_dhcp_cids = ["0x01a2", "0Xff", "0xabc", "0x", "zz", "0xzz"].map(str::to_owned).to_vec();
        nic.ips = vec![NicAddress::Dhcp];
        let protection = Protection::of(&nic, "vt0");
        assert_eq!(protection.client_ids, [vec![1, 0xa2], vec![0xff], vec![0x0a, 0xbc]].into());
        assert!(protection.dhcp && !protection.addrconf);
    }

    /// net-agent case 70
    #[test]
    fn a_dhcp_server_may_send_from_any_address() {
        let nic = Nic { allow_dhcp_spoofing: true, ..nic() };
        let protection = Protection::of(&nic, "vt0");
        assert!(protection.any_address && protection.dhcp_server && !protection.any_mac && !protection.any_type);
    }
}
