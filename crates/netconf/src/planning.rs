//! From the document and the facts to the plan.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use triton_types::{Mac, NicTag};

use crate::{
    Address, Addressing, Device, Facts, HostNic, HostNicKind, Networking, Plan, Problem, Provider, Route, Uplink, Via, Vnic,
    fields::is_domain,
    names::{aggregation_link, bridge_of, derived_host_nic, host_nic, host_port},
    problem::shown,
};

/// Bytes, of a tag that states none.
const DEFAULT_MTU: u32 = 1500;

/// What the network of the host should be. Without a document only the node's name and its time servers are known.
pub fn plan(networking: Option<&Networking>, facts: &Facts) -> (Plan, Vec<Problem>) {
    let mut planning =
        Planning { plan: Plan::default(), problems: Vec::new(), places: Vec::new(), providers: Vec::new(), bonds: Vec::new() };
    match networking {
        None => planning.plan.hostname = facts.boot_mac.map(dashed),
        Some(networking) => planning.network(networking, facts),
    }
    planning.names_of_services(networking, facts);
    (planning.plan, planning.problems)
}

fn dashed(mac: Mac) -> String {
    mac.to_string().replace(':', "-")
}

/// Which link a host NIC's addresses are on.
#[derive(Clone, Copy)]
enum Place {
    /// The bridge of this uplink.
    Bridge(usize),
    /// This further link.
    Nic(usize),
}

struct Planning {
    plan: Plan,
    problems: Vec<Problem>,
    /// Of each configured NIC: its link, and what may be sent through if that is less than the link takes.
    places: Vec<(Vnic, Place, Option<u32>)>,
    /// Of each uplink.
    providers: Vec<Provider>,
    /// Links of aggregations, in use or not.
    bonds: Vec<String>,
}

impl Planning {
    fn network(&mut self, networking: &Networking, facts: &Facts) {
        self.plan.configured = true;
        self.plan.overlays.clone_from(&networking.overlays);
        self.bonds = networking.aggregations.iter().map(|aggregation| aggregation_link(&aggregation.name)).collect();
        self.uplinks(networking, facts);
        for vnic in &networking.vnics {
            if let Some(provider) = self.provider(vnic, networking, facts) {
                self.host_nic(vnic, &provider, networking);
            }
        }
        self.routes(networking);
        let admin = networking.vnics.iter().find(|vnic| networking.is_admin(&vnic.tag)).map(|vnic| vnic.mac);
        let admin = admin.or_else(|| {
            networking.tags.iter().find(|tag| networking.is_admin(&tag.name)).and_then(|tag| match tag.provider {
                Provider::Nic(mac) => Some(mac),
                Provider::Aggregation(_) | Provider::Nothing => None,
            })
        });
        self.plan.hostname = networking.hostname.clone().or_else(|| admin.or(facts.boot_mac).map(dashed));
    }

    /// One for each NIC and aggregation that provides a tag.
    fn uplinks(&mut self, networking: &Networking, facts: &Facts) {
        for tag in &networking.tags {
            let mtu = tag.mtu.unwrap_or(DEFAULT_MTU);
            if let Some(index) = self.uplink(&tag.provider, &tag.name, mtu, networking) {
                let uplink = &mut self.plan.uplinks[index];
                uplink.tags.push(tag.name.clone());
                uplink.mtu = uplink.mtu.max(mtu);
                uplink.admin |= networking.is_admin(&tag.name);
            }
        }
        let Some(nics) = &facts.nics else { return };
        for uplink in &self.plan.uplinks {
            let (macs, user) = match &uplink.device {
                Device::Nic => {
                    let tags: Vec<&str> = uplink.tags.iter().map(NicTag::as_str).collect();
                    (vec![uplink.mac], format!("nic tag {}", tags.join(", ")))
                }
                Device::Bond { link, macs, .. } => (macs.clone(), format!("aggregation {link}")),
            };
            let missing = macs.into_iter().filter(|mac| !nics.contains(mac));
            self.problems.extend(missing.map(|mac| Problem::NoSuchNic { mac, user: user.clone() }));
        }
    }

