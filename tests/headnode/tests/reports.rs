//! What VMAPI makes of the reports of agents (vm-agent.md section 8).

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{SERVER, VM, ask, ask_with, start};
use serde_json::{Value, json};

fn put(base: &str, vm: &Value) -> Value {
    let answer = ask(base, "PUT", &format!("/vms/{VM}"), Some(vm));
    assert_eq!(answer.status, 200);
    answer.json()
}

/// vm-agent case 43
#[test]
fn an_object_with_nothing_but_its_uuid_comes_back_with_the_fillers() {
    let here = start();
    put(here.standin.vmapi_url(), &json!({"uuid": VM}));
    let vm = ask(here.standin.vmapi_url(), "GET", &format!("/vms/{VM}"), None).json();
    for field in ["alias", "billing_id", "cpu_cap", "create_timestamp", "destroyed", "image_uuid", "last_modified", "quota", "ram", "zpool"]
    {
        assert!(vm.as_object().unwrap().contains_key(field) && vm[field].is_null(), "{field}");
    }
    assert_eq!((&vm["datasets"], &vm["snapshots"], &vm["tags"]), (&json!([]), &json!([]), &json!({})));
}

#[test]
fn a_report_replaces_the_whole_object_and_what_vmapi_does_not_know_is_dropped() {
    let here = start();
    let base = here.standin.vmapi_url();
    put(base, &json!({"alias": "web", "quota": 10, "pid": 5, "brand": "lx", "server_uuid": SERVER, "tags": {"a": 1}}));
    let vm = put(
        base,
        &json!({"brand": "lx", "server_uuid": SERVER, "do_not_inventory": true, "routes": {"a": "b"}, "disks": [1], "hostname": ""}),
    );
    for gone in ["pid", "do_not_inventory", "routes", "disks", "hostname"] {
        assert!(vm.get(gone).is_none(), "{gone}");
    }
    assert_eq!((&vm["alias"], &vm["quota"], &vm["tags"]), (&Value::Null, &Value::Null, &json!({})));
    let vm = put(
        base,
        &json!({"brand": "kvm", "disks": [1], "last_modified": 1_700_000_000_123_i64, "indestructible_zoneroot": false, "tmpfs": 0}),
    );
    assert_eq!((&vm["disks"], vm["last_modified"].as_str()), (&json!([1]), Some("2023-11-14T22:13:20.123Z")));
    assert_eq!((&vm["indestructible_zoneroot"], &vm["tmpfs"]), (&json!(false), &json!(0)));
}

/// vm-agent case 44, 45
#[test]
fn reports_without_a_server_or_objects_are_refused_and_the_end_of_one_has_a_time() {
    let here = start();
    let base = here.standin.vmapi_url();
    let bulk = json!({"vms": {VM: {"uuid": VM, "state": "destroyed", "server_uuid": SERVER}}});
    for (path, body, field) in [("/vms", &bulk, "server_uuid"), ("/vms?server_uuid=x", &bulk, "server_uuid")] {
        let answer = ask(base, "PUT", path, Some(body));
        assert_eq!((answer.status, answer.json()["errors"][0]["field"].as_str()), (409, Some(field)));
    }
    let path = format!("/vms?server_uuid={SERVER}");
    assert_eq!(ask(base, "PUT", &path, Some(&json!({}))).json()["errors"][0]["field"], "vms");
    assert_eq!(ask(base, "PUT", &path, Some(&json!({"vms": {VM: {"state": "running"}}}))).status, 500, "an entry without its uuid");
    assert_eq!(ask(base, "PUT", &path, Some(&bulk)).status, 200);
    let show = || ask(base, "GET", &format!("/vms/{VM}"), None).json();
    assert!(show()["destroyed"].is_null());
    put(base, &json!({"state": "destroyed"}));
    assert!(show()["destroyed"].is_string() && show()["zone_state"] == "destroyed");
}

/// vm-agent case 46
#[test]
fn a_request_of_ten_minutes_ago_is_expired() {
    let here = start();
    let base = here.standin.vmapi_url();
    let send = |ago: u64| {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(ago);
        let date = jiff::fmt::rfc2822::to_string(&jiff::Zoned::try_from(then).unwrap()).unwrap();
        let headers = [("date", date.as_str()), ("content-type", "application/json")];
        ask_with(base, "PUT", &format!("/vms/{VM}"), &headers, b"{}").unwrap()
    };
    let old = send(600);
    assert_eq!((old.status, old.json()["code"].as_str()), (400, Some("RequestExpired")));
    assert_eq!(send(0).status, 200);
}

#[test]
fn a_list_is_continued_after_a_marker() {
    let here = start();
    let base = here.standin.vmapi_url();
    let other = "9f2e0d3c-5a2b-4d8e-9c1f-0a1b2c3d4e5f";
    for uuid in [other, VM] {
        assert_eq!(ask(base, "PUT", &format!("/vms/{uuid}"), Some(&json!({"server_uuid": SERVER}))).status, 200);
    }
    let page = ask(base, "GET", "/vms?limit=1", None).json();
    assert_eq!((page.as_array().unwrap().len(), page[0]["uuid"].as_str()), (1, Some(VM)));
    let page = ask(base, "GET", &format!("/vms?marker=%7B%22uuid%22%3A%22{VM}%22%7D"), None).json();
    assert_eq!((page.as_array().unwrap().len(), page[0]["uuid"].as_str()), (1, Some(other)));
}
