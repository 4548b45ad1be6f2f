//! The document itself.

use std::net::IpAddr;

use serde::Serialize;
use triton_types::{JsonMap, ServerUuid};

use crate::SysinfoError;

/// Keys that are missing from a document, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Omission {
    /// The first of the missing keys, or the name of their group.
    pub what: &'static str,
    /// Why, for a log.
    pub why: String,
}

/// A sysinfo document. Serialises as the JSON object that the headnode and the operator read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Sysinfo {
    pub(crate) map: JsonMap,
    #[serde(skip)]
    pub(crate) uuid: ServerUuid,
    #[serde(skip)]
    pub(crate) admin_tag: String,
    #[serde(skip)]
    pub(crate) admin_ip: Option<IpAddr>,
    #[serde(skip)]
    pub(crate) omissions: Vec<Omission>,
}

impl Sysinfo {
    /// The document, keys in their usual order.
    pub fn as_map(&self) -> &JsonMap {
        &self.map
    }

    /// The document as an owned object.
    pub fn into_map(self) -> JsonMap {
        self.map
    }

    /// The compute node.
    pub fn uuid(&self) -> ServerUuid {
        self.uuid
    }

    /// The address that its agents serve on.
    ///
    /// # Errors
    /// [`SysinfoError::AdminIp`]: nothing on this node says which it is.
    pub fn admin_ip(&self) -> Result<IpAddr, SysinfoError> {
        self.admin_ip.ok_or_else(|| SysinfoError::AdminIp { admin_tag: self.admin_tag.clone() })
    }

    /// What could not be learnt.
    pub fn omissions(&self) -> &[Omission] {
        &self.omissions
    }

    /// The keys in which two documents differ, in no particular order; empty when the headnode need not be told. Cheap: a comparison
    /// in memory. No key is left out of it, since none changes by itself (the time of boot is the kernel's, free memory is not in it).
    pub fn changes(&self, earlier: &Self) -> Vec<String> {
        let changed = self.map.iter().filter(|(key, value)| earlier.map.get(*key) != Some(value)).map(|(key, _)| key.clone());
        let gone = earlier.map.keys().filter(|key| !self.map.contains_key(*key)).cloned();
        changed.chain(gone).collect()
    }
}
