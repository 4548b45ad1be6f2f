//! Registering again when sysinfo has changed (cn-agent.md section 6).

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use tracing::{debug, info};
use triton_types::JsonMap;

use super::Outbox;
use crate::tasks::SysinfoSource;

/// Compares sysinfo with what CNAPI took last, every `every` and after each `altered`, for ever.
pub async fn watch_sysinfo(outbox: Arc<Outbox>, source: SysinfoSource, every: Duration, altered: Arc<Notify>) {
    loop {
        // Both arms may be dropped at any time: a notification that nobody waited for is kept.
        tokio::select! {
            () = altered.notified() => {}
            () = tokio::time::sleep(every) => {}
        }
        let source = source.clone();
        let collected = tokio::task::spawn_blocking(move || source()).await;
        match (collected, outbox.posted()) {
            (Ok(Ok(now)), Some(posted)) => {
                let keys = changed(&posted, &now);
                if !keys.is_empty() {
                    info!(?keys, "sysinfo has changed");
                    outbox.sysinfo();
                }
            }
            (Ok(Err(error)), _) => debug!(error, "sysinfo could not be collected"),
            _ => {}
        }
    }
}

/// The keys in which two documents differ.
fn changed(before: &JsonMap, now: &JsonMap) -> Vec<String> {
    let mut keys: Vec<String> = before.keys().chain(now.keys()).filter(|key| before.get(*key) != now.get(*key)).cloned().collect();
    keys.sort();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn added_removed_and_altered_keys_are_changes() {
        let map = |value: serde_json::Value| value.as_object().unwrap().clone();
        let before = map(json!({"a": 1, "b": {"c": [1, 2]}, "d": 1}));
        assert!(changed(&before, &before).is_empty());
        assert_eq!(changed(&before, &map(json!({"a": 1, "b": {"c": [2, 1]}, "e": 1}))), ["b", "d", "e"]);
    }
}
