//! `networking.json` as it is understood (platform.md section 3.4).

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use triton_types::{JsonMap, Mac, NicTag};

use crate::{
    Aggregation, Overlay, Problem, Via, Vnic,
    aggregation::is_aggregation_name,
    fields::{Object, Problems, shown_value},
    problem::shown,
    vnic,
};

/// What a tag's frames leave the node through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// The NIC with this MAC address.
    Nic(Mac),
    /// The aggregation of this name.
    Aggregation(String),
    /// Nothing: a network within this node, or one that it is not on.
    Nothing,
}

impl Provider {
    /// Reads a tag's `mac`: a MAC address, the name of an aggregation, or `-`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "-" => Some(Self::Nothing),
            _ => text.parse().map(Self::Nic).ok().or_else(|| is_aggregation_name(text).then(|| Self::Aggregation(text.to_owned()))),
        }
    }

    /// What really provides: a NIC that is part of an aggregation does not carry frames by itself.
    #[must_use]
    pub fn within(self, aggregations: &[Aggregation]) -> Self {
        match self {
            Self::Nic(mac) => match aggregations.iter().find(|aggregation| aggregation.macs.contains(&mac)) {
                Some(aggregation) => Self::Aggregation(aggregation.name.clone()),
                None => Self::Nic(mac),
            },
            other => other,
        }
    }
}

/// One of `nictags`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagEntry {
    /// Its name.
    pub name: NicTag,
    /// What provides it here.
    pub provider: Provider,
    /// Bytes, 1500 to 9000; absent: 1500.
    pub mtu: Option<u32>,
}

/// The whole document; what was wrong in it is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Networking {
    /// The tags, each once. If the admin network's tag is not `admin`, one of that name is left out.
    pub tags: Vec<TagEntry>,
    /// The tag of the admin network; absent: `admin`.
    pub admin_tag: Option<NicTag>,
    /// The aggregations, each once.
    pub aggregations: Vec<Aggregation>,
    /// The host's NICs, the admin one first, each MAC address once.
    pub vnics: Vec<Vnic>,
    /// Resolvers, those of the NICs included, each once.
    pub resolvers: Vec<IpAddr>,
    /// Static routes, those of the NICs included, each destination once.
    pub routes: Vec<(IpNet, Via)>,
    /// The node's name.
    pub hostname: Option<String>,
    /// The data centre's name.
    pub datacenter_name: Option<String>,
    /// The domain that the data centre's name is in.
    pub dns_domain: Option<String>,
    /// How this node takes part in overlay networks, by the name that their tags begin with.
    pub overlays: Vec<Overlay>,
    /// Networks within this node.
    pub etherstubs: Vec<NicTag>,
    /// Everything as it was read, unknown keys included.
    pub document: JsonMap,
}

impl Networking {
    /// Reads the bytes of the file. None if they are no JSON object.
    pub fn parse(bytes: &[u8]) -> (Option<Self>, Vec<Problem>) {
        match serde_json::from_slice::<JsonMap>(bytes) {
            Ok(document) => {
                let (networking, problems) = Self::of_document(document);
                (Some(networking), problems)
            }
            Err(error) => (None, vec![Problem::Unreadable(error.to_string())]),
        }
    }

    /// Understands a document that was read.
    pub fn of_document(document: JsonMap) -> (Self, Vec<Problem>) {
        let mut problems = Problems::default();
        let mut networking = Self::read(&Object { map: &document, place: String::new() }, &mut problems);
        networking.document = document;
        (networking, problems.0)
    }

