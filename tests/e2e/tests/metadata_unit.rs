//! The metadata service as the node's own unit, in its sandbox, on a booted node (metadata.md sections 5.2 to 5.4, case 77; ruling 32).
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod node_only {
    use std::{
        fs,
        process::Command,
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
        thread,
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    use serde_json::{Value, json};
    use triton_e2e::{Node, Outcome, assert_no_trace, mdata, until, until_some};

    const UNIT: &str = "triton-metadata-agent.service";
    /// Out of reach of everybody who has to trust it: the most that `systemd-analyze security` may say, of ten. What keeps it there are
    /// the capabilities and the mounts that section 5.2 needs.
    const EXPOSURE: f64 = 5.5;

    fn run(program: &str, args: &[&str]) -> String {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn property(name: &str) -> String {
        run("systemctl", &["show", "--value", "--property", name, UNIT])
    }

    /// The unit runs for as long as this lives; the next scenario starts the services that it needs itself.
    struct Unit;

    impl Unit {
        fn start() -> Self {
            let _ = Command::new("systemctl").args(["reset-failed", UNIT]).output();
            run("systemctl", &["start", UNIT]);
            Self
        }

        fn restart(&self) {
            run("systemctl", &["restart", UNIT]);
        }
    }

    impl Drop for Unit {
        fn drop(&mut self) {
            let _ = Command::new("systemctl").args(["stop", UNIT]).output();
        }
    }

    fn status(node: &Node) -> Value {
        let said = node.run("metadata-agent", &["status", "--json"]);
        if said.code == Some(0) { said.json() } else { Value::Null }
    }

    /// What the service has after each of its starts: two guests' lines, one of them over HTTP, too.
    fn await_served(node: &Node) {
        until("both lines and the transport over HTTP are served", || {
            let status = status(node);
            status["serial_lines"] == 2 && status["http_listeners"] == 1
        });
    }

    /// What the guest's own programs are answered over HTTP.
    fn over_http(node: &Node, uuid: &str) -> Outcome {
        let request = "GET /latest/meta-data/instance-id HTTP/1.0\\r\\nHost: 169.254.169.254\\r\\nX-Triton-Metadata: true\\r\\n\\r\\n";
        node.try_guest(uuid, &format!("printf '{request}' | /bin/busybox timeout 20 nc 169.254.169.254 80"))
    }

    /// The words of the journal about this unit since `cursor`.
    fn journal(since: &str) -> String {
        run("journalctl", &["--no-pager", "--output", "cat", "--unit", UNIT, "--since", since])
    }

    fn main_process() -> i32 {
        property("MainPID").parse().unwrap()
    }

    /// Kept descriptors survive with the service manager, and each transport is there again after each kind of end.
    #[test]
    fn guests_keep_their_answers_on_every_transport_while_the_unit_is_restarted() {
        let node = Node::with_image("metadata-unit");
        assert!(node.is_machine(), "this is no compute node");
        let before = node.traces();
        let since = run("date", &["+%Y-%m-%d %H:%M:%S"]);
        let unit = Unit::start();
        let mut payload = node.payload(5);
        payload["internal_metadata"] = json!({"cloudinit_datasource": "ec2"});
        let (http, serial) = (node.create(&payload), node.create(&node.payload(6)));
        // One asks over sockets and HTTP, the other over its serial line.
        node.guest(&serial, "/bin/busybox umount /.zonecontrol /native/.zonecontrol");
        await_served(&node);
        assert_eq!(mdata(&node, &serial, "get sdc:uuid").ok().stdout, format!("{serial}\n"));
        assert!(over_http(&node, &http).stdout.ends_with(&http), "{:?}", over_http(&node, &http));
        // Its sandbox is the one of its file.
        let line = fs::read_to_string(format!("/proc/{}/status", main_process())).unwrap();
        let of = |name: &str| line.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!((of("NoNewPrivs:").as_str(), of("Seccomp:").as_str()), ("1", "2"));
        let security = run("systemd-analyze", &["security", "--no-pager", UNIT]);
        let exposure = security.lines().last().unwrap_or_default().to_owned();
        println!("{exposure}");
        let figure: f64 = exposure.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{security}"));
        assert!(figure <= EXPOSURE, "{exposure}");

        let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        let ask = |uuid: &str, name: &str| {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                number += 1;
                let (put, get) = (format!("put {name} value{number}"), format!("get {name}"));
                let said = mdata(&node, uuid, &put);
                assert_eq!(said.code, Some(0), "{put}: {}", said.stderr);
                assert_eq!(mdata(&node, uuid, &get).ok().stdout, format!("value{number}\n"), "{name}");
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        };
        thread::scope(|scope| {
            let asking = [(&http, "socket"), (&serial, "line")].map(|(uuid, name)| {
                let ask = &ask;
                scope.spawn(move || ask(uuid, name))
            });
            // Whatever fails here, those who ask end: the scope waits for them.
            let restarts = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for round in 0..4 {
                    let (done, process) = (rounds.load(Ordering::Relaxed), main_process());
                    until("traffic goes on", || {
                        rounds.load(Ordering::Relaxed) > done + 1 || asking.iter().any(thread::ScopedJoinHandle::is_finished)
                    });
                    if round % 2 == 0 {
                        unit.restart();
                    } else {
                        kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
                    }
                    until("there is another process", || property("ActiveState") == "active" && ![0, process].contains(&main_process()));
                    await_served(&node);
                    assert!(over_http(&node, &http).stdout.ends_with(&http), "over HTTP after restart {round}");
                }
            }));
            over.store(true, Ordering::Relaxed);
            let asked = asking.map(thread::ScopedJoinHandle::join);
            if let Some(failed) = asked.into_iter().filter_map(Result::err).chain(restarts.err()).next() {
                std::panic::resume_unwind(failed);
            }
        });

        // The service and the guest's monitor are killed at once: the line is what the service manager kept.
        let supervisor = until_some("the guest has a monitor", || {
            let state: Value = serde_json::from_slice(&fs::read(node.layout().run_state(serial.parse().unwrap())).ok()?).ok()?;
            i32::try_from(state["supervisor"]["pid"].as_i64()?).ok()
        });
        assert!(property("NFileDescriptorStore").parse::<u32>().unwrap() >= 2, "both lines are kept");
        for process in [supervisor, main_process()] {
            kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
        }
        until("the guest is answered over the line that it had", || mdata(&node, &serial, "get sdc:uuid").stdout == format!("{serial}\n"));

        for uuid in [&http, &serial] {
            node.vmadm(&["delete", uuid]).ok();
        }
        until("nothing is kept of who is gone", || property("NFileDescriptorStore") == "0");
        let said = journal(&since);
        for refused in ["Operation not permitted", "Permission denied", "not supported", "bad system call", "SIGSYS"] {
            assert!(!said.contains(refused), "{refused} in the unit's journal:\n{said}");
        }
        drop(unit);
        assert_no_trace(&node, &before);
    }
}
