//! The pool of instances and images.

use serde_json::{Value, json};
use triton_files::Layout;
use triton_storage::Storage;
use triton_types::{JsonMap, StorageKind};
use triton_zfs::{DatasetName, Zfs};

use crate::links::error_text;

/// What is known of the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolFacts {
    /// Its name.
    pub name: String,
    /// Used and available bytes of its top dataset.
    pub size: Option<u64>,
    /// Leaf devices that hold data.
    pub disks: Option<Vec<String>>,
    /// `striped`, `mirror`, `raidz`, `raidz2`, `raidz3`.
    pub profile: Option<String>,
    /// Seconds since 1970.
    pub creation: Option<i64>,
    /// Whether its top dataset is encrypted.
    pub encrypted: Option<bool>,
}

impl PoolFacts {
    /// Asks the storage that this node has chosen. Directories cost a `statvfs`; ZFS costs its commands.
    pub(crate) fn load(layout: &Layout) -> Result<Self, String> {
        let storage = Storage::open(layout).map_err(|error| error_text(&error))?;
        let mut facts = Self { name: storage.pool().to_owned(), ..Self::default() };
        // The name alone is worth having when the figures are not to be had.
        let Ok(status) = storage.pool_status() else { return Ok(facts) };
        facts.size = Some(status.used_bytes.saturating_add(status.available_bytes));
        match storage.kind() {
            StorageKind::Dir => facts.profile = Some("striped".to_owned()),
            StorageKind::Zfs => facts.read_zfs(),
        }
        Ok(facts)
    }

    fn read_zfs(&mut self) {
        let (Ok(zfs), Ok(top)) = (Zfs::open(), self.name.parse::<DatasetName>()) else { return };
        let dataset = zfs.list(&top, 0).ok().and_then(|list| list.into_iter().next());
        self.creation = dataset.and_then(|dataset| i64::try_from(dataset.creation).ok());
        self.encrypted = zfs.get(&top, "encryption").ok().map(|value| value != "off");
    }

    pub(crate) fn put(&self, map: &mut JsonMap) {
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), value);
            }
        };
        set("Zpool", Some(json!(self.name)));
        set("Zpool Encrypted", Some(json!(self.encrypted.unwrap_or(false))));
        set("Zpool Disks", self.disks.as_ref().map(|disks| json!(disks.join(","))));
        set("Zpool Profile", self.profile.as_ref().map(|profile| json!(profile)));
        set("Zpool Creation", self.creation.map(|time| json!(time)));
        set("Zpool Size in GiB", self.size.map(|bytes| json!(bytes >> 30)));
    }
}
