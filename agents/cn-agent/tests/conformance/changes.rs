//! Cases 37, 38, 39 and 43: instances that change, and their processes.

use serde_json::{Value, json};
use triton_types::{ImageUuid, InstanceUuid};

use crate::support::{Bed, eventually};

/// cn-agent case 37
#[tokio::test]
async fn nics_that_come_or_go_reboot_a_running_instance_and_nothing_else_does() {
    let bed = Bed::start().await;
    let (running, stopped) = (bed.node.add(true, false), bed.node.add(false, false));
    for (uuid, update, calls) in [
        (running, json!({"add_nics": [{"nic_tag": "external"}]}), 2),
        (running, json!({"remove_nics": ["m"], "jobid": "j"}), 2),
        (running, json!({"update_nics": [{"mac": "m"}]}), 1),
        (running, json!({"alias": "web0"}), 1),
        (stopped, json!({"add_nics": []}), 1),
    ] {
        let before = bed.node.calls().len();
        let mut params = update.clone();
        params["uuid"] = json!(uuid);
        let reply = bed.task("machine_update", params).await;
        assert_eq!((reply.status, &reply.json()["vm"]["uuid"]), (200, &json!(uuid)), "{update}");
        let made = bed.node.calls()[before..].to_vec();
        assert_eq!(made.len(), calls, "{update}: {made:?}");
        assert!(
            made[0].starts_with(&format!("update {uuid} "))
                && made[0].contains(&update.as_object().unwrap().keys().next().unwrap().clone())
        );
        assert!(calls == 1 || made[1].starts_with(&format!("reboot {uuid}")), "{made:?}");
    }
    bed.node.fail("update", "Invalid value(s) for: alias");
    let reply = bed.task("machine_update", json!({"uuid": running, "alias": "-"})).await;
    assert_eq!((reply.status, reply.json()["error"].as_str()), (500, Some("vmadm.update error: Invalid value(s) for: alias")));
}

/// cn-agent case 38
#[tokio::test]
async fn snapshots_are_made_put_back_and_destroyed_and_an_unknown_one_is_gone_already() {
    let bed = Bed::start().await;
    let uuid = bed.node.add(false, false);
    let params = |name: &str| json!({"uuid": uuid, "snapshot_name": name});
    assert_eq!(bed.task("machine_create_snapshot", params("s1")).await.json()["vm"]["uuid"], json!(uuid));
    let again = bed.task("machine_create_snapshot", params("s1")).await;
    assert_eq!(again.json()["error"], "vmadm.create_snapshot error: Snapshot already exists.");
    assert_eq!(bed.task("machine_rollback_snapshot", params("s1")).await.json()["vm"]["state"], "running");
    let unknown = bed.task("machine_rollback_snapshot", params("other")).await;
    assert_eq!(unknown.status, 500);
    assert!(unknown.json()["error"].as_str().unwrap().starts_with("vmadm.rollback_snapshot error: No snapshot named"));
    for _ in 0..2 {
        let reply = bed.task("machine_delete_snapshot", params("s1")).await;
        assert_eq!((reply.status, &reply.json()["vm"]["uuid"]), (200, &json!(uuid)));
    }
    let missing = bed.task("machine_create_snapshot", json!({"uuid": uuid})).await;
    assert_eq!(missing.json()["error"], "Required 'snapshot_name' param not found");
    let nobody = bed.task("machine_delete_snapshot", json!({"uuid": InstanceUuid::random(), "snapshot_name": "s"})).await;
    assert_eq!((nobody.status, &nobody.json()["details"]["restCode"]), (500, &json!("VmNotFound")));
}

#[tokio::test]
async fn a_reprovisioning_imports_its_image_first_and_leaves_no_guard() {
    let bed = Bed::start().await;
    let uuid = bed.node.add(false, false);
    let image = ImageUuid::random();
    let unknown = InstanceUuid::random();
    let reply = bed.task("machine_reprovision", json!({"uuid": unknown, "image_uuid": image})).await;
    assert_eq!((reply.status, reply.json()["error"].as_str()), (500, Some(format!("VM {unknown} does not exist.").as_str())));
    let reply = bed.task("machine_reprovision", json!({"uuid": uuid, "disks": [{"image_uuid": image}]})).await;
    assert_eq!(reply.json()["vm"]["state"], "running");
    let calls = bed.node.calls();
    assert!(calls[0].starts_with(&format!("import {image}")) && calls[1].starts_with(&format!("reprovision {uuid}")), "{calls:?}");
    bed.node.fail("reprovision", "no space");
    let reply = bed.task("machine_reprovision", json!({"uuid": uuid, "image_uuid": image})).await;
    assert_eq!(reply.json()["error"], "vmadm.reprovision error: no space");
    assert!(!bed.guard(uuid).exists());
}

