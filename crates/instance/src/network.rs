//! The links of an instance: what they should be (pure), and making and removing them.
//!
//! Links, addresses and routes are made from the host in the `start-host` hook, after the guest's network namespace
//! exists and before its init runs (ruling 41): no guest software is needed, and no frame leaves before all is set.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use triton_files::{FileError, Layout, read_json};
use triton_link::{Family, LinkError, Links, NetNs, Route, VethSpec};
use triton_nictag::{Fabric, NicTags, Port};
use triton_types::{InstanceUuid, Mac, Nic, NicAddress, VmConfig};

use crate::{
    Machines,
    error::chain_text,
    names::{guest_link, host_link},
};

/// The network of one boot: `network.json` in the instance's runtime directory. Derived, never edited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// Version of the format, 1.
    pub format: u32,
    /// The instance.
    pub uuid: InstanceUuid,
    /// One per NIC, in interface order.
    pub links: Vec<LinkPlan>,
    /// Default route first.
    pub routes: Vec<RoutePlan>,
    /// The guest is given a dataset of its own at the same moment (instances.md section 7.6).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delegate_dataset: bool,
}

/// One veth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkPlan {
    /// Host end.
    pub host: String,
    /// Guest end.
    pub guest: String,
    /// MAC of the guest end.
    pub mac: Mac,
    /// MTU of both ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The overlay network that the NIC is on: its bridge comes with its first NIC on this node and goes with the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric: Option<Fabric>,
    /// First bridge of the NIC's tag; the host end is a port of it, or of a further one when it is full.
    pub bridge: String,
    /// VLAN of the bridge port; 0 is untagged.
    pub vlan_id: u16,
    /// The bridge may learn further MACs behind this port (`allow_mac_spoofing`, VRRP).
    pub learning: bool,
    /// Addresses of the guest end.
    pub addresses: Vec<IpNet>,
    /// The guest makes addresses and routes of router advertisements (`addrconf`); otherwise its kernel ignores them.
    #[serde(default)]
    pub addrconf: bool,
}

/// One route in the guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutePlan {
    /// Destination; absent for the IPv4 default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpNet>,
    /// Router; absent for a destination on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Guest interface.
    pub interface: String,
}

