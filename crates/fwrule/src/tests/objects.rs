//! Cases P6 to P8 and P12: the rule object; and remote instances (case L9, L10).

use serde_json::{Value, json};

use crate::{Options, RemoteVm, Rule, VmFacts, tag_text};

const OWNER: &str = "e6c73bd2-fae4-4e0a-af76-2c05d088b066";
const UUID: &str = "5baca016-6dda-11e3-a6f2-730593c54f04";
const TEXT: &str = "FROM any TO all vms ALLOW tcp PORT 22";
const STRICT: Options = Options { enforce_global: true, limits: crate::Limits { max_version: 4, subnet_mask: false } };

fn errors(object: &Value, options: &Options) -> Vec<(&'static str, String)> {
    let errors = Rule::from_json(object, options).expect_err("the object is accepted");
    errors.0.into_iter().map(|error| (error.field, error.message)).collect()
}

fn with(field: &str, value: &Value) -> Value {
    let mut object = json!({"rule": TEXT, "owner_uuid": OWNER, "uuid": UUID});
    object[field] = value.clone();
    object
}

#[test]
fn firewaller_case_p6_everything_wrong_is_said_at_once_in_order() {
    let bad = "invalid";
    let object = json!({"enabled": bad, "log": bad, "rule": bad, "owner_uuid": bad, "uuid": bad});
    let found = errors(&object, &Options::default());
    let wanted = [
        ("rule", "Error at character 0: 'invalid', expected: 'FROM', found: word"),
        ("uuid", "Invalid rule UUID"),
        ("owner_uuid", "Invalid owner UUID"),
        ("enabled", "enabled must be true or false"),
        ("log", "log must be true or false"),
    ];
    assert_eq!(found, wanted.map(|(field, message)| (field, message.to_owned())));
    let printed = Rule::from_json(&object, &Options::default()).unwrap_err().to_string();
    assert_eq!(printed, "first of 5 errors: Error at character 0: 'invalid', expected: 'FROM', found: word");
}

#[test]
fn firewaller_case_p7_a_rule_has_an_owner_or_is_global() {
    let one = |object: &Value| errors(object, &STRICT).remove(0);
    assert_eq!(one(&json!({"rule": TEXT})), ("owner_uuid", "owner_uuid required".to_owned()));
    assert_eq!(one(&with("global", &json!(true))), ("global", "cannot specify both global and owner_uuid".to_owned()));
    assert_eq!(one(&json!({"rule": TEXT, "global": "asdf"})), ("global", "global must be true or false".to_owned()));
    assert_eq!(errors(&with("global", &json!("asdf")), &STRICT).len(), 2);
    assert_eq!(one(&json!({"rule": TEXT, "global": false})).0, "owner_uuid", "nobody's rule is not everybody's");
    assert!(Rule::from_json(&json!({"rule": TEXT, "global": true}), &STRICT).unwrap().is_global());
    assert!(Rule::from_json(&json!({"rule": TEXT, "global": "true"}), &STRICT).unwrap().is_global());
    assert!(!Rule::from_json(&with("global", &json!(false)), &STRICT).unwrap().is_global());
    assert!(Rule::from_json(&json!({"rule": TEXT}), &Options::default()).unwrap().is_global());
}

#[test]
fn firewaller_case_p8_texts_are_short() {
    for field in ["description", "created_by"] {
        assert!(Rule::from_json(&with(field, &json!("é".repeat(255))), &STRICT).is_ok());
        for long in ["é".repeat(256), "\u{1f600}".repeat(128)] {
            assert_eq!(errors(&with(field, &json!(long)), &STRICT), [(field, format!("{field} must be shorter than 255 characters"))]);
        }
        for other in [json!(5), json!([]), json!({}), Value::Null] {
            assert_eq!(errors(&with(field, &other), &STRICT), [(field, format!("{field} must be a string"))]);
        }
    }
}

