//! `boot` with the real liblxc and real, unprivileged guests.

// Helpers outside the test functions may panic as those do.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Child, Command, Stdio};

use common::{Bed, MONITOR, kill};
use nix::sys::signal::Signal;
use serde_json::Value;
use triton_lxc::ExitOutcome;

const WAIT: &str = "while [ ! -e /go ]; do sleep 0.05; done";

fn boot(bed: &Bed) -> Child {
    Command::new(MONITOR)
        .arg("boot")
        .arg("--config")
        .arg(bed.config())
        .args(["--name", &bed.uuid.to_string(), "--result-fd", "1"])
        .env_clear()
        .env("PATH", "/usr/sbin:/sbin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn outcome(bed: &Bed, child: Child) -> ExitOutcome {
    let result = result(child);
    assert_eq!(result["started"], true, "{result}\n{}", bed.logs());
    ExitOutcome::decode(i32::try_from(result["error_num"].as_i64().unwrap()).unwrap())
}

fn result(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn ends_of_init_are_told_apart() {
    for (end, expected) in [
        ("exit 7", ExitOutcome::Exited(7)),
        ("exit 0", ExitOutcome::Exited(0)),
        ("poweroff -f; sleep 60", ExitOutcome::Halted),
        ("reboot -f; sleep 60", ExitOutcome::Rebooted),
    ] {
        let bed = Bed::new(end);
        let child = boot(&bed);
        assert_eq!(outcome(&bed, child), expected, "{end}");
        bed.cgroups.remove(&bed.cgroup()).unwrap();
        bed.assert_clean();
    }
}

#[test]
fn a_killed_init_is_a_death_by_signal() {
    let bed = Bed::new("while true; do sleep 1; done");
    let child = boot(&bed);
    let init = bed.wait("init", || bed.find_init());
    kill(init, Signal::SIGKILL);
    assert_eq!(outcome(&bed, child), ExitOutcome::Signalled(9));
}

#[test]
fn a_guest_that_cannot_start_leaves_a_reason_in_the_log() {
    let bed = Bed::new("exit 0");
    std::fs::remove_file(bed.root().join("sbin/init")).unwrap();
    let result = result(boot(&bed));
    assert_eq!(result["started"], false, "{result}");
    let log = std::fs::read_to_string(bed.layout.runtime(bed.uuid).join("lxc.log")).unwrap();
    assert!(triton_lxc::log_errors(&log, 2048).contains("/sbin/init"), "{log}");
}

#[test]
fn a_refused_config_is_named() {
    let bed = Bed::new("exit 0");
    std::fs::write(bed.config(), "lxc.no.such.key = 1\n").unwrap();
    let result = result(boot(&bed));
    assert_eq!(result["started"], false);
    assert!(result["error"].as_str().unwrap().contains("lxc.conf"), "{result}");
}

#[test]
fn init_gets_its_own_environment_default_signals_no_descriptors_and_a_mapped_root() {
    let script = format!(
        "{{ env; cat /proc/self/status; ls -l /proc/self/fd; cat /proc/self/uid_map; cat /proc/self/cgroup; ls -ln / ; }} > /out 2>&1\n: > /written\n{WAIT}"
    );
    let bed = Bed::new(&script);
    let child = boot(&bed);
    let init = bed.wait("init", || bed.find_init());
    bed.wait("output", || bed.root().join("written").exists().then_some(()));
    let status = || std::fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    let mask = |name: &str| status().lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    // The C library keeps signals 32 and 33 for itself: they are as the test's own starter left them.
    let ignored = u64::from_str_radix(&mask("SigIgn:"), 16).unwrap() & !(0b11 << 31);
    // The shell itself ignores SIGQUIT.
    assert_eq!(ignored & !(1 << (libc::SIGQUIT - 1)), 0, "{ignored:x}");
    // While it waits for a program, the shell blocks all of them; between two it has what it was given.
    bed.wait("a moment without a blocked signal", || (mask("SigBlk:") == "0000000000000000").then_some(()));
    let fds: Vec<_> = std::fs::read_dir(format!("/proc/{init}/fd"))
        .unwrap()
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .collect();
    bed.touch("go");
    assert_eq!(outcome(&bed, child), ExitOutcome::Exited(0));
    let text = std::fs::read_to_string(bed.root().join("out")).unwrap();
    assert!(text.contains("PATH=/bin:/sbin\n") && text.contains("container=lxc\n"), "{text}");
    assert!(!text.contains("LXC_"), "{text}");
    assert!(text.contains("1000000      65536"), "{text}");
    assert!(fds.iter().all(|target| target.contains("pts") || target.contains("/sbin/init") || target == "/dev/null"), "{fds:?}");
}
