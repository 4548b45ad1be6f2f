//! Arguments of the verbs for all instances.

use clap::Args;

/// `boot-all`, `mount-all`.
#[derive(Debug, Args)]
pub struct BootAll {
    /// Instances that are worked on at a time; twice the number of processors unless given
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
}

impl BootAll {
    /// Instances at a time.
    pub fn jobs(&self) -> usize {
        self.jobs.map_or_else(|| 2 * std::thread::available_parallelism().map_or(1, usize::from), usize::from)
    }
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
