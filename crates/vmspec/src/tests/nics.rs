use serde_json::{Value, json};
use triton_types::{NicObject, VmConfig};

use crate::{OtherInstance, PayloadError, create, testing::*, update};

fn one(nic: Value) -> Result<VmConfig, PayloadError> {
    try_create(Value::from_iter([("nics", Value::from(vec![nic]))])).map(|created| created.config)
}

fn error(nic: Value) -> String {
    one(nic).unwrap_err().to_string()
}

fn object_of(config: &VmConfig, index: usize) -> Value {
    serde_json::to_value(NicObject::from(&config.nics[index])).unwrap()
}

/// instances cases 32, 33
#[test]
fn deprecated_addresses_become_ips_and_gateways() {
    let config = created(json!({"nics": [{"nic_tag": "admin"}]}));
    let config = updated(
        &config,
        json!({"add_nics": [{
            "ip": "10.254.254.254", "netmask": "255.255.255.0", "gateway": "10.254.254.1", "nic_tag": "external", "vlan_id": 0,
            "mac": "2:2:3:4:5:6", "interface": "eth7"
        }]}),
    );
    assert_eq!(
        object_of(&config, 1),
        json!({
            "interface": "net1", "mac": "02:02:03:04:05:06", "nic_tag": "external", "vlan_id": 0, "ips": ["10.254.254.254/24"],
            "gateways": ["10.254.254.1"], "ip": "10.254.254.254", "netmask": "255.255.255.0", "gateway": "10.254.254.1"
        })
    );
    let ips = json!(["10.254.254.254/24", "fd00::1/64", "addrconf"]);
    let config = updated(&config, json!({"update_nics": [{"mac": "02:02:03:04:05:06", "ips": ips}]}));
    assert_eq!((&object_of(&config, 1)["ip"], &object_of(&config, 1)["ips"]), (&json!("10.254.254.254"), &ips));
    assert_eq!(object_of(&config, 1)["gateway"], json!("10.254.254.1"), "what is not named stays");
}

/// instances cases 34, 35
#[test]
fn an_address_needs_its_netmask_and_a_nic_its_tag() {
    assert_eq!(error(json!({"nic_tag": "admin", "ip": "10.0.0.1,10.0.0.2", "netmask": "255.0.0.0"})), "Invalid value(s) for: nics.*.ip");
    assert_eq!(error(json!({"ip": "dhcp"})), "Missing required properties: nics.*.nic_tag");
    assert!(error(json!({"nic_tag": "admin", "ip": "10.0.0.1"})).starts_with("Missing .netmask option for NIC: {"));
    assert_eq!(
        error(json!({"nic_tag": "admin", "ip": "10.0.0.1", "netmask": "255.0.255.0"})),
        "Specified netmask value is invalid: 255.0.255.0"
    );
    assert_eq!(error(json!({"nic_tag": "admin", "gateways": ["fd00::1"]})), "Static gateways must be IPv4 addresses: fd00::1");
    assert_eq!(object_of(&one(json!({"nic_tag": "admin", "ip": "dhcp"})).unwrap(), 0)["ips"], json!(["dhcp"]));
}

/// instances case 36
#[test]
fn every_unknown_tag_has_its_line() {
    assert_eq!(error(json!({"nic_tag": "new_tag1"})), "Invalid nic tag \"new_tag1\"");
    let two = try_create(json!({"nics": [{"nic_tag": "new_tag1"}, {"nic_tag": "new_tag2"}, {"nic_tag": "new_tag1"}]})).unwrap_err();
    assert_eq!(two.to_string(), "Invalid nic tag \"new_tag1\"\nInvalid nic tag \"new_tag2\"");
    let config = created(json!({"nics": [{"nic_tag": "admin", "mac": "02:00:00:00:00:01"}]}));
    let moved = try_update(&config, json!({"update_nics": [{"mac": "02:00:00:00:00:01", "nic_tag": "nowhere"}]})).unwrap_err();
    assert_eq!(moved.to_string(), "Invalid nic tag \"nowhere\"");
}

