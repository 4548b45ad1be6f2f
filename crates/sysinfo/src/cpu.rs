//! Processors. Counts are never 0: the headnode's allocator leaves out a server with a 0 among them (cn-agent.md section 7.1).

use std::collections::BTreeSet;

use crate::Source;

/// What is reported about processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus {
    /// `model name` of the first, or the best description there is; not empty.
    pub kind: String,
    /// `vmx`, `svm` or `none`.
    pub virtualization: &'static str,
    /// Packages.
    pub sockets: u64,
    /// Physical cores in all packages.
    pub cores: u64,
    /// Logical processors that the machine has.
    pub present: u64,
    /// Logical processors in use.
    pub online: u64,
    /// Whether threads of one core are in use; absent when the kernel does not say.
    pub smt: Option<bool>,
}

impl Cpus {
    /// `None` if `/proc/cpuinfo` cannot be read.
    pub(crate) fn read(source: &Source) -> Option<Self> {
        let info = source.read("/proc/cpuinfo")?;
        let listed = values(&info, "processor").filter(|number| number.parse::<u32>().is_ok()).count() as u64;
        let online: Vec<u32> = source.read("/sys/devices/system/cpu/online").map(|text| range_list(&text)).unwrap_or_default();
        let present = source.read("/sys/devices/system/cpu/present").map_or(0, |text| range_list(&text).len() as u64);
        let online_count = if online.is_empty() { listed } else { online.len() as u64 }.max(1);
        let (sockets, cores) = topology(source, &online).or_else(|| listed_topology(&info)).unwrap_or((1, online_count));
        Some(Self {
            kind: kind(&info),
            virtualization: virtualization(&info),
            sockets,
            cores,
            present: present.max(online_count),
            online: online_count,
            smt: source.read("/sys/devices/system/cpu/smt/active").map(|text| text == "1"),
        })
    }
}

/// Values of the lines `key : value`.
fn values<'a>(info: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    info.lines().filter_map(|line| line.split_once(':')).filter(move |(k, _)| k.trim() == key).map(|(_, value)| value.trim())
}

fn kind(info: &str) -> String {
    let named = ["model name", "Processor", "Hardware", "cpu model", "cpu"]
        .iter()
        .find_map(|key| values(info, key).find(|value| !value.is_empty()));
    if let Some(name) = named {
        return name.to_owned();
    }
    let machine = std::env::consts::ARCH;
    match (values(info, "CPU implementer").next(), values(info, "CPU part").next()) {
        (Some(implementer), Some(part)) => format!("{machine} implementer {implementer} part {part}"),
        _ => machine.to_owned(),
    }
}

fn virtualization(info: &str) -> &'static str {
    let flags = values(info, "flags").next().unwrap_or_default();
    flags.split(' ').find_map(|flag| ["vmx", "svm"].into_iter().find(|known| *known == flag)).unwrap_or("none")
}

/// Sockets and cores by what the kernel says of each processor.
fn topology(source: &Source, online: &[u32]) -> Option<(u64, u64)> {
    let mut sockets = BTreeSet::new();
    let mut cores = BTreeSet::new();
    for cpu in online {
        let read = |name: &str| source.read_number::<i64>(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/{name}"));
        // -1 is the kernel's word for "not known": one package then.
        let socket = read("physical_package_id")?.max(0);
        sockets.insert(socket);
        cores.insert((socket, read("core_id").filter(|core| *core >= 0).unwrap_or(i64::from(*cpu))));
    }
    (!sockets.is_empty()).then_some((sockets.len() as u64, cores.len() as u64))
}

/// Sockets and cores by `/proc/cpuinfo`, where it lists them.
fn listed_topology(info: &str) -> Option<(u64, u64)> {
    let mut sockets = BTreeSet::new();
    let mut cores = BTreeSet::new();
    for block in info.split("\n\n") {
        if let (Some(socket), Some(core)) = (values(block, "physical id").next(), values(block, "core id").next()) {
            sockets.insert(socket);
            cores.insert((socket, core));
        }
    }
    (!sockets.is_empty()).then_some((sockets.len() as u64, cores.len() as u64))
}

/// `0-3,8` as numbers; what is no such list counts as nothing, as does one beyond any real machine.
fn range_list(text: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { return Vec::new() };
        if last >= 65_536 {
            return Vec::new();
        }
        numbers.extend(first..=last);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(range_list("0-3,8"), [0, 1, 2, 3, 8]);
        assert!(range_list("x").is_empty() && range_list("0-4000000000").is_empty());
    }

    #[test]
    fn this_machine_has_processors() {
        let cpus = Cpus::read(&Source::kernel()).unwrap();
        assert!(!cpus.kind.is_empty() && cpus.sockets >= 1 && cpus.cores >= cpus.sockets && cpus.present >= cpus.online);
    }
}
