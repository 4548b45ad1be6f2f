//! One network interface of an instance (instances.md section 2.4).

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{JsonMap, Mac, NetworkUuid, NicAddress, NicTag};

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A NIC as it is stored: what was asked for, normalised. The order of fields is the order on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    /// `net<N>` (ruling 29; `eth<N>` inside the guest); decides the order of NICs.
    pub interface: String,
    /// Identifies the NIC for updates and in NAPI.
    pub mac: Mac,
    /// The physical network; must exist on the compute node.
    pub nic_tag: NicTag,
    /// 802.1Q VLAN, 0 for untagged; absent if it was never given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_id: Option<u16>,
    /// Bytes, 576 to 9000; absent if it was never given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Addresses in the order given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<NicAddress>,
    /// IPv4 routers, only the first of the primary NIC becomes the default route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<Ipv4Addr>,
    /// At most one NIC of an instance is primary.
    #[serde(default, skip_serializing_if = "is_false")]
    pub primary: bool,
    /// The network of NAPI that the NIC is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_uuid: Option<NetworkUuid>,
    /// The guest may send from any IP address.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_ip_spoofing: bool,
    /// The guest may send from any MAC address.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_mac_spoofing: bool,
    /// The guest may answer DHCP and send router advertisements.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_dhcp_spoofing: bool,
    /// The guest may send frames other than ARP, IPv4 and IPv6.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_restricted_traffic: bool,
    /// Further addresses (or prefixes) that the guest may send from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_ips: Vec<String>,
    /// DHCP client identifiers that the guest may use, `0x…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_dhcp_cids: Vec<String>,
    /// TCP and UDP destination ports that the guest may not reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_outgoing_ports: Vec<u16>,
    /// VRRP router id; the MAC is then `00:00:5e:00:01:<vrid>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrrp_vrid: Option<u8>,
    /// Address of another NIC of this instance that VRRP advertises from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrrp_primary_ip: Option<IpAddr>,
    /// Fields of a newer version, kept on rewrite.
    #[serde(flatten)]
    pub extra: JsonMap,
}

impl Nic {
    /// A NIC with nothing but its required fields.
    pub fn new(interface: impl Into<String>, mac: Mac, nic_tag: NicTag) -> Self {
        Self {
            interface: interface.into(),
            mac,
            nic_tag,
            vlan_id: None,
            mtu: None,
            ips: Vec::new(),
            gateways: Vec::new(),
            primary: false,
            network_uuid: None,
            allow_ip_spoofing: false,
            allow_mac_spoofing: false,
            allow_dhcp_spoofing: false,
            allow_restricted_traffic: false,
            allowed_ips: Vec::new(),
            allowed_dhcp_cids: Vec::new(),
            blocked_outgoing_ports: Vec::new(),
            vrrp_vrid: None,
            vrrp_primary_ip: None,
            extra: JsonMap::new(),
        }
    }

    /// The index in `net<N>` (or `eth<N>`), by which NICs are ordered. Names of another form come last.
    pub fn index(&self) -> u32 {
        let digits = self.interface.trim_start_matches(|c: char| !c.is_ascii_digit());
        digits.parse().unwrap_or(u32::MAX)
    }

    /// The first IPv4 address or `dhcp`: the `ip` of a loaded NIC.
    fn first_v4(&self) -> Option<&NicAddress> {
        self.ips.iter().find(|ip| matches!(ip, NicAddress::Dhcp | NicAddress::Static(IpNet::V4(_))))
    }
}

/// A NIC as `vmadm get` shows it: the stored one and the deprecated keys derived from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NicObject {
    /// The stored NIC.
    #[serde(flatten)]
    pub nic: Nic,
    /// First IPv4 address, or `dhcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Netmask of `ip`, absent for `dhcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netmask: Option<Ipv4Addr>,
    /// First of `gateways`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
}

impl From<&Nic> for NicObject {
    fn from(nic: &Nic) -> Self {
        let (ip, netmask) = match nic.first_v4() {
            Some(NicAddress::Static(IpNet::V4(net))) => (Some(net.addr().to_string()), Some(net.netmask())),
            Some(NicAddress::Dhcp) => (Some("dhcp".to_owned()), None),
            _ => (None, None),
        };
        Self { ip, netmask, gateway: nic.gateways.first().copied(), nic: nic.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(ips: &[&str]) -> Nic {
        let mut nic = Nic::new("eth0", "2:8:20:0:0:1".parse().unwrap(), "admin".parse().unwrap());
        nic.ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        nic
    }

    /// instances case 33
    #[test]
    fn the_first_ipv4_address_is_the_ip() {
        let object = NicObject::from(&nic(&["fd00::1/64", "10.254.254.254/24", "addrconf"]));
        assert_eq!(object.ip.as_deref(), Some("10.254.254.254"));
        assert_eq!(object.netmask.unwrap().to_string(), "255.255.255.0");
        let object = NicObject::from(&nic(&["dhcp"]));
        assert_eq!((object.ip.as_deref(), object.netmask), (Some("dhcp"), None));
    }

    /// instances case 43
    #[test]
    fn a_nic_without_addresses_has_neither_ip_nor_ips() {
        let text = serde_json::to_string(&NicObject::from(&nic(&[]))).unwrap();
        assert_eq!(text, r#"{"interface":"eth0","mac":"02:08:20:00:00:01","nic_tag":"admin"}"#);
    }

    #[test]
    fn fields_of_a_newer_version_are_kept() {
        let text = r#"{"interface":"eth1","mac":"02:08:20:00:00:01","nic_tag":"admin","colour":"red"}"#;
        let nic: Nic = serde_json::from_str(text).unwrap();
        assert_eq!((serde_json::to_string(&nic).unwrap().as_str(), nic.index()), (text, 1));
    }
}
