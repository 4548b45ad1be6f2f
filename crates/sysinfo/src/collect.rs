//! Collecting the document.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};
use triton_files::Layout;
use triton_types::JsonMap;

use crate::{
    AgentEntry, BootParameters, Dmi, FactsError, HostFacts, LinkFact, Omission, Source, Sysinfo, cpu::Cpus, disks::disks, installed_agents,
    memory, nics::Nics, pool::PoolFacts, setup::is_set_up, tags::TagFacts,
};

/// What a caller may set.
#[derive(Clone, Debug, Default)]
pub struct SysinfoOptions {
    /// The admin address, whatever the machine says (`ADMIN_IP` in the environment of cn-agent and of the command).
    pub admin_ip: Option<Ipv4Addr>,
    /// The port that cn-agent is bound to: `CN Agent Port`.
    pub cn_agent_port: Option<u16>,
    /// Agents that run, whether installed below `/opt/smartdc/agents` or not; they replace installed ones of their name.
    pub agents: Vec<AgentEntry>,
    /// The kernel's files.
    pub source: Source,
}

/// Why there is no document. Everything else is an [`Omission`].
#[derive(Debug, thiserror::Error)]
pub enum SysinfoError {
    /// The node's identity is not known.
    #[error("sysinfo: the compute node's identity is not known")]
    Identity(#[from] FactsError),
    /// The machine's links could not be listed.
    #[error("sysinfo: the network interfaces could not be listed: {0}")]
    Interfaces(String),
    /// Nothing says which address is the admin one.
    #[error("no admin address: no interface carries the NIC tag {admin_tag:?} with an IPv4 address, and none was given")]
    AdminIp {
        /// The tag that was looked for.
        admin_tag: String,
    },
}

impl Sysinfo {
    /// Collects the document of the node below `layout`, with the links of the current network namespace.
    ///
    /// Reads files and asks the kernel by netlink, for some milliseconds; blocks. Must not be called from within an async task
    /// (use `spawn_blocking`).
    ///
    /// # Errors
    /// Only when identity or links are not to be had; the rest is left out with a reason ([`Sysinfo::omissions`]).
    pub fn collect(layout: &Layout, options: &SysinfoOptions) -> Result<Self, SysinfoError> {
        let facts = HostFacts::load_from(layout, &options.source)?;
        let links = LinkFact::list().map_err(SysinfoError::Interfaces)?;
        let mut omissions = Vec::new();
        let tags = keep(&mut omissions, "NIC Names", TagFacts::load(layout)).unwrap_or_default();
        let pool = keep(&mut omissions, "Zpool", PoolFacts::load(layout));
        Parts { layout, options, facts, links, tags, pool, omissions }.assemble()
    }
}

fn keep<T>(omissions: &mut Vec<Omission>, what: &'static str, result: Result<T, String>) -> Option<T> {
    result.map_err(|why| omissions.push(Omission { what, why })).ok()
}

/// What was read from outside the [`Source`]; tests put their own there.
pub(crate) struct Parts<'a> {
    pub layout: &'a Layout,
    pub options: &'a SysinfoOptions,
    pub facts: HostFacts,
    pub links: Vec<LinkFact>,
    pub tags: TagFacts,
    pub pool: Option<PoolFacts>,
    pub omissions: Vec<Omission>,
}