/// Why an instance cannot be given its network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// NIC tags of the configuration that this node lacks (instances case 36).
    #[error("{}", .0.iter().map(|tag| format!("Invalid nic tag \"{tag}\"")).collect::<Vec<_>>().join("\n"))]
    Tags(Vec<String>),
    /// A NIC asks for what this node cannot give.
    #[error("nic {mac}: {reason}")]
    Nic {
        /// The NIC.
        mac: Mac,
        /// What is missing.
        reason: String,
    },
    /// The kernel refused a link, address or route.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The plan or the tags could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The guard of its NICs cannot be put in force: no link goes up without it.
    #[error("its NICs cannot be guarded: {0}")]
    Guard(String),
    /// Its firewall cannot be put in force: no link goes up without it.
    #[error("its firewall cannot be put in force: {0}")]
    Firewall(String),
    /// The tags.
    #[error(transparent)]
    NicTags(#[from] triton_nictag::NicTagError),
    /// No runtime for the calls.
    #[error("no runtime for netlink: {0}")]
    Runtime(#[from] std::io::Error),
}

/// What the links of `config` should be on a node with `tags`.
///
/// # Errors
/// All tags that the node lacks, at once.
pub fn plan(config: &VmConfig, tags: &NicTags) -> Result<NetworkPlan, NetworkError> {
    let mut missing = Vec::new();
    let mut links = Vec::new();
    for nic in &config.nics {
        let fabric = tags.fabric(&nic.nic_tag).map_err(|e| NetworkError::Nic { mac: nic.mac, reason: e.to_string() })?;
        match tags.bridge(&nic.nic_tag) {
            Some(bridge) => links.push(link_plan(config.uuid, nic, bridge, fabric)),
            None => missing.push(nic.nic_tag.to_string()),
        }
    }
    if !missing.is_empty() {
        return Err(NetworkError::Tags(missing));
    }
    for nic in &config.nics {
        // What is larger would leave the guest and be dropped on the way, without a word (net-agent case 81).
        // A network within the node carries whatever its ports do, unless its tag says otherwise.
        let of_tag = tags.get(&nic.nic_tag).and_then(|tag| if tag.etherstub { tag.mtu } else { Some(tag.effective_mtu()) });
        let of_fabric = || links.iter().find(|link| link.mac == nic.mac)?.fabric.as_ref().map(|fabric| fabric.mtu);
        let most = of_tag.or_else(of_fabric);
        if let (Some(mtu), Some(most)) = (nic.mtu, most)
            && mtu > most
        {
            let reason = format!("its MTU of {mtu} is larger than the {most} of the NIC tag \"{}\"", nic.nic_tag);
            return Err(NetworkError::Nic { mac: nic.mac, reason });
        }
    }
    for link in &links {
        triton_nictag::check_vlan(link.vlan_id).map_err(|e| NetworkError::Nic { mac: link.mac, reason: e.to_string() })?;
    }
    Ok(NetworkPlan { format: 1, uuid: config.uuid, links, routes: routes(config), delegate_dataset: config.delegate_dataset })
}

fn link_plan(uuid: InstanceUuid, nic: &Nic, bridge: String, fabric: Option<Fabric>) -> LinkPlan {
    LinkPlan {
        host: host_link(uuid, &nic.interface),
        guest: guest_link(&nic.interface),
        mac: nic.mac,
        // An overlay network carries less than other links, and says nothing to a guest that sends more.
        mtu: nic.mtu.or(fabric.as_ref().map(|fabric| fabric.mtu.min(1500))),
        fabric,
        bridge,
        vlan_id: nic.vlan_id.unwrap_or(0),
        learning: nic.allow_mac_spoofing || nic.vrrp_vrid.is_some(),
        addresses: nic.ips.iter().filter_map(NicAddress::net).collect(),
        addrconf: nic.ips.contains(&NicAddress::Addrconf),
    }
}

/// The default route of the primary NIC, then the static routes (instances.md section 2.6).
pub(crate) fn routes(config: &VmConfig) -> Vec<RoutePlan> {
    let mut routes = Vec::new();
    if let Some((nic, gateway)) = config.primary_nic().and_then(|nic| Some((nic, nic.gateways.first()?))) {
        let interface = guest_link(&nic.interface);
        routes.push(RoutePlan { destination: None, gateway: Some(IpAddr::V4(*gateway)), interface });
    }
    for (destination, gateway) in &config.routes {
        let Some(destination) = parse_destination(destination) else { continue };
        let Some(gateway) = gateway.as_str() else { continue };
        if let Some((interface, gateway)) = resolve_gateway(config, gateway) {
            routes.push(RoutePlan { destination: Some(destination), gateway, interface });
        }
    }
    routes
}

fn parse_destination(text: &str) -> Option<IpNet> {
    text.parse::<Ipv4Net>().map(|net| net.trunc()).or_else(|_| text.parse::<Ipv4Addr>().map(Ipv4Net::from)).ok().map(IpNet::V4)
}

/// `nics[N]` and `macs[M]` are routes on that link; an address is reached through the NIC whose network holds it, else
/// through the primary one.
fn resolve_gateway(config: &VmConfig, text: &str) -> Option<(String, Option<IpAddr>)> {
    let inner = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(']'));
    if let Some(index) = inner("nics[") {
        let nic = config.nics.get(index.parse::<usize>().ok()?)?;
        return Some((guest_link(&nic.interface), None));
    }
    if let Some(mac) = inner("macs[") {
        let mac: Mac = mac.parse().ok()?;
        let nic = config.nics.iter().find(|nic| nic.mac == mac)?;
        return Some((guest_link(&nic.interface), None));
    }
    let gateway: Ipv4Addr = text.parse().ok()?;
    let holds = |nic: &&Nic| nic.ips.iter().filter_map(NicAddress::net).any(|net| net.contains(&IpAddr::V4(gateway)));
    let nic = config.nics.iter().find(holds).or_else(|| config.primary_nic())?;
    Some((guest_link(&nic.interface), Some(IpAddr::V4(gateway))))
}

