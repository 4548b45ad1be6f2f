//! The tiers: what each is, what it needs, and which tests are its.

use super::{
    runner,
    summary::{Counts, Report},
};

/// Where a test can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Anywhere.
    Pure,
    /// As root on a Linux kernel with LXC.
    Kernel,
    /// On a booted compute node.
    Node,
}

/// Reads `1`, `2` or `3`.
pub fn parse(text: &str) -> Result<Tier, String> {
    Tier::ALL
        .into_iter()
        .find(|tier| tier.number().to_string() == text)
        .ok_or_else(|| format!("{text:?} is not a tier: 1 (pure tests), 2 (kernel tests) or 3 (scenarios on a booted node)"))
}

/// Tests of tier 2, in nextest's language: whole packages that drive the kernel, and tests elsewhere that say so by their name or
/// that of their program.
const KERNEL: &str = "package(triton-e2e) | package(triton-link) | package(triton-nictag) | package(triton-cgroup) | package(triton-lxc) | \
                      package(triton-storage) | package(triton-image) | package(instance-monitor) | package(triton-cli) | \
                      binary(/^kernel_/) | test(/(^|::)kernel(_|::|$)/)";

/// Tests of tier 3 alone: they need the whole machine.
const NODE: &str = "package(triton-e2e) & test(/^node_only::/)";

impl Tier {
    /// In the order in which they run.
    pub const ALL: [Self; 3] = [Self::Pure, Self::Kernel, Self::Node];

    /// The tier's number.
    pub fn number(self) -> u8 {
        match self {
            Self::Pure => 1,
            Self::Kernel => 2,
            Self::Node => 3,
        }
    }

    /// The tier in a few words.
    pub fn what(self) -> &'static str {
        match self {
            Self::Pure => "pure tests",
            Self::Kernel => "tests on this kernel",
            Self::Node => "scenarios on a booted compute node",
        }
    }

    /// Runs the tier's tests, those whose name contains `filter`; of tier 3 all that is not a matrix, or the `quick` part.
    pub fn run(self, filter: Option<&str>, quick: bool) -> Report {
        match self {
            Self::Pure => pure(filter),
            Self::Kernel => match cannot_run_on_kernel() {
                Some(reason) => Report::NotRun(reason),
                None => runner::run(&format!("({KERNEL}) - ({NODE})"), runner::Only::Kernel, filter),
            },
            Self::Node => match crate::vm::cannot_run() {
                Some(reason) => Report::NotRun(reason),
                None => match crate::vm::tier(filter, quick) {
                    Ok(counts) => Report::Ran(counts),
                    Err(error) => {
                        crate::say::line(format_args!("{error:#}"));
                        Report::Ran(Counts { passed: 0, failed: 1 })
                    }
                },
            },
        }
    }
}

/// Tests whose judge is a package of upstream are left out where npm is not, and said to be.
fn pure(filter: Option<&str>) -> Report {
    let runs = |program: &str| {
        let quiet = std::process::Stdio::null;
        std::process::Command::new(program).arg("--version").stdout(quiet()).stderr(quiet()).status().is_ok_and(|status| status.success())
    };
    if runs("npm") && runs("node") {
        return runner::run(&format!("not ({KERNEL})"), runner::Only::Pure, filter);
    }
    let reason = "tests against upstream's packages (npm_...) need npm and node (Debian packages npm and nodejs)";
    match runner::run(&format!("not ({KERNEL}) & not test(~npm_)"), runner::Only::PureWithoutNpm, filter) {
        Report::Ran(counts) => Report::Partly(counts, reason.to_owned()),
        other => other,
    }
}

/// Why tier 2 cannot run here, if it cannot.
fn cannot_run_on_kernel() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root: it makes links, control groups, mounts and containers".to_owned());
    }
    let libraries = ["/usr/lib", "/usr/lib64", "/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let found = libraries.iter().any(|folder| std::path::Path::new(folder).join("liblxc.so.1").exists());
    (!found).then(|| "needs liblxc.so.1 (Debian package liblxc1)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_read_by_number_and_others_refused() {
        assert_eq!(parse("2"), Ok(Tier::Kernel));
        for bad in ["0", "4", "", "kernel", "01"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
