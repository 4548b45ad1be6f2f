//! Cases 26, 34 to 40: the machine's own NICs.

use serde_json::{Value, json};

use crate::lab::{ADMIN, CN, Lab, digits, eventually, mac};

fn interface(n: u8, ip: &str, tags: Value) -> Value {
    json!({"MAC Address": mac(n).to_string(), "ip4addr": ip, "Link Status": "up", "NIC Names": tags})
}

fn sysinfo(lab: &Lab, document: Value) {
    *lab.world.sysinfo.lock().unwrap() = document.as_object().unwrap().clone();
    lab.machine.notify_one();
}

/// A NAPI that knows the admin network.
async fn admin_network(lab: &Lab) {
    let body = json!({"name": "admin", "nic_tag": "admin", "vlan_id": 0, "subnet": "10.99.0.0/16", "provision_start_ip": "10.99.99.5",
        "provision_end_ip": "10.99.99.200"});
    lab.napi("POST", "/networks", body).await;
}

/// net-agent case 34, 35
#[tokio::test]
async fn nics_of_the_machine_are_made_known_with_their_tags() {
    let mut lab = Lab::new().await;
    admin_network(&lab).await;
    sysinfo(
        &lab,
        json!({"Network Interfaces": {"eth0": interface(1, "10.99.99.7", json!(["admin", "external"])), "eth1": interface(2, "", json!([]))}}),
    );
    lab.start();
    lab.napi_has(1, "the first", |nic| nic.is_some()).await;
    lab.napi_has(2, "the second", |nic| nic.is_some()).await;
    let common = |n: u8| json!({"check_owner": false, "mac": mac(n).to_string(), "belongs_to_type": "server", "belongs_to_uuid": CN, "owner_uuid": ADMIN, "state": "running"});
    let mut first = common(1);
    for (key, value) in [
        ("nic_tags_provided", json!(["admin", "external"])),
        ("nic_tag", json!("admin")),
        ("vlan_id", json!(0)),
        ("ip", json!("10.99.99.7")),
    ] {
        first[key] = value;
    }
    let mut second = common(2);
    second["nic_tags_provided"] = json!([]);
    assert_eq!((lab.told(1), lab.told(2)), (vec![("POST".to_owned(), first)], vec![("POST".to_owned(), second)]));
    assert_eq!(lab.there(1).await.unwrap()["nic_tag"], "admin");
}

/// net-agent case 36
#[tokio::test]
async fn further_nics_of_the_machine_are_on_the_tag_of_their_name() {
    let mut lab = Lab::new().await;
    sysinfo(
        &lab,
        json!({"Network Interfaces": {"eth0": interface(1, "", json!(["external"]))},
            "Virtual Network Interfaces": {"external0": {"MAC Address": mac(2).to_string(), "ip4addr": "10.0.0.77", "Link Status": "up", "Host Interface": "eth0", "VLAN": "0"}}}),
    );
    lab.start();
    lab.napi_has(2, "the further NIC", |nic| nic.is_some_and(|nic| nic["ip"] == "10.0.0.77")).await;
    let (_, body) = lab.told(2).remove(0);
    assert_eq!((&body["nic_tag"], &body["vlan_id"], body.get("nic_tags_provided")), (&json!("external"), &json!(0), None));
}

/// net-agent case 26
#[tokio::test]
async fn the_nic_that_the_boot_server_made_is_claimed() {
    let mut lab = Lab::new().await;
    let body = json!({"mac": mac(1).to_string(), "belongs_to_type": "other", "belongs_to_uuid": ADMIN, "owner_uuid": ADMIN, "state": "stopped",
        "nic_tags_provided": ["admin"]});
    lab.napi("POST", "/nics", body).await;
    sysinfo(&lab, json!({"Network Interfaces": {"eth0": interface(1, "", json!(["admin"]))}}));
    lab.start();
    lab.napi_has(1, "the claim", |nic| nic.is_some_and(|nic| nic["belongs_to_type"] == "server")).await;
    lab.settled().await;
    let claim = json!({"belongs_to_type": "server", "belongs_to_uuid": CN, "state": "running", "check_owner": false});
    assert_eq!(lab.told(1), [("PUT".to_owned(), claim)]);
}

/// net-agent case 38
#[tokio::test]
async fn an_aggregation_is_made_known_once_its_members_are() {
    let mut lab = Lab::new().await;
    sysinfo(
        &lab,
        json!({"Network Interfaces": {"aggr0": interface(1, "", json!(["external"])), "eth0": interface(1, "", json!([])), "eth1": interface(2, "", json!([]))},
            "Link Aggregations": {"aggr0": {"LACP mode": "active", "Interfaces": ["eth0", "eth1"]}}}),
    );
    lab.start();
    let path = format!("/aggregations/{CN}-aggr0");
    let made =
        || lab.agents().into_iter().find(|entry| entry.method == "POST" && entry.path == "/aggregations" && entry.status == Some(200));
    let made = eventually("the aggregation", made).await;
    let expected = json!({"id": format!("{CN}-aggr0"), "name": "aggr0", "belongs_to_uuid": CN, "lacp_mode": "active", "nic_tags_provided": ["external"],
        "macs": [mac(1).to_string(), mac(2).to_string()]});
    assert_eq!(made.body, expected);
    let first = lab.agents().into_iter().find(|entry| entry.path.starts_with("/aggregations")).unwrap();
    assert_eq!((first.method.as_str(), first.path.as_str(), first.status), ("GET", path.as_str(), Some(404)));
    let nics = lab.agents().into_iter().filter(|entry| entry.method == "POST" && entry.path == "/nics").count();
    assert_eq!(nics, 2, "its members, and not itself");
}

/// net-agent case 39, and tags that change while the agent runs (section 18)
#[tokio::test]
async fn what_napi_wants_of_the_machine_is_not_done_and_what_changes_here_is_told() {
    let lab = Lab::started().await;
    sysinfo(&lab, json!({"Network Interfaces": {"eth0": interface(1, "", json!(["external"]))}}));
    lab.napi_has(1, "the NIC", |nic| nic.is_some()).await;
    lab.napi("PUT", &format!("/nics/{}", digits(1)), json!({"allow_ip_spoofing": true, "network_uuid": lab.network, "ip": "10.0.0.9"}))
        .await;
    lab.settled().await;
    assert_eq!((lab.told(1).len(), lab.world.did.lock().unwrap().len()), (1, 0));
    let mut down = interface(1, "", json!(["external", "admin"]));
    down["Link Status"] = json!("down");
    sysinfo(&lab, json!({"Network Interfaces": {"eth0": down}}));
    lab.napi_has(1, "the change", |nic| nic.is_some_and(|nic| nic["state"] == "stopped")).await;
    assert_eq!(lab.told(1)[1].1, json!({"state": "stopped", "nic_tags_provided": ["external", "admin"], "check_owner": false}));
}