/// The plan of the current boot.
///
/// # Errors
/// When the file cannot be used. Absent is an empty plan: nothing was ever attached.
pub fn read_plan(layout: &Layout, uuid: InstanceUuid) -> Result<NetworkPlan, FileError> {
    let path = layout.runtime(uuid).join("network.json");
    let none = NetworkPlan { format: 1, uuid, links: Vec::new(), routes: Vec::new(), delegate_dataset: false };
    Ok(read_json(&path)?.unwrap_or(none))
}

pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, NetworkError>>) -> Result<T, NetworkError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Makes the links of a plan, their guest ends in the network namespace of process `pid`.
///
/// # Errors
/// Names the link, address or route that the kernel refused. What was made by then is removed.
pub fn attach(layout: &Layout, plan: &NetworkPlan, pid: i32) -> Result<(), NetworkError> {
    // Before any link is there, so that not one frame is sent without it (net-agent case 77).
    if !plan.links.is_empty() {
        // Not as the plan has it: what a NIC may do may have changed since.
        let config = Machines::new(layout).read_alone(plan.uuid).map_err(|error| NetworkError::Guard(chain_text(&error)))?.config;
        crate::guard::protect(layout, &config).map_err(|error| NetworkError::Guard(chain_text(&error)))?;
        crate::firewall::protect(layout, &config).map_err(NetworkError::Firewall)?;
    }
    let result = block_on(attach_plan(layout, plan, pid));
    if result.is_err() {
        let _ = detach(layout, plan.uuid);
    }
    result
}

async fn attach_plan(layout: &Layout, plan: &NetworkPlan, pid: i32) -> Result<(), NetworkError> {
    let namespace = NetNs::of_pid(pid)?;
    let host = Links::open()?;
    let guest = Links::open_in(namespace.as_fd())?;
    guest.set_up("lo").await?;
    for link in &plan.links {
        let alias = format!("instance {} {}", plan.uuid, link.guest);
        // Held until the NIC is a port of the bridge: another's last NIC may go now.
        let _hold = match &link.fabric {
            Some(fabric) => Some(triton_nictag::ensure_fabric(&host, layout, fabric).await?),
            None => None,
        };
        host.create_veth(&VethSpec {
            host: &link.host,
            guest: &link.guest,
            guest_mac: Some(link.mac.0),
            mtu: link.mtu,
            guest_netns: namespace.as_fd(),
            bridge: Some(&link.bridge),
            alias: Some(&alias),
        })
        .await?;
        let port = Port { layout, bridge: &link.bridge, host: &link.host, mac: link.mac.0, vlan_id: link.vlan_id, learning: link.learning };
        triton_nictag::set_port(&host, &port).await?;
        for address in &link.addresses {
            guest.add_address(&link.guest, *address).await?;
        }
        // Before it is up: a router may answer at once (instances.md section 7.4).
        guest.set_sysctl(Family::Ipv6, &link.guest, "accept_ra", if link.addrconf { "1" } else { "0" })?;
        guest.set_up(&link.guest).await?;
    }
    for route in &plan.routes {
        guest.add_route(&Route { destination: route.destination, gateway: route.gateway, interface: route.interface.clone() }).await?;
    }
    Ok(())
}

