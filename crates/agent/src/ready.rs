//! What systemd is told: ready, stopping, alive. Without systemd every call is nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sd_notify::NotifyState;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

/// The sockets are bound with their modes: clients may come. `status` is shown by `systemctl status`.
pub fn notify(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What the agent does before it is ready; shown by `systemctl status`.
pub fn notify_status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The agent drains and will end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says for [`watchdog`] whether a loop turns: `beats` grows with each turn, and none may take longer than `busy`. A loop that has
/// not begun counts as alive: what comes before it has deadlines of its own.
pub fn progress(beats: Arc<AtomicU64>, busy: Duration) -> impl FnMut() -> bool + Send {
    let (mut last, mut since) = (0, Instant::now());
    move || {
        let now = beats.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        now == 0 || since.elapsed() < busy
    }
}

/// Tells the watchdog that the agent lives, at half the interval that it asked for, while `alive` says so. Never ends;
/// to be spawned. The agent's `alive` should look at its own progress (a counter of its loops), not just return true.
pub async fn watchdog(mut alive: impl FnMut() -> bool + Send) {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut timer = tokio::time::interval((period / 2).max(Duration::from_millis(1)));
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        if alive() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_alive_until_it_stops_turning() {
        let beats = Arc::new(AtomicU64::new(0));
        let mut patient = progress(beats.clone(), Duration::from_secs(3600));
        let mut strict = progress(beats.clone(), Duration::ZERO);
        assert!(patient() && strict(), "it has not begun");
        beats.fetch_add(1, Ordering::Relaxed);
        assert!(patient() && !strict());
    }
}
