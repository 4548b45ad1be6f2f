//! Bounds on what one payload may ask for. Those with a section are the contract's, the others keep a hostile payload from
//! becoming unbounded state of the machine.

/// NICs of one instance.
pub const NICS: usize = 64;
/// `ips` of one NIC (section 2.4).
pub const IPS_PER_NIC: usize = 20;
/// `gateways` of one NIC.
pub const GATEWAYS_PER_NIC: usize = 20;
/// `allowed_ips` of one NIC (section 2.4).
pub const ALLOWED_IPS_PER_NIC: usize = 13;
/// `allowed_ips`, `ips` and `vrrp_primary_ip` of one NIC together (section 2.4).
pub const ADDRESSES_PER_NIC: usize = 32;
/// `allowed_dhcp_cids` of one NIC (section 2.4).
pub const DHCP_CIDS_PER_NIC: usize = 20;
/// Characters of one DHCP client id (section 2.4).
pub const DHCP_CID_LENGTH: usize = 512;
/// Characters of all DHCP client ids of a NIC, joined by commas: less than this (section 2.4).
pub const DHCP_CIDS_LENGTH: usize = 1024;
/// `blocked_outgoing_ports` of one NIC.
pub const BLOCKED_PORTS_PER_NIC: usize = 256;
/// Highest number in an interface name.
pub const INTERFACE_INDEX: u32 = 4095;
/// `filesystems` of one instance.
pub const FILESYSTEMS: usize = 256;
/// Bytes of a path in a payload, as Linux bounds it.
pub const PATH_LENGTH: usize = 4095;
/// `routes` of one instance.
pub const ROUTES: usize = 1024;
/// Elements of any list property (`resolvers`, `limit_priv`, …).
pub const LIST: usize = 1024;
/// Bytes of a host name: what Linux takes.
pub const HOSTNAME_LENGTH: usize = 64;
/// Bytes of a DNS domain (section 2.2, VMAPI's bound).
pub const DOMAIN_LENGTH: usize = 255;
/// Highest `cpu_shares`; more is cut down (section 2.2).
pub const CPU_SHARES: u64 = 65_535;
/// Least `max_swap` in MiB (section 2.2).
pub const MIN_SWAP: u64 = 256;
/// Largest integer that every JSON reader keeps exactly: 2^53 - 1 (case 23).
pub const INTEGER: u64 = 9_007_199_254_740_991;
/// Warnings that one operation returns; more are counted only.
pub const WARNINGS: usize = 100;
/// Bytes of a compiled `=~` filter.
pub const REGEX_SIZE: usize = 1 << 20;
