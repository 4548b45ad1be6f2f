//! A node that boots from the network, as booter boots one: iPXE, the squashfs by HTTP, networking.json and node.config as
//! modules; and what becomes of it when they are wrong.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    super::{
        bed::Bed,
        boot::Boot,
        console::Console,
        netboot::{Node, Offer, sha1},
        qemu,
    },
    vm,
};

/// The address that QEMU's network forwards ports to.
const ADDRESS: &str = "10.0.2.15";

/// From power on to a login on the console, with everything loaded by an emulated NIC.
const BOOT: Duration = Duration::from_secs(600);

/// Good modules, bad ones that name what is wrong, useless ones, and those without a pool that would have better.
pub fn modules(bed: &mut Bed) -> Result<()> {
    bed.cut()?;
    good(bed).context("with good modules")?;
    bad(bed).context("with modules that are partly wrong")?;
    useless(bed).context("with modules that are of no use")?;
    console_only(bed).context("with modules that are of no use, without a pool")
}

/// networking.json as booter writes it: two NICs, a VLAN, routes, a name.
fn networking(bed: &Bed, hostname: &str) -> Value {
    let [admin, wire] = [0, 1].map(|nic| qemu::mac(nic, bed.place().number));
    json!({
        "vnics": [
            {"mac": admin, "nic_tag": "admin", "vlan_id": 0, "ip": ADDRESS, "netmask": "255.255.255.0", "mtu": 1500, "primary": true,
                "resolvers": ["10.0.2.3"], "nic_tags_provided": ["admin"], "belongs_to_type": "server", "state": "running"},
            {"mac": wire, "nic_tag": "external", "vlan_id": 128, "ip": "10.77.128.5", "netmask": "255.255.252.0", "mtu": 1400},
        ],
        "nictags": [{"name": "admin", "uuid": "2d6a0b3c-5b4b-4b2d-9a6e-0d9b3a5b6c01", "mtu": 1500, "mac": admin},
            {"name": "external", "uuid": "2d6a0b3c-5b4b-4b2d-9a6e-0d9b3a5b6c02", "mtu": 1500, "mac": wire}],
        "admin_tag": "admin",
        "resolvers": ["10.0.2.3"],
        "routes": {"10.99.0.0/16": "10.0.2.2"},
        "aggregations": [],
        "datacenter_name": "netboot",
        "dns_domain": "example.com",
        "hostname": hostname,
    })
}

