//! A guest that reboots again and again at once is booted ever more slowly.

use std::time::Duration;

/// A run shorter than this makes the next boot wait.
const SHORT: Duration = Duration::from_secs(2);
/// Bounds of the wait.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Waits between boots.
#[derive(Default)]
pub struct Pauses {
    last: Option<Duration>,
}

impl Pauses {
    /// How long to wait after a run that lasted `run`; `chance` is from 0 to 1.
    pub fn after(&mut self, run: Duration, chance: f64) -> Duration {
        if run >= SHORT {
            self.last = None;
            return Duration::ZERO;
        }
        let Some(last) = self.last else {
            // One quick reboot is nothing unusual.
            self.last = Some(PAUSES.0);
            return Duration::ZERO;
        };
        self.last = Some((last * 2).min(PAUSES.1));
        last.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// A number from 0 to 1 that differs between machines and moments.
pub fn chance() -> f64 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    f64::from(nanos % 1000) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_reboots_wait_longer_and_longer_and_a_long_run_forgives() {
        let mut pauses = Pauses::default();
        let quick = Duration::from_millis(30);
        assert_eq!(pauses.after(quick, 0.5), Duration::ZERO);
        let waits: Vec<_> = (0..9).map(|_| pauses.after(quick, 0.5).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(pauses.after(Duration::from_secs(60), 0.5), Duration::ZERO);
        assert_eq!(pauses.after(quick, 0.5), Duration::ZERO);
        assert_eq!((pauses.after(quick, 0.0), pauses.after(quick, 1.0)), (Duration::from_millis(75), Duration::from_millis(250)));
    }
}
