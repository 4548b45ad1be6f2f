//! A node that boots without its pool: nothing may take an empty list for the truth (invariant 1).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{super::bed::Bed, vm};
use crate::{platform, workspace};

const VMAPI: &str = "127.0.0.1:8082";
const CONTROL: &str = "127.0.0.1:8083";

/// VMAPI knows an instance here; vm-agent starts without a pool, asks VMAPI, and reports nothing; vmadm says what is wrong.
pub fn no_pool(bed: &mut Bed) -> Result<()> {
    vm::with_image(bed)?;
    let image = vm::image(bed)?;
    let uuid = vm::create(bed, &vm::payload(&image, 5, true))?;
    let known: Value = serde_json::from_str(&bed.run(&format!("vmadm get {uuid}"))?)?;
    bed.run("sync")?;
    bed.cut()?;
    bed.boot("noimport=true")?;
    ensure!(bed.run("zpool list -H -o name")?.trim().is_empty(), "the pool was imported");

    for tool in ["vmadm list", "vmadm lookup", &format!("vmadm get {uuid}"), "imgadm list"] {
        let said = bed.try_run(tool)?;
        ensure!(!said.success, "`{tool}` took a node without a pool for one without instances: {}", said.text);
        ensure!(!said.text.contains("No such zone"), "`{tool}` denies that the instance exists: {}", said.text);
    }

    // The pool had the configuration too: the agent gets one that leads to a VMAPI that knows the instance.
    let headnode = platform::stripped(&workspace::target_folder()?.join("debug/headnode"), &platform::stripped_folder("debug")?)?;
    bed.push(&[headnode], "/root/bed")?;
    let config = json!({"vmapi_url": format!("http://{VMAPI}"), "no_rabbit": true});
    bed.run(&format!(
        "set -e; mkdir -p /root/bed/images /opt/smartdc/agents/etc; systemd-run -q --unit bed-headnode /root/bed/headnode --images /root/bed/images; \
         echo '{config}' >/opt/smartdc/agents/etc/vm-agent.config.json"
    ))?;
    bed.until("VMAPI answers", &format!("curl -sf http://{VMAPI}/ping"), Duration::from_secs(60))?;
    let put = format!("curl -sf -X PUT -H 'content-type: application/json' -d @- http://{VMAPI}/vms/{uuid} <<'OBJECT'\n{known}\nOBJECT");
    bed.run(&put).context("VMAPI could not be told of the instance")?;
    bed.run(&format!("curl -sf -X DELETE http://{CONTROL}/record"))?;
    bed.run("systemctl start triton-vm-agent")?;
    let asked = "journalctl -u triton-vm-agent --no-pager | grep 'cannot be compared yet'";
    bed.until("vm-agent looked and did not know the instances", asked, Duration::from_secs(120))?;
    let twice = format!("[ $({asked} | wc -l) -ge 3 ]");
    bed.until("it looked again", &twice, Duration::from_secs(120))?;
    let record = bed.run(&format!("curl -sf http://{CONTROL}/record"))?;
    ensure!(!record.contains("PUT"), "something was reported: {record}");
    let state = bed.run(&format!("curl -sf http://{VMAPI}/vms/{uuid} | jq -r .state"))?;
    ensure!(state.trim() == "running", "VMAPI has the instance as {state}");
    let units = bed.run("systemctl show -p NRestarts --value triton-vm-agent")?;
    ensure!(units.trim() == "0", "the agent was started {units} times more");

    // The pool comes back with the next boot, and the instance with it.
    bed.cut()?;
    bed.boot("")?;
    vm::sound(bed)?;
    vm::await_state(bed, &uuid, "running")
}