    /// The uplink of `provider`, made if it is the first time.
    fn uplink(&mut self, provider: &Provider, tag: &NicTag, mtu: u32, networking: &Networking) -> Option<usize> {
        if let Some(known) = self.providers.iter().position(|known| known == provider) {
            return Some(known);
        }
        let (mac, device) = match provider {
            Provider::Nothing => return None,
            Provider::Nic(mac) => (*mac, Device::Nic),
            Provider::Aggregation(name) => {
                let Some(aggregation) = networking.aggregations.iter().find(|aggregation| aggregation.name == *name) else {
                    self.problems.push(Problem::UnknownAggregation { tag: tag.clone(), name: name.clone() });
                    return None;
                };
                // The host's NIC on it, the admin one first, decides which of the members' addresses the bond has.
                let used = networking.vnics.iter().map(|vnic| vnic.mac).find(|mac| aggregation.macs.contains(mac));
                let mac = used.or_else(|| aggregation.macs.first().copied())?;
                (mac, Device::Bond { link: aggregation_link(name), macs: aggregation.macs.clone(), mode: aggregation.mode })
            }
        };
        let bridge = bridge_of(provider, tag);
        let (tags, vlans, addressing) = (Vec::new(), Vec::new(), Addressing::default());
        self.plan.uplinks.push(Uplink { bridge, device, mac, mtu, tags, vlans, admin: false, addressing });
        self.providers.push(provider.clone());
        Some(self.plan.uplinks.len() - 1)
    }

    /// What carries a host NIC: the physical NIC that it is, else what provides its tag.
    fn provider(&mut self, vnic: &Vnic, networking: &Networking, facts: &Facts) -> Option<Provider> {
        let own = Provider::Nic(vnic.mac).within(&networking.aggregations);
        let provides = networking.tags.iter().any(|tag| tag.provider == own);
        let present = facts.nics.as_ref().is_some_and(|nics| nics.contains(&vnic.mac));
        let physical = matches!(own, Provider::Aggregation(_)) || provides || present;
        let tag = networking.tags.iter().find(|tag| tag.name == vnic.tag);
        if tag.is_none() {
            self.problems.push(Problem::UnknownTag { mac: vnic.mac, tag: vnic.tag.clone(), configured: physical });
        }
        if physical {
            return Some(own);
        }
        let provider = tag?.provider.clone();
        if !self.providers.contains(&provider) {
            self.problems.push(Problem::NoProvider { mac: vnic.mac, tag: vnic.tag.clone() });
            return None;
        }
        Some(provider)
    }

    fn host_nic(&mut self, vnic: &Vnic, provider: &Provider, networking: &Networking) {
        let wanted = vnic.mtu.or_else(|| networking.tags.iter().find(|tag| tag.name == vnic.tag)?.mtu).unwrap_or(DEFAULT_MTU);
        let Some(index) = self.uplink(provider, &vnic.tag, wanted, networking) else { return };
        let uplink = &mut self.plan.uplinks[index];
        let mtu = wanted.min(uplink.mtu);
        if mtu < wanted {
            self.problems.push(Problem::MtuTooLarge { mac: vnic.mac, mtu: wanted, limit: mtu });
        }
        let admin = networking.is_admin(&vnic.tag);
        let own = match &uplink.device {
            Device::Nic => uplink.mac == vnic.mac,
            Device::Bond { macs, .. } => macs.contains(&vnic.mac),
        };
        if vnic.vlan_id != 0 && !uplink.vlans.contains(&vnic.vlan_id) {
            uplink.vlans.push(vnic.vlan_id);
            uplink.vlans.sort_unstable();
        }
        let (place, limit) = if own && vnic.vlan_id == 0 {
            uplink.admin |= admin;
            (Place::Bridge(index), Some(mtu).filter(|mtu| *mtu < uplink.mtu))
        } else {
            let (bridge, bridge_mac) = (uplink.bridge.clone(), uplink.mac);
            (Place::Nic(self.link(vnic, own.then_some(bridge_mac), bridge, mtu, admin)), None)
        };
        let addressing = self.addressing(place);
        addressing.dhcp |= vnic.dhcp;
        addressing.autoconf |= vnic.autoconf;
        addressing.addresses.extend(vnic.addresses.iter().map(|net| Address { net: *net, mtu: limit }));
        self.places.push((vnic.clone(), place, limit));
    }

    /// The further link of a host NIC: a VLAN of the bridge if the address is the bridge's own, else a pair.
    fn link(&mut self, vnic: &Vnic, bridge_mac: Option<Mac>, bridge: String, mtu: u32, admin: bool) -> usize {
        let same = |nic: &HostNic| nic.kind == HostNicKind::Vlan && nic.bridge == bridge && nic.vlan_id == vnic.vlan_id;
        if bridge_mac.is_some()
            && let Some(known) = self.plan.nics.iter().position(same)
        {
            return known;
        }
        let number = self.plan.nics.iter().filter(|nic| nic.tag == vnic.tag).count();
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let mut name = host_nic(&vnic.tag, number);
        if self.bonds.contains(&name) || self.plan.nics.iter().any(|nic| nic.name == name) {
            name = derived_host_nic(&vnic.tag, number);
        }
        let (mac, kind) = match bridge_mac {
            Some(mac) => (mac, HostNicKind::Vlan),
            None => (vnic.mac, HostNicKind::Veth { port: host_port(vnic.mac) }),
        };
        let (tag, vlan_id, addressing) = (vnic.tag.clone(), vnic.vlan_id, Addressing::default());
        self.plan.nics.push(HostNic { name, mac, tag, vlan_id, mtu, bridge, kind, admin, addressing });
        self.plan.nics.len() - 1
    }