#[test]
fn firewaller_case_p12_an_object_is_global_or_owned_and_always_says_log() {
    let owned = Rule::from_json(&with("version", &json!("1.2")), &STRICT).unwrap();
    assert_eq!(
        owned.to_json().to_string(),
        format!(r#"{{"enabled":false,"log":false,"owner_uuid":"{OWNER}","rule":"{TEXT}","uuid":"{UUID}","version":"1.2"}}"#)
    );
    let object = json!({
        "rule": "from any to all vms allow tcp port 22", "global": true, "uuid": UUID, "version": "1.2", "created_by": "fwapi",
        "description": "d", "enabled": "true", "log": "false", "more": 1
    });
    let global = Rule::from_json(&object, &STRICT).unwrap();
    let wanted = format!(
        r#"{{"created_by":"fwapi","description":"d","enabled":true,"global":true,"log":false,"rule":"{TEXT}","uuid":"{UUID}","version":"1.2"}}"#
    );
    assert_eq!(global.to_json().to_string(), wanted);
    assert_eq!(Rule::from_json(&global.to_json(), &STRICT).unwrap(), global);
}

#[test]
fn a_value_of_the_wrong_kind_is_named() {
    for (field, value, message) in [
        ("uuid", json!(UUID.to_uppercase()), "Invalid rule UUID"),
        ("uuid", Value::Null, "Invalid rule UUID"),
        ("owner_uuid", json!(OWNER.to_uppercase()), "Invalid owner UUID"),
        ("owner_uuid", Value::Null, "Invalid owner UUID"),
        ("enabled", Value::Null, "enabled must be true or false"),
        ("log", json!(""), "log must be true or false"),
        ("rule", Value::Null, "No rule specified"),
        ("rule", json!(["x"]), "rule must be a string"),
    ] {
        assert_eq!(errors(&with(field, &value), &STRICT), [(field, message.to_owned())]);
    }
    assert_eq!(errors(&json!(5), &STRICT)[0].1, "No rule specified");
    assert_eq!(Rule::new_version(1_735_689_600_000, 24572), "1735689600000.024572");
}

#[test]
fn firewaller_case_l9_addresses_of_nics_and_of_the_list_are_joined() {
    let object = json!({
        "uuid": UUID, "enabled": true, "owner_uuid": OWNER,
        "nics": [{"ip": "10.7.0.1"}, {"ip": "dhcp"}, {"ips": ["10.7.0.2/24", "fd00::7/64", "addrconf"]}]
    });
    let vm = RemoteVm::with_ips(object.as_object().unwrap()).unwrap();
    assert_eq!(vm.to_json(), json!({"uuid": UUID, "ips": ["10.7.0.1", "10.7.0.2", "fd00::7"], "owner_uuid": OWNER}));
    assert_eq!(RemoteVm::with_ips(vm.to_json().as_object().unwrap()).unwrap(), vm);
}

#[test]
fn firewaller_case_l10_a_bad_remote_instance_is_named() {
    for (object, message) in [
        (json!({"ips": ["10.0.0.1"]}), "Remote VM must have UUID"),
        (json!({"uuid": "hasOwnProperty", "ips": ["10.0.0.1"]}), "Invalid Remote VM UUID: hasOwnProperty"),
        (json!({"uuid": UUID, "ips": ["10.0.0.1"], "owner_uuid": "x"}), "Invalid owner UUID: x"),
        (json!({"uuid": UUID, "ips": ["1.2.3.4.5"]}), "Invalid IP address: 1.2.3.4.5"),
        (json!({"uuid": UUID, "nics": [{"ip": "1.2.3.4.5"}]}), "Invalid IP address: 1.2.3.4.5"),
        (json!({"uuid": UUID, "ips": ["dhcp"]}), "Invalid IP address: dhcp"),
        (json!({"uuid": UUID, "ips": []}), "Remote VM \"5baca016-6dda-11e3-a6f2-730593c54f04\": missing IPs"),
    ] {
        assert_eq!(RemoteVm::with_ips(object.as_object().unwrap()).unwrap_err().to_string(), message);
    }
    assert!(RemoteVm::parse(json!({"uuid": UUID}).as_object().unwrap()).is_ok(), "case L11: addresses are not needed to ask");
}

/// firewaller case T25, the reading half
#[test]
fn a_remote_instance_of_vmapi_is_taken_with_what_is_good_of_it() {
    let object = json!({"uuid": UUID, "owner_uuid": OWNER, "tags": {"n": 1},
        "nics": [{"ip": "dhcp"}, {"ip": "nonsense"}, {"ips": ["10.0.0.7/24", "fd00::7/64"]}, {}]});
    let vm = RemoteVm::from_vmapi(object.as_object().unwrap()).unwrap();
    assert_eq!(vm.to_json()["ips"], json!(["10.0.0.7", "fd00::7"]));
    assert_eq!(vm.tags["n"], "1");
    assert_eq!(RemoteVm::from_vmapi(json!({"uuid": UUID, "nics": [{"ip": "dhcp"}]}).as_object().unwrap()), None);
}

#[test]
fn an_instance_without_the_needed_fields_is_refused_by_name() {
    let error = VmFacts::from_object(json!({"uuid": UUID, "tags": {}}).as_object().unwrap()).unwrap_err();
    assert_eq!(error, format!("VM {UUID}: missing fields required for firewall: nics, state"));
}

#[test]
fn tag_values_are_compared_as_text() {
    for (value, text) in [(json!(1), "1"), (json!(true), "true"), (json!("1"), "1"), (json!(2.0), "2"), (json!(2.5), "2.5")] {
        assert_eq!(tag_text(&value), text);
    }
}
