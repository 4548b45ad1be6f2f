//! Further bridges of a tag whose first is full (ruling 68): the kernel's bridges take 1,023 ports.
//!
//! Nothing is stored. The kernel gives a new port the lowest number that is free, so a port whose number is above the
//! limit found its bridge full, and goes on to the next. Each further bridge is joined to the first by one pair of links;
//! what is learned on it is what is elsewhere.

use std::{os::fd::AsFd, time::Duration};

use triton_files::{FileError, Lock};
use triton_link::{BridgeSpec, Link, LinkKind, Links, PortFlags, VethSpec};
use triton_netconf::{BRIDGE_PREFIX, TRUNK_PREFIXES};

use crate::{NicTagError, port::Port};

/// How many ports of a bridge instances may take. The rest is for uplink, host NICs, trunks, and for ports on their way to
/// another bridge.
pub(crate) const PORTS: u16 = 960;
/// How many further bridges a tag may have.
const BRIDGES: u16 = 40;
/// How long another's making of a bridge is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a port found room.
pub(crate) struct Placed {
    pub bridge: Link,
    /// 0 for the first bridge.
    pub number: u16,
}

/// Bridge `number` of the tag whose first bridge is `first`.
pub(crate) fn name(first: &str, number: impl Into<usize>) -> String {
    let number = number.into();
    if number == 0 { first.to_owned() } else { format!("{first}-{number}") }
}

/// The two ends of what joins bridge `number` to the first: the first's port, the further one's.
pub(crate) fn trunk(first: &str, number: impl Into<usize>) -> [String; 2] {
    let number = number.into();
    let rest = first.strip_prefix(BRIDGE_PREFIX).unwrap_or(first);
    TRUNK_PREFIXES.map(|prefix| format!("{prefix}{rest}-{number}"))
}

/// Puts the port on the first bridge with room; one that is on a bridge within the limit stays.
pub(crate) async fn place(links: &Links, port: &Port<'_>, limit: u16) -> Result<Placed, NicTagError> {
    let absent = |name: &str| NicTagError::Absent(name.to_owned());
    let mut host = links.get(port.host).await?.ok_or_else(|| absent(port.host))?;
    let first = links.get(port.bridge).await?.ok_or_else(|| absent(port.bridge))?;
    for number in 0..=BRIDGES {
        let bridge = match number {
            0 => first.clone(),
            _ => ensure(links, port, &first, number).await?,
        };
        if host.master != Some(bridge.index) {
            links.set_bridge(port.host, Some(&bridge.name)).await?;
            host = links.get(port.host).await?.ok_or_else(|| absent(port.host))?;
        }
        if host.port_number.is_none_or(|number| number <= limit) {
            return Ok(Placed { bridge, number });
        }
    }
    Err(NicTagError::Full(port.bridge.to_owned()))
}

/// Bridge `number`, joined to the first.
async fn ensure(links: &Links, port: &Port<'_>, first: &Link, number: u16) -> Result<Link, NicTagError> {
    if let Some(bridge) = joined(links, first, number).await? {
        return Ok(bridge);
    }
    let locks = port.layout.locks();
    std::fs::create_dir_all(&locks).map_err(|e| FileError::new("create directory", &locks, e))?;
    // Two at once would take each other's trunk for a left-over.
    let _lock = Lock::take(&locks.join("bridges.lock"), "add a bridge", PATIENCE)?;
    if let Some(bridge) = joined(links, first, number).await? {
        return Ok(bridge);
    }
    let alias = format!("further ports of {}", first.name);
    let bridge_name = name(&first.name, number);
    let spec = BridgeSpec {
        mtu: Some(first.mtu),
        vlan_filtering: first.vlan_filtering == Some(true),
        alias: Some(&alias),
        ..BridgeSpec::new(&bridge_name)
    };
    let bridge = links.ensure_bridge(&spec).await?;
    let [near, far] = trunk(&first.name, number);
    let alias = format!("joins {} and {bridge_name}", first.name);
    let pair = VethSpec {
        host: &near,
        guest: &far,
        guest_mac: None,
        mtu: Some(first.mtu),
        guest_netns: links.netns().as_fd(),
        bridge: Some(&first.name),
        alias: Some(&alias),
    };
    links.create_veth(&pair).await?;
    links.set_port(&near, PortFlags::UPLINK).await?;
    links.disable_ipv6(&far)?;
    links.set_bridge(&far, Some(&bridge_name)).await?;
    links.set_port(&far, PortFlags::UPLINK).await?;
    links.set_up(&far).await?;
    tracing::info!(bridge = %bridge_name, first = %first.name, "a further bridge was added");
    Ok(bridge)
}

/// Bridge `number` if it is there and joined to the first by a pair that is up.
async fn joined(links: &Links, first: &Link, number: u16) -> Result<Option<Link>, NicTagError> {
    let Some(bridge) = links.get(&name(&first.name, number)).await?.filter(|link| link.kind == LinkKind::Bridge && link.up) else {
        return Ok(None);
    };
    let [near, far] = trunk(&first.name, number);
    for (end, master) in [(near, first.index), (far, bridge.index)] {
        if links.get(&end).await?.is_none_or(|link| link.master != Some(master) || !link.up) {
            return Ok(None);
        }
    }
    Ok(Some(bridge))
}