    fn addressing(&mut self, place: Place) -> &mut Addressing {
        match place {
            Place::Bridge(index) => &mut self.plan.uplinks[index].addressing,
            Place::Nic(index) => &mut self.plan.nics[index].addressing,
        }
    }

    /// Default routes, the primary NIC's first, then in the order of the NICs; then static ones.
    fn routes(&mut self, networking: &Networking) {
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_by_key(|index| !self.places[*index].0.primary);
        let mut metrics = BTreeMap::from([(true, 100), (false, 100)]);
        for index in order {
            let (vnic, place, mtu) = self.places[index].clone();
            for gateway in vnic.gateways {
                let on_link = !vnic.addresses.iter().any(|net| net.contains(&gateway));
                let metric = metrics.get_mut(&gateway.is_ipv4()).map(|metric| {
                    *metric += 10;
                    *metric - 10
                });
                let destination = everywhere(gateway);
                self.addressing(place).routes.push(Route { destination, gateway: Some(gateway), on_link, metric, mtu });
            }
        }
        for (destination, via) in &networking.routes {
            let found = match via {
                Via::Nic(mac) => self.places.iter().find(|(vnic, ..)| vnic.mac == *mac),
                Via::Router(router) => self.places.iter().find(|(vnic, ..)| vnic.addresses.iter().any(|net| net.contains(router))),
            };
            let gateway = match via {
                Via::Nic(_) => None,
                Via::Router(router) => Some(*router),
            };
            let reason = match (found, gateway) {
                (None, None) => "no configured nic has that MAC address".to_owned(),
                (None, Some(router)) => format!("{router} is in no network of this node"),
                (Some(_), Some(router)) if router.is_ipv4() != destination.addr().is_ipv4() => format!("{router} is of the other protocol"),
                (Some((_, place, mtu)), _) => {
                    let (place, mtu) = (*place, *mtu);
                    let route = Route { destination: *destination, gateway, on_link: false, metric: None, mtu };
                    self.addressing(place).routes.push(route);
                    continue;
                }
            };
            self.problems.push(Problem::Route { destination: destination.to_string(), reason });
        }
    }

    /// Resolvers, domains and time servers: the document's, else those of `node.config`.
    fn names_of_services(&mut self, networking: Option<&Networking>, facts: &Facts) {
        let settings = &facts.settings;
        let setting = |key: &str| settings.get(key).filter(|value| is_domain(value)).map(str::to_owned);
        let datacenter = networking.and_then(|n| n.datacenter_name.clone()).or_else(|| setting("datacenter_name"));
        let domain = networking.and_then(|n| n.dns_domain.clone()).or_else(|| setting("dns_domain"));
        if let (Some(datacenter), Some(domain)) = (datacenter, domain) {
            self.plan.domains.push(format!("{datacenter}.{domain}"));
        }
        self.plan.resolvers = networking.map(|n| n.resolvers.clone()).unwrap_or_default();
        if self.plan.resolvers.is_empty() {
            for word in settings.list("dns_resolvers") {
                match word.parse() {
                    Ok(resolver) => self.plan.resolvers.push(resolver),
                    Err(_) => self.setting_problem("dns_resolvers", word, "an IP address"),
                }
            }
        }
        for word in settings.list("ntp_hosts") {
            if is_domain(word) || word.parse::<IpAddr>().is_ok() {
                self.plan.ntp.push(word.to_owned());
            } else {
                self.setting_problem("ntp_hosts", word, "a host");
            }
        }
    }

    fn setting_problem(&mut self, key: &str, word: &str, what: &str) {
        self.problems.push(Problem::Value { place: format!("node.config: {key}"), reason: format!("{} is not {what}", shown(word)) });
    }
}

fn everywhere(gateway: IpAddr) -> IpNet {
    if gateway.is_ipv4() { IpNet::V4(Ipv4Net::default()) } else { IpNet::V6(Ipv6Net::default()) }
}