#[test]
fn generated_macs_are_local_unicast_and_names_take_the_lowest_free_number() {
    for _ in 0..64 {
        let config = one(json!({"nic_tag": "admin"})).unwrap();
        let first = config.nics[0].mac.0[0];
        assert!(first & 0x0f == 2 && first >> 4 != 0, "{first:02x}");
    }
    let config = created(json!({"nics": [{"nic_tag": "admin"}, {"nic_tag": "admin", "mac": "02:00:00:00:00:02"}, {"nic_tag": "admin"}]}));
    let config = updated(&config, json!({"remove_nics": ["02:00:00:00:00:02"]}));
    let config = updated(&config, json!({"add_nics": [{"nic_tag": "admin"}, {"nic_tag": "stub0"}]}));
    let names: Vec<&str> = config.nics.iter().map(|nic| nic.interface.as_str()).collect();
    assert_eq!(names, ["net0", "net1", "net2", "net3"]);
    let (a, b) = (config.nics[0].mac.to_string(), config.nics[1].mac.to_string());
    let swapped = updated(&config, json!({"update_nics": [{"mac": a, "interface": "eth1"}, {"mac": b, "interface": "net0"}]}));
    assert_eq!((swapped.nics[0].mac, swapped.nics[0].interface.as_str()), (config.nics[1].mac, "net0"));
    let clash = try_update(&config, json!({"update_nics": [{"mac": a, "interface": "net1"}]})).unwrap_err();
    assert_eq!(clash, PayloadError::DuplicateInterface("net1".to_owned()));
}

/// instances case 43
#[test]
fn addresses_appear_and_vanish() {
    let config = created(json!({"nics": [{"nic_tag": "admin", "mac": "02:00:00:00:00:01"}]}));
    assert!(object_of(&config, 0).get("ip").is_none() && object_of(&config, 0).get("ips").is_none());
    let config = updated(&config, json!({"update_nics": [{"mac": "02:00:00:00:00:01", "ips": ["10.0.0.1/24"]}]}));
    assert_eq!(object_of(&config, 0)["ip"], json!("10.0.0.1"));
    let config = updated(&config, json!({"update_nics": [{"mac": "02:00:00:00:00:01", "ips": []}]}));
    assert!(object_of(&config, 0).get("ip").is_none() && object_of(&config, 0).get("ips").is_none());
}

/// instances case 44
#[test]
fn macs_and_addresses_are_unique_in_the_instance() {
    let twice = json!({"nics": [{"nic_tag": "admin", "mac": "02:00:00:00:00:01"}, {"nic_tag": "admin", "mac": "2:0:0:0:0:1"}]});
    assert_eq!(try_create(twice).unwrap_err().to_string(), "Cannot add multiple NICs with the same MAC: 02:00:00:00:00:01");
    let config = created(json!({"nics": [{"nic_tag": "admin", "mac": "02:00:00:00:00:01", "ips": ["10.0.0.1/24", "dhcp"]}]}));
    let same_ip = json!({"add_nics": [{"nic_tag": "admin", "ips": ["10.0.0.1/24"]}]});
    assert_eq!(try_update(&config, same_ip.clone()).unwrap_err().to_string(), "Cannot add multiple NICs with the same IP: 10.0.0.1/24");
    assert!(try_update(&config, json!({"add_nics": [{"nic_tag": "admin", "ips": ["dhcp"]}]})).is_ok());
    let mut replaced = object(same_ip);
    replaced.insert("remove_nics".to_owned(), json!(["02:00:00:00:00:01"]));
    assert_eq!(updated(&config, Value::Object(replaced)).nics.len(), 1, "the address of a NIC that goes is free");
    let moved = json!({"update_nics": [{"mac": "02:00:00:00:00:01", "ips": ["10.0.0.2/24"]}], "add_nics": [{"nic_tag": "admin", "ips": ["10.0.0.1/24"]}]});
    assert!(try_update(&config, moved).is_ok(), "so is the old address of one that changes");
}

