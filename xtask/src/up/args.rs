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

    /// On a compute node of its own: build the platform image, boot it under QEMU, and provision there
    ///
    /// DIR holds the machine; `cargo xtask vm` works with the same one.
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "/var/lib/triton-vm", conflicts_with_all = ["pool", "keep"])]
    pub vm: Option<PathBuf>,

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

    /// Where `up --vm` put its machine
    #[arg(long, value_name = "DIR", env = "TRITON_VM", default_value = "/var/lib/triton-vm")]
    pub vm: PathBuf,
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
