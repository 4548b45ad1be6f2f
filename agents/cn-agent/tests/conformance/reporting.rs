//! Cases 45 to 49, 55 and 56: what CNAPI is sent.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use cn_agent::report::Intervals;
use serde_json::{Value, json};

use triton_types::Packed;

use crate::support::{Answer, Bed, Builder, Recorder, eventually};

/// Times short enough for a test; the proportions are the contract's.
fn brisk() -> Intervals {
    Intervals {
        heartbeat: Duration::from_millis(50),
        heartbeat_patience: Duration::from_millis(100),
        sample_check: Duration::from_millis(5),
        sample_throttle: Duration::from_millis(100),
        sample_forced: Duration::from_secs(3600),
        sysinfo_compare: Duration::from_millis(50),
        retry_initial: Duration::from_millis(20),
        retry_cap: Duration::from_millis(200),
    }
}

async fn count(recorder: &Recorder, suffix: &str, at_least: usize) {
    eventually(&format!("{at_least} requests to {suffix}"), || (recorder.to(suffix).len() >= at_least).then_some(())).await;
}

/// cn-agent cases 45 and 56
#[tokio::test]
async fn the_start_is_sysinfo_then_agents_then_heartbeats_and_status_one_at_a_time() {
    let cnapi = Recorder::start().await;
    for suffix in ["/sysinfo", "/status", "/heartbeat"] {
        cnapi.answer_with(suffix, vec![Answer { after: Duration::from_millis(20), ..Answer::status(204) }; 20]);
    }
    let bed = Builder { intervals: brisk(), ..Builder::default() }.begin(cnapi.clone()).await;
    count(&cnapi, "/events/heartbeat", 5).await;
    count(&cnapi, "/events/status", 1).await;
    let seen = cnapi.all();
    let own = format!("/servers/{}", bed.server);
    let paths: Vec<_> = seen.iter().map(|request| request.path.strip_prefix(&own).unwrap()).collect();
    assert_eq!(paths[..2], ["/sysinfo", ""]);
    let mut next = paths[2..4].to_vec();
    next.sort_unstable();
    assert_eq!(next, ["/events/heartbeat", "/events/status"]);
    assert_eq!(cnapi.most_at_once(), 1, "two requests overlapped");
    assert_eq!(seen[0].body["sysinfo"]["CN Agent Port"], json!(bed.address.port()));
    assert_eq!(seen[1].body, json!({"agents": [{"name": "cn-agent", "version": "2.15.0"}]}));
    for request in &seen {
        assert_eq!((request.method.as_str(), request.content_type.as_str()), ("POST", "application/json"));
        let agent = &request.user_agent;
        assert!(agent.starts_with("cn-agent/2.15.0 (") && agent.ends_with(&format!(") server/{}", bed.server)), "{agent}");
    }
    assert_eq!(cnapi.to("/heartbeat")[0].text, "{}");
}

