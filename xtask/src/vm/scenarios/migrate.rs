//! An instance that moves between two nodes by `machine_migrate`, as VMAPI asks for it: streams of ZFS from agent to agent.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    super::{bed::Bed, node::BED},
    vm, wire,
};

/// Where the nodes' agents are for each other: on a VLAN of the wire that no guest is on.
const ADDRESSES: [&str; 2] = ["10.65.0.1", "10.65.0.2"];
const VLAN: u16 = 77;
const MIB: u64 = 1 << 20;

/// As much of CNAPI as an agent needs before it takes tasks: it says "well" to everything.
const CNAPI: &str = r#"#!/bin/sh
length=0
while read -r line; do
    case $line in
    [Cc]ontent-[Ll]ength:*) length=$(echo "${line#*:}" | tr -d ' \r') ;;
    "$(printf '\r')" | '') break ;;
    esac
done
head -c "$length" >/dev/null
printf 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}'
"#;

/// One synchronisation as VMAPI does it, from the source's side: both ends are opened, the source's is told of the target's, and all that
/// it says is printed. `task` gives one task to an agent.
const SYNC: &str = r#"set -e
task() {
    curl -sS -m 300 -H 'content-type: application/json' "http://$1:5309/tasks" \
        -d "{\"task\": \"machine_migrate\", \"params\": {\"action\": \"$2\", \"vm_uuid\": \"$uuid\"}}"
}
sync() {
    to=$(task $there receive | jq -e .port)
    from=$(task $here sync | jq -e .port)
    exec 3<>/dev/tcp/$here/$from
    echo "{\"command\": \"sync\", \"eventId\": 1, \"host\": \"$there\", \"port\": $to}" >&3
    while read -r line <&3; do
        echo "$line"
        case $line in *progress*) ;; *) break ;; esac
    done
    exec 3>&-
}
"#;

/// What both nodes need before a boot: an address of the node's own on the wire.
pub fn prepare(bed: &mut Bed, end: usize) -> Result<()> {
    wire::address(bed, &format!("02:08:20:00:65:0{}", end + 1), VLAN, ADDRESSES[end], ".")?;
    let config = r#"{"cnapi": {"url": "http://127.0.0.1:8080"}, "no_rabbit": true}"#;
    bed.run(&format!("echo '{config}' >/opt/smartdc/agents/etc/cn-agent.config.json")).map(drop).context("could not prepare a migration")
}

/// Starts cn-agent at the node's address on the wire, which becomes a part of the admin network.
fn agent(bed: &mut Bed, end: usize) -> Result<()> {
    let address = ADDRESSES[end];
    wire::admit(bed, address, "10.65.0.0/24")?;
    bed.run(&format!(
        "set -e; systemctl stop triton-cn-agent
        cat >{BED}/cnapi.sh <<'END'\n{CNAPI}END\nchmod 755 {BED}/cnapi.sh
        systemd-run -q --unit bed-cnapi busybox nc -ll -p 8080 -e {BED}/cnapi.sh
        systemd-run -q --unit bed-agent -E ADMIN_IP={address} /usr/triton/bin/cn-agent"
    ))?;
    let task = "-H 'content-type: application/json' -d '{\"task\": \"nop\", \"params\": {}}'";
    bed.until("cn-agent takes tasks", &format!("curl -sS -f -m 20 {task} http://{address}:5309/tasks"), Duration::from_secs(120)).map(drop)
}