/// cn-agent case 39
#[tokio::test]
async fn processes_are_those_of_a_running_instance() {
    let bed = Bed::start().await;
    let (running, stopped) = (bed.node.add(true, false), bed.node.add(false, false));
    bed.node.vms.lock().unwrap().get_mut(&running).unwrap().more.insert("pid".to_owned(), json!(std::process::id()));
    let all = bed.task("machine_proc", json!({"uuid": running})).await.json();
    let (pid, process) = all
        .as_object()
        .unwrap()
        .iter()
        .find(|(_, process)| process["psinfo"]["pr_fname"].as_str().unwrap().starts_with("conformance"))
        .unwrap();
    assert_eq!(process["psinfo"]["pr_pid"].to_string(), *pid);
    let reply = bed.task("machine_proc", json!({"uuid": stopped})).await;
    assert_eq!((reply.status, reply.json()), (500, json!({"error": "VM is not running", "details": {"restCode": "VmNotRunning"}})));
    assert_eq!(bed.task("machine_proc", json!({})).await.json()["error"], "missing uuid for machine_proc");
    let reply = bed.task("machine_proc", json!({"uuid": InstanceUuid::random()})).await;
    assert!(reply.json()["error"].as_str().unwrap().starts_with("vmadm.load error: "));
}

/// cn-agent case 43
#[tokio::test]
async fn a_network_that_changed_changes_the_instances_on_it_and_no_others() {
    let bed = Bed::start().await;
    let reply = bed.task("machine_update_nics", json!({})).await;
    assert_eq!((reply.status, reply.json()["error"].as_str()), (500, Some("Invalid request parameters: networks, original_network")));
    let (on, off) = (bed.node.add(true, false), bed.node.add(true, false));
    for (uuid, ip) in [(on, "10.0.0.7"), (off, "10.5.0.7")] {
        let nic = json!([{"mac": "m", "ip": ip, "netmask": "255.255.255.0", "nic_tag": "external", "vlan_id": 0, "gateway": "10.0.0.1"}]);
        bed.node.vms.lock().unwrap().get_mut(&uuid).unwrap().more.insert("nics".to_owned(), nic);
    }
    let network = |gateway: &str| json!({"uuid": "n", "subnet": "10.0.0.0/24", "nic_tag": "external", "vlan_id": 0, "gateway": gateway, "resolvers": []});
    let params = json!({"networks": [network("10.0.0.2")], "original_network": network("10.0.0.1")});
    let reply = bed.task("machine_update_nics", params.clone()).await;
    assert_eq!((reply.status, reply.json()), (200, json!({})), "the request names no instance");
    assert_eq!(bed.node.calls(), [format!("update {on} {}", json!({"update_nics": [{"mac": "m", "gateway": "10.0.0.2"}]}))]);
    let mut named = params;
    named["uuid"] = json!(off);
    assert_eq!(bed.task("machine_update_nics", named).await.json()["vm"]["uuid"], json!(off));
}

#[tokio::test]
async fn the_list_of_agents_is_posted_again_when_asked_for() {
    let bed = Bed::start().await;
    let before = bed.cnapi.to(&format!("/servers/{}", bed.server)).len();
    assert_eq!(bed.task("refresh_agents", json!({})).await.seen(), (200, "{}"));
    eventually("the list of agents", || (bed.cnapi.to(&format!("/servers/{}", bed.server)).len() > before).then_some(())).await;
    let last: Value = bed.cnapi.to(&format!("/servers/{}", bed.server)).last().unwrap().body.clone();
    assert_eq!(last["agents"][0]["name"], "cn-agent");
    assert_eq!(bed.task("shutdown_cn_agent_update", json!({})).await.seen(), (200, "{}"));
}
