//! Registration, heartbeats and status: what is refused, and what is held against a server.

#![allow(missing_docs, clippy::unwrap_used, clippy::type_complexity, reason = "tests say what they show by their names, and may panic")]

mod common;

use std::time::Duration;

use common::*;
use headnode_standin::Clock;
use serde_json::{Value, json};

fn complaints(here: &Here, about: &str) -> Vec<String> {
    here.standin.violations().into_iter().filter(|v| v.about == about).map(|v| v.field).collect()
}

/// cn-agent case 45
#[test]
fn a_clean_start_makes_a_placeable_server_without_a_complaint() {
    let here = start();
    register(&here.standin, 5309);
    assert!(here.standin.not_placeable(SERVER).unwrap().contains("no status"));
    assert_eq!(report(&here.standin, "/events/status", &status()).status, 204);
    assert_eq!(here.standin.violations(), []);
    assert_eq!(here.standin.not_placeable(SERVER), None);
    let server = here.standin.server(SERVER).unwrap();
    assert_eq!(server["status"], "running");
    assert_eq!(server["setup"], true);
    assert_eq!(server["last_boot"], "2024-05-02T08:45:01.000Z");
    assert_eq!(server["memory_available_bytes"], 11_811_160_064_u64);
    assert_eq!(server["disk_system_used_bytes"], 8_510_242_816_u64);
    assert_eq!(server["vms"][VM]["state"], "running");
    let paths: Vec<_> = here.standin.record(0).into_iter().map(|entry| entry.path.replace(SERVER, "U")).collect();
    assert_eq!(paths, ["/servers/U/sysinfo", "/servers/U", "/servers/U/events/heartbeat", "/servers/U/events/status"]);
}

#[test]
fn sysinfo_that_the_headnode_cannot_use_is_answered_with_500() {
    let here = start();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut document = sysinfo(5309);
        change(&mut document);
        report(&here.standin, "/sysinfo", &json!({"sysinfo": document}))
    };
    let upper = SERVER.to_uppercase();
    let bad: [(&str, &dyn Fn(&mut Value)); 8] = [
        ("another uuid", &|d| d["UUID"] = json!("44454c4c-5700-1047-8051-b3c04f585132")),
        ("an upper-case uuid", &|d| d["UUID"] = json!(upper)),
        ("no uuid", &|d| drop(d.as_object_mut().unwrap().remove("UUID"))),
        ("no interfaces", &|d| drop(d.as_object_mut().unwrap().remove("Network Interfaces"))),
        ("no names", &|d| d["Network Interfaces"]["eth0"]["NIC Names"] = json!("admin")),
        ("an interface label", &|d| d["Network Interfaces"]["eth0"]["NIC Names"] = json!(["admin", "eth0:1"])),
        ("a VLAN's label", &|d| d["Network Interfaces"]["eth0"]["NIC Names"] = json!(["ens3.100"])),
        ("an empty name", &|d| d["Network Interfaces"]["eth0"]["NIC Names"] = json!([""])),
    ];
    for (what, change) in bad {
        let answer = changed(change);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (500, Some("InternalError")), "{what}");
    }
    assert!(here.standin.server(SERVER).is_none(), "none of them made a record");
    assert_eq!(report(&here.standin, "/sysinfo", &json!({})).status, 409);
    let truncated = ask_with(here.standin.cnapi_url(), "POST", &format!("/servers/{SERVER}/sysinfo"), &[], b"{\"sysinfo\":").unwrap();
    assert_eq!((truncated.status, truncated.json()["code"].as_str()), (400, Some("InvalidContent")));
    let large = vec![b' '; (16 << 20) + 1];
    let answer = ask_with(here.standin.cnapi_url(), "POST", &format!("/servers/{SERVER}/sysinfo"), &[], &large);
    assert!(answer.is_none_or(|answer| answer.status == 413), "a body without bound is not taken");
}

