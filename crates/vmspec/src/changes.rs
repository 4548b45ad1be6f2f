//! What an update changed, and when it takes effect (column L of the table in instances.md section 2.2).

use triton_types::{Mac, Nic, VmConfig};

/// When a change reaches a running instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It is stored and shown, nothing else.
    Stored,
    /// At once: the instance model applies it to the running instance and its dataset.
    Live,
    /// When the instance boots next.
    NextBoot,
}

/// One thing that an update changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `max_physical_memory`, `max_locked_memory` or `max_swap`.
    Memory,
    /// `cpu_cap`.
    CpuCap,
    /// `cpu_shares`.
    CpuShares,
    /// `max_lwps`.
    Lwps,
    /// `zfs_io_priority`.
    IoPriority,
    /// `tmpfs`; from or to 0 at the next boot, else at once.
    Tmpfs {
        /// The mount is there before and after.
        resize: bool,
    },
    /// `quota`.
    Quota,
    /// Compression, record size or limits of the datasets.
    Dataset,
    /// `indestructible_zoneroot` or `indestructible_delegated`.
    Indestructible,
    /// `firewall_enabled`.
    Firewall,
    /// `resolvers`; live only with `maintain_resolvers`.
    Resolvers {
        /// The guest's file follows.
        maintained: bool,
    },
    /// `customer_metadata` or `internal_metadata`, or the namespaces.
    Metadata,
    /// `tags`.
    Tags,
    /// `routes`.
    Routes,
    /// NICs that came.
    NicsAdded(Vec<Mac>),
    /// NICs that went.
    NicsRemoved(Vec<Mac>),
    /// Address, tag, VLAN, MTU, name or primary flag of these NICs (their new MACs).
    NicsChanged(Vec<Mac>),
    /// Anti-spoofing flags, allowed addresses and client ids, blocked ports of these NICs.
    NicFilters(Vec<Mac>),
    /// `filesystems`.
    Filesystems,
    /// Host name, domain, init or other settings of the guest's boot.
    Boot,
    /// Anything else: names, owner, package, flags.
    Stored,
}

impl Change {
    /// When it reaches a running instance.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Stored | Self::Tags => Effect::Stored,
            Self::Boot | Self::Filesystems | Self::NicsAdded(_) | Self::NicsRemoved(_) | Self::NicsChanged(_) => Effect::NextBoot,
            Self::Tmpfs { resize: false } | Self::Resolvers { maintained: false } => Effect::NextBoot,
            _ => Effect::Live,
        }
    }
}

/// The differences, in the order of [`Change`].
pub(crate) fn between(old: &VmConfig, new: &VmConfig) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut note = |changed: bool, change: Change| {
        if changed {
            changes.push(change);
        }
    };
    macro_rules! differs {
        ($($field:ident),+) => { $(old.$field != new.$field)||+ };
    }
    note(differs!(max_physical_memory, max_locked_memory, max_swap), Change::Memory);
    note(differs!(cpu_cap), Change::CpuCap);
    note(differs!(cpu_shares), Change::CpuShares);
    note(differs!(max_lwps), Change::Lwps);
    note(differs!(zfs_io_priority), Change::IoPriority);
    let mounted = |config: &VmConfig| config.tmpfs.is_some_and(|size| size > 0);
    note(differs!(tmpfs), Change::Tmpfs { resize: mounted(old) && mounted(new) });
    note(differs!(quota), Change::Quota);
    note(
        differs!(zfs_root_compression, zfs_data_compression, zfs_root_recsize, zfs_data_recsize, zfs_filesystem_limit, zfs_snapshot_limit),
        Change::Dataset,
    );
    note(differs!(indestructible_zoneroot, indestructible_delegated), Change::Indestructible);
    note(differs!(firewall_enabled), Change::Firewall);
    note(differs!(resolvers, maintain_resolvers), Change::Resolvers { maintained: new.maintain_resolvers });
    note(differs!(customer_metadata, internal_metadata, internal_metadata_namespaces), Change::Metadata);
    note(differs!(tags), Change::Tags);
    note(differs!(routes), Change::Routes);
    for change in between_nics(&old.nics, &new.nics) {
        note(true, change);
    }
    note(differs!(filesystems), Change::Filesystems);
    note(differs!(hostname, dns_domain, init_name, restart_init, kernel_version, limit_priv, fs_allowed), Change::Boot);
    note(
        differs!(
            alias,
            autoboot,
            owner_uuid,
            billing_id,
            package_name,
            package_version,
            vcpus,
            max_shm_memory,
            max_msg_ids,
            max_sem_ids,
            max_shm_ids,
            do_not_inventory,
            archive_on_delete,
            docker,
            zlog_max_size
        ),
        Change::Stored,
    );
    changes
}

fn between_nics(old: &[Nic], new: &[Nic]) -> Vec<Change> {
    let find = |nics: &[Nic], mac: Mac| nics.iter().find(|nic| nic.mac == mac).cloned();
    let added: Vec<Mac> = new.iter().filter(|nic| find(old, nic.mac).is_none()).map(|nic| nic.mac).collect();
    let removed: Vec<Mac> = old.iter().filter(|nic| find(new, nic.mac).is_none()).map(|nic| nic.mac).collect();
    let (mut changed, mut filters) = (Vec::new(), Vec::new());
    for nic in new {
        let Some(before) = find(old, nic.mac) else { continue };
        if with_filters_of(&before, nic) != *nic {
            changed.push(nic.mac);
        }
        if with_filters_of(&before, nic) != before {
            filters.push(nic.mac);
        }
    }
    let mut changes = Vec::new();
    for (macs, change) in [
        (added, Change::NicsAdded as fn(Vec<Mac>) -> Change),
        (removed, Change::NicsRemoved),
        (changed, Change::NicsChanged),
        (filters, Change::NicFilters),
    ] {
        if !macs.is_empty() {
            changes.push(change(macs));
        }
    }
    changes
}

/// `nic` with the filter settings of `other`.
fn with_filters_of(nic: &Nic, other: &Nic) -> Nic {
    Nic {
        allow_ip_spoofing: other.allow_ip_spoofing,
        allow_mac_spoofing: other.allow_mac_spoofing,
        allow_dhcp_spoofing: other.allow_dhcp_spoofing,
        allow_restricted_traffic: other.allow_restricted_traffic,
        allowed_ips: other.allowed_ips.clone(),
        allowed_dhcp_cids: other.allowed_dhcp_cids.clone(),
        blocked_outgoing_ports: other.blocked_outgoing_ports.clone(),
        ..nic.clone()
    }
}
