//! The NIC tags of this node, as this crate needs them.

use std::net::Ipv4Addr;

use serde_json::Value;
use triton_files::{Layout, read_json};
use triton_netconf::{Networking, Provider, aggregation_link};
use triton_types::{JsonMap, Mac};

use crate::links::error_text;

/// What carries a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Uplink {
    /// The link with this address.
    Mac(Mac),
    /// The link with this name: an aggregation.
    Named(String),
}

/// One configured tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Its name.
    pub name: String,
    /// What carries it.
    pub uplink: Uplink,
}

/// A NIC of the host that is configured with an address of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostNic {
    /// Its address.
    pub mac: Mac,
    /// The tag that it is on.
    pub tag: String,
    /// Its VLAN, 0 for untagged.
    pub vlan_id: u16,
    /// The overlays whose frames go through it.
    pub overlays: Vec<String>,
}

/// All configured tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagFacts {
    /// The tag of the admin network.
    pub admin: String,
    /// In the order of the configuration.
    pub tags: Vec<Tag>,
    /// The host's NICs.
    pub nics: Vec<HostNic>,
    /// The address that the headnode gave this node on the admin network.
    pub admin_ip: Option<Ipv4Addr>,
}

impl Default for TagFacts {
    fn default() -> Self {
        Self { admin: "admin".to_owned(), tags: Vec::new(), nics: Vec::new(), admin_ip: None }
    }
}

impl TagFacts {
    /// The tags in triton-networking.json; none when there is no such file. Names that the headnode would refuse are left out.
    pub(crate) fn load(layout: &Layout) -> Result<Self, String> {
        let document: Option<JsonMap> = read_json(&layout.config().join("triton-networking.json")).map_err(|error| error_text(&error))?;
        let Some(document) = document else { return Ok(Self::default()) };
        // What is wrong in it is told at boot, by those who configure the links.
        let (networking, _) = Networking::of_document(document);
        let tag = |entry: &triton_netconf::TagEntry| {
            let name = entry.name.to_string();
            let uplink = match &entry.provider {
                Provider::Nic(mac) => Uplink::Mac(*mac),
                Provider::Aggregation(name) => Uplink::Named(aggregation_link(name)),
                Provider::Nothing => return None,
            };
            (!name.contains('/')).then_some(Tag { name, uplink })
        };
        // Instances on overlays are placed where sysinfo says that they can run: only names whose rule can be followed.
        let followed = |name: &&triton_types::NicTag| networking.overlays.iter().any(|overlay| overlay.name == **name);
        let nics = networking.vnics.iter().map(|vnic| HostNic {
            mac: vnic.mac,
            tag: vnic.tag.to_string(),
            vlan_id: vnic.vlan_id,
            overlays: vnic.overlay_tags.iter().filter(followed).map(ToString::to_string).collect(),
        });
        let admin = networking.admin_tag.as_ref().map_or_else(|| "admin".to_owned(), ToString::to_string);
        let admin_ip = admin_ip(&networking.document, &admin);
        Ok(Self { admin_ip, admin, tags: networking.tags.iter().filter_map(tag).collect(), nics: nics.collect() })
    }
}

/// The first address on the admin network; the rest of its entry is no matter.
fn admin_ip(document: &JsonMap, admin: &str) -> Option<Ipv4Addr> {
    let vnics = document.get("vnics")?.as_array()?;
    let on_admin = vnics.iter().filter(|vnic| vnic.get("nic_tag").and_then(Value::as_str) == Some(admin));
    on_admin.filter_map(|vnic| vnic.get("ip")?.as_str()?.parse().ok()).next()
}
