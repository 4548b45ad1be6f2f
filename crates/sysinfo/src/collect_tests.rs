use std::{fs, path::Path};

use serde_json::{Value, json};
use triton_files::Layout;
use triton_types::Mac;

use super::*;
use crate::{LinkKind, tags::Tag, tags::Uplink};

/// A node below a root of its own, on a machine whose `/proc` and `/sys` are below the same root.
struct Machine {
    root: tempfile::TempDir,
    layout: Layout,
    links: Vec<LinkFact>,
    tags: TagFacts,
}

const MAC: &str = "90:e2:ba:ab:cd:ef";

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

fn link(index: u32, name: &str, kind: LinkKind, address: &str) -> LinkFact {
    LinkFact {
        index,
        name: name.to_owned(),
        kind,
        mac: mac(MAC),
        permanent_mac: None,
        up: true,
        master: None,
        parent: None,
        vlan: None,
        addresses: if address.is_empty() { Vec::new() } else { vec![address.parse().unwrap()] },
    }
}

fn tag(name: &str, mac_text: &str) -> Tag {
    Tag { name: name.to_owned(), uplink: Uplink::Mac(mac(mac_text)) }
}

impl Machine {
    /// One NIC with the admin tag, two processors, a DMI uuid, nothing odd.
    fn plain() -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.prepare().unwrap();
        fs::write(layout.identity(), r#"{"prefix":"triton"}"#).unwrap();
        let machine = Self {
            links: vec![link(2, "eno1", LinkKind::Physical, "10.88.4.31/16")],
            tags: TagFacts { admin: "admin".to_owned(), tags: vec![tag("admin", MAC)], nics: Vec::new(), admin_ip: None },
            root,
            layout,
        };
        machine.put("sys/class/dmi/id/product_uuid", "4c4c4544-0057-4710-8051-b3c04f585131\n");
        machine.put("sys/class/dmi/id/sys_vendor", "Dell Inc.\n");
        machine.put("sys/class/dmi/id/product_sku", "SKU=07\n");
        machine.put("proc/stat", "cpu 1 2\nbtime 1714639501\nprocesses 1\n");
        machine.put("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n");
        machine.put("proc/cmdline", "boot=live quiet\n");
        machine.cpus(&["model name\t: AMD EPYC\nflags\t\t: fpu svm"; 2], "0-1");
        machine
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn cpus(&self, blocks: &[&str], online: &str) {
        let lines: Vec<_> = blocks.iter().enumerate().map(|(number, text)| format!("processor\t: {number}\n{text}\n")).collect();
        self.put("proc/cpuinfo", &lines.join("\n"));
        self.put("sys/devices/system/cpu/online", online);
        self.put("sys/devices/system/cpu/present", online);
    }

    fn topology(&self, cpu: u32, package: i32, core: i32) {
        self.put(&format!("sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"), &package.to_string());
        self.put(&format!("sys/devices/system/cpu/cpu{cpu}/topology/core_id"), &core.to_string());
    }

    fn collect_with(&self, options: SysinfoOptions) -> Result<Sysinfo, SysinfoError> {
        let options = SysinfoOptions { source: Source::at(self.root.path()), ..options };
        let facts = HostFacts::load_from(&self.layout, &options.source)?;
        let (links, tags) = (self.links.clone(), self.tags.clone());
        Parts { layout: &self.layout, options: &options, facts, links, tags, pool: None, omissions: Vec::new() }.assemble()
    }

    fn collect(&self) -> Value {
        serde_json::to_value(self.collect_with(SysinfoOptions::default()).unwrap()).unwrap()
    }
}

/// cn-agent case 50
#[test]
fn the_document_has_what_the_headnode_reads_in_the_types_it_reads() {
    let machine = Machine::plain();
    let options = SysinfoOptions { cn_agent_port: Some(5309), ..SysinfoOptions::default() };
    let document = machine.collect_with(options).unwrap();
    assert_eq!(document.uuid().to_string(), "44454c4c-5700-1047-8051-b3c04f585131");
    assert_eq!(document.admin_ip().unwrap().to_string(), "10.88.4.31");
    let document = document.into_map();
    for (key, value) in [
        ("CN Agent Port", json!(5309)),
        ("Setup", json!(false)),
        ("System Type", json!("Linux")),
        ("UUID", json!("44454c4c-5700-1047-8051-b3c04f585131")),
        ("Fixed UUID", json!("4c4c4544-0057-4710-8051-b3c04f585131")),
        ("SDC Version", json!("7.0")),
        ("Manufacturer", json!("Dell Inc.")),
        ("SKU Number", json!("SKU=07")),
        ("MiB of Memory", json!(16384)),
        ("CPU Total Cores", json!(2)),
        ("CPU Virtualization", json!("svm")),
        ("Boot Parameters", json!({"boot": "live"})),
        ("Admin IP", json!("10.88.4.31")),
        ("Admin NIC Tag", json!("admin")),
        ("SDC Agents", json!([])),
        ("Network Interfaces", json!({"eno1": {"MAC Address": MAC, "ip4addr": "10.88.4.31", "Link Status": "up", "NIC Names": ["admin"]}})),
    ] {
        assert_eq!(document.get(key), Some(&value), "{key}");
    }
    assert!(document["Live Image"].as_str().is_some_and(|stamp| stamp.starts_with("20") && stamp.len() == 16));
    for wrong in ["Serial_Number", "SKU_Number", "HW_Version", "HW_Family", "Profile", "MiB of Memory Free"] {
        assert!(!document.contains_key(wrong), "{wrong}");
    }
}

/// cn-agent case 52
#[test]
fn the_time_of_boot_is_the_kernel_s_number_at_every_call() {
    let machine = Machine::plain();
    assert_eq!(machine.collect()["Boot Time"], json!(1_714_639_501));
    assert_eq!(machine.collect(), machine.collect());
}

/// cn-agent case 50
/// platform case 32, net-agent case 59
#[test]
fn only_configured_tags_are_nic_names() {
    let mut machine = Machine::plain();
    machine.links.push(LinkFact { mac: mac("90:e2:ba:00:00:01"), ..link(3, "enp3s0", LinkKind::Physical, "192.168.1.2/24") });
    machine.links.push(LinkFact { up: false, mac: mac("90:e2:ba:00:00:02"), ..link(4, "eno3", LinkKind::Physical, "") });
    machine.links.push(LinkFact { mac: mac("fe:00:00:00:00:01"), ..link(5, "vt12345678", LinkKind::Virtual, "") });
    let nics = &machine.collect()["Network Interfaces"];
    assert_eq!(nics["enp3s0"]["NIC Names"], json!([]));
    assert_eq!((&nics["eno3"]["Link Status"], &nics["eno3"]["ip4addr"]), (&json!("down"), &json!("")));
    assert!(nics.get("vt12345678").is_none(), "a guest's link is no NIC of the node");
}

#[test]
fn a_bridge_s_address_belongs_to_the_nic_below_it() {
    let mut machine = Machine::plain();
    machine.links =
        vec![LinkFact { master: Some(7), ..link(2, "eno1", LinkKind::Physical, "") }, link(7, "br0", LinkKind::Bridge, "10.88.4.31/16")];
    let document = machine.collect();
    assert_eq!(document["Admin IP"], "10.88.4.31");
    assert_eq!(document["Network Interfaces"].as_object().unwrap().keys().collect::<Vec<_>>(), ["eno1"]);
    assert_eq!(document["Network Interfaces"]["eno1"]["ip4addr"], "10.88.4.31");
}

#[test]
fn a_virtual_uplink_carries_its_tag_in_a_test_bed() {
    let mut machine = Machine::plain();
    machine.links = vec![
        LinkFact { master: Some(7), ..link(2, "up0", LinkKind::Virtual, "") },
        link(7, "br0", LinkKind::Bridge, "10.88.4.31/16"),
        LinkFact { mac: mac("fe:00:00:00:00:01"), ..link(9, "vt1", LinkKind::Virtual, "") },
    ];
    let document = machine.collect();
    assert_eq!(document["Network Interfaces"].as_object().unwrap().keys().collect::<Vec<_>>(), ["up0"]);
    assert_eq!(document["Network Interfaces"]["up0"]["NIC Names"], json!(["admin"]));
    assert_eq!(document["Admin IP"], "10.88.4.31");
}

#[test]
fn a_bond_is_an_interface_with_the_tags_of_its_members() {
    let mut machine = Machine::plain();
    let other = mac("90:e2:ba:00:00:02");
    machine.links = vec![
        LinkFact { master: Some(5), permanent_mac: Some(mac(MAC)), ..link(2, "eno1", LinkKind::Physical, "") },
        LinkFact { master: Some(5), permanent_mac: Some(other), ..link(3, "eno2", LinkKind::Physical, "") },
        link(5, "bond0", LinkKind::Bond, "10.88.4.31/16"),
        LinkFact { parent: Some(5), vlan: Some(8), ..link(6, "bond0.8", LinkKind::Vlan, "10.9.9.9/24") },
    ];
    machine.tags.tags.push(tag("external", "90:e2:ba:00:00:02"));
    machine.tags.tags.push(Tag { name: "storage".to_owned(), uplink: Uplink::Named("bond0".to_owned()) });
    machine.put("sys/class/net/bond0/bonding/mode", "802.3ad 4\n");
    machine.put("sys/class/net/bond0/bonding/lacp_active", "on 1\n");
    let document = machine.collect();
    let nics = &document["Network Interfaces"];
    assert_eq!(nics["bond0"]["NIC Names"], json!(["admin", "external", "storage"]));
    assert_eq!(nics["eno2"], json!({"MAC Address": "90:e2:ba:00:00:02", "ip4addr": "10.88.4.31", "Link Status": "up", "NIC Names": []}));
    assert_eq!(document["Link Aggregations"], json!({"bond0": {"LACP mode": "active", "Interfaces": ["eno1", "eno2"]}}));
    let vnic = &document["Virtual Network Interfaces"]["bond0.8"];
    assert_eq!((&vnic["Host Interface"], &vnic["VLAN"], &vnic["ip4addr"]), (&json!("bond0"), &json!("8"), &json!("10.9.9.9")));
    machine.put("sys/class/net/bond0/bonding/lacp_active", "off 0\n");
    assert_eq!(machine.collect()["Link Aggregations"]["bond0"]["LACP mode"], "passive");
    machine.put("sys/class/net/bond0/bonding/mode", "active-backup 1\n");
    assert_eq!(machine.collect()["Link Aggregations"]["bond0"]["LACP mode"], "off");
}

/// net-agent case 58
#[test]
fn further_nics_of_the_host_show_what_they_sit_on_and_their_vlan() {
    let mut machine = Machine::plain();
    let (own, guest) = (mac("90:b8:d0:00:00:0c"), mac("02:08:20:00:00:01"));
    machine.links = vec![
        LinkFact { master: Some(7), ..link(2, "eno1", LinkKind::Physical, "") },
        link(7, "tb0123456789", LinkKind::Bridge, "10.88.4.31/16"),
        LinkFact { parent: Some(7), vlan: Some(128), ..link(8, "external0", LinkKind::Vlan, "10.9.0.5/16") },
        LinkFact { mac: own, ..link(9, "external1", LinkKind::Virtual, "10.8.0.5/16") },
        LinkFact { mac: mac("fe:00:00:00:00:02"), master: Some(7), ..link(10, "tv0123456789", LinkKind::Virtual, "") },
        LinkFact { mac: guest, master: Some(7), ..link(11, "vtabc", LinkKind::Virtual, "") },
    ];
    machine.put(
        "usr/triton/config/triton-networking.json",
        &json!({
            "nictags": [{"name": "admin", "mac": MAC}, {"name": "external", "mac": MAC}],
            "vnics": [{"mac": own.to_string(), "ip": "10.8.0.5", "netmask": "255.255.0.0", "nic_tag": "external", "vlan_id": 3128}],
        })
        .to_string(),
    );
    machine.tags = TagFacts::load(&machine.layout).unwrap();
    let document = machine.collect();
    let wanted = |mac: Mac, ip: &str, vlan: &str| json!({"MAC Address": mac.to_string(), "ip4addr": ip, "Link Status": "up", "VLAN": vlan, "Host Interface": "eno1"});
    let wanted = json!({"external0": wanted(mac(MAC), "10.9.0.5", "128"), "external1": wanted(own, "10.8.0.5", "3128")});
    assert_eq!(document["Virtual Network Interfaces"], wanted);
    assert_eq!(document["Network Interfaces"]["eno1"]["NIC Names"], json!(["admin", "external"]));
}

/// net-agent section 17, cn-agent section 7.2
#[test]
fn the_underlay_nic_shows_the_overlays_that_this_node_takes_part_in() {
    let mut machine = Machine::plain();
    let own = mac("90:b8:d0:00:00:0c");
    machine.links.push(LinkFact { mac: own, ..link(9, "external1", LinkKind::Virtual, "10.9.0.5/16") });
    let rule = "-e vxlan -s svp -p svp/host=10.9.0.9 -p svp/underlay_ip=10.9.0.5 -p vxlan/listen_ip=10.9.0.5 -p mtu=1400";
    let mut document = json!({
        "nictags": [{"name": "admin", "mac": MAC}, {"name": "external", "mac": MAC}],
        "vnics": [{"mac": own.to_string(), "ip": "10.9.0.5", "netmask": "255.255.0.0", "nic_tag": "external", "underlay": true,
            "overlay_nic_tags_provided": ["sdc_overlay"]}],
        "nictag_rules": {"sdc_overlay": rule},
    });
    let mut shown = |document: &serde_json::Value| {
        machine.put("usr/triton/config/triton-networking.json", &document.to_string());
        machine.tags = TagFacts::load(&machine.layout).unwrap();
        machine.collect()["Virtual Network Interfaces"]["external1"].clone()
    };
    assert_eq!(shown(&document)["Overlay Nic Tags"], json!(["sdc_overlay"]));
    // What cannot be followed here is not offered to the headnode: instances would be placed that cannot start.
    document["nictag_rules"]["sdc_overlay"] = json!("-e vxlan -s direct");
    let without = shown(&document);
    assert!(without.get("Overlay Nic Tags").is_none() && without["ip4addr"] == "10.9.0.5", "{without}");
}

#[test]
fn a_server_with_two_sockets_and_threads_is_counted() {
    let machine = Machine::plain();
    let block = "model name\t: Intel(R) Xeon(R)\nflags\t\t: fpu vmx";
    machine.cpus(&[block; 8], "0-7");
    for cpu in 0..8 {
        machine.topology(cpu, i32::try_from(cpu % 2).unwrap(), i32::try_from(cpu % 4 / 2).unwrap());
    }
    machine.put("sys/devices/system/cpu/smt/active", "1\n");
    let document = machine.collect();
    let counts = ["CPU Socket Count", "CPU Physical Cores", "CPU Core Count", "CPU Count", "CPU Online Count", "CPU Total Cores"];
    assert_eq!(counts.map(|key| document[key].as_u64().unwrap()), [2, 2, 4, 8, 8, 8]);
    assert_eq!((&document["CPU Virtualization"], &document["Psrinfo"]), (&json!("vmx"), &json!({"smt_enabled": true})));
}

#[test]
fn no_count_of_processors_is_ever_zero() {
    let machine = Machine::plain();
    // A virtual machine without physical id, core id or topology.
    for cpu in 0..2 {
        let _ = fs::remove_dir_all(machine.root.path().join(format!("sys/devices/system/cpu/cpu{cpu}")));
    }
    let document = machine.collect();
    assert_eq!((&document["CPU Socket Count"], &document["CPU Core Count"]), (&json!(1), &json!(2)));
    // The kernel's -1 for "not known".
    machine.topology(0, -1, -1);
    machine.topology(1, -1, -1);
    let document = machine.collect();
    assert_eq!((&document["CPU Socket Count"], &document["CPU Core Count"]), (&json!(1), &json!(2)));
    // An ARM server has no model name.
    machine.cpus(&["BogoMIPS\t: 50.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c"; 4], "0-3");
    for file in ["online", "present"] {
        fs::remove_file(machine.root.path().join("sys/devices/system/cpu").join(file)).unwrap();
    }
    let document = machine.collect();
    let kind = document["CPU Type"].as_str().unwrap();
    assert!(kind.contains("0x41") && kind.contains("0xd0c"), "{kind}");
    assert_eq!((&document["CPU Online Count"], &document["CPU Virtualization"]), (&json!(4), &json!("none")));
}

#[test]
fn only_real_disks_are_listed() {
    let machine = Machine::plain();
    for (name, sectors, real) in [
        ("sda", 937_703_088_u64, true),
        ("nvme0n1", 1_953_525_168, true),
        ("sr0", 2, true),
        ("loop0", 99_999_999, false),
        ("zd0", 9, false),
        ("nbd0", 0, true),
        ("dm-0", 99_999_999, false),
        ("vdb", 0, true),
    ] {
        machine.put(&format!("sys/block/{name}/size"), &sectors.to_string());
        if real {
            machine.put(&format!("sys/block/{name}/device/model"), "x");
        }
    }
    assert_eq!(machine.collect()["Disks"], json!({"nvme0n1": {"Size in GB": 1000}, "sda": {"Size in GB": 480}}));
}

#[test]
fn what_cannot_be_learnt_is_left_out_with_its_reason() {
    let machine = Machine::plain();
    for path in ["proc/stat", "proc/meminfo", "proc/cpuinfo", "proc/cmdline", "sys/class/dmi/id/sys_vendor"] {
        fs::remove_file(machine.root.path().join(path)).unwrap();
    }
    let document = machine.collect_with(SysinfoOptions::default()).unwrap();
    let missing: Vec<_> = document.omissions().iter().map(|omission| omission.what).collect();
    assert_eq!(missing, ["Boot Parameters", "Boot Time", "CPU Type", "MiB of Memory", "Disks"]);
    for key in ["Boot Time", "CPU Type", "MiB of Memory", "Manufacturer", "Disks"] {
        assert!(!document.as_map().contains_key(key), "{key}");
    }
    assert_eq!(document.as_map()["Boot Parameters"], json!({}));
}

/// platform case 30: a node that nobody has set up yet has a document without an admin address.
#[test]
fn identity_is_needed_and_the_admin_address_where_it_is_used() {
    let mut machine = Machine::plain();
    machine.put("sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000");
    assert!(matches!(machine.collect_with(SysinfoOptions::default()), Err(SysinfoError::Identity(_))));
    machine = Machine::plain();
    machine.links[0].addresses.clear();
    let document = machine.collect_with(SysinfoOptions::default()).unwrap();
    let error = document.admin_ip().unwrap_err();
    assert!(matches!(&error, SysinfoError::AdminIp { admin_tag } if admin_tag == "admin"), "{error}");
    assert!(!document.as_map().contains_key("Admin IP") && document.as_map().contains_key("UUID"));
    assert!(document.omissions().iter().any(|omission| omission.what == "Admin IP" && omission.why == error.to_string()));
    let given = SysinfoOptions { admin_ip: Some([10, 0, 0, 1].into()), ..SysinfoOptions::default() };
    assert_eq!(machine.collect_with(given).unwrap().admin_ip().unwrap().to_string(), "10.0.0.1");
}

#[test]
fn the_boot_loader_s_address_counts_only_for_the_machine_itself() {
    let machine = Machine::plain();
    machine.put("proc/cmdline", "ip=10.1.1.1:::255.255.0.0:: x=y");
    assert_eq!(machine.collect()["Admin IP"], "10.1.1.1");
    machine.put("proc/cmdline", "ip=dhcp");
    assert_eq!(machine.collect()["Admin IP"], "10.88.4.31", "dhcp is no address");
    machine.put("proc/cmdline", "ip=10.1.1.1:::255.255.0.0::");
    fs::write(machine.layout.identity(), r#"{"prefix":"t","override_uuid":"44454c4c-5700-1047-8051-b3c04f585131"}"#).unwrap();
    let document = machine.collect();
    assert_eq!(document["Admin IP"], "10.88.4.31");
    assert!(document.get("Fixed UUID").is_none(), "the firmware's uuid is that of the machine around it");
}

#[test]
fn changes_name_what_differs_and_nothing_else() {
    let mut machine = Machine::plain();
    let before = machine.collect_with(SysinfoOptions::default()).unwrap();
    assert!(machine.collect_with(SysinfoOptions::default()).unwrap().changes(&before).is_empty());
    machine.put("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 99 kB\n");
    assert!(machine.collect_with(SysinfoOptions::default()).unwrap().changes(&before).is_empty(), "free memory is no change");
    machine.tags.tags.push(tag("external", MAC));
    fs::remove_file(machine.root.path().join("sys/class/dmi/id/sys_vendor")).unwrap();
    let mut changes = machine.collect_with(SysinfoOptions::default()).unwrap().changes(&before);
    changes.sort();
    assert_eq!(changes, ["Manufacturer", "Network Interfaces"]);
}

#[test]
fn running_agents_replace_installed_ones_of_their_name() {
    let machine = Machine::plain();
    let package = |name: &str, version: &str| {
        let path = format!("opt/smartdc/agents/lib/node_modules/{name}/package.json");
        machine.put(&path, &json!({"name": name, "version": version}).to_string());
    };
    package("cn-agent", "2.0.0");
    package("vm-agent", "1.9.1");
    let entry = AgentEntry { name: "cn-agent".into(), version: "2.15.0".into(), image_uuid: None, uuid: None };
    let options = SysinfoOptions { agents: vec![entry], ..SysinfoOptions::default() };
    let agents = machine.collect_with(options).unwrap().into_map().remove("SDC Agents").unwrap();
    assert_eq!(agents, json!([{"name": "cn-agent", "version": "2.15.0"}, {"name": "vm-agent", "version": "1.9.1"}]));
}

/// The real kernel: a node with an identity of its own, in this test's network namespace.
#[test]
fn the_running_kernel_is_described() {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::new(root.path());
    layout.prepare().unwrap();
    let options = SysinfoOptions { admin_ip: Some([127, 0, 0, 1].into()), ..SysinfoOptions::default() };
    let first = Sysinfo::collect(&layout, &options).unwrap();
    for key in ["Boot Time", "MiB of Memory", "CPU Type", "Network Interfaces", "Disks", "Live Image"] {
        assert!(first.as_map().contains_key(key), "{key}: {:?}", first.omissions());
    }
    assert!(Sysinfo::collect(&layout, &options).unwrap().changes(&first).is_empty());
    assert!(Path::new(&layout.identity()).exists());
}

#[test]
fn tags_come_from_the_file_of_the_headnode_and_illegal_names_never_reach_it() {
    let machine = Machine::plain();
    machine.put(
        "usr/triton/config/triton-networking.json",
        &json!({
            "admin_tag": "admin_rack", "vnics": [{"nic_tag": "x", "ip": "1.1.1.1"}, {"nic_tag": "admin_rack", "ip": "10.0.0.9"}],
            "nictags": [{"name": "admin_rack", "mac": "90:E2:ba:ab:cd:ef", "mtu": 1500}, {"name": "aggr_tag", "mac": "bond0"}, "junk",
                {"name": "eth0:1", "mac": MAC}, {"name": "sdc_overlay/12", "mac": MAC}, {"name": "none", "mac": "-"}, {"name": "absent"}],
        })
        .to_string(),
    );
    let facts = TagFacts::load(&machine.layout).unwrap();
    let bond = Tag { name: "aggr_tag".to_owned(), uplink: Uplink::Named("bond0".to_owned()) };
    assert_eq!((facts.admin.as_str(), &facts.tags), ("admin_rack", &vec![tag("admin_rack", MAC), bond]));
    assert_eq!(facts.admin_ip.unwrap().to_string(), "10.0.0.9");
    machine.put("usr/triton/config/triton-networking.json", "{");
    assert!(TagFacts::load(&machine.layout).unwrap_err().contains("triton-networking.json"));
}
