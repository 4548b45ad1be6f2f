//! How much a guest may ask for (metadata.md section 8.2, ruling 31).

use std::time::Duration;

use serde::Deserialize;
use triton_mdata::Compatibility;

/// Bounds, per instance unless they say otherwise. Each can be set in the configuration. Whatever a rate is, nobody waits for it longer than
/// half a minute.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of a request's line; a longer one ends the connection.
    pub line: usize,
    /// Bytes of a key that a guest sets.
    pub key: usize,
    /// Bytes of a value that a guest sets.
    pub value: usize,
    /// Keys of customer metadata, with those that a guest sets.
    pub keys: usize,
    /// Bytes of customer metadata, with what a guest sets.
    pub total: usize,
    /// Connections; more are accepted and closed.
    pub connections: usize,
    /// Bytes of lines and answers that are kept for an instance.
    pub memory: usize,
    /// The same for all instances together.
    pub memory_of_all: usize,
    /// Reads of instances' documents at once, of all instances together: each takes some times their size of memory.
    pub readers_of_all: usize,
    /// Requests per second that read, and how many may come at once before that counts.
    pub reads: (f64, f64),
    /// The same for those that write.
    pub writes: (f64, f64),
    /// Bytes per second of long lines and long answers, and how many may come at once before that counts: what is beyond the first
    /// 4 KiB of each, whether a line ends or not.
    pub bytes: (f64, f64),
    /// Seconds of a processor per second for looking up and writing what the guest asks for, and how many at once before that counts: what is
    /// beyond the first millisecond of each.
    pub work: (f64, f64),
    /// Milliseconds that a line may take from its first byte on.
    pub partial_ms: u64,
    /// Milliseconds that a connection may be idle.
    pub idle_ms: u64,
    /// Milliseconds that an answer may wait for its reader.
    pub stalled_ms: u64,
    /// The same on the serial line, where the rest of the answer is then dropped.
    pub serial_stalled_ms: u64,
    /// Connections over HTTP; more wait. With none there is no such transport, whatever is chosen for an instance.
    pub http_connections: usize,
    /// Milliseconds that one of them may be open.
    pub http_connection_ms: u64,
    /// Every user of a guest may ask over HTTP, as in clouds, not only its root.
    pub http_every_user: bool,
    /// Requests over HTTP need neither a token nor a header of their own, for clients that know none of both.
    pub http_without_token: bool,
    /// `sdc:customer_metadata.KEY` can be read, as upstream has it.
    pub sdc_customer_metadata: bool,
    /// A guest may change `operator-script`, as upstream has it.
    pub guest_operator_script: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line: 4 << 20,
            key: 256,
            value: 1 << 20,
            keys: 1000,
            total: 4 << 20,
            connections: 32,
            memory: 16 << 20,
            memory_of_all: 256 << 20,
            readers_of_all: 8,
            reads: (200.0, 400.0),
            writes: (5.0, 20.0),
            // A value of a mebibyte costs 1.9 of a line, and 1.4 of an answer.
            bytes: (f64::from(4 << 20), f64::from(16 << 20)),
            // A read of a document of four mebibytes takes some 12 ms. What a boot asks for is free; who goes on has a read or two a second.
            work: (0.02, 0.25),
            partial_ms: 60_000,
            idle_ms: 600_000,
            stalled_ms: 60_000,
            serial_stalled_ms: 10_000,
            http_connections: 8,
            http_connection_ms: 60_000,
            http_every_user: false,
            http_without_token: false,
            sdc_customer_metadata: false,
            guest_operator_script: false,
        }
    }
}

impl Limits {
    /// What of upstream's behaviour is wanted.
    pub fn compatibility(&self) -> Compatibility {
        Compatibility { customer_metadata_by_sdc: self.sdc_customer_metadata, operator_script_by_guest: self.guest_operator_script }
    }

    pub(crate) fn partial(&self) -> Duration {
        Duration::from_millis(self.partial_ms)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    pub(crate) fn http_connection(&self) -> Duration {
        Duration::from_millis(self.http_connection_ms)
    }

    pub(crate) fn serial_stalled(&self) -> Duration {
        Duration::from_millis(self.serial_stalled_ms)
    }

    pub(crate) fn stalled(&self) -> Duration {
        Duration::from_millis(self.stalled_ms)
    }
}