/// Moves one with snapshots and a dataset that its guest manages: all of it, then what changed, then over a power cut of the target.
pub fn by_streams(first: &mut Bed, second: &mut Bed) -> Result<()> {
    agent(first, 0)?;
    agent(second, 1)?;
    let image = vm::image(first)?;
    let mut payload = vm::payload(&image, 7, true);
    payload["delegate_dataset"] = json!(true);
    let uuid = vm::create(first, &payload)?;
    let own = format!("zones/{uuid}/data");
    vm::guest(
        first,
        &uuid,
        "mkdir /data; echo first >/data/file; chown 33:44 /data/file; dd if=/dev/urandom of=/data/big bs=1M count=8 2>&1",
    )?;
    first.run(&format!(
        "set -e; pid=$(vmadm get {uuid} | jq .pid); inside() {{ nsenter -t $pid -U -S 0 -G 0 -- \"$@\"; }}
        inside zfs create -o mountpoint=legacy {own}/inner; nsenter -t $pid -m -u -n -p -i -U -S 0 -G 0 -- /bin/sh -c \
        'mkdir -p /mnt && mount -t zfs {own}/inner /mnt && echo kept >/mnt/file'; inside zfs snapshot {own}@mine; vmadm stop {uuid}"
    ))?;
    let sync = |bed: &mut Bed| -> Result<(u64, Value)> {
        let said = bed.run(&format!("{SYNC}uuid={uuid} here={} there={}\nsync", ADDRESSES[0], ADDRESSES[1]))?;
        let lines: Vec<Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>().with_context(|| said.clone())?;
        let moved = lines.iter().filter_map(|line| line["current_progress"].as_u64()).max().unwrap_or_default();
        Ok((moved, lines.last().cloned().unwrap_or_default()))
    };
    let done = json!({"type": "response", "command": "sync", "eventId": 1});

    // The image was unpacked on each node: to ZFS those are two data sets, so that all of the instance is moved the first time.
    let (whole, answer) = sync(first)?;
    ensure!(answer == done, "the first synchronisation: {answer}");
    let snapshots = second.run(&format!("zfs list -H -o name -t snapshot -r zones/{uuid}"))?;
    ensure!(snapshots.contains("@vm-migration-"), "it was not moved by streams of ZFS: {snapshots}");
    ensure!(vm::property(second, &uuid, ".state")? == "stopped", "the copy is not there");
    // A change, and no more than it.
    first.run(&format!("vmadm start {uuid}"))?;
    vm::guest(first, &uuid, "echo second >/data/file")?;
    first.run(&format!("vmadm stop {uuid}"))?;
    let (changed, answer) = sync(first)?;
    ensure!(answer == done, "the second synchronisation: {answer}");
    ensure!(whole > 8 * MIB && changed < 2 * MIB, "first {whole} bytes were moved, then {changed} for a changed line");

    cut(first, second, &uuid).context("the target's power goes during a synchronisation")?;
    let (_, answer) = sync(first)?;
    ensure!(answer == done, "the synchronisation after the power cut: {answer}");

    // Switched, as VMAPI does it.
    let set = |bed: &mut Bed, end: usize, action: &str, value: &str| -> Result<()> {
        let params = json!({"task": "machine_migrate", "params": {"action": action, "vm_uuid": uuid, "value": value}});
        let url = format!("http://{}:5309/tasks", ADDRESSES[end]);
        let said = bed.run(&format!("curl -sS -m 60 -H 'content-type: application/json' {url} -d '{params}'"))?;
        ensure!(said.trim() == "{}", "{action}: {said}");
        Ok(())
    };
    set(first, 0, "set-do-not-inventory", "true")?;
    set(second, 1, "set-do-not-inventory", "false")?;
    for action in ["setup-filesystem", "remove-sync-snapshots"] {
        set(second, 1, action, "")?;
    }
    second.run(&format!("vmadm start {uuid}"))?;
    let said = vm::guest(
        second,
        &uuid,
        &format!("stat -c '%u:%g' /data/file; cat /data/file; stat -c %s /data/big; mount -t zfs {own}/inner /mnt && cat /mnt/file"),
    )?;
    ensure!(said == "33:44\nsecond\n8388608\nkept\n", "what the guest sees on the other node: {said}");
    ensure!(second.run(&format!("zfs list -H -o name {own}@mine"))?.contains("@mine"), "the guest's snapshot did not come along");
    for bed in [&mut *first, &mut *second] {
        bed.run(&format!("vmadm delete {uuid}"))?;
        let left = bed.run("zfs list -H -o name -t all -r zones")?;
        ensure!(!left.contains(&uuid) && !left.contains("vm-migration"), "it left: {left}");
        bed.run(&format!("systemctl stop bed-agent bed-cnapi; {}", wire::REFUSED))?;
    }
    Ok(())
}

/// The source says that it failed and is as it was; the target, booted, is sound and has either the copy of before or none.
fn cut(first: &mut Bed, second: &mut Bed, uuid: &str) -> Result<()> {
    first.run(&format!("vmadm start {uuid}"))?;
    vm::guest(first, uuid, "dd if=/dev/urandom of=/data/more bs=1M count=96 2>&1")?;
    first.run(&format!("vmadm stop {uuid}"))?;
    let unit = "bed-sync";
    let script = format!("{SYNC}uuid={uuid} here={} there={}\nsync", ADDRESSES[0], ADDRESSES[1]);
    first.run(&format!(
        "cat >/run/sync.sh <<'END'\n{script}\nEND\nsystemd-run -q --unit {unit} -p StandardOutput=file:/run/sync.out bash /run/sync.sh"
    ))?;
    first.until("the stream flows", "grep -q progress /run/sync.out", Duration::from_secs(120))?;
    second.cut()?;
    // Its end is known by the connection's: TCP gives up, or the machine that is back knows nothing of it.
    second.boot("")?;
    agent(second, 1)?;
    first.until("the source gives up", &format!("! systemctl is-active -q {unit}"), Duration::from_secs(600))?;
    let said = first.run("tail -n 1 /run/sync.out")?;
    ensure!(said.contains("\"error\""), "the source said: {said}");
    ensure!(vm::property(first, uuid, ".state")? == "stopped", "the source is not as it was");
    vm::sound(second)?;
    let copy = second.run(&format!("vmadm list -H -o state uuid={uuid}; zfs list -H -o name -t all | grep -c {uuid} || true"))?;
    ensure!(copy.starts_with("stopped"), "the target lost the copy that it had: {copy}");
    Ok(())
}
