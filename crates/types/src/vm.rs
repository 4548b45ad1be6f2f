//! The VM object (instances.md sections 2 and 3).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::{ImageUuid, InstanceUuid, JsonMap, Nic, NicObject, ServerUuid, Timestamp, VmState, ZoneState};

fn is_false(flag: &bool) -> bool {
    !flag
}
fn yes() -> bool {
    true
}
fn is_true(flag: &bool) -> bool {
    *flag
}

/// A quota in GiB as it was given: an integer, or a decimal from a package that is no multiple of 1 GiB
/// (instances.md section 2.10). 0 means none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quota(pub Number);

impl Quota {
    /// From whole GiB.
    pub fn from_gib(gib: u64) -> Self {
        Self(Number::from(gib))
    }

    /// The quota in MiB, rounded up; `None` when there is none.
    pub fn mib(&self) -> Option<u64> {
        let mib = match self.0.as_u64() {
            Some(gib) => gib.saturating_mul(1024),
            None => (self.0.as_f64().unwrap_or(0.0) * 1024.0).ceil().max(0.0) as u64,
        };
        (mib > 0).then_some(mib)
    }
}

/// A file system of the host that the guest sees (instances.md section 2.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filesystem {
    /// `lofs` for a bind mount.
    #[serde(rename = "type")]
    pub kind: String,
    /// Path on the host.
    pub source: String,
    /// Path in the guest; identifies the entry.
    pub target: String,
    /// Raw device, stored only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// Mount options in SmartOS words (`ro`, `nodevices`, …).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Fields of a newer version, kept on rewrite.
    #[serde(flatten)]
    pub extra: JsonMap,
}

/// A snapshot of an instance as the VM object lists it, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Name without the `vmsnap-` prefix.
    pub name: String,
    /// MiB, frozen at creation (ruling 3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Number>,
    /// When it was made.
    pub created_at: Timestamp,
}

