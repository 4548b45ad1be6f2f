//! Which packages' tests run on the node, and one of their programs there.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    super::{
        bed::Bed,
        node::{BED, POOL},
        ssh::quoted,
    },
    build::TestProgram,
};
use crate::test::{Counts, read_summary};

/// Tests of one package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The package.
    pub package: &'static str,
    /// Part of the names of its tests that need a kernel; empty: all.
    pub tests: &'static str,
    /// Targets that every landing runs.
    pub quick: &'static [&'static str],
}

/// In the order in which they run: drivers that meet the kernel, the model over them, programs, scenarios of the whole node.
pub const GROUPS: &[Group] = &[
    Group { package: "triton-zfs", tests: "", quick: &["triton_zfs"] },
    Group { package: "triton-cgroup", tests: "", quick: &[] },
    Group { package: "triton-link", tests: "", quick: &[] },
    Group { package: "triton-nft", tests: "kernel", quick: &[] },
    Group { package: "triton-guard", tests: "kernel", quick: &[] },
    Group { package: "triton-firewall", tests: "kernel", quick: &["triton_firewall"] },
    Group { package: "triton-nictag", tests: "", quick: &[] },
    Group { package: "triton-storage", tests: "", quick: &["kernel_zfs"] },
    Group { package: "triton-instance", tests: "kernel", quick: &[] },
    Group { package: "triton-cli", tests: "kernel", quick: &[] },
    Group { package: "cn-agent", tests: "kernel", quick: &[] },
    Group { package: "net-agent", tests: "kernel", quick: &[] },
    Group { package: "metadata-agent", tests: "kernel", quick: &[] },
    Group { package: "instance-monitor", tests: "", quick: &[] },
    Group { package: "triton-e2e", tests: "", quick: &["lifecycle", "machine"] },
];

/// Tests in a module of this name need two nodes, and the machine is one: tier 2 runs them, and scenarios of pairs show the same.
pub const OF_TWO: &str = "two_nodes::";

/// Longest run of one program.
const LIMIT: Duration = Duration::from_secs(2400);

/// What libtest is told of the tests of `target` that run: in a program that is called `kernel_...` all need a kernel. A filter that is
/// the program's own name asks for all of it.
pub fn selection(group: &Group, target: &str, filter: Option<&str>) -> Option<String> {
    let all = group.tests.is_empty() || target.starts_with("kernel_");
    let filter = filter.filter(|filter| *filter != target);
    filter.map(str::to_owned).or_else(|| (!all).then(|| group.tests.to_owned()))
}

/// By which of `filters` a program is asked for, its own name before all others; by none where there are none. `Err` when it is not.
pub fn asked_by<'a>(test: &TestProgram, filters: &'a [String]) -> Result<Option<&'a str>, NotAsked> {
    let has = |filter: Option<&str>| test.has(selection(test.group, &test.target, filter).as_deref());
    if filters.is_empty() {
        return if has(None) { Ok(None) } else { Err(NotAsked) };
    }
    let own = filters.iter().filter(|filter| **filter == test.target);
    own.chain(filters).find(|filter| has(Some(filter))).map(|filter| Some(filter.as_str())).ok_or(NotAsked)
}

/// A program is not among those that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAsked;

/// Runs one test program on the node; its output is shown as it comes.
pub fn run(bed: &Bed, test: &TestProgram, filter: Option<&str>) -> Result<Counts> {
    let name = test.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut words = vec![format!("{BED}/tests/deps/{name}"), "--test-threads".to_owned(), "1".to_owned()];
    words.extend(["--skip".to_owned(), OF_TWO.to_owned()]);
    words.extend(selection(test.group, &test.target, filter));
    let limit = bed.within(LIMIT)?.as_secs();
    one(limited(bed, &words, limit))
}

/// A call of a test's or bench's program on the node that ends within `limit` seconds. The node ends it first, so that its last words are
/// seen; where the node hangs, this machine does.
pub fn limited(bed: &Bed, words: &[String], limit: u64) -> Command {
    let script = format!("cd /root && TRITON_E2E_POOL={POOL} RUST_BACKTRACE=0 timeout {limit} {}", quoted(words));
    let mut command = Command::new("timeout");
    command.arg((limit + 60).to_string()).arg("ssh").args(bed.ssh().command(&script).get_args());
    command
}

fn one(mut command: Command) -> Result<Counts> {
    let (reader, writer) = std::io::pipe()?;
    let error = writer.try_clone()?;
    let mut child = command.stdin(Stdio::null()).stdout(writer).stderr(error).spawn().context("could not run ssh")?;
    drop(command);
    let mut summary = String::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line.context("could not read what the tests say")?).into_owned();
        let _ = writeln!(std::io::stdout(), "{line}");
        if line.starts_with("test result:") {
            summary.push_str(&line);
            summary.push('\n');
        }
    }
    let status = child.wait().context("could not wait for ssh")?;
    let counts = read_summary(&summary).unwrap_or_default();
    if !status.success() && counts.failed == 0 {
        bail!("the tests ended with {status} before they could count");
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_the_kernel_run_whole_and_others_by_the_names_of_their_tests() {
        let group = GROUPS.iter().find(|group| group.package == "metadata-agent").unwrap();
        assert_eq!(selection(group, "kernel_sockets", None), None);
        assert_eq!(selection(group, "protocol", None).as_deref(), Some("kernel"));
        assert_eq!(selection(group, "kernel_sockets", Some("flood")).as_deref(), Some("flood"));
        assert_eq!(selection(group, "kernel_sockets", Some("kernel_sockets")), None);
    }
}
