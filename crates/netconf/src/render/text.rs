//! Sections and settings of a unit.

use std::fmt::{Display, Write};

use crate::{Address, Addressing, Route};

/// A unit under construction.
#[derive(Debug, Default)]
pub(super) struct Unit(String);

impl Unit {
    /// Begins with a line that says where the file comes from and what it is.
    pub(super) fn about(what: &str) -> Self {
        Self(format!("# Made by triton-netconf from networking.json at every boot: {what}.\n"))
    }

    pub(super) fn section(mut self, name: &str) -> Self {
        let blank = if self.0.ends_with('\n') && self.0.lines().count() == 1 { "" } else { "\n" };
        let _ = writeln!(self.0, "{blank}[{name}]");
        self
    }

    pub(super) fn set(mut self, key: &str, value: impl Display) -> Self {
        let _ = writeln!(self.0, "{key}={value}");
        self
    }

    pub(super) fn set_if(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    pub(super) fn with(self, add: impl FnOnce(Self) -> Self) -> Self {
        add(self)
    }

    /// The lines of `[Network]` about `addressing`; the section is open.
    pub(super) fn protocols(self, addressing: &Addressing) -> Self {
        let ipv6 = if addressing.has_ipv6() { "ipv6" } else { "no" };
        let unit = self.set("LinkLocalAddressing", ipv6).set("IPv6AcceptRA", if addressing.autoconf { "yes" } else { "no" });
        let unit = if addressing.dhcp { unit.set("DHCP", "ipv4") } else { unit };
        unit.set("LLDP", "no")
    }

    /// The sections about `addressing`.
    pub(super) fn addressing(mut self, addressing: &Addressing) -> Self {
        if addressing.dhcp {
            self = self.section("DHCPv4").set("ClientIdentifier", "mac").set("UseHostname", "no").set("UseMTU", "no");
        }
        for address in &addressing.addresses {
            self = self.address(address);
        }
        for route in &addressing.routes {
            self = self.route(route);
        }
        self
    }

    /// An address whose network takes less than the link: the route to it says so, instead of the kernel's own.
    fn address(self, address: &Address) -> Self {
        let net = address.net;
        let unit = self.section("Address").set("Address", format_args!("{}/{}", net.addr(), net.prefix_len()));
        let whole = net.prefix_len() == net.max_prefix_len();
        let Some(mtu) = address.mtu.filter(|_| !whole) else { return unit };
        let unit = unit.set("AddPrefixRoute", "no").section("Route").set("Destination", net.trunc());
        let unit = if net.addr().is_ipv4() { unit.set("Scope", "link").set("PreferredSource", net.addr()) } else { unit };
        unit.set("MTUBytes", mtu)
    }

    fn route(self, route: &Route) -> Self {
        let unit = self.section("Route").set("Destination", route.destination).set_if("Gateway", route.gateway);
        let unit = if route.on_link { unit.set("GatewayOnLink", "yes") } else { unit };
        let unit = if route.gateway.is_none() && route.destination.addr().is_ipv4() { unit.set("Scope", "link") } else { unit };
        unit.set_if("Metric", route.metric).set_if("MTUBytes", route.mtu)
    }

    /// Membership of a bridge's port, or of the bridge itself, in VLANs: untagged in one, tagged in the others.
    pub(super) fn vlans(mut self, untagged: u16, tagged: &[u16]) -> Self {
        self = self.section("BridgeVLAN").set("VLAN", untagged).set("PVID", untagged).set("EgressUntagged", untagged);
        for vlan in tagged {
            self = self.section("BridgeVLAN").set("VLAN", vlan);
        }
        self
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}
