//! Cases 49 and 50: when there is nothing to do yet, or for ever.

use std::time::Duration;

use net_agent::{AgentConfig, configuration};
use serde_json::json;
use triton_files::Layout;

const EVERY: Duration = Duration::from_millis(50);

fn node() -> (tempfile::TempDir, Layout) {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::new(root.path());
    std::fs::create_dir_all(AgentConfig::path(&layout).parent().unwrap()).unwrap();
    (root, layout)
}

/// net-agent case 50
#[tokio::test]
async fn a_configuration_that_is_not_there_is_waited_for_and_a_broken_one_is_the_end() {
    let (_root, layout) = node();
    let waiting = tokio::spawn({
        let layout = layout.clone();
        async move { configuration(&layout, EVERY).await }
    });
    let mut waiting = std::pin::pin!(waiting);
    assert!(tokio::time::timeout(EVERY * 4, &mut waiting).await.is_err());
    let text = json!({"napi": {"url": "http://napi"}, "no_rabbit": true}).to_string();
    triton_files::write_atomic(&AgentConfig::path(&layout), text.as_bytes(), 0o644).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().napi.url, "http://napi");
    std::fs::write(AgentConfig::path(&layout), "{").unwrap();
    assert!(configuration(&layout, EVERY).await.is_err());
}

/// net-agent case 49
#[tokio::test]
async fn without_no_rabbit_the_agent_waits_for_ever_and_asks_nobody() {
    for text in [json!({"napi": {"url": "http://127.0.0.1:1"}, "no_rabbit": false}), json!({"napi": {"url": "http://127.0.0.1:1"}})] {
        let (_root, layout) = node();
        std::fs::write(AgentConfig::path(&layout), text.to_string()).unwrap();
        let mut waiting = std::pin::pin!(configuration(&layout, EVERY));
        assert!(tokio::time::timeout(EVERY * 4, &mut waiting).await.is_err());
        // Not even when it changes: a restart is what begins anew.
        std::fs::write(AgentConfig::path(&layout), json!({"napi": {"url": "http://127.0.0.1:1"}, "no_rabbit": true}).to_string()).unwrap();
        assert!(tokio::time::timeout(EVERY * 4, &mut waiting).await.is_err());
    }
}
