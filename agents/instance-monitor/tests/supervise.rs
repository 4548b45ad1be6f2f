//! Supervisors with the real liblxc and real guests: ends, reboots, and every way in which a monitor can be killed.

mod common;

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
};

use common::{Bed, MONITOR, kill};
use nix::sys::signal::Signal;
use triton_types::RunPhase;

const FOREVER: &str = "trap '' TERM; while [ ! -e /end ]; do sleep 0.05; done; exit 7";
/// Reboots once it is told to, and after that waits for its end.
const REBOOTS: &str = "if [ ! -e /rebooted ]; then while [ ! -e /go ]; do sleep 0.05; done; : > /rebooted; reboot -f; fi\n\
                       while [ ! -e /end ]; do sleep 0.05; done; exit 3";

#[test]
fn a_guest_is_started_and_its_exit_recorded_and_nothing_stays() {
    let bed = Bed::new(FOREVER);
    let ready = bed.launch("run");
    assert_eq!(ready["ok"], true, "{ready}\n{}", bed.logs());
    let running = bed.state();
    assert_eq!(running.phase, RunPhase::Running);
    let init = running.init.unwrap();
    assert_eq!(ready["pid"], init.pid);
    assert_eq!(Some(init.pid), bed.find_init());
    assert!(running.boot_timestamp.is_some() && running.last_exit.is_none() && !running.adopted);
    bed.touch("end");
    let stopped = bed.wait_stopped();
    let exit = stopped.last_exit.unwrap();
    assert_eq!((exit.status, exit.oom), (7, false));
    assert_eq!(bed.last_exited().as_deref(), Some("1792"));
    assert!(stopped.init.is_none() && stopped.supervisor.is_none() && stopped.generation > running.generation);
    bed.assert_clean();
}

#[test]
fn a_log_that_became_long_is_turned_at_the_next_boot() {
    let bed = Bed::new(REBOOTS);
    let [log, old] = ["monitor.log", "monitor.log.1"].map(|name| bed.layout.runtime(bed.uuid).join(name));
    fs::write(&old, "of long ago").unwrap();
    let ready = bed.launch("run");
    assert_eq!(ready["ok"], true, "{ready}\n{}", bed.logs());
    assert_eq!(fs::read_to_string(&old).unwrap(), "of long ago", "a short one goes on");
    let first = bed.state().init.unwrap();
    let long = "x".repeat(64 << 10);
    fs::OpenOptions::new().append(true).open(&log).unwrap().write_all(long.as_bytes()).unwrap();
    bed.touch("go");
    bed.wait_state("the second boot", |state| state.phase == RunPhase::Running && state.init != Some(first));
    assert!(fs::read_to_string(&old).unwrap().contains(&long));
    let said = bed.wait("the new log", || fs::read_to_string(&log).ok().filter(|text| text.contains("the guest runs")));
    assert!(!said.contains("xxxx"), "{said}");
    bed.touch("end");
    assert_eq!(bed.wait_stopped().last_exit.unwrap().status, 3);
}

#[test]
fn a_guest_that_ends_at_once_did_start_and_is_recorded() {
    let bed = Bed::new("exit 5");
    let ready = bed.launch("run");
    assert_eq!(ready["ok"], true, "{ready}\n{}", bed.logs());
    assert_eq!(bed.wait_stopped().last_exit.unwrap().status, 5);
    bed.assert_clean();
}

#[test]
fn a_killed_init_and_a_power_off_are_recorded_as_such() {
    let bed = Bed::new(FOREVER);
    bed.launch("run");
    kill(bed.state().init.unwrap().pid, Signal::SIGKILL);
    assert_eq!(bed.wait_stopped().last_exit.unwrap().status, -9);
    assert_eq!(bed.last_exited().as_deref(), Some("9"));

    let bed = Bed::new("poweroff -f; sleep 60");
    bed.launch("run");
    assert_eq!(bed.wait_stopped().last_exit.unwrap().status, 0);
    assert_eq!(bed.last_exited().as_deref(), Some("0"));
}

#[test]
fn a_guest_killed_for_lack_of_memory_says_so() {
    let bed = Bed::new("while [ ! -e /go ]; do sleep 0.05; done; head -c 300m /dev/zero | tail > /dev/null; exit 1");
    bed.launch("run");
    bed.touch("go");
    let exit = bed.wait_stopped().last_exit.unwrap();
    assert!(exit.oom, "{exit:?}\n{}", bed.logs());
}

#[test]
fn a_reboot_is_a_new_boot_in_a_fresh_process_with_its_root_intact() {
    let bed = Bed::new(REBOOTS);
    bed.launch("run");
    let first = bed.state();
    let child = bed.boot_child();
    bed.touch("go");
    let second = bed.wait_state("second boot", |state| state.phase == RunPhase::Running && state.init != first.init);
    assert_eq!(second.supervisor, first.supervisor);
    assert!(second.boot_timestamp > first.boot_timestamp);
    assert_ne!(bed.boot_child(), child);
    assert!(second.last_exit.is_none() && bed.last_exited().is_none(), "a reboot records no exit");
    bed.touch("end");
    assert_eq!(bed.wait_stopped().last_exit.unwrap().status, 3);
    bed.assert_clean();
}

#[test]
fn signals_to_the_supervisor_change_nothing() {
    let bed = Bed::new(FOREVER);
    bed.launch("run");
    let state = bed.state();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        kill(state.supervisor.unwrap().pid, signal);
    }
    bed.touch("end");
    assert_eq!(bed.wait_stopped().last_exit.unwrap().status, 7);
}

