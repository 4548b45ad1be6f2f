use serde_json::{Value, json};
use triton_types::VmConfig;

use crate::{PayloadError, testing::*};

fn macs(flags: &[Value]) -> Value {
    let nic = |(i, flag): (usize, &Value)| {
        let mut nic = json!({"nic_tag": "admin", "ip": "dhcp", "mac": format!("02:00:00:00:00:0{i}")});
        if !flag.is_null() {
            nic["primary"] = flag.clone();
        }
        nic
    };
    json!({ "nics": flags.iter().enumerate().map(nic).collect::<Vec<_>>() })
}

fn primaries(config: &VmConfig) -> Vec<bool> {
    config.nics.iter().map(|nic| nic.primary).collect()
}

/// instances cases 37, 38, 39, 40
#[test]
fn exactly_one_nic_is_primary_after_creation() {
    let create = |flags: &[Value]| try_create(macs(flags)).map(|created| primaries(&created.config));
    assert_eq!(create(&[json!(null), json!(null)]).unwrap(), [true, false]);
    assert_eq!(create(&[json!(null), json!(1)]).unwrap(), [false, true]);
    assert_eq!(create(&[json!(true), json!(false), json!(false)]).unwrap(), [true, false, false]);
    assert_eq!(create(&[json!(false), json!(false), json!(false)]).unwrap(), [true, false, false]);
    let error = create(&[json!(true), json!(true), json!("1")]).unwrap_err();
    assert_eq!((error.to_string().as_str(), &error), ("payload specifies more than 1 primary NIC", &PayloadError::SeveralPrimaries));
    let stored = json(&created(macs(&[json!(null), json!(1)])));
    assert!(stored["nics"][0].get("primary").is_none() && stored["nics"][1]["primary"] == json!(true));
}

/// instances case 41
#[test]
fn an_update_moves_the_primary_flag_and_cannot_only_take_it_away() {
    let config = created(macs(&[json!(true), json!(null)]));
    let set = |mac: &str, flag: Value| try_update(&config, json!({"update_nics": [{"mac": mac, "primary": flag}]}));
    for flag in [json!(false), json!("blah")] {
        let shown = flag.as_str().map_or_else(|| flag.to_string(), str::to_owned);
        assert_eq!(
            set("02:00:00:00:00:00", flag).unwrap_err().to_string(),
            format!("invalid value for NIC's primary flag: {shown} (must be true)")
        );
    }
    assert_eq!(primaries(&set("02:00:00:00:00:01", json!(true)).unwrap().config), [false, true]);
    let added = updated(&config, json!({"add_nics": [{"nic_tag": "admin", "primary": true}]}));
    assert_eq!(primaries(&added), [false, false, true]);
    let added = updated(&config, json!({"add_nics": [{"nic_tag": "admin"}]}));
    assert_eq!(primaries(&added), [true, false, false]);
}

/// instances case 42
#[test]
fn the_successor_of_a_primary_is_the_first_with_a_public_address() {
    let with = |third: &str| {
        let config = created(json!({"nics": [
            {"nic_tag": "admin", "ips": ["10.254.254.254/24"]},
            {"nic_tag": "admin", "ips": ["169.254.169.254/24"], "primary": true, "mac": "02:00:00:00:00:01"},
            {"nic_tag": "admin", "ips": [third]},
        ]}));
        primaries(&updated(&config, json!({"remove_nics": ["02:00:00:00:00:01"]})))
    };
    assert_eq!(with("169.254.169.253/24"), [false, true]);
    assert_eq!(with("192.168.1.1/24"), [true, false]);
    let dhcp = created(macs(&[json!(true), json!(null)]));
    assert_eq!(primaries(&updated(&dhcp, json!({"remove_nics": ["02:00:00:00:00:00"]}))), [false], "no address, no primary");
}

/// instances case 32
#[test]
fn the_first_nic_of_an_instance_without_any_is_primary() {
    let config = updated(&created(json!({})), json!({"add_nics": [{"nic_tag": "admin"}, {"nic_tag": "admin"}]}));
    assert_eq!(primaries(&config), [true, false]);
}