fn offer(bed: &Bed, networking: &Value, node_config: &str) -> Offer {
    let text = format!("{networking:#}").into_bytes();
    let admin = qemu::mac(0, bed.place().number);
    let arguments = [("rabbitmq", "guest:guest:10.0.2.200:5672"), ("admin_nic", admin.as_str())];
    Offer {
        hash: Some(sha1(&text)),
        networking: Some(text),
        node_config: node_config.as_bytes().to_vec(),
        root_hash: None,
        arguments: arguments.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

/// Lays out what is offered and turns the power on; what the console says from then on.
fn power_on(bed: &mut Bed, offer: &Offer, autoconf: &str) -> Result<Console> {
    let tree: PathBuf = bed.place().dir.join("netboot");
    let mac = qemu::mac(0, bed.place().number);
    let node = Node { mac: &mac, address: ADDRESS, netmask: "255.255.255.0", autoconf };
    offer.lay(&tree, &bed.state().image, &node)?;
    let console = Console::from_now(&bed.place().dir);
    bed.power_on(Boot::Network(&tree))?;
    Ok(console)
}

/// Every text is on the console; what is not, is an error.
fn named(console: &Console, texts: &[&str]) -> Result<()> {
    let said = console.said()?;
    let missing: Vec<&&str> = texts.iter().filter(|text| !said.contains(**text)).collect();
    ensure!(missing.is_empty(), "the console does not name {missing:?}");
    Ok(())
}

/// The node's addresses, and which link has them.
fn address(bed: &mut Bed, address: &str) -> Result<String> {
    let said = bed.run("ip -4 -o addr show")?;
    let line = said.lines().find(|line| line.contains(&format!(" inet {address} "))).with_context(|| format!("no {address} in {said}"))?;
    // One that DHCP gave ends.
    ensure!(line.contains("valid_lft forever"), "not by the document: {line}");
    line.split_whitespace().nth(1).map(str::to_owned).with_context(|| format!("no link in {line}"))
}

fn good(bed: &mut Bed) -> Result<()> {
    let node_config = "datacenter_name='netboot'\ndns_domain='example.com'\nntp_hosts='10.0.2.200'\nswap='0.25x'\n";
    let offer = offer(bed, &networking(bed, "cn-of-booter"), node_config);
    let console = power_on(bed, &offer, "")?;
    bed.booted()?;
    vm::sound(bed)?;
    named(&console, &["triton: the root has the hash that came with it"])?;
    let said = console.said()?;
    ensure!(!said.contains("does not have the hash") && !said.contains("without a hash"), "a right hash was complained of");

    let words = bed.run("cat /proc/cmdline")?;
    ensure!(words.contains("fetch=http://") && !words.contains("dhcp-all-nics"), "it did not boot from the network: {words}");
    ensure!(bed.run("hostname")?.trim() == "cn-of-booter", "the name is not networking.json's");
    let admin = address(bed, &format!("{ADDRESS}/24"))?;
    let vlan = address(bed, "10.77.128.5/22")?;
    let detail = bed.run(&format!("ip -d link show {vlan}"))?;
    ensure!(detail.contains("vlan protocol 802.1Q id 128") && detail.contains("mtu 1400"), "{vlan} is not on its VLAN: {detail}");
    let routes = bed.run("ip route show 10.99.0.0/16")?;
    ensure!(routes.contains(&format!("via 10.0.2.2 dev {admin}")), "the route of networking.json: {routes}");
    let kept = bed.run("cat /usr/triton/config/node.config")?;
    ensure!(kept == node_config, "node.config is not the boot server's: {kept}");
    let place = bed.run("readlink -f /usr/triton/config; stat -c %a /usr/triton/config/node.config")?;
    ensure!(place == "/opt/triton/config\n600\n", "node.config is to be kept on the pool, for root only: {place}");
    ensure!(bed.run("grep -r 10.0.2.200 /etc/chrony /run/chrony* 2>/dev/null || true")?.contains("10.0.2.200"), "the time server");
    let sysinfo: Value = serde_json::from_str(&bed.run("sysinfo")?)?;
    ensure!(sysinfo["Admin IP"] == ADDRESS && sysinfo["Hostname"] == "cn-of-booter", "sysinfo differs: {sysinfo}");
    ensure!(sysinfo["Boot Parameters"]["rabbitmq"] == "guest:guest:10.0.2.200:5672", "sysinfo has not the broker");
    bed.cut()
}

fn bad(bed: &mut Bed) -> Result<()> {
    let mut networking = networking(bed, "cn-of-bad-input");
    let vnic = |mac: &str, tag: &str, vlan: u32, ip: &str| json!({"mac": mac, "nic_tag": tag, "vlan_id": vlan, "ip": ip, "netmask": "255.255.255.0"});
    let wire = qemu::mac(1, bed.place().number);
    if let Some(list) = networking["vnics"].as_array_mut() {
        list.push(vnic("90:b8:d0:00:00:01", "nobody_s", 0, "10.78.1.5"));
        list.push(vnic(&wire, "external", 0, "10.78.2.5"));
        list.push(vnic("90:b8:d0:00:00:02", "external", 4095, "10.78.3.5"));
    }
    // Right as far as it goes, and much that is not.
    let node_config = "\u{0}\u{7f}junk\n=x\nntp_hosts='10.0.2.201\"\nroot_shadow='$(reboot)'\ndatacenter_name='netboot'\n";
    let offer = Offer { hash: None, root_hash: Some("0".repeat(40)), ..offer(bed, &networking, node_config) };
    // The other form of ip=, which Debian's own initrd would need.
    let console = power_on(bed, &offer, "none")?;
    bed.booted()?;
    vm::sound(bed)?;
    named(
        &console,
        &[
            "but its hash file says \"0000000000000000000000000000000000000000\": it is used nevertheless",
            "networking.json came without a hash",
            "90:b8:d0:00:00:01 is on the unknown nic tag nobody_s",
            &format!("the MAC address {wire} is used before"),
            "4095 is no VLAN",
            "root_shadow is no password hash",
        ],
    )?;
    // The rest is as it should be.
    ensure!(bed.run("hostname")?.trim() == "cn-of-bad-input", "the name");
    address(bed, &format!("{ADDRESS}/24"))?;
    address(bed, "10.77.128.5/22")?;
    let addresses = bed.run("ip -4 -o addr show")?;
    ensure!(!addresses.contains("10.78."), "what is wrong was configured nevertheless: {addresses}");
    bed.cut()
}

fn useless(bed: &mut Bed) -> Result<()> {
    let whole = offer(bed, &networking(bed, "cn-that-is-not"), "");
    // Half of a file, with the hash of the whole.
    let torn = whole.networking.as_ref().map(|bytes| bytes[..bytes.len() / 2].to_vec());
    let offer = Offer { networking: torn, node_config: b"<html>404 Not Found</html>\n".to_vec(), ..whole };
    let console = power_on(bed, &offer, "")?;
    bed.booted()?;
    vm::sound(bed)?;
    named(&console, &["does not have the hash that came with it", "networking.json is no JSON object", "node.config has no setting"])?;
    // What the node was told before holds.
    ensure!(bed.run("hostname")?.trim() == "cn-of-bad-input", "the node's own copy is not used");
    address(bed, &format!("{ADDRESS}/24"))?;
    ensure!(bed.run("cat /usr/triton/config/node.config")?.contains("datacenter_name='netboot'"), "the node's own node.config is gone");
    bed.cut()
}

fn console_only(bed: &mut Bed) -> Result<()> {
    // Not an empty file: iPXE moves modules about before it starts the kernel, and one without a byte keeps it at that for ever.
    let mut offer = offer(bed, &json!({}), "\n");
    (offer.networking, offer.hash) = (Some(b"[]".to_vec()), Some(sha1(b"[]")));
    offer.arguments.push(("noimport".to_owned(), "true".to_owned()));
    let console = power_on(bed, &offer, "")?;
    console.wait_for("login:", bed.within(BOOT)?)?;
    named(&console, &["networking.json is no JSON object"])?;
    console.type_line("root")?;
    std::thread::sleep(Duration::from_secs(10));
    console.type_line("echo words of $(whoami); zpool list; systemctl is-system-running --wait")?;
    console.wait_for("words of root", bed.within(Duration::from_secs(60))?)?;
    console.wait_for("no pools available", bed.within(Duration::from_secs(60))?)?;
    bed.cut()
}
