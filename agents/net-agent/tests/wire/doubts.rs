//! Cases 24, 25, 28 as ruling 6 has them: a NIC is taken from a guest only when NAPI said twice that it is not its own.

use serde_json::{Value, json};
use triton_types::InstanceUuid;

use crate::lab::{CERTAIN, Did, Lab, digits, eventually, mac};

fn removal(uuid: InstanceUuid, n: u8) -> [Did; 2] {
    let payload = json!({"remove_nics": [mac(n).to_string()]}).as_object().unwrap().clone();
    [Did::Update(uuid, payload), Did::Reboot(uuid)]
}

async fn two_nics(lab: &Lab) -> InstanceUuid {
    let uuid = lab.instance(5).await;
    let mut second = lab.nic(6);
    second.as_object_mut().unwrap().remove("primary");
    lab.set(uuid, json!({"nics": [lab.nic(5), second]}));
    lab.napi_has(6, "the second", |nic| nic.is_some()).await;
    lab.settled().await;
    uuid
}

/// net-agent case 24
#[tokio::test]
async fn a_nic_that_napi_deleted_is_taken_after_a_second_look_and_the_guest_is_rebooted() {
    let lab = Lab::started().await;
    let uuid = two_nics(&lab).await;
    let begun = std::time::Instant::now();
    lab.napi("DELETE", &format!("/nics/{}", digits(5)), Value::Null).await;
    eventually("the removal", || (lab.did(uuid).len() == 2).then_some(())).await;
    assert!(begun.elapsed() >= CERTAIN);
    assert_eq!(lab.did(uuid), removal(uuid, 5));
    lab.napi_has(6, "the new primary one", |nic| nic.is_some_and(|nic| nic["primary"] == true)).await;
    lab.settled().await;
    assert!(lab.told(5).len() == 1 && lab.there(5).await.is_none(), "it was not made again");
    assert_eq!(lab.did(uuid).len(), 2);
}

/// net-agent case 25
#[tokio::test]
async fn a_nic_that_napi_gave_to_another_is_taken_and_napi_is_not_told_otherwise() {
    let lab = Lab::started().await;
    let uuid = two_nics(&lab).await;
    let told = lab.told(5).len();
    // No feed tells of this: the next list does.
    let other = InstanceUuid::random();
    lab.napi("PUT", &format!("/nics/{}", digits(5)), json!({"belongs_to_uuid": other, "allow_ip_spoofing": true})).await;
    eventually("the removal", || (lab.did(uuid).len() == 2).then_some(())).await;
    assert_eq!(lab.did(uuid), removal(uuid, 5));
    lab.settled().await;
    assert_eq!(lab.told(5).len(), told);
    assert_eq!(lab.there(5).await.unwrap()["belongs_to_uuid"], other.to_string());
}

/// net-agent case 28
#[tokio::test]
async fn a_nic_that_is_gone_when_napi_is_told_is_taken_from_a_stopped_instance_without_a_reboot() {
    let lab = Lab::started().await;
    let uuid = two_nics(&lab).await;
    // While the feed is away.
    lab.refuse("GET", "^/changefeeds", 503, 1000);
    lab.standin.end_feeds();
    lab.napi("DELETE", &format!("/nics/{}", digits(5)), Value::Null).await;
    lab.set(uuid, json!({"state": "stopped"}));
    eventually("the removal", || (!lab.did(uuid).is_empty()).then_some(())).await;
    lab.settled().await;
    assert_eq!(lab.did(uuid), removal(uuid, 5)[..1]);
    let methods: Vec<String> = lab.asked(5).into_iter().map(|(method, _)| method).collect();
    assert_eq!(methods[methods.len() - 2..], ["PUT", "GET"], "told, not found, asked again");
}

/// Ruling 6
#[tokio::test]
async fn a_transient_word_of_napis_takes_nothing_and_an_answer_from_something_else_is_no_word() {
    let lab = Lab::started().await;
    let uuid = two_nics(&lab).await;
    let gone = json!({"code": "ResourceNotFound", "message": "nic not found"});
    lab.fault("GET", &digits(5), headnode_standin::FaultAction::Fail { status: 404, body: Some(gone) }, 1);
    lab.fault("GET", &digits(6), headnode_standin::FaultAction::Fail { status: 404, body: None }, 3);
    for n in [5, 6] {
        lab.napi("PUT", &format!("/nics/{}", digits(n)), json!({"allow_restricted_traffic": true})).await;
    }
    eventually("both protections", || {
        let vm = lab.vm(uuid);
        (0..2).all(|n| vm["nics"][n]["allow_restricted_traffic"] == true).then_some(())
    })
    .await;
    assert!(lab.did(uuid).iter().all(|did| matches!(did, Did::Update(_, payload) if !payload.contains_key("remove_nics"))));
}
