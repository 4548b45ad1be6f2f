//! Counts of what the kernel did for lack of memory.

/// Counters of `memory.events`, since the group was made. With v1 only [`MemoryEvents::oom_kill`] is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Times the limit was about to be exceeded.
    pub max: u64,
    /// Times an allocation failed for it.
    pub oom: u64,
    /// Processes killed for it.
    pub oom_kill: u64,
}

impl MemoryEvents {
    /// Reads lines `name count`; unknown names are skipped.
    pub(crate) fn parse(text: &str) -> Self {
        let mut events = Self::default();
        for line in text.lines() {
            let Some((name, count)) = line.split_once(' ') else { continue };
            let count = count.trim().parse().unwrap_or(0);
            match name {
                "max" => events.max = count,
                "oom" => events.oom = count,
                "oom_kill" => events.oom_kill = count,
                _ => {}
            }
        }
        events
    }
}
