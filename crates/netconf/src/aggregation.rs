//! Aggregations: several NICs as one link.

use triton_types::{JsonMap, Mac};

use crate::{
    Problem,
    fields::{Object, Problems},
    problem::shown,
};

/// Who begins to speak LACP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LacpMode {
    /// Nobody: a static aggregation.
    Off,
    /// This node.
    Active,
    /// The other side.
    Passive,
}

/// One aggregation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregation {
    /// Its name: letters, digits and `_`, ending in a digit, at most 31.
    pub name: String,
    /// Its NICs, at least one.
    pub macs: Vec<Mac>,
    /// How it finds its other side.
    pub mode: LacpMode,
}

/// Whether `name` can be an aggregation's.
pub(crate) fn is_aggregation_name(name: &str) -> bool {
    name.len() <= 31
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().last().is_some_and(|b| b.is_ascii_digit())
}

impl Aggregation {
    /// Those of a `networking.json`; what is wrong with one is not told ([`crate::Networking::parse`] does).
    pub fn of_document(document: &JsonMap) -> Vec<Self> {
        Self::read_all(&Object { map: document, place: String::new() }, &mut Problems::default())
    }

    pub(crate) fn read_all(document: &Object<'_>, problems: &mut Problems) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for object in document.objects("aggregations", problems) {
            let Some(found) = Self::read(&object, problems) else { continue };
            let place = object.place.trim_end_matches('.').to_owned();
            if all.iter().any(|known| known.name == found.name) {
                problems.0.push(Problem::DuplicateName { place, name: found.name });
            } else if let Some(mac) = found.macs.iter().find(|mac| all.iter().any(|known| known.macs.contains(mac))) {
                problems.0.push(Problem::DuplicateMac { place, mac: *mac });
            } else {
                all.push(found);
            }
        }
        all
    }

    fn read(object: &Object<'_>, problems: &mut Problems) -> Option<Self> {
        let name = object.text("name", problems).unwrap_or_default();
        if !is_aggregation_name(name) {
            problems.value(object.place("name"), format!("{} is no name of an aggregation", shown(name)));
            return None;
        }
        let mut macs: Vec<Mac> = Vec::new();
        for mac in object.list("macs", "a MAC address", problems) {
            if !macs.contains(&mac) {
                macs.push(mac);
            }
        }
        if macs.is_empty() {
            problems.value(object.place("macs"), "an aggregation of no nic");
            return None;
        }
        let mode = match object.text("lacp_mode", problems) {
            None | Some("off") => LacpMode::Off,
            Some("active") => LacpMode::Active,
            Some("passive") => LacpMode::Passive,
            Some(other) => {
                problems.value(object.place("lacp_mode"), format!("{} is not off, active or passive: off is used", shown(other)));
                LacpMode::Off
            }
        };
        Some(Self { name: name.to_owned(), macs, mode })
    }
}