    fn read(object: &Object<'_>, problems: &mut Problems) -> Self {
        let admin_tag = object.parsed("admin_tag", "a nic tag", problems);
        let mut networking = Self {
            admin_tag,
            aggregations: Aggregation::read_all(object, problems),
            hostname: object.domain("hostname", problems),
            datacenter_name: object.domain("datacenter_name", problems),
            dns_domain: object.domain("dns_domain", problems),
            etherstubs: object.list("etherstubs", "a nic tag", problems),
            ..Self::default()
        };
        networking.add_resolvers(object, problems);
        networking.read_tags(object, problems);
        networking.routes = vnic::routes(object, problems);
        networking.read_vnics(object, problems);
        for (name, rule) in object.entries("nictag_rules", problems) {
            match rule.as_str().ok_or_else(|| "not a text".to_owned()).and_then(|rule| Overlay::parse(name, rule)) {
                Ok(overlay) => networking.overlays.push(overlay),
                Err(reason) => problems.0.push(Problem::Overlay { name: name.chars().take(64).collect(), reason }),
            }
        }
        networking
    }

    /// The tag of the admin network.
    pub fn is_admin(&self, tag: &NicTag) -> bool {
        match &self.admin_tag {
            Some(admin) => tag == admin,
            None => tag.as_str() == "admin",
        }
    }

    /// Where the admin network has a tag of its own, `admin` is only a word for it.
    fn is_alias(&self, tag: &NicTag) -> bool {
        tag.as_str() == "admin" && !self.is_admin(tag)
    }

    fn add_resolvers(&mut self, object: &Object<'_>, problems: &mut Problems) {
        for resolver in object.list("resolvers", "an IP address", problems) {
            if !self.resolvers.contains(&resolver) {
                self.resolvers.push(resolver);
            }
        }
    }

    fn read_tags(&mut self, object: &Object<'_>, problems: &mut Problems) {
        for entry in object.objects("nictags", problems) {
            let before = problems.0.len();
            let Some(name) = entry.parsed::<NicTag>("name", "a nic tag", problems) else {
                if problems.0.len() == before {
                    problems.value(entry.place("name"), "a nic tag without a name");
                }
                continue;
            };
            if self.is_alias(&name) {
                continue;
            }
            if self.tags.iter().any(|known| known.name == name) {
                let place = entry.place.trim_end_matches('.').to_owned();
                problems.0.push(Problem::DuplicateName { place, name: name.to_string() });
                continue;
            }
            let provider = match entry.get("mac") {
                None => Provider::Nothing,
                Some(value) => value.as_str().and_then(Provider::parse).unwrap_or_else(|| {
                    problems.value(entry.place("mac"), format!("{} is neither a MAC address nor an aggregation", shown_value(value)));
                    Provider::Nothing
                }),
            };
            let mtu = entry.mtu(1500, problems);
            self.tags.push(TagEntry { name, provider: provider.within(&self.aggregations), mtu });
        }
    }

    fn read_vnics(&mut self, object: &Object<'_>, problems: &mut Problems) {
        for entry in object.objects("vnics", problems) {
            self.add_resolvers(&entry, problems);
            for (destination, via) in vnic::routes(&entry, problems) {
                if self.routes.iter().all(|(known, _)| *known != destination) {
                    self.routes.push((destination, via));
                }
            }
            let Some(vnic) = Vnic::read(&entry, problems) else { continue };
            if self.is_alias(&vnic.tag) {
                continue;
            }
            if self.vnics.iter().any(|known| known.mac == vnic.mac) {
                let place = entry.place.trim_end_matches('.').to_owned();
                problems.0.push(Problem::DuplicateMac { place, mac: vnic.mac });
                continue;
            }
            self.vnics.push(vnic);
        }
    }
}

/// A value of a route: a router, or `macs[<mac>]` for what is on that NIC's link.
pub(crate) fn via(value: &Value) -> Result<Via, String> {
    let text = value.as_str().ok_or_else(|| format!("{} is no text", shown_value(value)))?;
    if let Some(mac) = text.strip_prefix("macs[").and_then(|rest| rest.strip_suffix(']')) {
        return mac.parse().map(Via::Nic).map_err(|_| format!("{} is no MAC address", shown(mac)));
    }
    text.parse().map(Via::Router).map_err(|_| format!("{} is neither an address nor macs[..]", shown(text)))
}
