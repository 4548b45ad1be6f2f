//! Why a payload is refused. The texts are the contract's where it gives them: other software matches on them.

use triton_types::{ImageUuid, InstanceUuid, Mac, NicAddress, NicTag};

/// A payload that cannot be carried out; nothing was changed. [`PayloadError::fields`] names the properties at fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the text of each variant says what it is
pub enum PayloadError {
    #[error("Invalid brand: \"{0}\"")]
    BadBrand(String),
    #[error("Invalid value(s) for: {}", .0.join(","))]
    InvalidValues(Vec<String>),
    #[error("Missing required properties: {}", .0.join(","))]
    MissingProperties(Vec<String>),
    #[error("VM with UUID {0} already exists")]
    Exists(InstanceUuid),
    #[error("{key} must be an array.")]
    NotAnArray { key: &'static str },
    #[error("Cannot specify both nics and add_nics.")]
    NicsAndAddNics,
    #[error("{field} is limited to {limit} elements.")]
    TooMany { field: &'static str, limit: usize },
    #[error("docker must be true for instances of images of type docker, and for no others: it cannot be changed.")]
    Docker,
    #[error("image {0} is a layer of other images: it has nothing to run")]
    ImageLayer(ImageUuid),
    #[error("Delegated datasets are not supported on this compute node: delegate_dataset must not be true.")]
    Delegation,
    #[error("payload specifies more than 1 primary NIC")]
    SeveralPrimaries,
    #[error("invalid value for NIC's primary flag: {value} (must be true)")]
    PrimaryFlag { value: String },
    #[error("{}", tag_lines(.0))]
    UnknownNicTags(Vec<NicTag>),
    #[error("MTU {mtu} is too small for nic tag \"{nic_tag}\": a physical NIC needs at least 1500")]
    MtuTooSmall { nic_tag: NicTag, mtu: u32 },
    #[error("Cannot add multiple NICs with the same MAC: {0}")]
    DuplicateMac(Mac),
    #[error("Cannot add multiple NICs with the same IP: {0}")]
    DuplicateIp(NicAddress),
    #[error("Cannot use one interface name for several NICs: {0}")]
    DuplicateInterface(String),
    #[error("Conflict detected with another vm, please check the MAC, IP, and VRID")]
    Conflict { vm: InstanceUuid, mac: Mac },
    #[error("Missing .netmask option for NIC: {nic}")]
    MissingNetmask { nic: String },
    #[error("Specified netmask value is invalid: {netmask}")]
    InvalidNetmask { netmask: String },
    #[error("Static gateways must be IPv4 addresses: {gateway}")]
    InvalidGateway { gateway: String },
    #[error("Maximum of {} allowed_ips per nic", crate::limits::ALLOWED_IPS_PER_NIC)]
    TooManyAllowedIps,
    #[error("invalid allowed_ips: {0}")]
    InvalidAllowedIp(String),
    #[error("More than {} IPs cannot be associated with a NIC", crate::limits::ADDRESSES_PER_NIC)]
    TooManyAddresses,
    #[error("allowed_dhcp_cids is limited to {} elements per nic", crate::limits::DHCP_CIDS_PER_NIC)]
    TooManyDhcpCids,
    #[error("allowed_dhcp_cids of a nic are limited to fewer than {} characters in all", crate::limits::DHCP_CIDS_LENGTH)]
    DhcpCidsTooLong,
    #[error("VRRP NICs cannot be the only NICs of a VM")]
    OnlyVrrp,
    #[error("vrrp_primary_ip of NIC {nic} must belong to another, non-VRRP NIC of the VM")]
    VrrpPrimaryIp { nic: Mac },
    #[error("NIC object needs a .mac property to update")]
    NicWithoutMac,
    #[error("There is no existing NIC with that mac address")]
    UnknownNic(Mac),
    #[error("missing requested filesystem: {source_path}")]
    MissingFilesystem { source_path: String },
    #[error("filesystem object needs a .target property to update")]
    FilesystemWithoutTarget,
    #[error("There is no existing filesystem with that target: {0}")]
    UnknownFilesystem(String),
    #[error("Cannot add multiple filesystems with the same target: {0}")]
    DuplicateTarget(String),
    #[error("Invalid route destination: \"{destination}\" (must be IP address or CIDR)")]
    RouteDestination { destination: String },
    #[error("Invalid route gateway: \"{gateway}\" (must be IP address, MAC address, or nic)")]
    RouteGateway { gateway: String },
    #[error("Route gateway: \"{gateway}\" refers to non-existent or DHCP nic")]
    RouteNic { gateway: String },
    #[error("cannot build the configuration from the payload: {reason}")]
    Inconsistent { reason: String },
}

/// One line for each tag.
fn tag_lines(tags: &[NicTag]) -> String {
    tags.iter().map(|tag| format!("Invalid nic tag \"{tag}\"")).collect::<Vec<_>>().join("\n")
}

impl PayloadError {
    /// The properties at fault, in the form that [`crate::Verdict`] uses (`nics.*.mtu`).
    pub fn fields(&self) -> Vec<String> {
        let one = |name: &str| vec![name.to_owned()];
        match self {
            Self::InvalidValues(fields) | Self::MissingProperties(fields) => fields.clone(),
            Self::BadBrand(_) => one("brand"),
            Self::Exists(_) => one("uuid"),
            Self::NotAnArray { key } => one(key),
            Self::TooMany { field, .. } => one(field),
            Self::NicsAndAddNics => vec!["nics".to_owned(), "add_nics".to_owned()],
            Self::Docker => one("docker"),
            Self::ImageLayer(_) => one("image_uuid"),
            Self::Delegation => one("delegate_dataset"),
            Self::SeveralPrimaries | Self::PrimaryFlag { .. } => one("nics.*.primary"),
            Self::UnknownNicTags(_) => one("nics.*.nic_tag"),
            Self::MtuTooSmall { .. } => one("nics.*.mtu"),
            Self::DuplicateMac(_) | Self::NicWithoutMac | Self::UnknownNic(_) => one("nics.*.mac"),
            Self::DuplicateIp(_) => one("nics.*.ips"),
            Self::DuplicateInterface(_) => one("nics.*.interface"),
            Self::Conflict { .. } => vec!["nics.*.mac".to_owned(), "nics.*.ips".to_owned()],
            Self::MissingNetmask { .. } | Self::InvalidNetmask { .. } => one("nics.*.netmask"),
            Self::InvalidGateway { .. } => one("nics.*.gateways"),
            Self::TooManyAllowedIps | Self::InvalidAllowedIp(_) | Self::TooManyAddresses => one("nics.*.allowed_ips"),
            Self::TooManyDhcpCids | Self::DhcpCidsTooLong => one("nics.*.allowed_dhcp_cids"),
            Self::OnlyVrrp => one("nics.*.vrrp_vrid"),
            Self::VrrpPrimaryIp { .. } => one("nics.*.vrrp_primary_ip"),
            Self::MissingFilesystem { .. } => one("filesystems.*.source"),
            Self::FilesystemWithoutTarget | Self::UnknownFilesystem(_) | Self::DuplicateTarget(_) => one("filesystems.*.target"),
            Self::RouteDestination { .. } | Self::RouteGateway { .. } | Self::RouteNic { .. } => one("routes"),
            Self::Inconsistent { .. } => Vec::new(),
        }
    }
}

/// At most 64 characters of a text from a payload, for use in a message: control characters escaped, so that it stays one
/// line and moves no cursor.
pub(crate) fn excerpt(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(64) {
        match c {
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}
