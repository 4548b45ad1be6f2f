//! `xtask up --vm`: the small data centre on a compute node of its own, booted from the platform image.
//!
//! The stand-in headnode runs on the node too, as a unit that its operator added, so that a reboot brings it back. Its services are
//! seen on loopback ports of this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use triton_types::{InstanceUuid, ProcessRef};

use super::{
    args::UpArgs,
    headnode::{self, Urls},
    provision, site,
    state::Instance,
};
use crate::{
    image,
    platform::{stripped, stripped_folder},
    say::Progress,
    vm::{self, Machine},
    workspace,
};

/// Steps beside those of the machine.
const STEPS: usize = 6;

/// The node's address on its admin network: the first that the machine's network gives.
const NODE: &str = "10.0.2.15";

/// Where the operator's own things are on the node.
const CUSTOM: &str = "/opt/custom";

/// Ports of CNAPI, IMGAPI, VMAPI, the control service, NAPI and FWAPI on the node.
const PORTS: [u16; 6] = [8080, 8081, 8082, 8083, 8084, 8085];

/// The proof that `up` asked for the machine, and what it made on it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Made {
    /// QEMU, to which the forwarded ports belong.
    process: Option<ProcessRef>,
    headnode: Option<Urls>,
    instances: Vec<Instance>,
}

impl Made {
    fn path(dir: &Path) -> PathBuf {
        dir.join("up.json")
    }

    fn load(dir: &Path) -> Result<Option<Self>> {
        Ok(triton_files::read_json(&Self::path(dir))?)
    }

    fn save(&self, dir: &Path) -> Result<()> {
        Ok(triton_files::write_json(&Self::path(dir), self, 0o600)?)
    }
}

/// True if `up --vm` made the machine in `dir`.
pub fn is_up(dir: &Path) -> bool {
    Made::path(dir).exists()
}

/// Brings it up, or back; returns what there is.
pub fn up(dir: &Path, args: &UpArgs) -> Result<Value> {
    let dir = std::path::absolute(dir)?;
    let mut progress = Progress::new(vm::STEPS + STEPS);
    let result = bring_up(&dir, args, &mut progress);
    progress.clear();
    result.with_context(|| format!("the step \"{}\" failed; the machine is left to be looked at with `cargo xtask vm`", progress.current()))
}

fn bring_up(dir: &Path, args: &UpArgs, progress: &mut Progress) -> Result<Value> {
    let fresh = !dir.exists();
    let machine = Machine::up(dir, args.release, progress)?;
    let mut made = Made::load(dir)?.unwrap_or_default();
    made.save(dir)?;

    progress.begin("image of the guests");
    let built = image::ensure(&image::cache_folder(), progress)?;
    progress.done(format_args!("{} ({})", built.uuid, if built.cached { "cached" } else { "built from Debian packages" }));

    progress.begin("stand-in headnode");
    let headnode = headnode_program(args.release, progress)?;
    install(&machine, &headnode, &built, dir, progress)?;
    if made.process != machine.process() || made.headnode.is_none() {
        made.headnode = Some(forward(&machine)?);
        made.process = machine.process();
        made.save(dir)?;
    }
    let urls = made.headnode.clone().context("the headnode has no address")?;
    progress.done(format_args!("{} (CNAPI)", urls.cnapi));

    progress.begin("agents");
    let sysinfo: Value = serde_json::from_str(&machine.run("sysinfo", progress)?).context("could not read sysinfo of the node")?;
    let server = sysinfo["UUID"].as_str().unwrap_or_default().parse().context("the node has no uuid")?;
    let failed = || {
        let state = machine.run("systemctl show -p ActiveState --value triton-cn-agent", &mut Progress::new(1)).unwrap_or_default();
        (state.trim() == "failed").then(|| "its unit failed: see `vm exec -- journalctl -u triton-cn-agent`".to_owned())
    };
    headnode::wait_for_node(&urls, server, failed, progress)?;
    progress.done(format_args!("server {server} is registered and placeable"));

    progress.begin("instances");
    for number in made.instances.len()..usize::from(args.instances) {
        made.instances.push(provision::plan(number));
    }
    made.save(dir)?;
    let (created, started) = provision::ensure(&states(&machine, progress)?, &urls, &made.instances, built.uuid, progress)?;
    progress.done(format_args!("{} in all, {created} provisioned, {started} started", made.instances.len()));

    progress.begin("a look from inside");
    for instance in &made.instances {
        progress.turn(&instance.alias);
        verify(&machine, instance, &made.instances, progress)?;
    }
    progress.done("host name, address, limit, user namespace, pings");
    let (ssh, agent) = machine.ports();
    let fresh = if fresh { "made" } else { "was there" };
    Ok(json!({
        "machine": dir, "fresh": fresh, "server_uuid": server, "ssh_port": ssh, "agent_port": agent, "headnode": urls,
        "image_uuid": built.uuid, "instances": made.instances, "list": machine.run("vmadm list", progress)?,
    }))
}