#[test]
fn a_guest_whose_boot_child_was_killed_lives_and_its_exit_is_still_known() {
    let bed = Bed::new(FOREVER);
    bed.launch("run");
    let state = bed.state();
    kill(bed.boot_child(), Signal::SIGKILL);
    bed.wait("init has a new parent", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", state.init.unwrap().pid)).unwrap();
        let parent = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().to_owned();
        (parent == state.supervisor.unwrap().pid.to_string()).then_some(())
    });
    assert_eq!(bed.find_init(), Some(state.init.unwrap().pid));
    bed.touch("end");
    assert_eq!(bed.wait_stopped().last_exit.unwrap().status, 7);
    bed.assert_clean();
}

#[test]
fn a_guest_whose_supervisor_was_killed_is_adopted_and_its_exit_is_not_known() {
    for both in [false, true] {
        let bed = Bed::new(FOREVER);
        bed.launch("run");
        let before = bed.state();
        let child = bed.boot_child();
        fs::write(bed.zonepath().join("lastexited"), "1 2816\n").unwrap();
        kill(before.supervisor.unwrap().pid, Signal::SIGKILL);
        if both {
            kill(child, Signal::SIGKILL);
        }
        bed.wait("supervisor dead", || (!triton_process::is_alive(before.supervisor.unwrap())).then_some(()));
        assert!(triton_process::is_alive(before.init.unwrap()), "the guest lives");
        let ready = bed.launch("adopt");
        assert_eq!(ready["ok"], true, "{ready}\n{}", bed.logs());
        let adopted = bed.state();
        assert!(adopted.adopted && adopted.phase == RunPhase::Running);
        assert_eq!((adopted.init, adopted.boot_timestamp), (before.init, before.boot_timestamp));
        assert_ne!(adopted.supervisor, before.supervisor);
        bed.touch("end");
        let stopped = bed.wait_stopped();
        assert!(stopped.last_exit.is_none() && !stopped.adopted);
        assert_eq!(bed.last_exited(), None, "an earlier run's exit is not this one's");
        bed.assert_clean();
    }
}

#[test]
fn an_adopted_guest_that_reboots_is_booted_again_by_its_adopter() {
    let bed = Bed::new(REBOOTS);
    bed.launch("run");
    let before = bed.state();
    kill(before.supervisor.unwrap().pid, Signal::SIGKILL);
    bed.wait("supervisor dead", || (!triton_process::is_alive(before.supervisor.unwrap())).then_some(()));
    assert_eq!(bed.launch("adopt")["ok"], true);
    bed.touch("go");
    let again = bed.wait_state("second boot", |state| state.phase == RunPhase::Running && state.init != before.init);
    assert!(!again.adopted, "this boot is the supervisor's own");
    bed.touch("end");
    assert_eq!(bed.wait_stopped().last_exit.unwrap().status, 3);
    bed.assert_clean();
}

#[test]
fn a_failed_start_says_why_and_leaves_nothing() {
    let bed = Bed::new("exit 0");
    fs::remove_file(bed.root().join("sbin/init")).unwrap();
    let ready = bed.launch("run");
    assert_eq!(ready["ok"], false);
    let error = ready["error"].as_str().unwrap();
    assert!(error.contains("/sbin/init") && error.len() <= 2048, "{error}");
    let stopped = bed.wait_stopped();
    assert_eq!(stopped.start_error.as_deref(), Some(error));
    assert!(stopped.init.is_none() && stopped.last_exit.is_none());
    bed.assert_clean();
}

#[test]
fn a_second_supervisor_is_refused_and_the_first_is_not_disturbed() {
    let bed = Bed::new(FOREVER);
    bed.launch("run");
    let before = bed.state();
    for verb in ["run", "adopt"] {
        let ready = bed.launch(verb);
        assert!(ready["error"].as_str().unwrap().contains("supervises this instance already"), "{ready}");
    }
    assert_eq!(bed.state(), before);
    bed.touch("end");
    assert_eq!(bed.wait_stopped().last_exit.unwrap().status, 7);
}

#[test]
fn the_console_is_read_and_written_and_the_escape_key_leaves_the_guest_running() {
    let bed = Bed::new("echo ready; read line; echo \"got $line\"; read line; exit 7");
    bed.launch("run");
    let mut console = Command::new(MONITOR)
        .args(["console", "--root"])
        .arg(bed.layout.root())
        .arg(bed.uuid.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = console.stdin.take().unwrap();
    input.write_all(b"hello\n").unwrap();
    let mut text = String::new();
    let mut output = console.stdout.take().unwrap();
    while !text.contains("got hello") {
        let mut buffer = [0; 256];
        let count = output.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "the console ended: {text:?}\n{}", bed.logs());
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    input.write_all(b"\x1d").unwrap();
    assert!(console.wait().unwrap().success());
    assert_eq!(bed.state().phase, RunPhase::Running);
}

#[test]
fn check_accepts_a_good_config_and_says_why_it_refuses_a_bad_one() {
    let bed = Bed::new("exit 0");
    let check = |text: &str| {
        let file = bed.layout.root().join("candidate.conf");
        fs::write(&file, text).unwrap();
        Command::new(MONITOR).arg("check").arg(&file).output().unwrap()
    };
    let good = fs::read_to_string(bed.config()).unwrap();
    assert!(check(&good).status.success());
    let bad = check(&good.replace("lxc.signal.halt = SIGPWR", "lxc.signal.halt = SIGNAL"));
    assert!(!bad.status.success());
    let reason = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(reason.contains("lxc.signal.halt") || reason.contains("SIGNAL") || reason.contains("parse"), "{reason}");
}
