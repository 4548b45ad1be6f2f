//! Cases 1 to 17, 27, 29, 32, 33: both directions of a NIC that is here.

use std::time::Duration;

use headnode_standin::FaultAction;
use serde_json::{Value, json};
use triton_instance::Loaded;
use triton_types::InstanceUuid;

use crate::lab::{CN, Did, Lab, OWNER, PAUSE, digits, eventually, mac};

fn update(nics: Value) -> serde_json::Map<String, Value> {
    json!({"update_nics": nics}).as_object().unwrap().clone()
}

/// net-agent case 1, 2
#[tokio::test]
async fn a_nic_that_napi_does_not_have_is_created_and_gets_what_napi_knows_of_it() {
    let lab = Lab::started().await;
    let uuid = InstanceUuid::random();
    let mut nic = lab.nic(5);
    for key in ["mtu", "gateway", "gateways", "network_uuid"] {
        nic.as_object_mut().unwrap().remove(key);
    }
    lab.put(uuid, &[nic], json!({"resolvers": []}));
    lab.changes.touch([uuid]);
    eventually("the update", || (!lab.did(uuid).is_empty()).then_some(())).await;
    lab.settled().await;
    let expected = json!({"check_owner": false, "mac": mac(5).to_string(), "belongs_to_type": "zone", "belongs_to_uuid": uuid, "owner_uuid": OWNER,
        "cn_uuid": CN, "state": "running", "netmask": "255.255.255.0", "nic_tag": "external", "vlan_id": 0, "ip": "10.0.0.5", "primary": true});
    let asked = lab.asked(5);
    assert_eq!(asked[..2], [("GET".to_owned(), Value::Null), ("POST".to_owned(), expected)]);
    assert!(asked[2..].iter().all(|(method, _)| method == "GET"), "{asked:?}");
    let nics = json!([{"mac": mac(5).to_string(), "network_uuid": lab.network, "gateway": "10.0.0.1", "mtu": 1500}]);
    assert_eq!(lab.did(uuid), [Did::Update(uuid, update(nics))]);
    assert_eq!(lab.standin.violations(), []);
    let entry = lab.agents().into_iter().find(|entry| entry.method == "POST").unwrap();
    let agent = entry.headers["user-agent"].as_str().unwrap();
    assert!(agent.starts_with("net-agent/") && agent.ends_with(&format!(") server/{CN}")), "{agent}");
}

/// net-agent case 3
#[tokio::test]
async fn a_creation_that_is_refused_begins_anew_after_a_pause() {
    let lab = Lab::started().await;
    lab.refuse("POST", "^/nics$", 422, 1);
    let uuid = InstanceUuid::random();
    lab.put(uuid, &[lab.nic(5)], json!({}));
    let begun = std::time::Instant::now();
    lab.changes.touch([uuid]);
    lab.napi_has(5, "the NIC", |nic| nic.is_some()).await;
    assert!(begun.elapsed() >= PAUSE.mul_f64(0.9), "too soon");
    let methods: Vec<String> = lab.asked(5).into_iter().map(|(method, _)| method).collect();
    assert_eq!(methods[..4], ["GET", "POST", "GET", "POST"]);
}

/// net-agent case 4, 7
#[tokio::test]
async fn a_nic_that_was_provisioned_is_told_where_it_is_and_that_it_runs() {
    let mut lab = Lab::new().await;
    let uuid = InstanceUuid::random();
    let other = uuid::Uuid::new_v4();
    lab.put_nic(5, uuid, json!({"state": "provisioning", "cn_uuid": other, "owner_uuid": other, "primary": false})).await;
    lab.put(uuid, &[lab.nic(5)], json!({}));
    lab.start();
    lab.napi_has(5, "the state", |nic| nic.is_some_and(|nic| nic["state"] == "running")).await;
    lab.settled().await;
    let told = json!({"cn_uuid": CN, "owner_uuid": OWNER, "primary": true, "state": "running", "check_owner": false});
    assert_eq!(lab.told(5), [("PUT".to_owned(), told)]);
}

