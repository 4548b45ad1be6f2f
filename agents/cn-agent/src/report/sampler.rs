//! When a status is taken (cn-agent.md section 5.2): soon after a change, never two within the throttle, at the latest every minute.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tracing::warn;
use triton_types::Packed;

use super::{Intervals, Outbox};
use crate::Numbers;

/// Takes a sample, blocking; the error is for an operator.
pub type StatusSource = Arc<dyn Fn() -> Result<Packed, String> + Send + Sync>;

/// Decides when a sample is due. Pure: it is told the time.
#[derive(Clone, Copy, Debug)]
pub struct SampleClock {
    throttle: Duration,
    forced: Duration,
    last: Option<Instant>,
    dirty: bool,
}

impl SampleClock {
    /// At first a sample is due at once.
    pub fn new(throttle: Duration, forced: Duration) -> Self {
        Self { throttle, forced, last: None, dirty: true }
    }

    /// Something changed, or a sample failed.
    pub fn mark(&mut self) {
        self.dirty = true;
    }

    /// True if a sample is to be taken now; it counts as taken then.
    pub fn due(&mut self, now: Instant) -> bool {
        let age = self.last.map(|last| now.saturating_duration_since(last));
        let throttled = age.is_some_and(|age| age < self.throttle);
        let overdue = age.is_none_or(|age| age >= self.forced);
        let due = (self.dirty || overdue) && !throttled;
        if due {
            self.dirty = false;
            self.last = Some(now);
        }
        due
    }
}

/// Takes samples, one at a time, and gives them to the outbox, for ever. A sample that fails is dropped whole and taken again after
/// the throttle. `dirty` is set by whoever sees a change.
pub async fn sample(outbox: Arc<Outbox>, source: StatusSource, dirty: Arc<AtomicBool>, intervals: Intervals, numbers: Numbers) {
    let mut clock = SampleClock::new(intervals.sample_throttle, intervals.sample_forced);
    let mut failing = false;
    loop {
        if dirty.swap(false, Ordering::AcqRel) {
            clock.mark();
        }
        if clock.due(Instant::now()) {
            let source = source.clone();
            match tokio::task::spawn_blocking(move || source()).await.map_err(|error| error.to_string()).and_then(|sample| sample) {
                Ok(status) => {
                    outbox.status(status);
                    failing = false;
                }
                Err(error) => {
                    if !failing {
                        warn!(error, "the status could not be sampled");
                    }
                    failing = true;
                    numbers.sample_dropped();
                    clock.mark();
                }
            }
        }
        tokio::time::sleep(intervals.sample_check).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> (SampleClock, Instant) {
        (SampleClock::new(Duration::from_secs(5), Duration::from_secs(60)), Instant::now())
    }

    /// cn-agent case 48
    #[test]
    fn a_sample_is_due_at_start_then_every_minute_and_after_a_change_when_the_throttle_allows() {
        let (mut clock, start) = clock();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(clock.due(at(0)));
        assert!(!clock.due(at(59_900)));
        assert!(clock.due(at(60_000)));
        clock.mark();
        assert!(!clock.due(at(64_500)), "within the throttle");
        assert!(clock.due(at(65_000)), "the change is not forgotten");
        assert!(!clock.due(at(65_500)));
    }

    /// cn-agent case 48
    #[test]
    fn a_burst_of_changes_gives_at_most_one_sample_per_throttle() {
        let (mut clock, start) = clock();
        let taken = (0..1000)
            .filter(|n| {
                clock.mark();
                clock.due(start + Duration::from_millis(n * 100))
            })
            .count();
        assert_eq!(taken, 20, "100 s of changes");
    }
}