/// cn-agent case 50
#[test]
fn sysinfo_that_hides_the_server_from_the_allocator_is_accepted_and_held_against_it() {
    for (field, value) in [
        ("Live Image", json!("")),
        ("System Type", json!("SunOS")),
        ("Setup", json!("true")),
        ("Boot Time", json!("soon")),
        ("CPU Core Count", json!(0)),
        ("CPU Online Count", json!("2")),
        ("SDC Version", Value::Null),
        ("CN Agent Port", json!("5309")),
        ("Boot Parameters", json!({"headnode": "true"})),
        ("Admin IP", json!("dhcp")),
        ("Serial_Number", json!("X")),
    ] {
        let here = start();
        let mut document = sysinfo(5309);
        document[field] = value;
        assert_eq!(report(&here.standin, "/sysinfo", &json!({"sysinfo": document})).status, 200, "{field}");
        assert_eq!(complaints(&here, "sysinfo"), [field]);
        report(&here.standin, "/events/heartbeat", &json!({}));
        report(&here.standin, "/events/status", &status());
        assert!(here.standin.not_placeable(SERVER).is_some(), "{field}");
    }
}

/// cn-agent case 49
#[test]
fn each_rule_of_the_allocator_about_a_status_is_judged() {
    let here = start();
    register(&here.standin, 5309);
    let vm = format!("vms.{VM}");
    for (pointer, value, field) in [
        ("/meminfo/availrmem_bytes", json!(-1), "meminfo.availrmem_bytes".to_owned()),
        ("/meminfo/total_bytes", json!(0), "meminfo.total_bytes".to_owned()),
        ("/diskinfo/system_used_bytes", json!(-4096), "diskinfo.system_used_bytes".to_owned()),
        ("/diskinfo/zone_quota_bytes", json!(12.5), "diskinfo.zone_quota_bytes".to_owned()),
        ("/diskinfo/pool_alloc_bytes", Value::Null, "diskinfo.pool_alloc_bytes".to_owned()),
        ("/diskinfo/installed_images_used_bytes", json!(""), "diskinfo.installed_images_used_bytes".to_owned()),
        ("/timestamp", json!("2024-05-02T10:31:07.420+00:00"), "timestamp".to_owned()),
        ("/boot_time", json!("2024-05-02T08:45:01Z"), "boot_time".to_owned()),
        ("/zpoolStatus", json!({}), "zpoolStatus".to_owned()),
        ("/vms", Value::Null, "vms".to_owned()),
        (&format!("/vms/{VM}/owner_uuid"), json!("admin"), format!("{vm}.owner_uuid")),
        (&format!("/vms/{VM}/max_physical_memory"), json!(0), format!("{vm}.max_physical_memory")),
        (&format!("/vms/{VM}/cpu_cap"), json!(0), format!("{vm}.cpu_cap")),
        (&format!("/vms/{VM}/quota"), json!("25"), format!("{vm}.quota")),
        (&format!("/vms/{VM}/state"), json!(""), format!("{vm}.state")),
    ] {
        let mut body = status();
        *body.pointer_mut(pointer).unwrap() = value;
        let before = here.standin.violations().len();
        assert_eq!(report(&here.standin, "/events/status", &body).status, 204, "{field}: stored all the same");
        let found: Vec<_> = here.standin.violations().split_off(before).into_iter().map(|v| v.field).collect();
        assert_eq!(found, std::slice::from_ref(&field));
        assert!(here.standin.not_placeable(SERVER).is_some(), "{field}");
        report(&here.standin, "/events/status", &status());
        assert_eq!(here.standin.not_placeable(SERVER), None, "a good status makes it good");
    }
    let mut body = status();
    body["vms"][VM]["alias"] = json!("a tenth key");
    body["vms"][VM].as_object_mut().unwrap().remove("cpu_cap");
    report(&here.standin, "/events/status", &body);
    assert_eq!(complaints(&here, "status").last().unwrap(), &format!("{vm}.alias"), "cpu_cap may be absent");
}

