//! What systemd is told: ready, stopping, alive. Without systemd every call is nothing.

use std::time::Duration;

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

/// The agent drains and will end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
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
