//! Growing pauses between retries, with jitter so that a data centre of nodes does not retry in step.

use std::time::Duration;

/// A schedule of pauses: `initial * factor^n`, at most `cap`, each varied by `± jitter` (a fraction). Pure: it only counts.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    factor: f64,
    cap: Duration,
    jitter: f64,
    attempt: u32,
}

impl Backoff {
    /// A schedule. `factor` below 1 counts as 1; `jitter` is limited to 0..=1.
    pub fn new(initial: Duration, factor: f64, cap: Duration, jitter: f64) -> Self {
        Self { initial, factor: factor.max(1.0), cap, jitter: jitter.clamp(0.0, 1.0), attempt: 0 }
    }

    /// The pause before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.delay(self.attempt, rand::random::<f64>());
        self.attempt = self.attempt.saturating_add(1);
        delay
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Number of pauses given since the beginning.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// Pause number `attempt` (from 0) for a random number `unit` in 0..1: 0.5 is the middle.
    fn delay(&self, attempt: u32, unit: f64) -> Duration {
        let exponent = i32::try_from(attempt).unwrap_or(i32::MAX);
        let middle = (self.initial.as_secs_f64() * self.factor.powi(exponent)).min(self.cap.as_secs_f64());
        let varied = middle * (1.0 + self.jitter * (2.0 * unit - 1.0));
        Duration::try_from_secs_f64(varied).unwrap_or(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cnapi() -> Backoff {
        Backoff::new(Duration::from_millis(500), 1.6, Duration::from_secs(120), 0.2)
    }

    #[test]
    fn pauses_grow_by_the_factor_up_to_the_cap_even_after_a_very_long_time() {
        let backoff = cnapi();
        assert_eq!(backoff.delay(0, 0.5), Duration::from_millis(500));
        assert_eq!(backoff.delay(2, 0.5), Duration::from_millis(1280));
        for attempt in [20, 1000, u32::MAX] {
            assert_eq!(backoff.delay(attempt, 0.5), Duration::from_secs(120), "{attempt}");
        }
    }

    #[test]
    fn jitter_keeps_each_pause_within_its_fraction() {
        let backoff = cnapi();
        assert_eq!(backoff.delay(0, 0.0), Duration::from_millis(400));
        assert_eq!(backoff.delay(0, 1.0), Duration::from_millis(600));
        let mut running = cnapi();
        for _ in 0..100 {
            assert!(running.next_delay() <= Duration::from_secs(144));
        }
        assert_eq!(running.attempts(), 100);
        running.reset();
        assert!(running.next_delay() <= Duration::from_millis(600));
    }
}