#[test]
fn an_unknown_server_may_only_register_and_beat() {
    let here = start();
    assert_eq!(report(&here.standin, "/events/heartbeat", &json!({})).status, 204);
    assert!(here.standin.server(SERVER).is_none(), "a heartbeat creates nothing");
    for (path, body) in [("", json!({"agents": []})), ("/events/status", status())] {
        let answer = report(&here.standin, path, &body);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("ResourceNotFound")), "{path}");
    }
}

#[test]
fn a_server_is_unknown_11_seconds_after_its_last_heartbeat() {
    let here = start_with(|config| config.clock = Clock::frozen());
    register(&here.standin, 5309);
    let state = || here.standin.server(SERVER).unwrap()["status"].clone();
    here.standin.clock().advance(Duration::from_secs(11));
    assert_eq!(state(), "running");
    here.standin.clock().advance(Duration::from_millis(1));
    assert_eq!(state(), "unknown");
    let refused = ask(here.standin.cnapi_url(), "POST", &format!("/servers/{SERVER}/nop"), Some(&json!({})));
    assert_eq!((refused.status, refused.json()["code"].as_str()), (412, Some("PreconditionFailed")));
    report(&here.standin, "/events/heartbeat", &json!({}));
    assert_eq!(state(), "running");
}

/// cn-agent case 56
#[test]
fn agents_without_the_promised_version_are_held_against_the_server() {
    let here = start();
    register(&here.standin, 5309);
    assert_eq!(report(&here.standin, "", &json!({"agents": {}})).status, 409);
    report(&here.standin, "", &json!({"agents": [{"name": "cn-agent", "version": "0.1.0"}]}));
    report(&here.standin, "", &json!({"agents": [{"name": "cn-agent", "version": "2.15.0-master-20240424T000000Z", "image_uuid": null}]}));
    assert_eq!(complaints(&here, "agents"), ["agents", "agents.0.image_uuid"]);
}

#[test]
fn a_request_without_the_agent_s_headers_is_complained_about() {
    let here = start();
    register(&here.standin, 5309);
    let path = format!("/servers/{SERVER}/events/heartbeat");
    let headers = [("user-agent", "curl/8"), ("content-type", "text/plain")];
    assert_eq!(ask_with(here.standin.cnapi_url(), "POST", &path, &headers, b"").unwrap().status, 204);
    assert_eq!(complaints(&here, "heartbeat"), ["content-type", "user-agent", "body"]);
}

/// cn-agent case 45
#[test]
fn two_requests_of_one_agent_in_flight_at_once_are_complained_about() {
    let here = start();
    register(&here.standin, 5309);
    let rule = headnode_standin::FaultRule::on("heartbeat", headnode_standin::FaultAction::StallMs(3_600_000)).times(1);
    here.standin.add_fault(rule).unwrap();
    std::thread::scope(|scope| {
        let standin = &here.standin;
        let agent = format!("cn-agent/2.15.0 (linux) server/{SERVER}");
        let mut stalled = std::net::TcpStream::connect(standin.cnapi_url().strip_prefix("http://").unwrap()).unwrap();
        let head =
            format!("POST /servers/{SERVER}/events/heartbeat HTTP/1.1\r\nhost: x\r\nuser-agent: {agent}\r\ncontent-length: 2\r\n\r\n{{}}");
        std::io::Write::write_all(&mut stalled, head.as_bytes()).unwrap();
        assert!(standin.wait_for(Duration::from_secs(10), |record| record.last().is_some_and(|entry| entry.fault.is_some())));
        scope.spawn(|| report(standin, "/events/status", &status())).join().unwrap();
        let about: Vec<_> = standin.violations().into_iter().map(|v| v.about).collect();
        assert_eq!(about, ["request"]);
    });
}