/// net-agent case 5, 12, 33
#[tokio::test]
async fn when_both_sides_agree_nothing_is_told_and_nothing_is_changed_also_after_a_restart() {
    let mut lab = Lab::new().await;
    let uuid = InstanceUuid::random();
    lab.put_nic(5, uuid, json!({"allow_mac_spoofing": true})).await;
    let mut nic = lab.nic(5);
    nic["allow_ip_spoofing"] = json!(false);
    nic["allow_mac_spoofing"] = json!("true");
    lab.put(uuid, &[nic], json!({}));
    for _ in 0..2 {
        lab.start();
        lab.fed().await;
        lab.changes.touch([uuid]);
        lab.changes.gap();
        lab.settled().await;
        lab.kill();
    }
    assert_eq!((lab.told(5), lab.did(uuid)), (vec![], vec![]));
    assert!(lab.agents().iter().all(|entry| entry.method == "GET"));
    assert!(lab.asked(5).is_empty(), "the list has it");
}

/// net-agent case 6, 8
#[tokio::test]
async fn stops_starts_and_new_owners_are_told_as_they_happen_and_nothing_else() {
    let lab = Lab::started().await;
    let uuid = lab.instance(5).await;
    let other = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013";
    for (field, value) in [("state", "stopped"), ("state", "running"), ("owner_uuid", other)] {
        let begun = std::time::Instant::now();
        lab.set(uuid, json!({field: value}));
        lab.napi_has(5, "the change", |nic| nic.is_some_and(|nic| nic[field] == value)).await;
        assert!(begun.elapsed() < Duration::from_secs(6));
    }
    lab.settled().await;
    let told = |field: &str, value: &str| ("PUT".to_owned(), json!({field: value, "check_owner": false}));
    assert_eq!(lab.told(5)[1..], [told("state", "stopped"), told("state", "running"), told("owner_uuid", other)]);
}

/// net-agent case 9, 10
#[tokio::test]
async fn a_second_nic_is_made_known_and_primary_is_only_ever_said_of_the_one_that_is() {
    let lab = Lab::started().await;
    let uuid = lab.instance(5).await;
    let mut second = lab.nic(6);
    second.as_object_mut().unwrap().remove("primary");
    lab.set(uuid, json!({"nics": [lab.nic(5), second]}));
    lab.napi_has(6, "the second", |nic| nic.is_some_and(|nic| nic["state"] == "running")).await;
    let there = lab.there(6).await.unwrap();
    assert_eq!(
        (&there["owner_uuid"], &there["cn_uuid"], &there["ip"], &there["primary"]),
        (&json!(OWNER), &json!(CN), &json!("10.0.0.6"), &json!(false))
    );
    assert_eq!(lab.there(5).await.unwrap()["primary"], true);
    let mut first = lab.nic(5);
    first.as_object_mut().unwrap().remove("primary");
    lab.set(uuid, json!({"nics": [first, lab.nic(6)]}));
    lab.napi_has(6, "the primary one", |nic| nic.is_some_and(|nic| nic["primary"] == true)).await;
    lab.settled().await;
    assert_eq!(lab.there(5).await.unwrap()["primary"], false, "NAPI's own doing");
    assert!(lab.agents().iter().all(|entry| entry.body.get("primary").is_none_or(|primary| primary == true)));
}

/// net-agent case 11
#[tokio::test]
async fn protections_that_napi_changes_reach_the_instance_in_one_update_by_the_feed() {
    let lab = Lab::started().await;
    let uuid = lab.instance(5).await;
    let begun = std::time::Instant::now();
    lab.napi("PUT", &format!("/nics/{}", digits(5)), json!({"allow_ip_spoofing": true, "allow_mac_spoofing": true})).await;
    eventually("the update", || (!lab.did(uuid).is_empty()).then_some(())).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    lab.settled().await;
    let nics = json!([{"mac": mac(5).to_string(), "allow_ip_spoofing": true, "allow_mac_spoofing": true}]);
    assert_eq!(lab.did(uuid), [Did::Update(uuid, update(nics))]);
    lab.napi("PUT", &format!("/nics/{}", digits(5)), json!({"allow_ip_spoofing": false})).await;
    eventually("the update", || (lab.did(uuid).len() == 2).then_some(())).await;
    assert_eq!(lab.did(uuid)[1], Did::Update(uuid, update(json!([{"mac": mac(5).to_string(), "allow_ip_spoofing": false}]))));
}

