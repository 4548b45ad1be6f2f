//! Cases 18 to 23, 30, 31 and the sweep: what NAPI is to forget, and what not.

use net_agent::Kept;
use serde_json::json;
use triton_types::InstanceUuid;

use crate::lab::{CERTAIN, Lab, PAUSE, digits, eventually, mac};

fn methods(lab: &Lab, n: u8) -> Vec<String> {
    lab.asked(n).into_iter().map(|(method, _)| method).collect()
}

/// net-agent case 18
#[tokio::test]
async fn a_nic_that_left_its_instance_is_deleted_by_its_version() {
    let lab = Lab::started().await;
    let uuid = lab.instance(5).await;
    lab.set(uuid, json!({"nics": []}));
    lab.napi_has(5, "the deletion", |nic| nic.is_none()).await;
    let deletion = lab.agents().into_iter().find(|entry| entry.method == "DELETE").unwrap();
    assert!(deletion.headers["if-match"].as_str().is_some_and(|tag| !tag.is_empty()) && deletion.status == Some(204));
    let answer =
        lab.standin.record(0).into_iter().rfind(|entry| entry.path.contains(&digits(5)) && entry.method == "GET").unwrap().response;
    assert_eq!((&answer["code"], &answer["message"]), (&json!("ResourceNotFound"), &json!("nic not found")));
}

/// net-agent case 19, 20
#[tokio::test]
async fn another_version_is_judged_anew_a_failure_is_repeated_after_a_pause_and_none_left_is_the_end() {
    let lab = Lab::started().await;
    for (status, expected) in [(412, vec!["DELETE", "GET", "DELETE"]), (500, vec!["DELETE", "DELETE"]), (404, vec!["DELETE"])] {
        let uuid = lab.instance(5).await;
        let before = lab.asked(5).len();
        let body = json!({"code": if status == 404 { "ResourceNotFound" } else { "Refused" }, "message": "told so"});
        lab.fault("DELETE", "^/nics/", headnode_standin::FaultAction::Fail { status, body: Some(body) }, 1);
        let begun = std::time::Instant::now();
        lab.delete(uuid);
        eventually("the requests", || (lab.asked(5).len() >= before + expected.len()).then_some(())).await;
        assert!(status == 404 || begun.elapsed() >= PAUSE.mul_f64(0.9));
        lab.settled().await;
        assert_eq!(methods(&lab, 5)[before..], expected, "{status}");
        if lab.there(5).await.is_some() {
            lab.napi("DELETE", &format!("/nics/{}", digits(5)), json!({})).await;
            lab.settled().await;
        }
    }
}

/// net-agent case 21, 22
#[tokio::test]
async fn what_became_somebody_elses_or_is_being_provisioned_is_not_deleted() {
    let mut lab = Lab::new().await;
    let [foreign, moving] = std::array::from_fn(|_| InstanceUuid::random());
    lab.put_nic(5, foreign, json!({})).await;
    lab.put_nic(6, moving, json!({})).await;
    for (n, uuid) in [(5, foreign), (6, moving)] {
        lab.put(uuid, &[lab.nic(n)], json!({}));
    }
    lab.start();
    lab.fed().await;
    lab.napi("PUT", &format!("/nics/{}", digits(5)), json!({"belongs_to_uuid": InstanceUuid::random()})).await;
    lab.napi("PUT", &format!("/nics/{}", digits(6)), json!({"state": "provisioning"})).await;
    // The versions come from no list: each is asked for, and judged.
    lab.delete(foreign);
    lab.delete(moving);
    eventually("the questions", || (!lab.asked(5).is_empty() && !lab.asked(6).is_empty()).then_some(())).await;
    lab.settled().await;
    assert!(lab.told(5).is_empty() && lab.told(6).is_empty(), "{:?}", lab.told(5));
}

/// net-agent case 23
#[tokio::test]
async fn all_nics_of_an_instance_that_is_gone_are_released() {
    let lab = Lab::started().await;
    let uuid = lab.instance(5).await;
    lab.set(uuid, json!({"nics": [lab.nic(5), lab.nic(6), lab.nic(7)]}));
    lab.napi_has(7, "the third", |nic| nic.is_some()).await;
    lab.napi_has(6, "the second", |nic| nic.is_some()).await;
    lab.delete(uuid);
    for n in [5, 6, 7] {
        lab.napi_has(n, "the release", |nic| nic.is_none()).await;
    }
}

