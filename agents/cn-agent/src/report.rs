//! What the agent tells CNAPI (cn-agent.md section 5): sysinfo, agents, status, heartbeats.
//!
//! Three loops that wait for each other only at the [`Wire`]: the [`Outbox`] sends everything but heartbeats, one message after the
//! other; `heartbeat` has nothing to do with what is collected; `sampler` and `sysinfo_watch` put messages into the outbox.

mod heartbeat;
mod outbox;
pub mod payload;
mod sampler;
mod sysinfo_watch;
mod wire;

pub use heartbeat::heartbeats;
pub use outbox::{Outbox, Progress};
pub use sampler::{SampleClock, StatusSource, sample};
pub use sysinfo_watch::watch_sysinfo;
pub use wire::Wire;

use std::time::Duration;

/// The times of section 5. Tests use shorter ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Pause after a heartbeat.
    pub heartbeat: Duration,
    /// How long a heartbeat waits for another message to end.
    pub heartbeat_patience: Duration,
    /// How often the sampler looks whether a sample is due.
    pub sample_check: Duration,
    /// Least time between two samples.
    pub sample_throttle: Duration,
    /// Most time between two samples.
    pub sample_forced: Duration,
    /// How often sysinfo is compared with what was posted.
    pub sysinfo_compare: Duration,
    /// First pause before sysinfo is posted again.
    pub retry_initial: Duration,
    /// Longest such pause.
    pub retry_cap: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            heartbeat_patience: Duration::from_secs(2),
            sample_check: Duration::from_millis(500),
            sample_throttle: Duration::from_secs(5),
            sample_forced: Duration::from_secs(60),
            sysinfo_compare: Duration::from_secs(60),
            retry_initial: Duration::from_millis(500),
            retry_cap: Duration::from_secs(120),
        }
    }
}
