//! Arguments of the verbs that change what an instance is.

use clap::Args;
use triton_types::InstanceUuid;

use super::Input;

/// What `vmadm update --help` ends with.
const UPDATE_EXAMPLES: &str = "\
Examples:
  vmadm update UUID max_physical_memory=1024 quota=20
  vmadm update UUID alias=
  echo '{\"set_tags\": {\"role\": \"db\"}, \"remove_tags\": [\"old\"]}' | vmadm update UUID
  echo '{\"add_nics\": [{\"nic_tag\": \"external\", \"ips\": [\"dhcp\"]}]}' | vmadm update UUID
  echo '{\"update_nics\": [{\"mac\": \"02:08:20:00:00:05\", \"allow_ip_spoofing\": true}]}' | vmadm update UUID

Maps (tags, customer_metadata, internal_metadata, routes): set_MAP takes an object, remove_MAP a list of keys.
Lists (nics, filesystems): add_LIST and update_LIST take objects, remove_LIST the mac or the target of each.
Exit status: 0 updated, also if nothing differed; 1 refused, nothing changed; 2 the command line is wrong.";

/// What `vmadm reprovision --help` ends with.
const REPROVISION_EXAMPLES: &str = "\
Example:
  echo '{\"image_uuid\": \"0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10\"}' | vmadm reprovision UUID

A running instance is shut down first. The instance is started afterwards, whatever it did before; autoboot stays as it is.
Exit status: 0 done; 1 refused or failed; 2 the command line is wrong.";

/// Arguments of `update`.
#[derive(Debug, Args)]
#[command(after_help = UPDATE_EXAMPLES)]
pub struct Update {
    /// The instance's uuid
    pub uuid: InstanceUuid,
    #[command(flatten)]
    pub input: Input,
    /// A property and its new value as text; `KEY=` removes it. Takes the place of a payload
    #[arg(value_name = "KEY=VALUE", conflicts_with = "file")]
    pub properties: Vec<String>,
}

/// Arguments of `reprovision`.
#[derive(Debug, Args)]
#[command(after_help = REPROVISION_EXAMPLES)]
pub struct Reprovision {
    /// The instance's uuid
    pub uuid: InstanceUuid,
    #[command(flatten)]
    pub input: Input,
}

/// One snapshot of an instance.
#[derive(Debug, Args)]
pub struct SnapshotTarget {
    /// The instance's uuid
    pub uuid: InstanceUuid,
    /// The snapshot's name: 1 to 64 characters of A-Z, a-z, 0-9, '-', '_', '.', ':' and '%'
    pub name: String,
}
