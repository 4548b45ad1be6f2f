//! What only a booted compute node can show: limits that bite, a full pool, VLANs, a clock that jumps. Tier 3 alone runs it.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod node_only {
    use std::{
        fs,
        process::Command,
        time::{Instant, SystemTime, UNIX_EPOCH},
    };

    use serde_json::json;
    use triton_e2e::{Headnode, Node, Outcome, assert_no_trace, http, until, until_some};

    /// A file of an instance's control group, or of the guest's own part of it.
    fn group(node: &Node, uuid: &str, file: &str) -> String {
        fs::read_to_string(format!("/sys/fs/cgroup/{}/{file}", node.cgroup(uuid))).unwrap_or_default()
    }

    /// One number of a file of `name number` lines.
    fn number(text: &str, name: &str) -> u64 {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
    }

    /// Runs a script inside a guest and within its limits, as its own processes are.
    fn limited(node: &Node, uuid: &str, script: &str) -> Outcome {
        let pid = node.get(uuid)["pid"].as_i64().unwrap();
        let path = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let group = path.trim().strip_prefix("0::").unwrap();
        let enter = format!(
            "echo $$ > /sys/fs/cgroup{group}/cgroup.procs && exec nsenter -t {pid} -m -u -n -p -i -U -S 0 -G 0 -- env -i PATH=/bin:/sbin /bin/sh -c \"$0\""
        );
        Command::new("sh").args(["-c", &enter, script]).output().unwrap().into()
    }

    fn run(program: &str, args: &[&str]) -> String {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[test]
    fn limits_of_memory_processors_and_processes_bite_and_neighbours_do_not_notice() {
        let node = Node::with_image("limits");
        assert!(node.is_machine(), "this is no compute node");
        let before = node.traces();
        let mut payload = node.payload(5);
        payload["cpu_cap"] = json!(10);
        payload["max_lwps"] = json!(40);
        let uuid = node.create(&payload);
        let neighbour = node.create(&node.payload(6));

        // Processors: a tenth of one, however busy. What is measured is the kernel's account over the time that passed.
        limited(&node, &uuid, "(while :; do :; done) >/dev/null 2>&1 & echo $! > /run/busy").ok();
        let stat = || group(&node, &uuid, "payload/cpu.stat");
        until("it is throttled", || number(&stat(), "nr_throttled ") > 0);
        let (begun, used, throttled) = (Instant::now(), number(&stat(), "usage_usec "), number(&stat(), "nr_throttled "));
        until("it was throttled often", || number(&stat(), "nr_throttled ") >= throttled + 20);
        let share = (number(&stat(), "usage_usec ") - used) as f64 / begun.elapsed().as_micros() as f64;
        assert!(share < 0.25, "a cap of a tenth gave {share}");
        node.guest(&uuid, "kill -9 $(cat /run/busy)");

        // Processes and threads.
        let refused = limited(
            &node,
            &uuid,
            "for i in 1 2 3 4 5 6 7 8 9 10; do for j in 1 2 3 4 5 6; do sleep 600 >/dev/null 2>&1 & done; done; true",
        );
        assert!(refused.stderr.contains("fork"), "sixty processes of forty: {}", refused.stderr);
        let held: u64 = group(&node, &uuid, "payload/pids.current").trim().parse().unwrap();
        assert!(held <= 40 && number(&group(&node, &uuid, "payload/pids.events"), "max ") > 0, "{held} processes");
        assert_eq!(node.state(&uuid), "running");
        node.vmadm(&["reboot", "-F", &uuid]).ok();

        // Memory: what fits is given, what does not is never had.
        limited(&node, &uuid, "dd if=/dev/zero of=/dev/null bs=20M count=1").ok();
        let events = || number(&group(&node, &uuid, "memory.events"), "oom_kill ");
        assert_eq!(events(), 0);
        let ended = limited(&node, &uuid, "dd if=/dev/zero of=/dev/null bs=200M count=1");
        assert_ne!(ended.code, Some(0), "200 MiB of 64 were had");
        until("the kernel counts the kill", || events() > 0);
        let peak: u64 = group(&node, &uuid, "memory.peak").trim().parse().unwrap();
        assert!(peak <= (64 << 20) + (8 << 20), "{peak} bytes");
        until("it runs, or it ended and says how", || match node.state(&uuid).as_str() {
            "running" => true,
            "stopped" => node.get(&uuid)["exit_status"] == -9,
            _ => false,
        });

        assert_eq!(node.state(&neighbour), "running");
        assert_eq!(number(&group(&node, &neighbour, "memory.events"), "oom_kill "), 0);
        assert_eq!(node.guest(&neighbour, "echo here"), "here\n");
        for uuid in [&uuid, &neighbour] {
            node.vmadm(&["delete", uuid]).ok();
        }
        assert_no_trace(&node, &before);
    }

    #[test]
    fn a_quota_bites_frees_and_grows() {
        let node = Node::with_image("quota");
        let uuid = node.create(&node.payload(5));
        // Not to be compressed, whatever compresses.
        node.guest(&uuid, "dd if=/dev/urandom of=/tmp/block bs=1M count=4 2>/dev/null");
        let fill = |name: &str| {
            let said = node
                .guest(&uuid, &format!("while cat /tmp/block 2>/tmp/why; do :; done > /{name}; cat /tmp/why; sync; stat -c %s /{name}"));
            let size: u64 = said.lines().last().unwrap().parse().unwrap();
            assert!(said.contains("quota") || said.contains("space"), "{said}");
            size >> 20
        };
        let first = fill("fill");
        assert!((900..=1024).contains(&first), "a quota of 1 GiB took {first} MiB");
        node.guest(&uuid, "rm /fill");
        until("space is free again", || node.try_guest(&uuid, "cat /tmp/block /tmp/block > /again").code == Some(0));
        let said = node.run_with("vmadm", &["update", &uuid], "{\"quota\": 2}", &[]).ok();
        assert!(said.stderr.contains("Successfully updated"), "{}", said.stderr);
        assert_eq!(run("zfs", &["get", "-Hpo", "value", "quota", &format!("zones/{uuid}")]), (2u64 << 30).to_string());
        node.vmadm(&["delete", &uuid]).ok();
    }

    /// Takes all of the pool but a few MiB; goes with the guard.
    struct Full;
    impl Full {
        const DATASET: &'static str = "zones/testbed/full";

        fn but(bytes: u64) -> Self {
            let free: u64 = run("zfs", &["get", "-Hpo", "value", "available", "zones"]).parse().unwrap();
            run("zfs", &["create", "-o", "mountpoint=none", "-o", &format!("refreservation={}", free - bytes), Self::DATASET]);
            Self
        }
    }
    impl Drop for Full {
        fn drop(&mut self) {
            let _ = Command::new("zfs").args(["destroy", Self::DATASET]).status();
        }
    }

    #[test]
    fn on_a_full_pool_guests_go_on_nothing_is_half_made_and_deletion_works() {
        let node = Node::with_image("fullpool");
        let (kept, doomed) = (node.create(&node.payload(5)), node.create(&node.payload(6)));
        node.guest(&kept, "dd if=/dev/urandom of=/tmp/block bs=1M count=4 2>/dev/null; sync");
        let before = node.traces();
        let full = Full::but(1 << 20);
        let said = node.guest(&kept, "while cat /tmp/block 2>/tmp/why; do :; done > /fill; cat /tmp/why; echo alive");
        assert!(said.contains("No space left") && said.ends_with("alive\n"), "{said}");

        let refused = node.run_with("vmadm", &["create"], &node.payload(7).to_string(), &[]);
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        let words = refused.stderr.to_lowercase();
        assert!(words.contains("space") || words.contains("quota"), "{}", refused.stderr);
        // Either nothing of it is left, or an instance that failed and can be deleted.
        for uuid in node.vmadm(&["lookup", "state=failed"]).ok().stdout.lines() {
            node.vmadm(&["delete", uuid]).ok();
        }
        assert_no_trace(&node, &before);
        assert_eq!(node.state(&kept), "running");
        assert_eq!(node.vmadm(&["list", "-H"]).ok().stdout.lines().count(), 2);
        node.vmadm(&["delete", &doomed]).ok();
        drop(full);
        node.guest(&kept, "rm /fill; cat /tmp/block > /again; sync");
        node.vmadm(&["stop", &kept]).ok();
        node.vmadm(&["start", &kept]).ok();
        node.vmadm(&["delete", &kept]).ok();
        assert_eq!(run("zpool", &["status", "-x"]), "all pools are healthy");
    }

    /// The right time, again, when it is dropped.
    struct RightTime(Instant, SystemTime);
    impl RightTime {
        fn remember() -> Self {
            Self(Instant::now(), SystemTime::now())
        }

        fn jump(&self, days: i64) {
            let now = (self.1 + self.0.elapsed()).duration_since(UNIX_EPOCH).unwrap().as_secs();
            run("date", &["-u", "-s", &format!("@{}", now.saturating_add_signed(days * 86400))]);
        }
    }
    impl Drop for RightTime {
        fn drop(&mut self) {
            self.jump(0);
        }
    }

    /// What `triton-boot-time` leaves once time servers have set the clock, which the test bed's node has none of.
    struct KeptBootTime;
    impl KeptBootTime {
        const FILE: &str = "/run/triton/boot-time";

        fn new(seconds: &str) -> Self {
            fs::write(Self::FILE, seconds).unwrap();
            Self
        }
    }
    impl Drop for KeptBootTime {
        fn drop(&mut self) {
            let _ = fs::remove_file(Self::FILE);
        }
    }

    #[test]
    fn a_clock_that_jumps_stops_no_agent_and_changes_no_guest() {
        let node = Node::with_image("clockjump");
        let headnode = Headnode::start(&node);
        let uuid = node.create(&node.payload(5));
        let server = headnode.server();
        let heartbeats = || {
            let record = http(&node, Headnode::CONTROL, "GET", "/record", None).body;
            record.matches(&format!("/servers/{server}/events/heartbeat")).count()
        };
        let pid = node.get(&uuid)["pid"].clone();
        let modified = || node.get(&uuid)["last_modified"].as_str().unwrap().to_owned();
        let mut last = modified();
        let boot_time = || node.run_with("sysinfo", &[], "", &[("ADMIN_IP", "127.0.0.1")]).ok().json()["Boot Time"].clone();
        let booted = boot_time();
        let _kept = KeptBootTime::new(&booted.to_string());
        let time = RightTime::remember();
        for (number, days) in [400, -800, 0].into_iter().enumerate() {
            time.jump(days);
            let count = heartbeats();
            until("the node is heard of after the jump", || heartbeats() >= count + 2);
            assert_eq!(headnode.task("nop", &json!({})).status, 200);
            assert_eq!((node.state(&uuid).as_str(), &node.get(&uuid)["pid"]), ("running", &pid), "{days} days");
            node.vmadm(&["update", &uuid, &format!("alias=jump{number}")]).ok();
            assert!(modified() > last, "{days} days: {last} {}", modified());
            assert_eq!(boot_time(), booted, "{days} days: the headnode would see a reboot (cn-agent case 52)");
            last = modified();
        }
        time.jump(-800);
        node.vmadm(&["reboot", &uuid]).ok();
        node.vmadm(&["stop", &uuid]).ok();
        node.vmadm(&["start", &uuid]).ok();
        assert_eq!(node.guest(&uuid, "echo here"), "here\n");
        time.jump(0);
        assert_eq!(node.state(&uuid), "running");
        node.vmadm(&["delete", &uuid]).ok();
    }

    /// net-agent section 11.3: who is in which VLAN is the bridge's matter, and guests see none.
    #[test]
    fn guests_of_one_vlan_reach_each_other_and_nobody_else() {
        let node = Node::with_image("vlans");
        let before = node.traces();
        let of = |host: u8, vlan: u16| {
            let mut payload = node.payload(host);
            payload["nics"][0]["vlan_id"] = json!(vlan);
            node.create(&payload)
        };
        let (one, two, other, untagged) = (of(5, 5), of(6, 5), of(7, 6), of(8, 0));
        let reaches = |from: &str, to: u8| node.try_guest(from, &format!("ping -c 2 -W 3 10.64.0.{to}")).code == Some(0);
        assert!(reaches(&one, 6) && reaches(&two, 5), "one VLAN");
        for (from, to) in [(&one, 7), (&one, 8), (&other, 5), (&untagged, 5), (&untagged, 7)] {
            assert!(!reaches(from, to), "{from} reaches 10.64.0.{to}");
        }
        let vlans: serde_json::Value = serde_json::from_str(&run("bridge", &["-j", "vlan", "show"])).unwrap();
        let ports: Vec<(String, u64)> = vlans
            .as_array()
            .unwrap()
            .iter()
            .filter(|port| port["ifname"].as_str().is_some_and(|name| name.starts_with("vt")))
            .flat_map(|port| {
                port["vlans"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|vlan| (port["ifname"].as_str().unwrap().to_owned(), vlan["vlan"].as_u64().unwrap()))
            })
            .collect();
        let mut seen: Vec<u64> = ports.iter().map(|(_, vlan)| *vlan).collect();
        seen.sort_unstable();
        assert_eq!(seen, [1, 5, 5, 6], "each port is in its VLAN alone: {ports:?}");
        for uuid in [&one, &two, &other, &untagged] {
            node.vmadm(&["delete", uuid]).ok();
        }
        assert_no_trace(&node, &before);
    }

    /// Ruling 9: `nft flush ruleset` takes the protection away; what repairs it is the next start of any instance.
    #[test]
    fn a_flush_of_all_rules_is_repaired_for_guests_that_run() {
        let node = Node::with_image("flush");
        let (one, two) = (node.create(&node.payload(5)), node.create(&node.payload(6)));
        let rules = || run("nft", &["list", "ruleset"]);
        assert!(rules().contains("10.64.0.5"));
        run("nft", &["flush", "ruleset"]);
        assert!(!rules().contains("10.64.0.5"));
        node.vmadm(&["reboot", "-F", &two]).ok();
        until_some("the guard is whole again", || {
            let now = rules();
            (now.contains("triton_guard") && now.contains("10.64.0.5") && now.contains("10.64.0.6")).then_some(())
        });
        node.guest(&one, "ip address add 10.64.0.66/24 dev eth0");
        assert_ne!(node.try_guest(&one, "ping -c 2 -W 2 -I 10.64.0.66 10.64.0.6").code, Some(0), "an address that is not its own");
        assert_eq!(node.try_guest(&one, "ping -c 2 -W 5 10.64.0.6").code, Some(0));
        for uuid in [&one, &two] {
            node.vmadm(&["delete", uuid]).ok();
        }
    }
}
