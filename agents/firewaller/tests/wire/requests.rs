//! The HTTP service: cases H1 to H5.

use http::Method;
use serde_json::json;
use triton_types::{InstanceUuid, RuleUuid};

use crate::node::{Node, rule, vm};

/// firewaller cases H1, H2, H5
#[tokio::test]
async fn firewaller_case_h1_h2_h5_what_there_is_and_what_there_is_not() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    let mut stopped = vm(InstanceUuid::random(), crate::node::OWNER, "10.0.0.2", json!({}));
    stopped["state"] = json!("stopped");
    node.has(&stopped);
    node.start().await;
    let get = async |path: String| node.ask(&node.url, Method::GET, &path, None).await;
    let status = get("/status".to_owned()).await.unwrap();
    assert_eq!((&status["queued"], status["recent"].is_array()), (&json!(0), true));
    for (path, message) in [("rules", "rule not found"), ("rvms", "remote VM not found")] {
        for name in [RuleUuid::random().to_string(), "nonsense".to_owned()] {
            let (status, text) = get(format!("/{path}/{name}")).await.unwrap_err();
            assert!(status == 404 && text.contains("ResourceNotFound") && text.ends_with(message), "{text}");
        }
    }
    assert_eq!(get(format!("/vms/{here}/status")).await.unwrap(), json!({"running": true}));
    for name in [stopped["uuid"].as_str().unwrap(), &InstanceUuid::random().to_string(), "nonsense"] {
        assert_eq!(get(format!("/vms/{name}/status")).await.unwrap(), json!({"running": false}));
    }
}

/// firewaller cases H3, H4
#[tokio::test]
async fn firewaller_case_h3_h4_a_rule_that_is_put_is_stored_whoever_it_is_about() {
    let mut node = Node::new();
    node.start().await;
    let mut rule = rule(&format!("FROM any TO vm {} ALLOW tcp PORT 22", InstanceUuid::random()));
    let path = format!("/rules/{}", rule["uuid"].as_str().unwrap());
    let stored = node.ask(&node.url, Method::PUT, &path, Some(&rule)).await.unwrap();
    assert_eq!((&stored["rule"], &stored["created_by"]), (&rule["rule"], &json!("fwapi")));
    assert_eq!(node.ask(&node.url, Method::GET, &path, None).await.unwrap(), stored);
    assert_eq!(node.ask(&node.url, Method::PUT, &path, Some(&rule)).await.unwrap(), stored, "nothing changed: the rule all the same");
    rule["enabled"] = json!(false);
    let disabled = node.ask(&node.url, Method::PUT, &path, Some(&rule)).await.unwrap();
    assert_eq!(disabled["enabled"], false);

    rule["rule"] = json!("FROM any TO any ALLOW tcp PORT 22");
    let (status, text) = node.ask(&node.url, Method::PUT, &path, Some(&rule)).await.unwrap_err();
    assert!(status == 422 && text.contains("rule does not affect VMs"), "{text}");
    assert_eq!(node.ask(&node.url, Method::GET, &path, None).await.unwrap(), disabled);
}