macro_rules! vm_config {
    ($($(#[$attr:meta])* $name:ident : $kind:ty,)*) => {
        /// What an instance should be: every settable property, after defaults and normalisation.
        ///
        /// Absent means unset. Sizes are MiB unless their doc says otherwise. The order of fields is the order on the wire.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub struct VmConfig {
            /// Identity, also `zonename`.
            pub uuid: InstanceUuid,
            /// Always `lx` for instances made here.
            pub brand: String,
            $($(#[$attr])* pub $name: $kind,)*
            /// NICs in the order of their interface index.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub nics: Vec<Nic>,
            /// Host paths shown in the guest.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub filesystems: Vec<Filesystem>,
            /// For the tenant; readable and writable by the guest. Kept in `config/metadata.json`.
            #[serde(default, skip_serializing_if = "JsonMap::is_empty")]
            pub customer_metadata: JsonMap,
            /// For the operator; readable by the guest only in granted namespaces. Kept in `config/metadata.json`.
            #[serde(default, skip_serializing_if = "JsonMap::is_empty")]
            pub internal_metadata: JsonMap,
            /// Kept in `config/tags.json`.
            #[serde(default, skip_serializing_if = "JsonMap::is_empty")]
            pub tags: JsonMap,
            /// Destination to gateway, kept in `config/routes.json`.
            #[serde(default, skip_serializing_if = "JsonMap::is_empty")]
            pub routes: JsonMap,
            /// Fields of a newer version, kept on rewrite.
            #[serde(flatten)]
            pub extra: JsonMap,
        }

        impl VmConfig {
            /// An instance with nothing but its identity: defaults are `vmspec`'s matter.
            pub fn bare(uuid: InstanceUuid) -> Self {
                Self {
                    uuid,
                    brand: "lx".to_owned(),
                    $($name: Default::default(),)*
                    nics: Vec::new(),
                    filesystems: Vec::new(),
                    customer_metadata: JsonMap::new(),
                    internal_metadata: JsonMap::new(),
                    tags: JsonMap::new(),
                    routes: JsonMap::new(),
                    extra: JsonMap::new(),
                }
            }
        }
    };
}

vm_config! {
    /// Display name, not unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    /// Host name of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    /// Start when the machine boots.
    #[serde(default)]
    autoboot: bool,
    /// The image it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_uuid: Option<ImageUuid>,
    /// Owner's account; free text, as upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner_uuid: Option<String>,
    /// Package; free text, as upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    billing_id: Option<String>,
    /// Deprecated, kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    package_name: Option<String>,
    /// Deprecated, kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    package_version: Option<String>,
    /// Search domain of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dns_domain: Option<String>,
    /// Percent of one CPU, a hard cap; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpu_cap: Option<u64>,
    /// Relative CPU weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpu_shares: Option<u64>,
    /// Virtual CPUs, stored for VMAPI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vcpus: Option<u64>,
    /// Hard memory limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_physical_memory: Option<u64>,
    /// Limit of locked memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_locked_memory: Option<u64>,
    /// Memory and swap together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_swap: Option<u64>,
    /// Number of tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_lwps: Option<u64>,
    /// Shared memory, stored and reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_shm_memory: Option<u64>,
    /// Message queues, stored and reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_msg_ids: Option<u64>,
    /// Semaphores, stored and reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_sem_ids: Option<u64>,
    /// Shared memory segments, stored and reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_shm_ids: Option<u64>,
    /// Size of the guest's `/tmp`; 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tmpfs: Option<u64>,
    /// GiB; 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<Quota>,
    /// Relative I/O weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zfs_io_priority: Option<u64>,
    /// Compression of the root dataset; absent when off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zfs_root_compression: Option<String>,
    /// Compression of the delegated dataset; absent when off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zfs_data_compression: Option<String>,
    /// Record size of the root dataset in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zfs_root_recsize: Option<u64>,
    /// Record size of the delegated dataset in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zfs_data_recsize: Option<u64>,
    /// Most datasets below the delegated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zfs_filesystem_limit: Option<u64>,
    /// Most snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zfs_snapshot_limit: Option<u64>,
    /// The cloud firewall filters this instance.
    #[serde(default)]
    firewall_enabled: bool,
    /// Hidden from the agents.
    #[serde(default, skip_serializing_if = "is_false")]
    do_not_inventory: bool,
    /// Keep an archive when it is deleted.
    #[serde(default, skip_serializing_if = "is_false")]
    archive_on_delete: bool,
    /// Its root may not be deleted.
    #[serde(default, skip_serializing_if = "is_false")]
    indestructible_zoneroot: bool,
    /// Its delegated dataset may not be deleted.
    #[serde(default, skip_serializing_if = "is_false")]
    indestructible_delegated: bool,
    /// Has a dataset of its own to manage.
    #[serde(default, skip_serializing_if = "is_false")]
    delegate_dataset: bool,
    /// Rewrite the guest's resolv.conf when resolvers change.
    #[serde(default, skip_serializing_if = "is_false")]
    maintain_resolvers: bool,
    /// DNS servers.
    #[serde(default)]
    resolvers: Vec<IpAddr>,
    /// Docker instance (stored and reported).
    #[serde(default, skip_serializing_if = "is_false")]
    docker: bool,
    /// Init inside the guest; absent for `/sbin/init`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    init_name: Option<String>,
    /// Restart init when it dies; stored only when false.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    restart_init: bool,
    /// Kernel version that an lx image asks for; stored only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kernel_version: Option<String>,
    /// Solaris privileges, stored as a comma-separated string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit_priv: Option<String>,
    /// File system types, stored as a comma-separated string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fs_allowed: Option<String>,
    /// Prefixes of internal metadata that the guest may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    internal_metadata_namespaces: Vec<String>,
    /// Bytes of standard output kept for a docker instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zlog_max_size: Option<u64>,
    /// Pool that holds its dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zpool: Option<String>,
    /// When it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    create_timestamp: Option<Timestamp>,
}

impl VmConfig {
    /// The primary NIC, if there is one.
    pub fn primary_nic(&self) -> Option<&Nic> {
        self.nics.iter().find(|nic| nic.primary)
    }
}

/// The VM object as `vmadm get` prints it and agents send it (instances.md section 3).
///
/// Built from the configuration, the run-state and facts of the host by `triton-instance`; never stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VmObject {
    /// The stored properties. Their `nics`, metadata, tags and routes are moved to the fields below and left empty here.
    #[serde(flatten)]
    pub config: VmConfig,
    /// Same as `uuid`.
    pub zonename: InstanceUuid,
    /// False: containers only.
    pub hvm: bool,
    /// Version of the object, 1.
    pub v: u32,
    /// What the instance is, with what it is to become.
    pub state: VmState,
    /// What the container is.
    pub zone_state: ZoneState,
    /// Init in the host's pid namespace, while running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// When init began, while running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_timestamp: Option<Timestamp>,
    /// How the last run ended, while not running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// When the last run ended, while not running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_timestamp: Option<Timestamp>,
    /// Strictly increases with every change (ruling 3).
    pub last_modified: Timestamp,
    /// Newest first.
    pub snapshots: Vec<Snapshot>,
    /// Delegated datasets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<String>,
    /// `<zpool>/<uuid>`.
    pub zfs_filesystem: String,
    /// `/<zpool>/<uuid>`.
    pub zonepath: String,
    /// This compute node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_uuid: Option<ServerUuid>,
    /// Name of the data centre.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter_name: Option<String>,
    /// Platform image that is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_buildstamp: Option<String>,
    /// The headnode's id, if configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headnode_id: Option<String>,
    /// State that creation ends in, while provisioning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition_to: Option<String>,
    /// When creation is given up, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition_expire: Option<i64>,
    /// Always present, empty when unset.
    pub customer_metadata: JsonMap,
    /// Always present, empty when unset.
    pub internal_metadata: JsonMap,
    /// Always present, empty when unset.
    pub tags: JsonMap,
    /// Always present, empty when unset.
    pub routes: JsonMap,
    /// NICs with their derived keys.
    pub nics: Vec<NicObject>,
}
