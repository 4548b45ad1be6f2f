//! The property table of brand `lx` (instances.md sections 2.2, 2.8 and 4.3): one entry for each property, read by
//! validation, normalisation, filters and tables.

use std::{collections::HashMap, sync::LazyLock};

use crate::limits;

/// Type of a property (section 2.1) with its bounds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Lower-case uuid.
    Uuid,
    /// The image: a uuid, installed, of a type that can be instantiated.
    Image,
    /// Name of an existing pool.
    Pool,
    /// Flag.
    Boolean,
    /// Text that passes the rule when it is not blank.
    Text(fn(&str) -> bool),
    /// Whole number within the bounds, both included.
    Integer(u64, u64),
    /// GiB, a decimal allowed.
    Quota,
    /// List whose elements pass the rule.
    List(fn(&str) -> bool),
    /// Object of scalars.
    FlatObject,
    /// Array of NICs, to add (true) or to update.
    Nics(bool),
    /// Array of file systems, to add (true) or to update.
    Filesystems(bool),
    /// Never in a payload: shown only.
    ReadOnly,
}

/// What an unset property becomes: at creation, and when an update sets it to a blank value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Absent.
    None,
    /// Absent after an update to blank, this text at creation (section 2.9).
    TextAtCreate(&'static str),
    /// This text.
    Text(&'static str),
    /// This number.
    Integer(u64),
    /// This flag.
    Boolean(bool),
    /// Follows the memory relations (section 2.3); a blank value in an update changes nothing.
    Memory,
    /// The empty list.
    EmptyList,
}

/// How `vmadm list` shows a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Header; `None` for the upper-cased name.
    pub title: Option<&'static str>,
    /// Characters; longer values are not cut.
    pub width: usize,
}

/// One property.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// Key in payloads and in VM objects.
    pub name: &'static str,
    /// Type and bounds.
    pub kind: Kind,
    /// May be in a create payload.
    pub create: bool,
    /// May be in an update payload.
    pub update: bool,
    /// Must be in a create payload.
    pub required: bool,
    /// In an update payload it is ignored without a word.
    pub immutable: bool,
    /// What it is when unset.
    pub fallback: Fallback,
    /// Its column, if it can be listed.
    pub column: Option<Column>,
}

impl Property {
    const fn new(name: &'static str, kind: Kind) -> Self {
        let column = None;
        Self { name, kind, create: false, update: false, required: false, immutable: false, fallback: Fallback::None, column }
    }
    /// May be created and updated.
    const fn cu(self) -> Self {
        Self { create: true, update: true, ..self }
    }
    /// May be created only.
    const fn c(self) -> Self {
        Self { create: true, ..self }
    }
    /// May be updated only.
    const fn u(self) -> Self {
        Self { update: true, ..self }
    }
    const fn required(self) -> Self {
        Self { required: true, ..self }
    }
    const fn immutable(self) -> Self {
        Self { immutable: true, ..self }
    }
    const fn or(self, fallback: Fallback) -> Self {
        Self { fallback, ..self }
    }
    /// Listed under its own name.
    const fn wide(self, width: usize) -> Self {
        Self { column: Some(Column { title: None, width }), ..self }
    }
    /// Listed under a title.
    const fn titled(self, title: &'static str, width: usize) -> Self {
        Self { column: Some(Column { title: Some(title), width }), ..self }
    }
}

const ZERO_UUID: &str = "00000000-0000-0000-0000-000000000000";
const ANY: Kind = Kind::Integer(0, limits::INTEGER);
const RECORD_SIZE: u64 = 131_072;

const fn text(name: &'static str, rule: fn(&str) -> bool) -> Property {
    Property::new(name, Kind::Text(rule)).cu()
}
const fn int(name: &'static str) -> Property {
    Property::new(name, ANY).cu()
}
const fn flag(name: &'static str) -> Property {
    Property::new(name, Kind::Boolean).cu().or(Fallback::Boolean(false))
}
const fn items(name: &'static str, rule: fn(&str) -> bool) -> Property {
    Property::new(name, Kind::List(rule)).cu()
}
const fn shown(name: &'static str) -> Property {
    Property::new(name, Kind::ReadOnly)
}
const fn memory(name: &'static str, min: u64) -> Property {
    Property::new(name, Kind::Integer(min, limits::INTEGER)).cu().or(Fallback::Memory)
}
const fn map(name: &'static str) -> Property {
    Property::new(name, Kind::FlatObject).c()
}
const fn set(name: &'static str) -> Property {
    Property::new(name, Kind::FlatObject).u()
}
const fn remove(name: &'static str, rule: fn(&str) -> bool) -> Property {
    Property::new(name, Kind::List(rule)).u()
}

