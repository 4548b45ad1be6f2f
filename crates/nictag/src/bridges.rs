//! The bridges of the tags: made, attached to their uplinks, and reported.

use std::sync::Arc;

use ipnet::IpNet;
use triton_link::{Address, BridgeSpec, Link, LinkError, LinkKind, Links, PortFlags};
use triton_netconf::Provider;
use triton_types::{Mac, NicTag};

use crate::{NicTagError, NicTags, Tag, kernel, tags::DEFAULT_MTU, vlan::support_by};

/// Why a tag is not carried as it should be. Its bridge is there nevertheless, unless the kernel refused it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TagProblem {
    /// The NIC is not in this machine.
    #[error("no physical nic has the MAC address {0}: the bridge has no uplink")]
    NoSuchNic(Mac),
    /// The bond is not there.
    #[error("there is no aggregation {0}: the bridge has no uplink")]
    NoSuchAggregation(String),
    /// The NIC carries addresses, which would stop working: they belong on the bridge.
    #[error("nic {uplink} carries {}: it is left alone and the bridge has no uplink", listed(addresses))]
    UplinkHasAddress {
        /// The NIC.
        uplink: String,
        /// Its addresses, IPv6 link-local ones left out.
        addresses: Vec<IpNet>,
    },
    /// The NIC is a port of something else.
    #[error("nic {uplink} belongs to {master}: it is left alone and the bridge has no uplink")]
    UplinkBusy {
        /// The NIC.
        uplink: String,
        /// Its bridge or bond.
        master: String,
    },
    /// The kernel refused something.
    #[error(transparent)]
    Refused(Arc<LinkError>),
}

impl From<LinkError> for TagProblem {
    fn from(error: LinkError) -> Self {
        Self::Refused(Arc::new(error))
    }
}

fn listed(addresses: &[IpNet]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What became of one tag.
#[derive(Debug)]
pub struct TagReport {
    /// The tag.
    pub tag: NicTag,
    /// Its bridge.
    pub bridge: String,
    /// The NIC that is now the bridge's way out; none for a tag without one.
    pub result: Result<Option<String>, TagProblem>,
}

/// What became of all tags, by name.
pub type BridgeReport = Vec<TagReport>;

/// A tag and its links at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagStatus {
    /// The tag.
    pub tag: Tag,
    /// Its bridge.
    pub bridge: String,
    /// Whether the bridge was made.
    pub bridge_exists: bool,
    /// The NIC with the tag's MAC address, attached or not.
    pub uplink: Option<String>,
    /// Whether it works: the NIC (without one: the bridge) is up, the NIC with its cable in.
    pub up: bool,
}

impl NicTags {
    /// Makes the bridge of every tag, with its MTU (the largest of its tags) and the list of its tags as `ifalias`, and
    /// attaches the uplink if that carries no address. Bridges get no address, and IPv6 only if the host was given such an
    /// address there. May be repeated: what is right is left alone, at the price of two questions to the kernel for each
    /// bridge; a NIC that was missing is attached when it is there.
    ///
    /// # Errors
    /// When links could not be asked for at all. What is wrong with one tag is in its report.
    pub fn ensure_bridges(&self) -> Result<BridgeReport, NicTagError> {
        let all = self.by_bridge();
        kernel::ask(async |links| {
            let mut report = Vec::new();
            let vlan_filtering = support_by(&links, all.first().map(|(bridge, _)| bridge.as_str())).await?;
            for (bridge, tags) in all {
                let result = ensure(&links, &bridge, &tags, vlan_filtering).await;
                let each = |tag: &&Tag| TagReport { tag: tag.name.clone(), bridge: bridge.clone(), result: result.clone() };
                report.extend(tags.iter().map(each));
            }
            report.sort_by(|a, b| a.tag.cmp(&b.tag));
            Ok(report)
        })
    }

    /// All tags with their links, by name.
    ///
    /// # Errors
    /// When links could not be asked for.
    pub fn list(&self) -> Result<Vec<TagStatus>, NicTagError> {
        let links = kernel::ask(async |links| Ok(links.list().await?))?;
        let mut list: Vec<TagStatus> = self.iter().map(|tag| status(tag, &links)).collect();
        list.sort_by(|a, b| a.tag.name.cmp(&b.tag.name));
        Ok(list)
    }

    /// The tags of each bridge, in the file's order.
    fn by_bridge(&self) -> Vec<(String, Vec<&Tag>)> {
        let mut bridges: Vec<(String, Vec<&Tag>)> = Vec::new();
        for tag in self.iter() {
            let name = tag.bridge();
            match bridges.iter_mut().find(|(known, _)| *known == name) {
                Some((_, tags)) => tags.push(tag),
                None => bridges.push((name, vec![tag])),
            }
        }
        bridges
    }
}

fn status(tag: &Tag, links: &[Link]) -> TagStatus {
    let bridge = tag.bridge();
    let link = links.iter().find(|link| link.name == bridge && link.kind == LinkKind::Bridge);
    let uplink = kernel::uplink(links, &tag.provider, link.map(|link| link.index));
    let up = match tag.provider {
        Provider::Nothing => link.is_some_and(|link| link.up),
        _ => uplink.is_some_and(|uplink| uplink.up && uplink.carrier),
    };
    TagStatus { tag: tag.clone(), bridge, bridge_exists: link.is_some(), uplink: uplink.map(|uplink| uplink.name.clone()), up }
}