/// Removes the host ends of the current plan; those that are gone are success.
///
/// # Errors
/// Names a link that the kernel would not remove.
pub fn detach(layout: &Layout, uuid: InstanceUuid) -> Result<(), NetworkError> {
    let plan = read_plan(layout, uuid)?;
    if plan.links.is_empty() {
        return Ok(());
    }
    block_on(async {
        let host = Links::open()?;
        for link in &plan.links {
            host.delete(&link.host).await?;
        }
        for fabric in plan.links.iter().filter_map(|link| link.fabric.as_ref()) {
            triton_nictag::release_fabric(&host, layout, fabric).await?;
        }
        Ok(())
    })?;
    crate::guard::forget(layout, &plan.links.iter().map(|link| link.host.clone()).collect::<Vec<_>>());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> VmConfig {
        let mut config = VmConfig::bare(InstanceUuid::NIL);
        for (index, ip) in [(0u8, "10.0.0.5/24"), (1, "172.16.0.5/16")] {
            let mut nic = Nic::new(format!("net{index}"), Mac([2, 8, 0x20, 0, 0, index]), "external".parse().unwrap());
            nic.ips = vec![ip.parse().unwrap()];
            nic.gateways = vec!["10.0.0.1".parse().unwrap()];
            nic.primary = index == 0;
            config.nics.push(nic);
        }
        config
    }

    #[test]
    fn only_the_primary_gateway_becomes_the_default_route() {
        let routes = routes(&config());
        assert_eq!(routes, [RoutePlan { destination: None, gateway: Some("10.0.0.1".parse().unwrap()), interface: "eth0".into() }]);
    }

    /// instances case 49
    #[test]
    fn static_routes_go_through_the_nic_that_reaches_their_gateway() {
        let mut config = config();
        for (destination, gateway) in
            [("172.20.42.0/24", "172.16.0.1"), ("10.9.9.9", "nics[1]"), ("10.8.0.0/16", "macs[2:8:20:0:0:0]"), ("10.7.0.0/16", "192.0.2.1")]
        {
            config.routes.insert(destination.into(), gateway.into());
        }
        let got: Vec<(String, Option<String>, String)> = routes(&config)
            .into_iter()
            .skip(1)
            .map(|r| (r.destination.unwrap().to_string(), r.gateway.map(|g| g.to_string()), r.interface))
            .collect();
        let want = [
            ("172.20.42.0/24", Some("172.16.0.1"), "eth1"),
            ("10.9.9.9/32", None, "eth1"),
            ("10.8.0.0/16", None, "eth0"),
            ("10.7.0.0/16", Some("192.0.2.1"), "eth0"),
        ];
        let want: Vec<_> = want.iter().map(|(d, g, i)| (d.to_string(), g.map(str::to_owned), i.to_string())).collect();
        assert_eq!(got, want);
    }

    /// net-agent sections 14 and 17, case 81
    #[test]
    fn a_nic_of_an_overlay_is_planned_with_its_network_and_never_larger_than_that() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.prepare().unwrap();
        let path = layout.config().join("triton-networking.json");
        let rule = "-e vxlan -s svp -p svp/host=10.9.0.9 -p svp/underlay_ip=10.9.0.1 -p vxlan/listen_ip=10.9.0.1 -p mtu=1400";
        let tags = |rule: &str| {
            let document = serde_json::json!({"nictags": [{"name": "external"}], "nictag_rules": {"sdc_overlay": rule}});
            triton_files::write_json(&path, &document, 0o644).unwrap();
            NicTags::load(&layout).unwrap()
        };
        let mut config = config();
        config.nics[0].nic_tag = "sdc_overlay/5".parse().unwrap();
        let made = plan(&config, &tags(rule)).unwrap();
        let fabric = made.links[0].fabric.as_ref().unwrap();
        assert_eq!((fabric.vnet, &made.links[0].bridge, made.links[0].mtu), (5, &fabric.bridge(), Some(1400)));
        assert_eq!((&made.links[1].fabric, made.links[1].mtu), (&None, None));
        config.nics[0].mtu = Some(1300);
        assert_eq!(plan(&config, &tags(rule)).unwrap().links[0].mtu, Some(1300));
        config.nics[0].mtu = Some(1401);
        let error = plan(&config, &tags(rule)).unwrap_err().to_string();
        assert!(error.contains("1401") && error.contains("1400") && error.contains("sdc_overlay/5"), "{error}");
        let error = plan(&config, &tags("-e vxlan -s direct")).unwrap_err().to_string();
        assert!(error.contains("nictag_rules") && error.contains("svp"), "{error}");
        config.nics[0].nic_tag = "other_overlay/5".parse().unwrap();
        assert_eq!(plan(&config, &tags(rule)).unwrap_err().to_string(), "Invalid nic tag \"other_overlay/5\"");
    }
}
