//! FWAPI is away for an hour, in simulated time (issue 7, "bad input"; ruling 9).

use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::node::{Node, OWNER, eventually, rule};

/// An address at which nobody listens.
async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// Hands connections at one address on to another.
async fn hand_on(from: &str, to: &str) {
    let listener = TcpListener::bind(from).await.unwrap();
    let to = to.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
}

#[tokio::test]
async fn an_hour_without_fwapi_changes_nothing_costs_little_and_is_made_up_for() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    let mut kept = rule(&format!("FROM any TO vm {here} ALLOW tcp PORT 22"));
    kept["created_by"] = json!("fwapi");
    let kept = node.keep(&kept);
    let [fwapi, vmapi, fast] = [nobody().await, nobody().await, nobody().await];
    node.launch_at(&format!("http://{fwapi}"), &format!("http://{vmapi}"), fast.clone()).await;
    tokio::time::pause();
    for minute in 0..60 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((node.rules(), node.admits(here, "10.8.0.1", 22)), (vec![kept], true), "minute {minute}");
    }
    let status = node.numbers.status();
    assert_eq!((&status["subscribed"], &status["syncs"]), (&json!(false), &json!(0)));
    assert!((6..12).contains(&status["syncs_failed"].as_u64().unwrap()), "at start, and each half hour: {status}");
    assert_eq!((node.stored().1, node.queued()), (0, 0), "nothing was changed, and nothing piled up");
    tokio::time::resume();

    // FWAPI comes back, with another rule.
    let text = format!("FROM any TO vm {here} ALLOW tcp PORT 23");
    node.fwapi_rule(&json!({"rule": text, "owner_uuid": OWNER, "enabled": true})).await;
    hand_on(&fwapi, node.standin.fwapi_url()).await;
    hand_on(&vmapi, node.standin.vmapi_url()).await;
    hand_on(&fast, node.standin.fast_address()).await;
    eventually("it is subscribed and has compared", || {
        let status = node.numbers.status();
        status["subscribed"] == true && status["syncs"].as_u64() >= Some(1) && node.admits(here, "10.8.0.1", 23)
    })
    .await;
    assert_eq!(node.standin.violations(), []);
}