fn headnode_program(release: bool, progress: &mut Progress) -> Result<PathBuf> {
    let mut build = workspace::cargo();
    build.args(["build", "--locked", "--package", "headnode-standin", "--bin", "headnode"]);
    if release {
        build.arg("--release");
    }
    crate::run::succeed(build, Duration::from_secs(3600), progress).context("could not build the stand-in headnode")?;
    let kind = if release { "release" } else { "debug" };
    stripped(&workspace::target_folder()?.join(kind).join("headnode"), &stripped_folder(kind)?)
}

/// The unit of the stand-in.
fn unit() -> String {
    let named = ["cnapi", "imgapi", "vmapi", "control", "napi", "fwapi"].into_iter().zip(PORTS).chain([("fast", 2020)]);
    let services: String = named.map(|(name, port)| format!(" --{name} {NODE}:{port}")).collect();
    format!(
        "[Unit]\nDescription=Stand-in for a headnode\nAfter=network-online.target\nWants=network-online.target\n\n[Service]\n\
         ExecStart={CUSTOM}/headnode/headnode --images {CUSTOM}/headnode/images --db {CUSTOM}/headnode/headnode.sqlite --datacenter {}{services}\n\
         Restart=always\nRestartSec=2\n",
        site::DATACENTER
    )
}

/// Puts the stand-in and the agents' configuration where an operator and a headnode's setup would, and starts all.
fn install(machine: &Machine, headnode: &Path, image: &image::Built, dir: &Path, progress: &mut Progress) -> Result<()> {
    let staged = dir.join("staged");
    let _ = fs::remove_dir_all(&staged);
    let images = staged.join("custom/headnode/images");
    let (units, etc) = (staged.join("custom/systemd"), staged.join("smartdc/agents/etc"));
    for folder in [&images, &units, &etc] {
        fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    }
    fs::copy(headnode, staged.join("custom/headnode/headnode")).with_context(|| format!("could not copy {}", headnode.display()))?;
    fs::copy(&image.file, images.join(format!("{}.file", image.uuid)))
        .with_context(|| format!("could not copy {}", image.file.display()))?;
    triton_files::write_json(&images.join(format!("{}.imgmanifest", image.uuid)), &image.manifest, 0o644)?;
    triton_files::write_atomic(&units.join("triton-standin.service"), unit().as_bytes(), 0o644)?;
    let [cnapi, imgapi, vmapi] = [0, 1, 2].map(|at| format!("http://{NODE}:{}", PORTS[at]));
    let agents = [
        ("cn-agent.config.json", json!({"cnapi": {"url": cnapi}, "no_rabbit": true, "tasklogdir": "/var/log/cn-agent/logs"})),
        ("vm-agent.config.json", json!({"vmapi_url": vmapi, "no_rabbit": true})),
        ("firewaller.config.json", json!({"fwapi": {"url": format!("http://{NODE}:{}", PORTS[5])}, "vmapi": {"url": vmapi}})),
    ];
    for (name, value) in agents {
        triton_files::write_json(&etc.join(name), &value, 0o644)?;
    }
    // A running program cannot be written over.
    machine.run(&format!("systemctl stop triton-standin.service 2>/dev/null; rm -f {CUSTOM}/headnode/headnode; true"), progress)?;
    machine.push(&[staged.join("custom"), staged.join("smartdc")], "/opt", progress)?;
    fs::remove_dir_all(&staged)?;
    let script = format!(
        "set -e; imgadm sources -f -a {imgapi}; systemctl restart triton-custom-units.service || true; systemctl restart triton-standin.service; \
         for i in $(seq 100); do curl -sf {cnapi}/ping >/dev/null && break; sleep 0.2; done; curl -sf {cnapi}/ping >/dev/null; \
         systemctl restart triton-cn-agent.service triton-vm-agent.service triton-firewaller.service"
    );
    machine.run(&script, progress).map(drop)
}

