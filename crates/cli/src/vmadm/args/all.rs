//! Arguments of the verbs for all instances.

use clap::Args;

/// `boot-all`.
#[derive(Debug, Args)]
pub struct BootAll {
    /// Instances that are started at a time; twice the number of processors unless given
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
}

/// `halt-all`.
#[derive(Debug, Args)]
pub struct HaltAll {
    /// Instances that are stopped at a time
    #[arg(short, long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: u16,
    /// Seconds until a guest that was asked to end is killed
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
}
