//! The node's own firewall, `platform/overlay/usr/triton/bin/host-firewall`, in a network namespace of its own: who reaches the
//! node's services, by which link and from which address.
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Two networks with a host each, `admin` and `outside`, and services on the ports of the node's agents. Namespaces and mounts end
/// with the script, and so does everything in them.
const WORLD: &str = r#"set -eu
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir /run/netns
ip link set lo up
network() {
    ip netns add "$1"
    ip link add "$1" type veth peer name inside netns "$1"
    ip addr add "$2.1/24" dev "$1"
    ip link set "$1" up
    ip -n "$1" addr add "$2.2/24" dev inside
    ip -n "$1" link set inside up
    ip -n "$1" route add default via "$2.1"
}
network admin 10.0.0
network outside 192.168.9
serve() { setpriv --pdeathsig KILL busybox nc -ll -p "$1" -e echo served & }
for port in 22 2021 5309 9163; do serve "$port"; done
ip netns exec outside setpriv --pdeathsig KILL busybox nc -ll -p 80 -e echo answered &
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
sleep 1
# from NETWORK ADDRESS PORT [words for nc]
from() {
    network="$1" address="$2" port="$3"
    shift 3
    ip netns exec "$network" busybox nc -w 2 "$@" "$address" "$port" </dev/null 2>/dev/null || echo refused
}
say() { echo "$1: $(eval "$2")"; }
"#;

/// A script of the platform: this clone's or, on a booted node, the node's own.
fn of_platform(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../platform/overlay/usr/triton/bin").join(name);
    if here.exists() { here } else { Path::new("/usr/triton/bin").join(name) }
}

/// What the world says, line by line, with these files of the node.
fn world(files: &[(&str, &str)], script: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let firewall = of_platform("host-firewall");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "sh", "-c", &format!("{WORLD}{script}")]);
    command.env("TRITON_ROOT", root.path()).env("FIREWALL", firewall).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

const NETWORKS: (&str, &str) =
    ("etc/triton/admin-networks", "# comment\nlink admin\nnetwork 10.0.0.0/24\nnetwork 10.3.0.0/16\nnetwork fd00::/64\n");

#[test]
fn only_the_admin_network_reaches_the_nodes_services() {
    let said = world(
        &[NETWORKS],
        r#"say before 'from outside 192.168.9.1 5309'
sh "$FIREWALL"
for port in 22 2021 5309 9163; do say "admin $port" "from admin 10.0.0.1 $port"; done
for port in 22 2021 5309 9163; do say "outside $port" "from outside 10.0.0.1 $port; from outside 192.168.9.1 $port"; done
# An address of the admin network that comes by the wrong link, and a wrong one by the right link.
ip -n outside addr add 10.3.0.7/32 dev inside
ip route add 10.3.0.7/32 dev outside
say spoofed 'from outside 192.168.9.1 5309 -s 10.3.0.7'
ip -n admin addr add 172.16.0.7/32 dev inside
ip route add 172.16.0.7/32 dev admin
say stranger 'from admin 10.0.0.1 5309 -s 172.16.0.7'
say own 'busybox nc -w 2 192.168.9.2 80 </dev/null'
say loopback 'busybox nc -w 2 127.0.0.1 5309 </dev/null'
nft list counter inet triton_host refused | grep -q 'packets 0 ' && echo 'nothing was counted' || true
"#,
    );
    let mut expected = vec!["before: served".to_owned()];
    expected.extend([22, 2021, 5309, 9163].map(|port| format!("admin {port}: served")));
    expected.extend([22, 2021, 5309, 9163].map(|port| format!("outside {port}: refused\nrefused")));
    expected.extend(["spoofed: refused", "stranger: refused", "own: answered", "loopback: served"].map(str::to_owned));
    assert_eq!(said.trim(), expected.join("\n"));
}

/// net-agent section 17
#[test]
fn frames_of_overlay_networks_come_by_the_underlay_to_its_address_or_not_at_all() {
    let files = [(NETWORKS.0, "link admin\nnetwork 10.0.0.0/24\nunderlay outside 192.168.9.1 4789\nunderlay outside fd09::1 4790\n")];
    let script = r#"sh "$FIREWALL"
frame() { ip netns exec "$1" bash -c "echo frame >/dev/udp/$2/$3" 2>/dev/null || true; }
refused() { nft list counter inet triton_host refused | grep -o 'packets [0-9]*'; }
frame admin 10.0.0.1 4789
frame outside 10.0.0.1 4789
frame admin 192.168.9.1 4789
refused
frame outside 192.168.9.1 4789
refused
frame outside 192.168.9.1 4790
refused
nft list chain inet triton_host input | grep -o 'iifname "outside" ip6 daddr fd09::1 udp dport 4790 accept'
"#;
    let said = world(&files, script);
    // From the admin network, to another address, and by another link; not the one by the underlay; and at the port of another.
    assert_eq!(said.trim(), "packets 3\npackets 3\npackets 4\niifname \"outside\" ip6 daddr fd09::1 udp dport 4790 accept");
    let without = world(&[NETWORKS], "sh \"$FIREWALL\"; nft list chain inet triton_host input | grep -o 'udp dport 4789 .* drop'");
    assert!(without.contains("refused") && without.contains("drop"), "{without}");
}

