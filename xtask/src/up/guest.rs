//! Instances as the operator's tools and the guests themselves show them.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use triton_cgroup::Cgroups;
use triton_files::{Identity, Layout};
use triton_types::InstanceUuid;

use super::{programs, site, state::Instance};
use crate::run::answer;

/// `vmadm` of this node.
pub fn vmadm(layout: &Layout) -> Command {
    let mut command = Command::new(programs::folder(layout).join("vmadm"));
    command.arg("--root").arg(layout.root());
    command
}

/// The state of every instance on the node.
pub fn states(layout: &Layout) -> Result<BTreeMap<InstanceUuid, String>> {
    read_states(&answer(vmadm(layout).args(["lookup", "-j"]))?)
}

/// Reads what `vmadm lookup -j` printed.
pub fn read_states(text: &str) -> Result<BTreeMap<InstanceUuid, String>> {
    let objects: Vec<Value> = serde_json::from_str(text).context("could not read the answer of vmadm lookup -j")?;
    objects
        .iter()
        .map(|object| {
            let uuid = object["uuid"].as_str().unwrap_or_default().parse()?;
            Ok((uuid, object["state"].as_str().unwrap_or_default().to_owned()))
        })
        .collect()
}

/// The instance's object.
pub fn object(layout: &Layout, uuid: InstanceUuid) -> Result<Value> {
    let text = answer(vmadm(layout).args(["get", &uuid.to_string()]))?;
    serde_json::from_str(&text).context("could not read the answer of vmadm get")
}

/// Runs a shell script inside the guest, as its root, from all of its namespaces.
pub fn inside(pid: i64, script: &str) -> Result<String> {
    let target = pid.to_string();
    let namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--user", "--setuid", "0", "--setgid", "0"];
    let mut command = Command::new("nsenter");
    command.args(["--target", &target]).args(namespaces).args(["--", "/bin/sh", "-c", script]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    answer(&mut command)
}

/// Checks that a running guest is what was asked for; returns its init's pid.
pub fn verify(layout: &Layout, instance: &Instance, others: &[Instance]) -> Result<i64> {
    let check = || -> Result<i64> {
        let object = object(layout, instance.uuid)?;
        let state = object["state"].as_str().unwrap_or_default();
        ensure!(state == "running", "its state is {state:?}");
        let pid = object["pid"].as_i64().context("it has no pid")?;
        let said = |script: &str| inside(pid, script);
        let name = said("hostname")?;
        ensure!(name.trim() == instance.alias, "its host name is {:?}, not {:?}", name.trim(), instance.alias);
        let addresses = said("ip -4 addr show dev eth0")?;
        let wanted = format!("{}/{}", instance.address, site::PREFIX);
        ensure!(addresses.contains(&wanted), "eth0 has not {wanted} but: {}", addresses.trim());
        let routes = said("ip route")?;
        ensure!(routes.contains(&format!("default via {}", site::GATEWAY)), "it has no default route: {}", routes.trim());
        let resolvers = said("cat /etc/resolv.conf")?;
        for resolver in site::RESOLVERS {
            ensure!(resolvers.contains(&format!("nameserver {resolver}")), "it does not ask {resolver}: {}", resolvers.trim());
        }
        let ids = said("cat /proc/self/uid_map")?;
        let mapped: Vec<&str> = ids.split_whitespace().collect();
        ensure!(
            mapped.first() == Some(&"0") && mapped.get(1).is_some_and(|base| *base != "0"),
            "its root is the machine's root: {}",
            ids.trim()
        );
        let init = said("cat /proc/1/comm")?;
        ensure!(init.trim() == "init", "its first process is {:?}", init.trim());
        check_limits(layout, instance.uuid, &object)?;
        let told = said("/native/usr/sbin/mdata-get sdc:uuid")?;
        ensure!(told.trim() == instance.uuid.to_string(), "its metadata says that it is {:?}", told.trim());
        let neighbours = others.iter().filter(|other| other.uuid != instance.uuid).take(3).map(|other| other.address.clone());
        for address in neighbours.chain([site::GATEWAY.to_string()]) {
            if let Err(error) = said(&format!("ping -c 1 -W 5 {address}")) {
                bail!("it does not reach {address}: {error:#}");
            }
        }
        Ok(pid)
    };
    check().with_context(|| format!("the instance {} ({}) is not as it should be", instance.alias, instance.uuid))
}

/// Checks that the memory limit of the object is the one that the kernel holds, in whichever layout its control groups have.
fn check_limits(layout: &Layout, uuid: InstanceUuid, object: &Value) -> Result<()> {
    let wanted = object["max_physical_memory"].as_u64().context("it has no max_physical_memory")? << 20;
    let groups = Cgroups::probe().context("could not look at the control groups")?;
    let group = format!("{}/{uuid}/payload", Identity::load_or_create(layout)?.prefix);
    let held = groups.get(&group, "memory.max").or_else(|_| groups.get(&group, "memory.limit_in_bytes"));
    let held = held.context("the kernel holds no memory limit for it")?;
    ensure!(held.trim() == wanted.to_string(), "its memory limit is {}, not {wanted}", held.trim());
    Ok(())
}
