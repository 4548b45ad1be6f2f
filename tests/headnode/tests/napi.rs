//! NAPI as the contract describes it (net-agent.md section 3).

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Answer, OWNER, SERVER, VM, ask, ask_with, start};
use headnode_standin::Standin;
use serde_json::{Value, json};

const MAC: &str = "90:b8:d0:00:00:01";
const DIGITS: &str = "90b8d0000001";

fn call(standin: &Standin, method: &str, path: &str, body: Option<&Value>) -> Answer {
    ask(standin.napi_url(), method, path, body)
}

fn network(standin: &Standin) -> Value {
    assert_eq!(call(standin, "POST", "/nic_tags", Some(&json!({"name": "external"}))).status, 200);
    let body = json!({"name": "ext", "nic_tag": "external", "vlan_id": 0, "subnet": "10.0.0.0/24", "provision_start_ip": "10.0.0.5",
        "provision_end_ip": "10.0.0.9", "gateway": "10.0.0.1", "resolvers": ["8.8.8.8"]});
    let answer = call(standin, "POST", "/networks", Some(&body));
    assert_eq!(answer.status, 200);
    answer.json()
}

fn nic(extra: &Value) -> Value {
    let mut nic = json!({"mac": MAC, "belongs_to_uuid": VM, "belongs_to_type": "zone", "owner_uuid": OWNER, "check_owner": false});
    nic.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    nic
}

fn errors(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!((answer.status, answer.json()["code"].as_str()), (422, Some("InvalidParameters")));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    answer.json()["errors"].as_array().unwrap().iter().map(|error| (text(&error["field"]), text(&error["code"]))).collect()
}

#[test]
fn a_nic_is_shown_with_what_its_network_says() {
    let here = start();
    let net = network(&here.standin);
    let answer =
        call(&here.standin, "POST", "/nics", Some(&nic(&json!({"ip": "10.0.0.5", "nic_tag": "external", "vlan_id": 0, "mtu": 1400}))));
    let shown = answer.json();
    assert_eq!((answer.status, &shown["network_uuid"], &shown["mtu"]), (200, &net["uuid"], &json!(1500)));
    assert_eq!((&shown["gateway"], &shown["netmask"], &shown["vlan_id"]), (&json!("10.0.0.1"), &json!("255.255.255.0"), &json!(0)));
    assert_eq!((&shown["state"], &shown["primary"], &shown["resolvers"]), (&json!("provisioning"), &json!(false), &json!(["8.8.8.8"])));
    assert!(shown.get("allow_ip_spoofing").is_none() && shown.get("_version").is_none());
    let again = call(&here.standin, "GET", &format!("/nics/{DIGITS}"), None);
    assert_eq!(again.header("etag"), answer.header("etag"));
    assert_eq!(call(&here.standin, "GET", "/nics/90b8d0000002", None).json()["message"], "nic not found");
}

#[test]
fn what_is_missing_wrong_or_used_is_named_field_by_field() {
    let here = start();
    network(&here.standin);
    let missing = |field: &str| (field.to_owned(), "MissingParameter".to_owned());
    let invalid = |field: &str| (field.to_owned(), "InvalidParameter".to_owned());
    let post = |body: Value| call(&here.standin, "POST", "/nics", Some(&body));
    assert_eq!(errors(&post(json!({}))), ["belongs_to_uuid", "belongs_to_type", "owner_uuid"].map(missing));
    assert_eq!(errors(&post(nic(&json!({"ip": "10.0.0.5"})))), ["nic_tag", "vlan_id"].map(missing));
    for (field, value) in
        [("ip", json!("dhcp")), ("state", json!("failed")), ("nic_tags_provided", json!(["nowhere"])), ("cn_uuid", json!("x"))]
    {
        assert_eq!(errors(&post(nic(&json!({field: value})))), [invalid(field)]);
    }
    let on = |ip: &str, tag: &str| json!({"ip": ip, "nic_tag": tag, "vlan_id": 0});
    assert_eq!(errors(&post(nic(&on("10.1.0.5", "external")))), [invalid("ip")]);
    assert_eq!(post(nic(&on("10.0.0.5", "external"))).status, 200);
    let mut other = nic(&on("10.0.0.5", "external"));
    assert_eq!(errors(&post(other.clone()))[0], ("mac".to_owned(), "Duplicate".to_owned()));
    other["mac"] = json!("90:b8:d0:00:00:02");
    assert_eq!(errors(&post(other)), [("ip".to_owned(), "UsedBy".to_owned())]);
}

#[test]
fn a_deletion_needs_the_version_that_is_there() {
    let here = start();
    let first = call(&here.standin, "POST", "/nics", Some(&nic(&json!({}))));
    let path = format!("/nics/{DIGITS}");
    let second = call(&here.standin, "PUT", &path, Some(&json!({"state": "running"})));
    assert_ne!(first.header("etag"), second.header("etag"));
    let delete = |tag: &str| ask_with(here.standin.napi_url(), "DELETE", &path, &[("if-match", tag)], b"").unwrap();
    let refused = delete(first.header("etag"));
    assert_eq!((refused.status, refused.json()["code"].as_str()), (412, Some("PreconditionFailed")));
    assert_eq!(delete(second.header("etag")).status, 204);
    assert_eq!(delete(second.header("etag")).status, 404);
}

#[test]
fn one_nic_of_an_owner_is_primary_and_lists_are_filtered_and_paged() {
    let here = start();
    for n in 1..=3 {
        let body = json!({"mac": format!("90:b8:d0:00:00:0{n}"), "primary": true, "cn_uuid": SERVER});
        assert_eq!(call(&here.standin, "POST", "/nics", Some(&nic(&body))).status, 200);
    }
    let list = |query: &str| call(&here.standin, "GET", &format!("/nics?{query}"), None).json().as_array().unwrap().clone();
    let all = list(&format!("belongs_to_type=zone&cn_uuid={SERVER}"));
    assert_eq!(all.iter().map(|nic| nic["primary"] == true).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(list("limit=2&offset=2").len(), 1);
    assert!(list("belongs_to_type=server").is_empty());
    assert_eq!(call(&here.standin, "GET", "/nics?limit=1001", None).status, 422);
}
