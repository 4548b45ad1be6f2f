//! Case 57: stopping, inside one process.

use std::time::Duration;

use cn_agent::report::Intervals;
use serde_json::json;

use crate::support::{Bed, Builder, eventually};

/// cn-agent case 57
#[tokio::test]
async fn a_stopping_agent_refuses_new_tasks_lets_running_ones_end_and_beats_until_then() {
    let intervals = Intervals { heartbeat: Duration::from_millis(20), ..Intervals::default() };
    let mut bed = Builder { intervals, ..Builder::default() }.start().await;
    let uuid = bed.node.add(true, false);
    bed.node.close_gate();
    let running = bed.later("machine_shutdown", json!({"uuid": uuid}));
    bed.called("stop").await;
    bed.stop();
    let refusal = r#"{"code":"ServiceUnavailableError","message":"CN Agent is shutting down"}"#;
    loop {
        let reply = bed.task("nop", json!({})).await;
        if reply.status == 503 {
            assert_eq!(reply.body, refusal);
            break;
        }
    }
    let beats = bed.cnapi.to("/heartbeat").len();
    eventually("heartbeats while draining", || (bed.cnapi.to("/heartbeat").len() >= beats + 3).then_some(())).await;
    bed.node.open_gate();
    assert_eq!(running.await.unwrap().status, 200);
    bed.ended().await;
    let beats = bed.cnapi.to("/heartbeat").len();
    assert!(tokio::net::TcpStream::connect(bed.address).await.is_err(), "the port is free");
    assert_eq!(bed.cnapi.to("/heartbeat").len(), beats);
}

/// cn-agent case 57
#[tokio::test]
async fn tasks_beyond_the_grace_are_broken_off_and_their_processes_end() {
    let mut bed = Builder { grace: Duration::from_millis(50), ..Builder::default() }.start().await;
    let sleep = bed.later("sleep", json!({"timeout": 600_000}));
    let script = bed.later("command_execute", json!({"script": "echo $$ > $1; sleep 1000", "args": [bed.layout.at("/pid")]}));
    let pid = eventually("the script", || {
        let text = std::fs::read_to_string(bed.layout.at("/pid")).ok()?;
        text.ends_with('\n').then(|| text.trim().to_owned())
    })
    .await;
    bed.stop();
    for task in [sleep, script] {
        assert_eq!(task.await.unwrap().seen(), (500, r#"{"error":"the agent is shutting down"}"#));
    }
    bed.ended().await;
    let gone = || !std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(gone(), "the script outlived the agent");
}

/// cn-agent case 10: a pause does not survive a restart
#[tokio::test]
async fn a_new_agent_on_the_same_root_is_not_paused() {
    let mut bed = Bed::start().await;
    bed.send("POST /pause", "").await;
    bed.stop();
    bed.ended().await;
    let root = bed.root.take();
    let bed = Builder { root, ..Builder::default() }.start().await;
    assert_eq!(bed.task("nop", json!({})).await.status, 200);
}

#[tokio::test]
async fn an_operator_sees_the_agents_state_on_its_socket() {
    let bed = Bed::start().await;
    bed.task("nop", json!({})).await;
    let layout = bed.layout.clone();
    let (text, metrics) = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        cn_agent::print_status(&layout, false, &mut text).unwrap();
        (String::from_utf8(text).unwrap(), triton_agent::metrics::fetch(&layout, "cn-agent", "/metrics").unwrap())
    })
    .await
    .unwrap();
    assert!(text.contains("registered         true") && text.contains(&bed.server.to_string()), "{text}");
    assert!(metrics.contains("cn_agent_tasks_total{task=\"nop\",result=\"ok\"} 1"), "{metrics}");
}