/// The alias of a bridge: its tags, as many as fit.
fn alias(tags: &[&Tag]) -> String {
    let mut alias = "nictags: ".to_owned();
    for (index, tag) in tags.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        if alias.len() + comma.len() + tag.name.as_str().len() > 220 {
            alias.push_str(",...");
            break;
        }
        alias.push_str(comma);
        alias.push_str(tag.name.as_str());
    }
    alias
}

/// What stands in the alias between the tags and the uplink's name: with it the next look need not search for the NIC.
const VIA: &str = " via ";

async fn ensure(links: &Links, bridge: &str, tags: &[&Tag], vlan_filtering: bool) -> Result<Option<String>, TagProblem> {
    let mtu = tags.iter().map(|tag| tag.effective_mtu()).max().unwrap_or(DEFAULT_MTU);
    let provider = tags.first().map_or(&Provider::Nothing, |tag| &tag.provider);
    let alias = alias(tags);
    let found = links.get(bridge).await?;
    if let Some(found) = &found
        && let Some(uplink) = as_it_was_made(links, found, &alias, mtu, vlan_filtering, provider).await?
    {
        return Ok(uplink);
    }
    let mut ipv6 = false;
    if let Some(found) = found.as_ref().filter(|found| found.kind == LinkKind::Bridge) {
        ipv6 = used_addresses(&links.addresses(Some(bridge)).await?).iter().any(|net| matches!(net, IpNet::V6(_)));
        if found.alias.is_none() && found.mtu == mtu {
            // Made at boot by others, who cannot say that the MTU is meant to stay whatever its ports: a change says so.
            links.set_mtu(bridge, mtu - 1).await?;
        }
    }
    let mac = match provider {
        Provider::Nic(mac) => Some(mac.0),
        Provider::Aggregation(_) => kernel::uplink(&links.list().await?, provider, None).and_then(|bond| bond.mac),
        Provider::Nothing => None,
    };
    let kept = found.as_ref().and_then(|found| found.alias.as_deref()).filter(|old| old.split(VIA).next() == Some(alias.as_str()));
    let alias_wanted = Some(kept.unwrap_or(&alias));
    // As at boot (net-agent.md section 13).
    let multicast_snooping = false;
    let spec = BridgeSpec { name: bridge, mtu: Some(mtu), mac, vlan_filtering, alias: alias_wanted, multicast_snooping, ipv6 };
    let made = links.ensure_bridge(&spec).await?;
    if *provider == Provider::Nothing {
        return Ok(None);
    }
    let uplink = attach_uplink(links, &made, provider, mtu).await?;
    let alias = format!("{alias}{VIA}{uplink}");
    if made.alias.as_deref() != Some(&alias) {
        links.set_alias(bridge, &alias).await?;
    }
    Ok(Some(uplink))
}

/// The uplink, if the bridge and it are as an earlier call left them.
async fn as_it_was_made(
    links: &Links,
    found: &Link,
    alias: &str,
    mtu: u32,
    vlan_filtering: bool,
    provider: &Provider,
) -> Result<Option<Option<String>>, TagProblem> {
    let right = found.kind == LinkKind::Bridge && found.up && found.mtu == mtu && found.vlan_filtering.unwrap_or(false) == vlan_filtering;
    let Some(rest) = found.alias.as_deref().filter(|_| right).and_then(|found| found.strip_prefix(alias)) else { return Ok(None) };
    let name = match provider {
        Provider::Nothing => return Ok(rest.is_empty().then_some(None)),
        _ => rest.strip_prefix(VIA),
    };
    let Some(name) = name else { return Ok(None) };
    let attached = links.get(name).await?.filter(|nic| nic.master == Some(found.index) && nic.up && nic.mtu >= mtu);
    let same = attached.filter(|nic| kernel::uplink(std::slice::from_ref(nic), provider, None).is_some());
    Ok(same.map(|nic| Some(nic.name)))
}

async fn attach_uplink(links: &Links, bridge: &Link, provider: &Provider, mtu: u32) -> Result<String, TagProblem> {
    let all = links.list().await?;
    let missing = || match provider {
        Provider::Nic(mac) => TagProblem::NoSuchNic(*mac),
        Provider::Aggregation(name) => TagProblem::NoSuchAggregation(name.clone()),
        Provider::Nothing => TagProblem::NoSuchAggregation(String::new()),
    };
    let nic = kernel::uplink(&all, provider, Some(bridge.index)).ok_or_else(missing)?;
    let uplink = nic.name.clone();
    let attached = nic.master == Some(bridge.index);
    if let Some(master) = nic.master.filter(|_| !attached) {
        let named = all.iter().find(|link| link.index == master);
        let master = named.map_or_else(|| format!("link {master}"), |link| link.name.clone());
        return Err(TagProblem::UplinkBusy { uplink, master });
    }
    if !attached {
        let addresses = used_addresses(&links.addresses(Some(&uplink)).await?);
        if !addresses.is_empty() {
            return Err(TagProblem::UplinkHasAddress { uplink, addresses });
        }
    }
    if nic.mtu < mtu {
        links.set_mtu(&uplink, mtu).await?;
    }
    if !attached {
        links.disable_ipv6(&uplink)?;
        links.set_bridge(&uplink, Some(&bridge.name)).await?;
        links.set_port(&uplink, PortFlags::UPLINK).await?;
    }
    if !nic.up {
        links.set_up(&uplink).await?;
    }
    Ok(uplink)
}

/// Those that somebody set: every NIC that is up has an IPv6 link-local one by itself.
fn used_addresses(addresses: &[Address]) -> Vec<IpNet> {
    let by_itself = |net: &IpNet| matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local());
    addresses.iter().map(|address| address.net).filter(|net| !by_itself(net)).collect()
}
