//! The small data centre that `up` makes: names, networks and addresses.
//!
//! Two network namespaces. `net` is the compute node: its NICs are `eth0` (tag `admin`) and `eth1` (tag `external`), veths whose
//! other ends are in `outside`, the rest of the data centre: the stand-in headnode on the admin network, and the router of the
//! external one.

use std::net::Ipv4Addr;

/// Name of the data centre.
pub const DATACENTER: &str = "up";

/// The domain of its services and instances.
pub const DOMAIN: &str = "up.local";

/// Owner of everything.
pub const OWNER: &str = "930896af-bf8c-48d4-885c-6573a94b1853";

/// The package that instances are billed as.
pub const PACKAGE: &str = "0a5ae8a4-9a4a-4d5c-9f2c-4b8f2ad4d2c1";

/// The external network in NAPI's terms.
pub const NETWORK: &str = "3bdc9cfb-9c1c-4a37-8c4b-7e1a3a9ed6b0";

/// The admin network in NAPI's terms.
pub const ADMIN_NETWORK: &str = "3bdc9cfb-9c1c-4a37-8c4b-7e1a3a9ed6b1";

/// One wire between the node and the rest.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// NIC tag.
    pub tag: &'static str,
    /// The node's NIC.
    pub nic: &'static str,
    /// Its MAC, of a private range.
    pub mac: [u8; 6],
    /// The other end.
    pub outside: &'static str,
    /// The other end's addresses.
    pub addresses: &'static [Ipv4Addr],
    /// The node's address, on networks where it has one.
    pub node: Option<Ipv4Addr>,
}

/// Prefix length of every network here.
pub const PREFIX: u8 = 24;

/// The admin network: headnode and compute nodes.
pub const ADMIN: Wire = Wire {
    tag: "admin",
    nic: "eth0",
    mac: [0x02, 0x08, 0x20, 0x00, 0x00, 0x10],
    outside: "admin",
    addresses: &SERVICES,
    node: Some(Ipv4Addr::new(10, 88, 88, 10)),
};

/// The router of the instances' network.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 77, 1);

/// The network of the instances; the node has no address on it.
pub const EXTERNAL: Wire = Wire {
    tag: "external",
    nic: "eth1",
    mac: [0x02, 0x08, 0x20, 0x00, 0x00, 0x11],
    outside: "external",
    addresses: &[GATEWAY],
    node: None,
};

/// Both.
pub const WIRES: [Wire; 2] = [ADMIN, EXTERNAL];

/// Resolvers that instances are given.
pub const RESOLVERS: [&str; 2] = ["10.77.77.1", "8.8.8.8"];

/// Addresses of the headnode's services on the admin network, in the order CNAPI, IMGAPI, VMAPI, NAPI, FWAPI.
pub const SERVICES: [Ipv4Addr; 5] = [
    Ipv4Addr::new(10, 88, 88, 2),
    Ipv4Addr::new(10, 88, 88, 3),
    Ipv4Addr::new(10, 88, 88, 4),
    Ipv4Addr::new(10, 88, 88, 5),
    Ipv4Addr::new(10, 88, 88, 6),
];

/// The address of the instance with this number.
pub fn instance_address(number: usize) -> Ipv4Addr {
    let host = u8::try_from(number.saturating_add(10).min(254)).unwrap_or(254);
    Ipv4Addr::new(10, 77, 77, host)
}

/// The MAC of the instance with this number.
pub fn instance_mac(number: usize) -> String {
    let [_, _, _, host] = instance_address(number).octets();
    format!("02:08:20:77:00:{host:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_have_addresses_of_their_own() {
        let addresses: std::collections::BTreeSet<_> = (0..100).map(instance_address).collect();
        assert_eq!(addresses.len(), 100);
        assert!(!addresses.contains(&GATEWAY));
        assert_eq!(instance_mac(0), "02:08:20:77:00:0a");
    }
}