/// net-agent case 13
#[tokio::test]
async fn a_network_that_changes_changes_the_instances_on_it() {
    let lab = Lab::started().await;
    let uuid = lab.instance(5).await;
    let path = format!("/networks/{}", lab.network);
    let begun = std::time::Instant::now();
    lab.napi("PUT", &path, json!({"gateway": "10.0.0.2"})).await;
    eventually("the gateway", || (lab.vm(uuid)["nics"][0]["gateway"] == "10.0.0.2").then_some(())).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    lab.napi("PUT", &path, json!({"resolvers": ["8.8.8.8", "8.8.4.4"], "routes": {"10.1.2.0/24": "10.0.0.9"}})).await;
    eventually("resolvers and routes", || {
        let vm = lab.vm(uuid);
        (vm["resolvers"] == json!(["8.8.8.8", "8.8.4.4"]) && vm["routes"] == json!({"10.1.2.0/24": "10.0.0.9"})).then_some(())
    })
    .await;
    // net-agent case 15: a route of nobody's.
    lab.set(uuid, json!({"routes": {"10.1.2.0/24": "10.0.0.9", "10.9.0.0/16": "10.0.0.7"}}));
    eventually("the removal", || (lab.vm(uuid)["routes"] == json!({"10.1.2.0/24": "10.0.0.9"})).then_some(())).await;
    assert!(
        matches!(lab.did(uuid).last(), Some(Did::Update(_, payload)) if payload["remove_routes"] == json!(["10.9.0.0/16"]) && payload.len() == 1)
    );
}

/// net-agent case 14, 16, 17
#[tokio::test]
async fn resolvers_are_those_of_all_nics_unless_the_instance_has_its_own_or_is_being_made() {
    let lab = Lab::started().await;
    let second = json!({"name": "int", "nic_tag": "admin", "vlan_id": 7, "subnet": "10.7.0.0/24", "provision_start_ip": "10.7.0.5",
        "provision_end_ip": "10.7.0.9", "resolvers": ["10.7.0.2", "10.7.0.3"]});
    let second = lab.napi("POST", "/networks", second).await["uuid"].clone();
    lab.napi("PUT", &format!("/networks/{}", lab.network), json!({"resolvers": ["10.0.0.2", "10.7.0.2"]})).await;
    let other = |n: u8| {
        json!({"mac": mac(n).to_string(), "nic_tag": "admin", "vlan_id": 7, "mtu": 1500, "ip": format!("10.7.0.{n}"), "netmask": "255.255.255.0",
            "ips": [format!("10.7.0.{n}/24")], "network_uuid": second})
    };
    let [plain, own, made] = std::array::from_fn(|_| InstanceUuid::random());
    lab.put(plain, &[lab.nic(5), other(5 + 1)], json!({}));
    lab.put(own, &[lab.nic(7)], json!({"resolvers": ["9.9.9.9"], "internal_metadata": {"no_nic_resolvers": true}}));
    lab.put(made, &[lab.nic(8)], json!({"state": "provisioning"}));
    lab.changes.touch([plain, own, made]);
    eventually("the resolvers", || (lab.vm(plain)["resolvers"] == json!(["10.0.0.2", "10.7.0.2", "10.7.0.3"])).then_some(())).await;
    lab.napi_has(8, "the NIC of one that is being made", |nic| nic.is_some_and(|nic| nic["state"] == "stopped")).await;
    lab.settled().await;
    assert_eq!((lab.did(own), lab.did(made)), (vec![], vec![]));
    lab.set(made, json!({"state": "running"}));
    lab.napi_has(8, "that it runs", |nic| nic.is_some_and(|nic| nic["state"] == "running")).await;
    eventually("its resolvers", || (lab.vm(made)["resolvers"] == json!(["10.0.0.2", "10.7.0.2"])).then_some(())).await;
}

/// net-agent case 27
#[tokio::test]
async fn without_napi_nothing_changes_and_it_is_asked_until_it_answers() {
    let mut lab = Lab::new().await;
    let uuid = InstanceUuid::random();
    lab.put(uuid, &[lab.nic(5)], json!({}));
    lab.standin.add_fault(headnode_standin::FaultRule::on("belongs_to_type", FaultAction::Drop).times(3)).unwrap();
    lab.refuse("GET", "belongs_to_type", 503, 1);
    lab.start();
    lab.napi_has(5, "the NIC", |nic| nic.is_some()).await;
    let lists: Vec<_> = lab.agents().into_iter().filter(|entry| entry.path.contains("belongs_to_type")).collect();
    assert!(lists.len() >= 5, "{lists:?}");
    assert_eq!(lab.did(uuid), []);
}

