//! An instance of this node, as the firewall sees it.

use triton_fwrule::VmFacts;

/// The host's end of one of an instance's links.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its name.
    pub link: String,
    /// The bridges that it may be a port of, with its VLAN there as a port has it (1 when untagged).
    pub networks: Vec<(String, u16)>,
    /// Its guest gets an IPv4 address by DHCP.
    pub dhcp: bool,
    /// Its guest finds out IPv6 addresses itself.
    pub addrconf: bool,
}

/// An instance of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalVm {
    /// What rules need to know about it.
    pub facts: VmFacts,
    /// Its links, whether they are there or not.
    pub ports: Vec<Port>,
}
