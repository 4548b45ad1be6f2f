//! Arguments of the verbs that start and end an instance.

use clap::Args;
use triton_types::InstanceUuid;

/// Arguments of `stop`.
#[derive(Debug, Args)]
pub struct Stop {
    /// The instance's uuid
    pub uuid: InstanceUuid,
    /// Kill at once instead of asking the guest to shut down
    #[arg(short = 'F', long)]
    pub force: bool,
    /// Seconds to wait for the guest before it is killed [default: 60]
    #[arg(short = 't', long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// Arguments of `reboot`.
#[derive(Debug, Args)]
pub struct Reboot {
    /// The instance's uuid
    pub uuid: InstanceUuid,
    /// Reset at once instead of asking the guest to reboot
    #[arg(short = 'F', long)]
    pub force: bool,
}

/// Arguments of `kill`.
#[derive(Debug, Args)]
pub struct Kill {
    /// The instance's uuid
    pub uuid: InstanceUuid,
    /// The signal: a number, a name, or a name with SIG; `-KILL` is short for `-s KILL`
    #[arg(short = 's', long, value_name = "SIGNAL", default_value = "SIGTERM")]
    pub signal: String,
}
