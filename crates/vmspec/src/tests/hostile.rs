//! Payloads of some megabytes: every one of these would take minutes, not a moment, if anything were quadratic.

use serde_json::{Map, Value, json};

use crate::{PayloadError, limits, testing::*, validate_create};

const MANY: usize = 200_000;

#[test]
fn many_unknown_keys_are_counted_not_listed_in_warnings() {
    let unknown: Map<String, Value> = (0..MANY).map(|i| (format!("k{i}"), json!(1))).collect();
    let created = try_create(Value::Object(unknown.clone())).unwrap();
    assert_eq!(created.warnings.len(), limits::WARNINGS + 1);
    assert_eq!(validate_create(&payload(Value::Object(unknown.clone())), &TestWorld::default()).bad_properties.len(), MANY);
    let config = created.config;
    assert_eq!(updated(&config, Value::Object(unknown)), config);
}

#[test]
fn many_nics_are_refused_by_number() {
    let nics: Vec<Value> = (0..MANY).map(|_| json!({"nic_tag": "admin"})).collect();
    let error = try_create(json!({ "nics": nics })).unwrap_err();
    assert_eq!(error, PayloadError::TooMany { field: "nics", limit: limits::NICS });
    let full = created(json!({"nics": nics[..limits::NICS]}));
    assert_eq!(full.nics.len(), limits::NICS);
    assert_eq!(try_update(&full, json!({"add_nics": nics[..1]})).unwrap_err(), error);
    let touched: Vec<Value> = (0..MANY).map(|_| json!({"mac": full.nics[0].mac})).collect();
    assert_eq!(try_update(&full, json!({ "update_nics": touched })).unwrap_err(), error);
    let macs: Vec<Value> = (0..MANY).map(|i| json!(format!("02:00:00:{:x}:{:x}:{:x}", i >> 16, (i >> 8) & 255, i & 255))).collect();
    assert_eq!(try_update(&full, json!({ "remove_nics": macs })).unwrap().warnings.len(), limits::WARNINGS + 1);
}

#[test]
fn other_lists_are_bounded_too() {
    let words: Vec<String> = (0..MANY).map(|i| format!("10.0.{}.{}", (i >> 8) & 255, i & 255)).collect();
    assert_eq!(try_create(json!({ "resolvers": words })).unwrap_err().fields(), ["resolvers"]);
    let routes: Map<String, Value> = words.iter().map(|ip| (ip.clone(), json!("10.0.0.1"))).collect();
    assert_eq!(try_create(json!({ "routes": routes })).unwrap_err().fields(), ["routes"]);
    assert_eq!(try_update(&created(json!({})), json!({ "set_routes": routes })).unwrap_err().fields(), ["routes"]);
    let filesystems: Vec<Value> = (0..MANY).map(|i| json!({"type": "lofs", "source": "/data", "target": format!("/{i}")})).collect();
    assert_eq!(try_create(json!({ "filesystems": filesystems })).unwrap_err().fields(), ["filesystems"]);
}

#[test]
fn large_maps_are_edited_in_one_pass() {
    let tags: Map<String, Value> = (0..MANY).map(|i| (format!("k{i}"), json!(i))).collect();
    let keys: Vec<String> = tags.keys().skip(1).cloned().collect();
    let config = created(json!({ "tags": tags }));
    assert_eq!(updated(&config, json!({ "remove_tags": keys })).tags.len(), 1);
}

#[test]
fn a_message_holds_an_excerpt_of_the_value() {
    let long = "x".repeat(8 << 20);
    for bad in [
        json!({"routes": {long.as_str(): "1.2.3.4"}}),
        json!({"nics": [{"nic_tag": "admin", "allowed_ips": [long]}]}),
        json!({"nics": [{"nic_tag": "admin", "ip": "10.0.0.1", "gateway": long}]}),
        json!({"brand": long}),
    ] {
        assert!(try_create(bad).unwrap_err().to_string().len() < 1024);
    }
}

#[test]
fn a_message_is_one_line_whatever_the_payload_holds() {
    for evil in ["a\nlxc.hook.pre-start = /bin/sh", "a\u{1b}[31mred", "a\0b", "a\rb", "a\u{2028}b"] {
        for bad in [
            json!({"brand": evil}),
            json!({"routes": {evil: "1.2.3.4"}}),
            json!({"routes": {"10.0.0.0/8": evil}}),
            json!({"nics": [{"nic_tag": "admin", "ip": "10.0.0.1", "netmask": evil}]}),
            json!({"nics": [{"nic_tag": "admin", "ips": ["dhcp"], "gateway": evil}]}),
            json!({"nics": [{"nic_tag": "admin", "ips": ["dhcp"], "allowed_ips": [evil]}]}),
        ] {
            let text = try_create(bad.clone()).unwrap_err().to_string();
            assert!(!text.contains(|c: char| c.is_control() || c == '\u{2028}'), "{bad}: {text:?}");
        }
    }
}

#[test]
fn an_init_that_no_config_can_name_is_a_bad_value() {
    for bad in ["init", "../../etc", "/bin/a b", "/bin/a\"b", "/bin/'a'", "/bin/a\nb", &format!("/{}", "x".repeat(9000))] {
        assert_eq!(validate_create(&payload(json!({ "init_name": bad })), &TestWorld::default()).bad_values, ["init_name"], "{bad}");
    }
    assert_eq!(created(json!({"init_name": "/sbin/init"})).init_name.as_deref(), Some("/sbin/init"));
}