impl Parts<'_> {
    pub(crate) fn assemble(self) -> Result<Sysinfo, SysinfoError> {
        let Self { layout, options, facts, links, tags, pool, mut omissions } = self;
        let source = &options.source;
        let boot = keep(&mut omissions, "Boot Parameters", BootParameters::read(source).ok_or_else(|| "no /proc/cmdline".to_owned()))
            .unwrap_or_default();
        let nics = Nics::build(&links, &tags, source);
        let admin_ip = admin_ip(options, &facts, &boot, &nics).or(tags.admin_ip);

        let mut map = JsonMap::new();
        let mut set = |key: &str, value: Value| map.insert(key.to_owned(), value);
        let text = |value: &Option<String>| value.as_ref().map(|text| Value::from(text.as_str()));
        set("Live Image", json!(facts.platform_stamp));
        set("System Type", json!("Linux"));
        match memory::boot_time(source) {
            Some(time) => _ = set("Boot Time", json!(time)),
            None => omissions.push(Omission { what: "Boot Time", why: "no btime in /proc/stat".to_owned() }),
        }
        for (key, value) in
            [("Datacenter Name", &facts.datacenter_name), ("DNS Domain", &facts.dns_domain), ("Headnode ID", &facts.headnode_id)]
        {
            text(value).map(|value| set(key, value));
        }
        set("SDC Version", json!("7.0"));
        let dmi = Dmi::read(source);
        for (key, value) in [
            ("Manufacturer", &dmi.manufacturer),
            ("Product", &dmi.product),
            ("Serial Number", &dmi.serial),
            ("SKU Number", &dmi.sku),
            ("HW Version", &dmi.version),
            ("HW Family", &dmi.family),
        ] {
            text(value).map(|value| set(key, value));
        }
        set("UUID", json!(facts.server_uuid));
        if let Ok(uuid) = dmi.uuid()
            && !facts.overridden
        {
            set("Fixed UUID", json!(uuid.to_string()));
        }
        set("Hostname", json!(hostname(layout)));
        set("Setup", json!(is_set_up(layout)));
        for key in ["VM Capable", "Bhyve Capable", "HVM API"] {
            set(key, json!(false));
        }
        match Cpus::read(source) {
            Some(cpus) => {
                for (key, value) in [
                    ("CPU Type", json!(cpus.kind)),
                    ("CPU Virtualization", json!(cpus.virtualization)),
                    // Sockets, despite the name.
                    ("CPU Physical Cores", json!(cpus.sockets)),
                    ("CPU Total Cores", json!(cpus.online)),
                    ("CPU Socket Count", json!(cpus.sockets)),
                    ("CPU Core Count", json!(cpus.cores)),
                    ("CPU Count", json!(cpus.present)),
                    ("CPU Online Count", json!(cpus.online)),
                ] {
                    set(key, value);
                }
                cpus.smt.map(|smt| set("Psrinfo", json!({"smt_enabled": smt})));
            }
            None => omissions.push(Omission { what: "CPU Type", why: "no /proc/cpuinfo".to_owned() }),
        }
        match memory::total_mib(source) {
            Some(mib) => _ = set("MiB of Memory", json!(mib)),
            None => omissions.push(Omission { what: "MiB of Memory", why: "no MemTotal in /proc/meminfo".to_owned() }),
        }
        match disks(source) {
            Some(disks) => _ = set("Disks", Value::Object(disks)),
            None => omissions.push(Omission { what: "Disks", why: "no /sys/block".to_owned() }),
        }
        set("Boot Parameters", Value::Object(boot.as_map().clone()));
        // ur-agent of the earlier Linux effort reads this name.
        set("Boot Params", Value::Object(boot.as_map().clone()));
        set("SDC Agents", agents(layout, options));
        set("Network Interfaces", Value::Object(nics.interfaces));
        set("Virtual Network Interfaces", Value::Object(nics.virtuals));
        set("Link Aggregations", Value::Object(nics.aggregations));
        set("Admin NIC Tag", json!(tags.admin));
        // A node that nobody has set up and no boot server has started has none yet (platform case 30).
        match admin_ip {
            Some(address) => _ = set("Admin IP", json!(address)),
            None => {
                let missing = SysinfoError::AdminIp { admin_tag: tags.admin.clone() };
                omissions.push(Omission { what: "Admin IP", why: missing.to_string() });
            }
        }
        options.cn_agent_port.map(|port| set("CN Agent Port", json!(port)));
        if let Some(pool) = pool {
            pool.put(&mut map);
        }
        Ok(Sysinfo { map, uuid: facts.server_uuid, admin_tag: tags.admin, admin_ip: admin_ip.map(IpAddr::V4), omissions })
    }
}

/// The given address, else the boot loader's (unless the kernel's arguments are those of a machine around this node), else that of the
/// interface with the admin tag (or, at last, the one in triton-networking.json). `ip=dhcp` is not an address.
fn admin_ip(options: &SysinfoOptions, facts: &HostFacts, boot: &BootParameters, nics: &Nics) -> Option<Ipv4Addr> {
    let booted = || boot.get("admin_ip").filter(|_| !facts.overridden)?.parse().ok();
    options.admin_ip.or_else(booted).or(nics.admin_ip)
}

/// The machine's name; a node below another root may have its own in `etc/hostname`.
fn hostname(layout: &Layout) -> String {
    let own = (!layout.is_host()).then(|| std::fs::read_to_string(layout.at("/etc/hostname")).ok()).flatten();
    let own = own.map(|text| text.trim().to_owned()).filter(|name| !name.is_empty());
    own.unwrap_or_else(|| nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned()))
}

fn agents(layout: &Layout, options: &SysinfoOptions) -> Value {
    let mut agents = installed_agents(layout);
    agents.retain(|installed| options.agents.iter().all(|running| running.name != installed.name));
    agents.extend(options.agents.iter().cloned());
    agents.sort_by(|a, b| a.name.cmp(&b.name));
    agents.iter().map(|agent| json!({"name": agent.name, "version": agent.version})).collect()
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