/// Opens a port of loopback for each service.
fn forward(machine: &Machine) -> Result<Urls> {
    let mut urls = Vec::new();
    for port in PORTS {
        urls.push(format!("http://127.0.0.1:{}", machine.forward(port)?));
    }
    let [cnapi, imgapi, vmapi, control, napi, fwapi]: [String; 6] =
        urls.try_into().map_err(|_| anyhow::anyhow!("six services have six addresses"))?;
    Ok(Urls { cnapi, imgapi, vmapi, napi, control, fwapi })
}

fn states(machine: &Machine, progress: &mut Progress) -> Result<std::collections::BTreeMap<InstanceUuid, String>> {
    super::guest::read_states(&machine.run("vmadm lookup -j 2>/dev/null", progress)?)
}

/// Looks at a guest from inside.
fn verify(machine: &Machine, instance: &Instance, others: &[Instance], progress: &mut Progress) -> Result<()> {
    let uuid = instance.uuid;
    let neighbours: String =
        others.iter().filter(|other| other.uuid != uuid).take(3).map(|other| format!("ping -c 1 -W 5 {}; ", other.address)).collect();
    let inside = format!("set -e; hostname; ip -4 addr show dev eth0; cat /proc/self/uid_map; {neighbours}true");
    let script = format!(
        "set -e; pid=$(vmadm get {uuid} | jq .pid); cat /sys/fs/cgroup/triton.slice/triton-instance@{uuid}.service/payload/memory.max; \
         nsenter -t $pid -m -u -n -p -i -U -S 0 -G 0 -- /bin/sh -c '{inside}'"
    );
    let said = machine.run(&script, progress).with_context(|| format!("the instance {} ({uuid})", instance.alias))?;
    let lines: Vec<&str> = said.lines().collect();
    ensure!(lines.first() == Some(&"134217728"), "{}: its memory limit is not 128 MiB: {said}", instance.alias);
    ensure!(lines.get(1) == Some(&instance.alias.as_str()), "{}: its host name is another: {said}", instance.alias);
    ensure!(said.contains(&format!("{}/{}", instance.address, site::PREFIX)), "{}: its address is missing: {said}", instance.alias);
    let mapped =
        lines.iter().any(|line| line.split_whitespace().collect::<Vec<_>>().get(..2).is_some_and(|ids| ids[0] == "0" && ids[1] != "0"));
    ensure!(mapped, "{}: its root is the node's root: {said}", instance.alias);
    Ok(())
}

/// Lines for a person.
pub fn tell(report: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let first = text(&report["instances"][0]["uuid"]);
    format!(
        "\n{}\n\nenter      cargo xtask vm exec -- vmadm list      (or: cargo xtask vm ssh, then vmadm console {first})\n\
         by HTTP    curl {}/servers/{}  |  {}/vms\nrecord     curl {}/record\ntake down  cargo xtask down",
        text(&report["list"]).trim_end(),
        text(&report["headnode"]["cnapi"]),
        text(&report["server_uuid"]),
        text(&report["headnode"]["vmapi"]),
        text(&report["headnode"]["control"]),
    )
}

/// Ends the machine and removes it.
pub fn down(dir: &Path) -> Result<()> {
    vm::remove(dir)
}