/// net-agent case 30, 31
#[tokio::test]
async fn a_hidden_instance_is_nobodys_business_also_after_its_end_and_after_the_agents() {
    let mut lab = Lab::started().await;
    let [hidden, shown] = [lab.instance(5).await, lab.instance(6).await];
    for uuid in [hidden, shown] {
        lab.set(uuid, json!({"do_not_inventory": true}));
    }
    eventually("the note", || (lab.world.kept.lock().unwrap().hidden.len() == 2).then_some(())).await;
    let before = lab.agents().len();
    for state in ["stopped", "running"] {
        lab.set(hidden, json!({"state": state}));
        lab.settled().await;
    }
    lab.set(hidden, json!({"nics": []}));
    lab.delete(hidden);
    lab.settled().await;
    assert_eq!(lab.agents().len(), before, "{:?}", &lab.agents()[before..]);
    let asked = lab.asked(6).len();
    // Shown again, stopped: tracked again, from the beginning.
    lab.set(shown, json!({"do_not_inventory": false, "state": "stopped"}));
    lab.napi_has(6, "the state", |nic| nic.is_some_and(|nic| nic["state"] == "stopped")).await;
    assert_eq!(methods(&lab, 6)[asked..asked + 2], ["GET", "PUT"]);
    // The next agent does not sweep what was hidden.
    lab.kill();
    let kept: Kept = lab.world.kept.lock().unwrap().clone();
    assert_eq!(kept.hidden, [hidden].into());
    lab.start_with(kept);
    lab.fed().await;
    let probe = lab.there(5).await;
    for _ in 0..3 {
        tokio::time::sleep(CERTAIN).await;
        lab.standin.end_feeds();
        lab.fed().await;
    }
    assert_eq!(lab.there(5).await, probe);
}

/// Ruling 6
#[tokio::test]
async fn a_nic_that_stayed_behind_is_swept_after_two_lists_and_what_a_workflow_has_is_not() {
    let mut lab = Lab::new().await;
    for (n, state) in [(5, "running"), (6, "stopped"), (7, "provisioning")] {
        lab.put_nic(n, InstanceUuid::random(), json!({"state": state})).await;
    }
    lab.put_nic(8, InstanceUuid::random(), json!({"cn_uuid": uuid::Uuid::new_v4()})).await;
    lab.start();
    for n in [5, 6] {
        lab.napi_has(n, "the sweep", |nic| nic.is_none()).await;
    }
    lab.settled().await;
    assert!(lab.there(7).await.is_some() && lab.there(8).await.is_some());
    let lists = lab.agents().iter().filter(|entry| entry.path.contains("belongs_to_type")).count();
    assert!(lists >= 2);
    assert_eq!(methods(&lab, 5), ["GET", "DELETE"], "{}", mac(5));
}

/// Ruling 6: so many that stayed behind would be a sign of missing files, were it not known that this node destroyed them.
#[tokio::test]
async fn many_nics_that_stayed_behind_are_swept_when_this_node_destroyed_their_instances() {
    let mut lab = Lab::new().await;
    let destroyed = 5..20;
    for n in destroyed.clone() {
        let uuid = InstanceUuid::random();
        lab.put_nic(n, uuid, json!({"state": "running"})).await;
        lab.world.gone.lock().unwrap().insert(uuid);
    }
    lab.put_nic(20, InstanceUuid::random(), json!({"state": "running"})).await;
    lab.start();
    for n in destroyed.chain([20]) {
        lab.napi_has(n, "the sweep", |nic| nic.is_none()).await;
    }
}

#[tokio::test]
async fn many_nics_whose_instances_are_only_not_here_stay() {
    let mut lab = Lab::new().await;
    for n in 5..20 {
        lab.put_nic(n, InstanceUuid::random(), json!({"state": "running"})).await;
    }
    lab.start();
    let lists = |lab: &Lab| lab.agents().iter().filter(|entry| entry.path.contains("belongs_to_type")).count();
    lab.settled().await;
    for _ in 0..3 {
        tokio::time::sleep(CERTAIN).await;
        lab.standin.end_feeds();
        lab.fed().await;
    }
    assert!(lists(&lab) >= 3, "{}", lists(&lab));
    for n in 5..20 {
        assert!(lab.there(n).await.is_some(), "{n}");
    }
}
