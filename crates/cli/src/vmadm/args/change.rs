//! Arguments of the verbs that change what an instance is.

use clap::Args;
use triton_types::InstanceUuid;

use super::Input;

/// Arguments of `update`.
#[derive(Debug, Args)]
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