/// instances case 44
#[test]
fn macs_and_addresses_are_unique_on_the_compute_node() {
    let mut other = created(json!({"nics": [{"nic_tag": "admin", "mac": "02:00:00:00:00:01", "ips": ["10.0.0.1/24"], "vlan_id": 2}]}));
    other.uuid = "99999999-2f0b-4c55-9a3c-0d1b5a7e9c11".parse().unwrap();
    let world = |failed| TestWorld { others: vec![OtherInstance { uuid: other.uuid, failed, nics: other.nics.clone() }], exists: vec![] };
    let attempt = |nic: &Value, failed| create(payload(json!({ "nics": [nic] })), &world(failed), now());
    let text = "Conflict detected with another vm, please check the MAC, IP, and VRID";
    let same_ip = json!({"nic_tag": "admin", "vlan_id": 2, "ips": ["10.0.0.1/24"]});
    for nic in [&json!({"nic_tag": "admin", "mac": "02:00:00:00:00:01"}), &same_ip] {
        let error = attempt(nic, false).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert!(matches!(error, PayloadError::Conflict { vm, .. } if vm == other.uuid));
    }
    assert!(attempt(&same_ip, true).is_ok(), "failed and not running");
    for nic in [
        json!({"nic_tag": "admin", "vlan_id": 3, "ips": ["10.0.0.1/24"]}),
        json!({"nic_tag": "admin", "ips": ["10.0.0.1/24"]}),
        json!({"nic_tag": "external", "vlan_id": 2, "ips": ["10.0.0.1/24"]}),
    ] {
        assert!(attempt(&nic, false).is_ok(), "{nic}");
    }
    let mine = created(json!({"nics": [{"nic_tag": "admin", "mac": "02:00:00:00:00:01", "vlan_id": 2, "ips": ["10.0.0.1/24"]}]}));
    let unrelated = update(&mine, object(json!({"alias": "x"})), &world(false));
    assert!(unrelated.is_ok(), "an old conflict does not stop an update of something else");
}

/// instances case 45
#[test]
fn keys_of_virtual_machines_are_dropped_silently() {
    let config = created(json!({"nics": [{"nic_tag": "admin", "mac": "02:00:00:00:00:01"}]}));
    let result = try_update(&config, json!({"update_nics": [{"mac": "02:00:00:00:00:01", "allow_unfiltered_promisc": true}]})).unwrap();
    assert_eq!((&result.config, result.warnings.len(), result.changes.len()), (&config, 0, 0));
}

/// instances case 46
#[test]
fn allowed_ips_are_counted_and_checked() {
    let many = |count: usize| -> Vec<String> { (0..count).map(|i| format!("10.0.1.{i}")).collect() };
    assert_eq!(error(json!({"nic_tag": "admin", "allowed_ips": many(14)})), "Maximum of 13 allowed_ips per nic");
    assert!(one(json!({"nic_tag": "admin", "allowed_ips": many(13)})).is_ok());
    for bad in ["1.2.3.4/33", "1.2.3.4/0", "fd00::/129", "x"] {
        assert_eq!(error(json!({"nic_tag": "admin", "allowed_ips": [bad]})), format!("invalid allowed_ips: {bad}"));
    }
    let ips: Vec<String> = (0..20).map(|i| format!("10.0.0.{i}/24")).collect();
    assert_eq!(error(json!({"nic_tag": "admin", "ips": ips, "allowed_ips": many(13)})), "More than 32 IPs cannot be associated with a NIC");
    assert_eq!(
        error(json!({"nic_tag": "admin", "ips": (0..21).map(|i| format!("10.0.0.{i}/24")).collect::<Vec<_>>()})),
        "Invalid value(s) for: nics.*.ips"
    );
}

/// instances case 47
#[test]
fn dhcp_client_ids_are_hexadecimal_and_few() {
    for bad in ["1234", "0xqz", "0x123", "0x"] {
        let error = error(json!({"nic_tag": "admin", "allowed_dhcp_cids": [bad]}));
        assert_eq!(error, "Invalid value(s) for: nics.*.allowed_dhcp_cids", "{bad}");
    }
    let ids = |count: usize| vec!["0x12"; count];
    assert!(one(json!({"nic_tag": "admin", "allowed_dhcp_cids": ids(20)})).is_ok());
    assert!(error(json!({"nic_tag": "admin", "allowed_dhcp_cids": ids(21)})).contains("limited to 20"));
    let long = format!("0x{}", "ab".repeat(255));
    assert_eq!(one(json!({"nic_tag": "admin", "allowed_dhcp_cids": [long, long, "0x12"]})).unwrap_err(), PayloadError::DhcpCidsTooLong);
}