/// cn-agent case 46
#[tokio::test]
async fn a_refused_registration_is_tried_again_after_growing_pauses() {
    let cnapi = Recorder::start().await;
    cnapi.answer_with("/sysinfo", vec![Answer::status(500); 4]);
    cnapi.answer_with("/sysinfo", [Answer { body: r#"{"code":"NoSuchProxy"}"#, ..Answer::status(404) }]);
    let bed = Builder { intervals: brisk(), ..Builder::default() }.begin(cnapi.clone()).await;
    bed.wait_until_open().await;
    let tries = cnapi.to("/sysinfo");
    assert_eq!(tries.len(), 6, "a 404 of something else is temporary");
    for (n, pair) in tries.windows(2).enumerate() {
        // A pause is never shorter than its lower bound; how much longer depends on the machine.
        let least = (20.0 * 1.6_f64.powi(n as i32)).min(200.0) * 0.8;
        let gap = pair[1].at.duration_since(pair[0].at).as_secs_f64() * 1000.0;
        assert!(gap >= least, "pause {n} was {gap} ms, at least {least} ms are due");
    }
    assert!(cnapi.to("/heartbeat").iter().all(|beat| beat.at > tries[5].at), "no heartbeat before the first registration");
}

/// cn-agent case 46
#[tokio::test]
async fn a_cnapi_without_sysinfo_is_not_asked_again() {
    let cnapi = Recorder::start().await;
    cnapi.answer_with("/sysinfo", [Answer { body: r#"{"code":"ResourceNotFound","message":"x"}"#, ..Answer::status(404) }]);
    let bed = Builder { intervals: brisk(), ..Builder::default() }.begin(cnapi.clone()).await;
    bed.wait_until_open().await;
    count(&cnapi, "/heartbeat", 5).await;
    assert_eq!(cnapi.to("/sysinfo").len(), 1);
}

/// cn-agent case 47
#[tokio::test]
async fn heartbeats_go_on_while_a_sample_and_a_task_hang() {
    let cnapi = Recorder::start().await;
    let held = Arc::new(AtomicBool::new(false));
    let (release, hang) = std::sync::mpsc::channel::<()>();
    let (hang, begun) = (Mutex::new(hang), held.clone());
    let status = Arc::new(move || {
        begun.store(true, Ordering::SeqCst);
        let _ = hang.lock().unwrap().recv();
        Err("hung".to_owned())
    });
    let bed = Builder { intervals: brisk(), status, ..Builder::default() }.begin(cnapi.clone()).await;
    bed.wait_until_open().await;
    eventually("a sample that hangs", || held.load(Ordering::SeqCst).then_some(())).await;
    bed.node.close_gate();
    let uuid = bed.node.add(true, false);
    let hung = bed.later("machine_shutdown", json!({"uuid": uuid}));
    bed.called("stop").await;
    let before = cnapi.to("/heartbeat").len();
    count(&cnapi, "/heartbeat", before + 10).await;
    assert!(cnapi.to("/status").is_empty());
    bed.node.open_gate();
    hung.await.unwrap();
    drop(release);
}

/// cn-agent case 47
#[tokio::test]
async fn a_heartbeat_does_not_wait_for_a_status_that_cnapi_stalls() {
    let cnapi = Recorder::start().await;
    cnapi.answer_with("/status", [Answer { after: Duration::from_secs(600), ..Answer::status(204) }]);
    let bed = Builder { intervals: brisk(), ..Builder::default() }.begin(cnapi.clone()).await;
    bed.wait_until_open().await;
    count(&cnapi, "/status", 1).await;
    let before = cnapi.to("/heartbeat").len();
    count(&cnapi, "/heartbeat", before + 3).await;
    assert_eq!(cnapi.to("/status").len(), 1, "the status is still being stalled, or the next one came");
}

/// cn-agent case 47
#[tokio::test]
async fn heartbeats_pause_after_the_end_of_each_and_survive_refusals() {
    let cnapi = Recorder::start().await;
    cnapi.answer_with("/heartbeat", vec![Answer { after: Duration::from_millis(30), ..Answer::status(500) }; 4]);
    let _bed = Builder { intervals: brisk(), ..Builder::default() }.begin(cnapi.clone()).await;
    count(&cnapi, "/heartbeat", 6).await;
    for pair in cnapi.to("/heartbeat")[..5].windows(2) {
        assert!(pair[1].at.duration_since(pair[0].at) >= Duration::from_millis(80), "30 ms of reply and 50 ms of pause");
    }
}

#[tokio::test]
async fn heartbeats_and_status_go_on_while_a_later_registration_is_refused() {
    let cnapi = Recorder::start().await;
    let bed = Builder { intervals: brisk(), ..Builder::default() }.begin(cnapi.clone()).await;
    bed.wait_until_open().await;
    cnapi.answer_with("/sysinfo", vec![Answer::status(500); 100_000]);
    bed.fact.store(1, Ordering::SeqCst);
    count(&cnapi, "/sysinfo", 4).await;
    let (beats, states) = (cnapi.to("/heartbeat").len(), cnapi.to("/status").len());
    bed.dirty.store(true, Ordering::SeqCst);
    count(&cnapi, "/heartbeat", beats + 3).await;
    count(&cnapi, "/status", states + 1).await;
}

#[tokio::test]
async fn sysinfo_is_registered_again_when_it_changes_and_only_then() {
    let cnapi = Recorder::start().await;
    let bed = Builder { intervals: brisk(), ..Builder::default() }.begin(cnapi.clone()).await;
    bed.wait_until_open().await;
    count(&cnapi, "/heartbeat", 10).await;
    assert_eq!(cnapi.to("/sysinfo").len(), 1, "nothing changed");
    bed.fact.store(7, Ordering::SeqCst);
    count(&cnapi, "/sysinfo", 2).await;
    assert_eq!(cnapi.to("/sysinfo")[1].body["sysinfo"]["Fact"], 7);
}

#[tokio::test]
async fn a_task_that_may_alter_sysinfo_makes_it_compared_at_once() {
    let cnapi = Recorder::start().await;
    let intervals = Intervals { sysinfo_compare: Duration::from_secs(3600), ..brisk() };
    let bed = Builder { intervals, ..Builder::default() }.begin(cnapi.clone()).await;
    bed.wait_until_open().await;
    bed.fact.store(9, Ordering::SeqCst);
    assert_eq!(bed.task("command_execute", json!({"script": "true"})).await.status, 200);
    count(&cnapi, "/sysinfo", 2).await;
}

/// cn-agent case 48
#[tokio::test]
async fn a_change_gives_a_new_status_and_a_burst_at_most_one_per_throttle() {
    let cnapi = Recorder::start().await;
    let samples = Arc::new(AtomicUsize::new(0));
    let taken = samples.clone();
    let status = Arc::new(move || Ok(Packed::of(&json!({"n": taken.fetch_add(1, Ordering::SeqCst)})).unwrap()));
    let bed = Builder { intervals: brisk(), status, ..Builder::default() }.begin(cnapi.clone()).await;
    count(&cnapi, "/status", 1).await;
    count(&cnapi, "/heartbeat", 6).await;
    assert_eq!(samples.load(Ordering::SeqCst), 1, "idle");
    bed.dirty.store(true, Ordering::SeqCst);
    count(&cnapi, "/status", 2).await;
    while samples.load(Ordering::SeqCst) < 5 {
        bed.dirty.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    count(&cnapi, "/status", 5).await;
    for pair in cnapi.to("/status").windows(2) {
        let gap = pair[1].at.duration_since(pair[0].at);
        // Between the samples lie 100 ms; the post of the earlier one may have come late.
        assert!(gap >= Duration::from_millis(40), "{gap:?}");
    }
}

/// cn-agent case 48
#[tokio::test]
async fn a_sample_that_fails_is_dropped_whole_and_taken_again() {
    let cnapi = Recorder::start().await;
    let failures = Arc::new(AtomicUsize::new(0));
    let failed = failures.clone();
    let status = Arc::new(move || match failed.fetch_add(1, Ordering::SeqCst) {
        0..3 => Err("the pool is not there".to_owned()),
        _ => Ok(Packed::of(&json!({"vms": {}})).unwrap()),
    });
    let _bed = Builder { intervals: brisk(), status, ..Builder::default() }.begin(cnapi.clone()).await;
    count(&cnapi, "/status", 1).await;
    assert_eq!(failures.load(Ordering::SeqCst), 4);
    assert_eq!(cnapi.to("/status")[0].body, json!({"vms": {}}));
}

/// What CNAPI keeps of a task: cn-agent.md section 4.3.
fn record(status: u16, body: &Value) -> Value {
    if (200..300).contains(&status) {
        return json!({"status": "complete", "history": [{"name": "finish", "event": body}]});
    }
    let message = body["error"].as_str().unwrap_or("no error given");
    json!({"status": "failure", "history": [{"name": "error", "event": {"error": {"message": message}}}, {"name": "finish", "event": {}}]})
}

/// cn-agent case 55
#[tokio::test]
async fn cnapis_record_of_a_task_has_its_result_or_its_message() {
    let bed = Bed::start().await;
    let uuid = bed.node.add(false, false);
    let reply = bed.task("machine_boot", json!({"uuid": uuid})).await;
    assert_eq!(record(reply.status, &reply.json())["history"][0]["event"]["vm"]["state"], "running");
    let reply = bed.task("nop", json!({"error": "x"})).await;
    let kept = record(reply.status, &reply.json());
    assert_eq!((&kept["status"], &kept["history"][0]["event"]["error"]["message"]), (&json!("failure"), &json!("x")));
    let reply = bed.task("server_sysinfo", json!({})).await;
    assert_eq!(reply.json()["sysinfo"]["UUID"], json!(bed.server));
}
