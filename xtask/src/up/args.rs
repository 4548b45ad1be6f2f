//! Arguments of `up`, `down` and `status`.

use std::path::PathBuf;

use clap::Args;

/// Which node.
#[derive(Args, Clone, Debug)]
pub struct RootArgs {
    /// Folder that holds the whole node: state, logs, programs, namespaces
    #[arg(long, value_name = "DIR", env = "TRITON_ROOT", default_value = "/var/lib/triton-up")]
    pub root: PathBuf,
}

/// Arguments of `xtask up`.
#[derive(Args, Debug)]
pub struct UpArgs {
    #[command(flatten)]
    pub root: RootArgs,

    /// Instances to have
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub instances: u8,

    /// Keep instances in this ZFS pool; without it, in plain folders below the root
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,

    /// Build optimised programs, without the crash points that tests use
    #[arg(long)]
    pub release: bool,

    /// After a failure, leave everything as it is, to be looked at
    #[arg(long)]
    pub keep: bool,

    /// Print the result as one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `xtask down`.
#[derive(Args, Debug)]
pub struct DownArgs {
    #[command(flatten)]
    pub root: RootArgs,
}

/// Arguments of `xtask status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    pub root: RootArgs,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of the hidden verb that makes a mount namespace.
#[derive(Args, Debug)]
pub struct HoldArgs {
    /// The node
    #[arg(long)]
    pub root: PathBuf,
}