/// instances case 48
#[test]
fn spoofing_flags_apply_live_and_vanish_when_false() {
    let config = created(json!({"nics": [{"nic_tag": "admin", "mac": "02:00:00:00:00:01"}]}));
    let set =
        try_update(&config, json!({"update_nics": [{"mac": "02:00:00:00:00:01", "allow_ip_spoofing": true, "dhcp_server": 1}]})).unwrap();
    assert!(set.config.nics[0].allow_ip_spoofing && set.config.nics[0].allow_dhcp_spoofing && !set.needs_reboot());
    assert!(matches!(set.changes.as_slice(), [crate::Change::NicFilters(_)]));
    let unset = updated(
        &set.config,
        json!({"update_nics": [{"mac": "02:00:00:00:00:01", "allow_ip_spoofing": false, "allow_dhcp_spoofing": false}]}),
    );
    assert_eq!(unset, config);
    assert!(object_of(&unset, 0).get("allow_ip_spoofing").is_none());
}

#[test]
fn updates_name_an_existing_nic() {
    let config = created(json!({"nics": [{"nic_tag": "admin", "mac": "02:00:00:00:00:01"}]}));
    let text = |change| try_update(&config, change).unwrap_err().to_string();
    assert_eq!(text(json!({"update_nics": [{"mtu": 1500}]})), "NIC object needs a .mac property to update");
    assert_eq!(text(json!({"update_nics": [{"mac": "02:00:00:00:00:09"}]})), "There is no existing NIC with that mac address");
    let gone = try_update(&config, json!({"remove_nics": ["02:00:00:00:00:09"]})).unwrap();
    assert_eq!((gone.config.nics.len(), gone.warnings.len()), (1, 1));
}

#[test]
fn a_physical_nic_needs_a_full_mtu() {
    assert!(matches!(one(json!({"nic_tag": "admin", "mtu": 1400})).unwrap_err(), PayloadError::MtuTooSmall { mtu: 1400, .. }));
    assert_eq!(one(json!({"nic_tag": "stub0", "mtu": "1400"})).unwrap().nics[0].mtu, Some(1400));
}

#[test]
fn vrrp_dictates_the_mac_and_needs_a_nic_to_stand_on() {
    let vrrp = json!({"nic_tag": "admin", "vrrp_vrid": 7, "vrrp_primary_ip": "10.0.0.1", "ips": ["10.0.0.9/24"]});
    let config = created(json!({"nics": [{"nic_tag": "admin", "ips": ["10.0.0.1/24"]}, vrrp]}));
    assert_eq!(config.nics[1].mac.to_string(), "00:00:5e:00:01:07");
    assert_eq!(one(vrrp.clone()).unwrap_err(), PayloadError::OnlyVrrp);
    let plain = updated(&config, json!({"update_nics": [{"mac": "00:00:5e:00:01:07", "vrrp_vrid": null, "vrrp_primary_ip": null}]}));
    assert_eq!((plain.nics[1].vrrp_vrid, plain.nics[1].mac.0[0] & 0x0f), (None, 2), "then it gets an address of its own");
    let lonely = try_create(json!({"nics": [{"nic_tag": "admin"}, vrrp]})).unwrap_err();
    assert!(matches!(lonely, PayloadError::VrrpPrimaryIp { .. }));
}

/// instances case 44
#[test]
fn a_stored_configuration_can_be_held_against_others_again() {
    let config = created(json!({"nics": [{"nic_tag": "admin", "ips": ["10.0.0.5/24"], "mac": "02:08:20:00:00:01"}]}));
    let mut other = crate::OtherInstance { uuid: triton_types::InstanceUuid::random(), failed: false, nics: config.nics.clone() };
    assert!(matches!(crate::check_conflicts(&config, std::slice::from_ref(&other)), Err(PayloadError::Conflict { .. })));
    other.failed = true;
    assert_eq!(crate::check_conflicts(&config, std::slice::from_ref(&other)), Ok(()));
    other.failed = false;
    other.uuid = config.uuid;
    assert_eq!(crate::check_conflicts(&config, &[other]), Ok(()), "an instance does not conflict with itself");
}
