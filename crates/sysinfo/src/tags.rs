//! The NIC tags of this node, as this crate needs them.

use std::net::Ipv4Addr;

use serde::Deserialize;
use triton_files::{Layout, read_json};
use triton_types::{Mac, NicTag};

use crate::links::error_text;

/// What carries a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Uplink {
    /// The link with this address.
    Mac(Mac),
    /// The link with this name: an aggregation, or the bridge of a tag without uplink.
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

/// All configured tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagFacts {
    /// The tag of the admin network.
    pub admin: String,
    /// In the order of the configuration.
    pub tags: Vec<Tag>,
    /// The address that the headnode gave this node on the admin network.
    pub admin_ip: Option<Ipv4Addr>,
}

impl Default for TagFacts {
    fn default() -> Self {
        Self { admin: "admin".to_owned(), tags: Vec::new(), admin_ip: None }
    }
}

#[derive(Deserialize)]
struct File {
    admin_tag: Option<String>,
    #[serde(default)]
    nictags: Vec<Line>,
    #[serde(default)]
    vnics: Vec<Vnic>,
}

#[derive(Deserialize)]
struct Vnic {
    nic_tag: Option<String>,
    ip: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    name: String,
    mac: Option<String>,
}

impl TagFacts {
    /// The tags in triton-networking.json; none when there is no such file. Names that the headnode would refuse are left out.
    pub(crate) fn load(layout: &Layout) -> Result<Self, String> {
        let file: Option<File> = read_json(&layout.config().join("triton-networking.json")).map_err(|error| error_text(&error))?;
        let Some(file) = file else { return Ok(Self::default()) };
        let legal = |name: &str| name.parse::<NicTag>().is_ok() && !name.contains('/');
        let tag = |line: Line| {
            let mac = line.mac.filter(|mac| !mac.is_empty() && mac != "-")?;
            let uplink = mac.parse().map_or(Uplink::Named(mac), Uplink::Mac);
            legal(&line.name).then_some(Tag { name: line.name, uplink })
        };
        let admin = file.admin_tag.filter(|tag| !tag.is_empty()).unwrap_or_else(|| "admin".to_owned());
        let on_admin = file.vnics.into_iter().filter(|vnic| vnic.nic_tag.as_deref() == Some(admin.as_str()));
        let admin_ip = on_admin.filter_map(|vnic| vnic.ip?.parse().ok()).next();
        Ok(Self { admin_ip, admin, tags: file.nictags.into_iter().filter_map(tag).collect() })
    }
}
