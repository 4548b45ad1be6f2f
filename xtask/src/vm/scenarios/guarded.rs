//! What keeps the node its own: its firewall, the guests' AppArmor profile, the limit of ZFS' memory, the scrub of its pool.

use std::{
    io::Read,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    super::bed::Bed,
    vm,
    wire::{REFUSED, admitted},
};

/// A network that is not the admin one, with a host on it; `reach ADDRESS PORT` says what a service answers there.
const OUTSIDE: &str = r"set -e
ip netns add outside
ip link add outside type veth peer name inside netns outside
ip addr add 198.51.100.1/24 dev outside
ip link set outside up
ip -n outside addr add 198.51.100.2/24 dev inside
ip -n outside link set inside up
ip -n outside route add default via 198.51.100.1
";

/// All of it, on a node that booted with its networks.
pub fn node(bed: &mut Bed) -> Result<()> {
    vm::with_image(bed)?;
    // The networks of the configuration are there from a boot on.
    bed.reboot()?;
    vm::sound(bed)?;
    firewall(bed).context("the node's firewall")?;
    let image = vm::image(bed)?;
    let guest = vm::create(bed, &vm::payload(&image, 5, true))?;
    vm::await_state(bed, &guest, "running")?;
    guests(bed, &guest).context("guests and the node")?;
    confined(bed, &guest).context("guests under AppArmor")?;
    pool(bed).context("memory and scrub")
}

fn firewall(bed: &mut Bed) -> Result<()> {
    let rules = bed.run("nft list table inet triton_host")?;
    ensure!(rules.contains("10.0.2.0/24"), "the lease's network is not the admin network: {rules}");
    bed.run("systemd-run -q --unit bed-agent busybox nc -ll -p 5309 -e echo served")?;
    let port = bed.state().agent_port;
    bed.until("the service listens", "ss -ltn | grep -q :5309", Duration::from_secs(30))?;
    let mut said = String::new();
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).context("from the admin network")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.read_to_string(&mut said).context("from the admin network")?;
    ensure!(said == "served\n", "from the admin network: {said}");

    bed.run(OUTSIDE)?;
    let reach = |address: &str, port: u16| format!("ip netns exec outside busybox nc -w 5 {address} {port} </dev/null 2>&1 || true");
    let admin = bed.run("sysinfo | jq -r '.[\"Admin IP\"]'")?.trim().to_owned();
    for address in ["198.51.100.1", &admin] {
        for port in [22, 5309] {
            let said = bed.run(&reach(address, port))?;
            ensure!(!said.contains("SSH-") && !said.contains("served"), "{address}:{port} answered one who is outside: {said}");
        }
    }
    // The other half of the proof: what kept it away is the firewall.
    bed.run(&admitted("outside", "198.51.100.0/24"))?;
    let said = bed.run(&reach("198.51.100.1", 5309))?;
    ensure!(said.contains("served"), "not even as a part of the admin network: {said}");
    bed.run(REFUSED)?;
    let said = bed.run(&reach("198.51.100.1", 5309))?;
    ensure!(!said.contains("served"), "who is no longer admitted is served: {said}");
    // Ruling 9: what somebody does by hand is undone, and counted.
    let is = "[ \"$(nft -s list table inet triton_host)\" = \"$(cat /run/triton/host-firewall)\" ]";
    let by_hand =
        ["nft flush ruleset", "nft flush chain inet triton_host input", "nft 'add element inet triton_host admin_links { outside }'"];
    for (count, by_hand) in (1..).zip(by_hand) {
        bed.run(by_hand)?;
        let counted = format!("net-agent status -j | jq -e '.host_firewall_repairs >= {count}' && {is}");
        bed.until(&format!("the node's firewall is back after `{by_hand}`"), &counted, Duration::from_secs(30))?;
        let said = bed.run(&reach("198.51.100.1", 5309))?;
        ensure!(!said.contains("served"), "after `{by_hand}` one who is outside is served: {said}");
    }
    Ok(())
}

/// A guest reaches nothing of the node, not even where the node's firewall would let it.
fn guests(bed: &mut Bed, guest: &str) -> Result<()> {
    // The node gets an address in the guest's network, and that network may do everything: the guard alone is left.
    let script = "set -e; name=$(ip -o link show | sed -n 's/^[0-9]*: \\(vt[^@:]*\\).*/\\1/p' | head -n 1); \
                  bridge=$(basename $(readlink /sys/class/net/$name/master)); ip addr add 10.64.0.1/24 dev $bridge; \
                  echo $bridge";
    let bridge = bed.run(script)?.trim().to_owned();
    bed.run(&admitted(&bridge, "10.64.0.0/24"))?;
    let said = bed.run(&format!(
        "pid=$(vmadm get {guest} | jq .pid); nsenter -t $pid -n busybox nc -w 5 10.64.0.1 5309 </dev/null 2>&1 || true; \
         nsenter -t $pid -n ping -c 2 -W 2 10.64.0.1 2>&1 || true"
    ))?;
    ensure!(!said.contains("served") && said.contains("100% packet loss"), "a guest reaches the node: {said}");
    bed.run(&format!("ip addr del 10.64.0.1/24 dev {bridge}; {REFUSED}")).map(drop)
}

fn confined(bed: &mut Bed, guest: &str) -> Result<()> {
    let said = bed.run(&format!("cat /proc/$(vmadm get {guest} | jq .pid)/attr/current"))?;
    ensure!(said.trim() == "triton-instance (enforce)", "the guest's init runs under: {said}");
    // As the node's root inside of the guest's profile and root: identities would keep the guest's own root away before.
    let confined = |script: &str| format!("aa=/proc/self/attr/exec; echo 'exec triton-instance' >$aa && exec /bin/sh -c '{script}'");
    for path in
        ["/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/core_pattern", "/sys/module/zfs/parameters/zfs_arc_max"]
    {
        let said = bed.try_run(&confined(&format!("echo h >>{path}")))?;
        ensure!(!said.success && said.text.contains("ermission denied"), "{path} can be written: {}", said.text);
    }
    let said = bed.try_run(&confined("head -c 1 /proc/kcore"))?;
    ensure!(!said.success, "the kernel's memory can be read");
    let said = bed.try_run(&confined("kill -0 1"))?;
    ensure!(!said.success, "the node's processes can be signalled");
    bed.run(&confined("echo x >/tmp/under-apparmor && cat /tmp/under-apparmor"))?;
    // What a guest needs goes on: mounts, its own sysctls, its processes.
    vm::guest(bed, guest, "mount -t tmpfs t /mnt && umount /mnt && echo 1 >/proc/sys/net/ipv4/ip_forward && ps && kill -0 1").map(drop)
}

fn pool(bed: &mut Bed) -> Result<()> {
    let said =
        bed.run("echo $(cat /sys/module/zfs/parameters/zfs_arc_max) $(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)")?;
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    ensure!(
        matches!(numbers.as_slice(), [limit, total] if *limit == total / 2 * 1024),
        "the limit of the ARC, bytes, and memory, KiB: {said}"
    );
    ensure!(bed.run("systemctl is-active triton-scrub.timer || true")?.trim() == "active", "no timer");
    bed.run("systemctl start triton-scrub")?;
    bed.until("the pool was read", "zpool status zones | grep -q 'scrub repaired 0B.*with 0 errors'", Duration::from_secs(120))?;
    vm::sound(bed)
}