#[tokio::test]
async fn a_napi_that_lists_nothing_by_node_is_asked_for_each_nic() {
    let mut lab = Lab::new().await;
    let uuid = InstanceUuid::random();
    lab.put_nic(5, uuid, json!({"state": "stopped"})).await;
    lab.put(uuid, &[lab.nic(5)], json!({}));
    lab.refuse("GET", "belongs_to_type", 422, 9);
    lab.start();
    lab.napi_has(5, "the state", |nic| nic.is_some_and(|nic| nic["state"] == "running")).await;
    assert_eq!(lab.asked(5)[0].0, "GET");
}

/// net-agent case 29
#[tokio::test]
async fn an_update_that_fails_is_tried_again_after_a_pause() {
    let lab = Lab::started().await;
    let uuid = lab.instance(5).await;
    *lab.world.refuse_updates.lock().unwrap() = 2;
    lab.napi("PUT", &format!("/nics/{}", digits(5)), json!({"allow_ip_spoofing": true})).await;
    eventually("the third attempt", || (lab.vm(uuid)["nics"][0]["allow_ip_spoofing"] == true).then_some(())).await;
    let did = lab.world.did.lock().unwrap().clone();
    assert_eq!(did.len(), 3);
    assert!(did.windows(2).all(|pair| pair[1].0 - pair[0].0 >= PAUSE.mul_f64(0.9)), "a tight loop");
}

/// net-agent case 32
#[tokio::test]
async fn ten_events_of_a_second_are_no_look_at_the_list_and_few_requests() {
    let lab = Lab::started().await;
    let uuid = lab.instance(5).await;
    let looks = |lab: &Lab| lab.world.loads.lock().unwrap().iter().filter(|(_, uuid)| uuid.is_none()).count();
    let before = (looks(&lab), lab.told(5).len());
    for n in 0..10 {
        lab.set(uuid, json!({"alias": n}));
    }
    lab.settled().await;
    assert_eq!((looks(&lab), lab.told(5).len()), before);
}

/// Ruling 1
#[tokio::test]
async fn an_instance_that_cannot_be_read_keeps_its_nics_and_so_do_all_when_the_store_is_away() {
    let lab = Lab::started().await;
    let (spoilt, fine) = (lab.instance(5).await, lab.instance(6).await);
    lab.world.vms.lock().unwrap().insert(spoilt, Loaded::Unreadable("garbage".to_owned()));
    lab.changes.touch([spoilt]);
    *lab.world.failure.lock().unwrap() = Some("the pool is not there".to_owned());
    lab.delete(fine);
    lab.changes.gap();
    lab.settled().await;
    assert!(lab.told(5).len() == 1 && lab.told(6).len() == 1, "created, and nothing since");
    *lab.world.failure.lock().unwrap() = None;
    lab.napi_has(6, "the release", |nic| nic.is_none()).await;
    assert!(lab.there(5).await.is_some());
}

/// Ruling 4
#[tokio::test]
async fn a_node_with_more_nics_than_a_page_reads_all_pages_and_asks_for_none_alone() {
    let mut lab = Lab::new().await;
    let wide = json!({"name": "wide", "nic_tag": "external", "vlan_id": 3, "subnet": "10.50.0.0/16", "provision_start_ip": "10.50.0.5",
        "provision_end_ip": "10.50.20.0"});
    let wide = lab.napi("POST", "/networks", wide).await["uuid"].clone();
    for n in 0..1010u16 {
        let [high, low] = n.to_be_bytes();
        let (uuid, address) = (InstanceUuid::random(), format!("10.50.{}.{low}", high + 1));
        let mac = triton_types::Mac([2, 0, 0, 0, high, low]).to_string();
        let body = json!({"mac": mac, "belongs_to_type": "zone", "belongs_to_uuid": uuid, "owner_uuid": OWNER, "cn_uuid": CN, "state": "running",
            "network_uuid": wide, "ip": address});
        lab.napi("POST", "/nics", body).await;
        let nic = json!({"mac": mac, "nic_tag": "external", "vlan_id": 3, "mtu": 1500, "ip": address, "netmask": "255.255.0.0",
            "ips": [format!("{address}/16")], "network_uuid": wide});
        lab.put(uuid, &[nic], json!({}));
    }
    lab.start();
    lab.fed().await;
    let nics = lab.agents().into_iter().filter(|entry| entry.path.starts_with("/nics")).collect::<Vec<_>>();
    assert!(nics.len() == 4 && nics.iter().all(|entry| entry.path.contains("limit=1000")), "two lists of two pages: {nics:?}");
    assert_eq!(lab.world.did.lock().unwrap().len(), 0);
}