#[test]
fn a_lease_of_the_admin_link_counts_and_one_of_another_link_does_not() {
    let said = world(
        &[("etc/triton/admin-networks", "link admin\n")],
        r#"mkdir -p "$TRITON_ROOT/run/systemd/netif/leases"
lease() { printf 'ADDRESS=%s\nNETMASK=255.255.255.0\n' "$2" >"$TRITON_ROOT/run/systemd/netif/leases/$(cat "/sys/class/net/$1/ifindex")"; }
sh "$FIREWALL"
say none 'from admin 10.0.0.1 5309'
lease admin 10.0.0.1
lease outside 192.168.9.1
sh "$FIREWALL"
say admin 'from admin 10.0.0.1 5309'
say outside 'from outside 192.168.9.1 5309'
rm "$TRITON_ROOT/etc/triton/admin-networks"
sh "$FIREWALL"
say unconfigured 'from outside 192.168.9.1 5309'
"#,
    );
    assert_eq!(said.trim(), "none: refused\nadmin: served\noutside: refused\nunconfigured: served");
}

/// ruling 9
#[test]
fn what_others_did_to_the_table_is_undone_and_a_table_that_is_right_stays() {
    let said = world(
        &[NETWORKS],
        r#"host() { nft -a list chain inet triton_host input | sed -n 's/.*input.*# handle //p'; }
keep() { sh "$FIREWALL" keep; }
say first keep
own="$(nft -s list table inet triton_host)"
ip netns exec outside busybox nc -w 1 192.168.9.1 5309 </dev/null 2>/dev/null || true
say counted 'nft list counter inet triton_host refused | grep -c "packets [1-9]"'
handle="$(host)"
say right keep
[ "$handle" = "$(host)" ] && echo 'it stays, and so do its numbers'
undone() {
    eval "$1"
    say "$1" keep
    [ "$own" = "$(nft -s list table inet triton_host)" ] || echo 'it is another one'
    say right keep
}
undone 'nft flush ruleset'
undone 'nft flush chain inet triton_host input'
undone 'nft insert rule inet triton_host input accept'
undone 'nft add element inet triton_host admin_links { outside }'
undone 'nft delete element inet triton_host admin4 { 10.3.0.0/16 }'
undone 'rm "$TRITON_ROOT/run/triton/host-firewall"'
# Whoever changes the table by the configuration is right.
echo 'network 192.168.9.0/24' >>"$TRITON_ROOT/etc/triton/admin-networks"
sh "$FIREWALL"
say right keep
# Somebody else's words: nothing is made, and that is said.
echo 'network nonsense' >>"$TRITON_ROOT/etc/triton/admin-networks"
sh "$FIREWALL" 2>/dev/null || echo failed
say right keep
# Where nothing can be kept, there is a firewall all the same; whoever keeps it is told.
rm -r "$TRITON_ROOT/run/triton"
echo >"$TRITON_ROOT/run/triton"
sed -i /nonsense/d "$TRITON_ROOT/etc/triton/admin-networks"
nft flush ruleset
sh "$FIREWALL" 2>/dev/null && nft list table inet triton_host | grep -c 10.0.0.0/24
sh "$FIREWALL" keep 2>/dev/null || echo 'not kept'
"#,
    );
    let mut expected = vec!["first: made anew", "counted: 1", "right: ", "it stays, and so do its numbers"];
    let undone = [
        "nft flush ruleset: made anew",
        "nft flush chain inet triton_host input: made anew",
        "nft insert rule inet triton_host input accept: made anew",
        "nft add element inet triton_host admin_links { outside }: made anew",
        "nft delete element inet triton_host admin4 { 10.3.0.0/16 }: made anew",
        "rm \"$TRITON_ROOT/run/triton/host-firewall\": made anew",
    ];
    expected.extend(undone.iter().flat_map(|line| [*line, "right: "]));
    expected.extend(["right: ", "failed", "right: ", "1", "not kept"]);
    assert_eq!(said.trim_end(), expected.join("\n").trim_end());
}

/// A lease that comes while the one before is taken is taken too: systemd tells of it only once.
#[test]
fn kernel_leases_are_taken_until_nothing_changes() {
    let root = tempfile::tempdir().unwrap();
    let leases = root.path().join("run/systemd/netif/leases");
    fs::create_dir_all(&leases).unwrap();
    let reload = root.path().join("reload");
    fs::write(&reload, "echo reloaded; [ -e \"$1/3\" ] || echo ADDRESS=10.0.0.2 >\"$1/3\"\n").unwrap();
    let script = of_platform("host-firewall-leases");
    let mut command = Command::new("sh");
    command.arg(script).env("TRITON_ROOT", root.path()).env("TRITON_SETTLE", "0");
    let output = command.env("TRITON_RELOAD", format!("sh {} {}", reload.display(), leases.display())).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "reloaded\nreloaded\n");
}
