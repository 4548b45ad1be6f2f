//! `xtask test`: everything that is checked before a change lands, the same here and in CI.
//!
//! Tier 1 needs nothing but a Rust toolchain. Tier 2 needs root and LXC: it uses the running kernel, in namespaces of
//! its own. Tier 3 runs on a compute node booted from the platform image.
//!
//! A test belongs to tier 2 when its module or function is called `kernel` or `kernel_...`, when its file is called
//! `tests/kernel_....rs`, or when it is in `tests/e2e`.

mod runner;
mod summary;
mod tiers;

use std::process::ExitCode;

use clap::Args;

use crate::{
    checks::{self, Outcome},
    packages::{self, Purpose},
    say::{self, Progress},
};
use summary::Report;
pub use summary::{Counts, read as read_summary};
use tiers::Tier;

/// Arguments of `xtask test`.
#[derive(Args, Debug)]
pub struct TestArgs {
    /// Tiers to run, by number
    ///
    /// With this option or a FILTER, only tests are run; without both, the static checks and the documentation come first.
    /// Of tier 3, a run of everything has the quick part; asked for by number it runs whole. A FILTER without a number leaves it out.
    #[arg(long, value_delimiter = ',', value_name = "TIER", value_parser = tiers::parse)]
    tier: Vec<Tier>,

    /// Run only tests whose name contains this
    filter: Option<String>,
}

impl TestArgs {
    fn whole(&self) -> bool {
        self.tier.is_empty() && self.filter.is_none()
    }

    fn tiers(&self) -> Vec<Tier> {
        if self.tier.is_empty() { Tier::ALL.to_vec() } else { self.tier.clone() }
    }
}

/// Runs checks and tiers; the last line is `N passed, M failed`.
pub fn test(args: &TestArgs) -> ExitCode {
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0");
    let tiers = args.tiers();
    let mut checks = Outcome::default();
    let mut purposes = vec![Purpose::Build];
    if tiers.contains(&Tier::Kernel) && nix::unistd::geteuid().is_root() {
        purposes.push(Purpose::Node);
    }
    if let Err(error) = packages::ensure(&purposes, &mut Progress::new(1)) {
        say::line(format_args!("could not install what the tests need: {error:#}"));
        checks.failed += 1;
    }
    if args.whole() {
        say::line("static checks");
        let made = checks::run(false);
        let documented = checks::documentation();
        checks.passed += made.passed + documented.passed;
        checks.failed += made.failed + documented.failed;
    }
    // Tests of the whole node run the programs, which no test target asks cargo for.
    if tiers.contains(&Tier::Kernel) {
        checks.failed += usize::from(!runner::build_programs());
    }
    let reports: Vec<(Tier, Report)> = tiers
        .into_iter()
        .map(|tier| {
            say::line(format_args!("tier {}: {}", tier.number(), tier.what()));
            // One test is not worth the boot of a node.
            if tier == Tier::Node && args.filter.is_some() && !args.tier.contains(&tier) {
                return (tier, Report::Absent("a filter alone boots no node: cargo xtask test --tier 3 FILTER"));
            }
            (tier, tier.run(args.filter.as_deref(), args.whole()))
        })
        .collect();

    say::line("");
    let mut total = Counts { passed: checks.passed, failed: checks.failed };
    if args.whole() || checks.failed > 0 {
        say::line(format_args!("checks: {} passed, {} failed", checks.passed, checks.failed));
    }
    for (tier, report) in &reports {
        say::line(format_args!("tier {}: {report}", tier.number()));
        let counts = report.counts(ci);
        total.passed += counts.passed;
        total.failed += counts.failed;
    }
    say::line(format_args!("{} passed, {} failed", total.passed, total.failed));
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
