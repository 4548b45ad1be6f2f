//! The few facts of the host that go into every VM object, without the cost of the whole document.

use triton_files::{FileError, Identity, Layout, read_json};
use triton_types::ServerUuid;

use crate::{Dmi, DmiError, NodeConfig, Source, platform, swap_uuid};

/// Why the host's identity is not known.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// A file could not be read, or an identity could not be made.
    #[error("could not read the facts of this compute node")]
    File(#[from] FileError),
    /// The machine has no uuid of its own, and none was given.
    #[error("this compute node has no uuid: set \"override_uuid\" in {identity}")]
    NoUuid {
        /// The file that can give one.
        identity: String,
        /// What the firmware lacks.
        source: DmiError,
    },
}

/// Cheap facts of the host: a few small files, no process, no netlink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The compute node, as the headnode knows it: the identity's `override_uuid`, else the firmware's uuid with its first three groups swapped.
    pub server_uuid: ServerUuid,
    /// `datacenter_name` of node.config, else of triton-networking.json.
    pub datacenter_name: Option<String>,
    /// `dns_domain` of node.config, else of triton-networking.json.
    pub dns_domain: Option<String>,
    /// The platform that runs: `TRITON_RELEASE`, or a stable stamp made for a stock distribution. Never empty.
    pub platform_stamp: String,
    /// `headnode_id` of node.config.
    pub headnode_id: Option<String>,
    /// The pool of instances and images: `pool` of the storage record, else `zones`.
    pub zpool: String,
    /// Prefix of names that nodes under one kernel share: `triton` on a real one.
    pub prefix: String,
    /// True when the node has an identity of its own instead of the machine's (ruling 45): firmware and kernel arguments then
    /// describe the machine around it.
    pub overridden: bool,
}

impl HostFacts {
    /// Reads the facts of the node below `layout`. The identity of a node below another root than `/` is made at first use.
    ///
    /// # Errors
    /// When the node has no uuid, or one of its files is there and cannot be read.
    pub fn load(layout: &Layout) -> Result<Self, FactsError> {
        Self::load_from(layout, &Source::kernel())
    }

    /// [`HostFacts::load`] with the kernel's files elsewhere.
    ///
    /// # Errors
    /// As [`HostFacts::load`].
    pub fn load_from(layout: &Layout, source: &Source) -> Result<Self, FactsError> {
        let identity = if layout.is_host() {
            let host = || Identity { override_uuid: None, prefix: "triton".to_owned() };
            read_json(&layout.identity())?.unwrap_or_else(host)
        } else {
            if let Some(directory) = layout.identity().parent() {
                std::fs::create_dir_all(directory).map_err(|e| FileError::new("create directory", directory, e))?;
            }
            Identity::load_or_create(layout)?
        };
        let server_uuid = match identity.override_uuid {
            Some(uuid) => uuid,
            None => {
                let no_uuid = |source| FactsError::NoUuid { identity: layout.identity().display().to_string(), source };
                ServerUuid::from(swap_uuid(Dmi::read(source).uuid().map_err(no_uuid)?))
            }
        };
        let config = NodeConfig::load(layout)?;
        // Neither file is worth failing for: the tags' owner reports a broken one.
        let networking: serde_json::Value = read_json(&layout.config().join("triton-networking.json")).ok().flatten().unwrap_or_default();
        let storage: serde_json::Value = read_json(&layout.at("/var/triton/storage.json")).ok().flatten().unwrap_or_default();
        let pool = storage.get("pool").and_then(serde_json::Value::as_str).filter(|pool| !pool.is_empty());
        Ok(Self {
            server_uuid,
            datacenter_name: platform::setting("datacenter_name", &config, &networking),
            dns_domain: platform::setting("dns_domain", &config, &networking),
            platform_stamp: platform::stamp(layout),
            headnode_id: config.get("headnode_id").map(str::to_owned),
            zpool: pool.unwrap_or("zones").to_owned(),
            prefix: identity.prefix,
            overridden: identity.override_uuid.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn node(identity: &str) -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.prepare().unwrap();
        fs::write(layout.identity(), identity).unwrap();
        (root, layout)
    }

    #[test]
    fn the_headnode_s_name_for_the_machine_is_the_swapped_firmware_uuid() {
        let (root, layout) = node(r#"{"prefix":"triton"}"#);
        let dmi = root.path().join("sys/class/dmi/id");
        fs::create_dir_all(&dmi).unwrap();
        fs::write(dmi.join("product_uuid"), "4c4c4544-0057-4710-8051-b3c04f585131\n").unwrap();
        fs::write(layout.config().join("node.config"), "datacenter_name='coal'\nheadnode_id='7'\n").unwrap();
        fs::write(layout.config().join("triton-networking.json"), r#"{"datacenter_name":"other","dns_domain":"example.com"}"#).unwrap();
        fs::write(layout.at("/var/triton/storage.json"), r#"{"format":1,"kind":"dir","pool":"tank"}"#).unwrap();
        let facts = HostFacts::load_from(&layout, &Source::at(root.path())).unwrap();
        assert_eq!(facts.server_uuid.to_string(), "44454c4c-5700-1047-8051-b3c04f585131");
        assert_eq!(facts.datacenter_name.as_deref(), Some("coal"));
        assert_eq!((facts.dns_domain.as_deref(), facts.headnode_id.as_deref()), (Some("example.com"), Some("7")));
        assert_eq!((facts.zpool.as_str(), facts.overridden), ("tank", false));
    }

    #[test]
    fn an_identity_of_its_own_wins_over_the_firmware_and_stays() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let first = HostFacts::load(&layout).unwrap();
        assert_eq!(HostFacts::load(&layout).unwrap(), first);
        assert!(first.overridden && first.prefix.starts_with("triton-"));
        assert_eq!((first.zpool.as_str(), first.datacenter_name), ("zones", None));
    }

    #[test]
    fn without_any_uuid_the_error_names_the_file_that_can_give_one() {
        let (root, layout) = node(r#"{"prefix":"triton"}"#);
        let error = HostFacts::load_from(&layout, &Source::at(root.path())).unwrap_err();
        assert!(error.to_string().contains("identity.json"), "{error}");
    }
}