/// Every property that a payload or a VM object may have, for brand `lx`.
pub static PROPERTIES: &[Property] = &[
    Property::new("uuid", Kind::Uuid).c().immutable().wide(36),
    Property::new("brand", Kind::Text(anything)).c().required().immutable().wide(14),
    Property::new("image_uuid", Kind::Image).c().required().wide(36),
    Property::new("zpool", Kind::Pool).c().wide(12),
    text("alias", anything).wide(10),
    text("hostname", host_name).wide(32),
    text("dns_domain", domain_name).or(Fallback::TextAtCreate("local")).titled("DOMAIN", 32),
    text("owner_uuid", anything).or(Fallback::TextAtCreate(ZERO_UUID)).wide(36),
    text("billing_id", anything).or(Fallback::TextAtCreate(ZERO_UUID)).wide(36),
    text("package_name", anything).wide(32),
    text("package_version", anything).titled("PACKAGE_VER", 11),
    flag("autoboot").or(Fallback::Boolean(true)).wide(8),
    int("cpu_cap").wide(7),
    int("cpu_shares").or(Fallback::Integer(100)).titled("CPU_SHARE", 9),
    int("vcpus").wide(5),
    memory("ram", 0).wide(7),
    memory("max_physical_memory", 0).titled("MAX_PHYS", 8),
    memory("max_locked_memory", 0).titled("MAX_LOCKED", 10),
    memory("max_swap", limits::MIN_SWAP).wide(8),
    memory("tmpfs", 0).wide(5),
    memory("max_shm_memory", 0),
    memory("max_msg_ids", 0),
    memory("max_sem_ids", 0),
    memory("max_shm_ids", 0),
    int("max_lwps").or(Fallback::Integer(2000)).titled("MAX_LWP", 7),
    Property::new("quota", Kind::Quota).cu().or(Fallback::Integer(10)).wide(5),
    int("zfs_io_priority").or(Fallback::Integer(100)).titled("IO_PRIORITY", 11),
    text("zfs_root_compression", compression),
    text("zfs_data_compression", compression),
    int("zfs_root_recsize").or(Fallback::Integer(RECORD_SIZE)),
    int("zfs_data_recsize"),
    int("zfs_filesystem_limit"),
    int("zfs_snapshot_limit"),
    flag("firewall_enabled").wide(16),
    flag("do_not_inventory").titled("DNI", 5),
    flag("archive_on_delete"),
    flag("indestructible_zoneroot").titled("INDESTR_ROOT", 12),
    flag("indestructible_delegated").titled("INDESTR_DATA", 12),
    Property::new("delegate_dataset", Kind::Boolean).c().or(Fallback::Boolean(false)),
    flag("maintain_resolvers"),
    items("resolvers", ip_address).or(Fallback::EmptyList),
    flag("docker").wide(6),
    text("init_name", program),
    flag("restart_init").or(Fallback::Boolean(true)),
    text("kernel_version", one_line),
    items("limit_priv", one_line).or(Fallback::Text("default")),
    items("fs_allowed", one_line),
    Property::new("mdata_exec_timeout", ANY).c(),
    Property::new("nowait", Kind::Boolean).c().or(Fallback::Boolean(false)),
    items("internal_metadata_namespaces", namespace),
    int("zlog_max_size"),
    map("customer_metadata"),
    map("internal_metadata"),
    map("tags"),
    map("routes"),
    Property::new("nics", Kind::Nics(true)).c(),
    Property::new("filesystems", Kind::Filesystems(true)).c(),
    set("set_customer_metadata"),
    set("set_internal_metadata"),
    set("set_tags"),
    set("set_routes"),
    remove("remove_customer_metadata", anything),
    remove("remove_internal_metadata", anything),
    remove("remove_tags", anything),
    remove("remove_routes", anything),
    Property::new("add_nics", Kind::Nics(true)).u(),
    Property::new("update_nics", Kind::Nics(false)).u(),
    remove("remove_nics", mac_address),
    Property::new("add_filesystems", Kind::Filesystems(true)).u(),
    Property::new("update_filesystems", Kind::Filesystems(false)).u(),
    remove("remove_filesystems", anything),
    shown("zonename").immutable().wide(12),
    shown("hvm").immutable().wide(5),
    shown("last_modified").immutable(),
    shown("server_uuid").immutable(),
    shown("type").wide(4),
    shown("state").wide(16),
    shown("zone_state").wide(10),
    shown("zoneid").wide(6),
    shown("zonepath").wide(40),
    shown("pid").wide(6),
    shown("boot_timestamp").wide(24),
    shown("create_timestamp").wide(24),
    shown("exit_status").titled("EXIT", 4),
    shown("exit_timestamp").wide(24),
    shown("datacenter_name"),
    shown("headnode_id"),
    shown("platform_buildstamp"),
    shown("init_restarts"),
    shown("zonedid"),
    shown("zfs_filesystem"),
    shown("snapshots"),
    shown("datasets"),
    shown("v"),
    shown("transition_to"),
    shown("transition_expire"),
    shown("failed"),
    shown("provisioning"),
];

static BY_NAME: LazyLock<HashMap<&'static str, &'static Property>> =
    LazyLock::new(|| PROPERTIES.iter().map(|property| (property.name, property)).collect());

/// The entry of a property, `None` when there is none of that name.
pub fn property(name: &str) -> Option<&'static Property> {
    BY_NAME.get(name).copied()
}

fn anything(_: &str) -> bool {
    true
}

/// No control characters: the text reaches files of one line each.
pub(crate) fn one_line(text: &str) -> bool {
    text.len() <= limits::PATH_LENGTH && !text.chars().any(char::is_control)
}

/// A program inside the guest, as a runtime config can name it: an absolute path without white space or quotation marks.
fn program(text: &str) -> bool {
    text.starts_with('/') && one_line(text) && !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\''))
}

fn dns_bytes(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// What Linux and `/etc/hosts` can hold as a host name; the headnode is stricter.
fn host_name(text: &str) -> bool {
    text.len() <= limits::HOSTNAME_LENGTH && dns_bytes(text)
}

fn domain_name(text: &str) -> bool {
    text.len() <= limits::DOMAIN_LENGTH && dns_bytes(text)
}

fn compression(text: &str) -> bool {
    match text {
        "on" | "off" | "gzip" | "lz4" | "lzjb" | "zle" => true,
        _ => text.strip_prefix("gzip-").is_some_and(|level| matches!(level.as_bytes(), [b'1'..=b'9'])),
    }
}

fn ip_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

fn mac_address(text: &str) -> bool {
    text.parse::<triton_types::Mac>().is_ok()
}

fn namespace(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}
