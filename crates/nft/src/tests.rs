//! On the real kernel, each test in a network namespace of its own; `nft` is the judge.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Command,
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};

use crate::*;

const TABLE: &str = "t_test";

/// Runs `test` in a new network namespace, which ends with it.
fn kernel(test: impl FnOnce(&mut Nft) + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test(&mut Nft::open().unwrap());
    };
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

fn nft(arguments: &str) -> String {
    let output = Command::new("nft").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "nft {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn new() -> Batch {
    Batch::new(Family::Bridge, TABLE).without_table().table_is_there()
}

const HOOK: ChainHook = ChainHook { hook: Hook::Prerouting, priority: -350, accept: true };

#[test]
fn kernel_one_element_is_found_without_reading_its_set() {
    kernel(|socket| {
        let key = |name: &str| Key::name(name);
        assert!(!socket.has_element(Family::Bridge, TABLE, "who", &key("vt0")).unwrap(), "without a table");
        let set = SetSpec::new("who", &[DataType::Interface]).counters();
        socket.commit(new().set(&set).elements("who", &[Element::new(key("vt0")).counted()])).unwrap();
        assert!(socket.has_element(Family::Bridge, TABLE, "who", &key("vt0")).unwrap());
        assert!(!socket.has_element(Family::Bridge, TABLE, "who", &key("vt")).unwrap());
        assert!(!socket.has_element(Family::Bridge, TABLE, "whom", &key("vt0")).unwrap(), "without the set");
        // What is asked next has its own answer.
        assert_eq!(socket.elements(Family::Bridge, TABLE, "who").unwrap().len(), 1);
    });
}

#[test]
fn kernel_what_is_written_reads_as_nft_would_write_it() {
    kernel(|socket| {
        let pairs = SetSpec::new("pairs", &[DataType::Interface, DataType::Mac]);
        let nets = SetSpec::new("nets", &[DataType::Interface, DataType::Ipv4]).intervals();
        let ports = SetSpec::new("who", &[DataType::Interface]).counters();
        let map = SetSpec::new("todo", &[DataType::Interface]).verdicts();
        let name = Key::name("vt0");
        let batch = new()
            .set(&pairs)
            .set(&nets)
            .set(&ports)
            .set(&map)
            .chain("other")
            .base_chain("first", HOOK)
            .elements("pairs", &[Element::new(name.clone().and(&[2, 0, 0, 0, 0, 1]))])
            .elements("nets", &[Element::range(name.clone().and(&[10, 0, 0, 0]), name.clone().and(&[10, 0, 255, 255]))])
            .elements("who", &[Element::new(name.clone()).counted()])
            .elements("todo", &[Element::new(name).verdict(Verdict::Jump("other".to_owned()))])
            .rule("first", &Rule::new().input_begins("vt").input_with(Payload::Link(6, 6), Lookup::NotIn, "pairs").count().drop())
            .rule("first", &Rule::new().protocol(17).bytes(Payload::Transport(2, 2), Compare::Equal, &[0, 53]).accept())
            .rule("first", &Rule::new().input(Lookup::Verdict, "todo"))
            .rule("other", &Rule::new().input_with(Payload::Network(12, 4), Lookup::In, "nets").back());
        socket.commit(batch).unwrap();
        let text = nft("list ruleset");
        for expected in [
            "type ifname . ether_addr",
            r#"elements = { "vt0" . 02:00:00:00:00:01 }"#,
            r#""vt0" . 10.0.0.0/16"#,
            r#""vt0" counter packets 0 bytes 0"#,
            r#""vt0" : jump other"#,
            "type filter hook prerouting priority -350; policy accept;",
            r#"iifname "vt*" iifname . ether saddr != @pairs counter packets 0 bytes 0 drop"#,
            "iifname vmap @todo",
            "@nets return",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    });
}

#[test]
fn kernel_a_change_is_made_whole_or_not_at_all_and_the_error_names_the_message() {
    kernel(|socket| {
        socket.commit(new().chain("kept")).unwrap();
        let error = socket.commit(new().chain("new").rule("absent", &Rule::new().drop())).unwrap_err();
        assert!(error.is_missing() && error.to_string().contains("add a rule to absent"), "{error}");
        let text = nft("list ruleset");
        assert!(text.contains("chain kept") && !text.contains("chain new"), "{text}");
    });
}

#[test]
fn kernel_elements_are_added_and_removed_whether_they_are_there_or_not_and_read_back() {
    kernel(|socket| {
        let set = SetSpec::new("s", &[DataType::Interface, DataType::Ipv4]).intervals();
        let key = |last: u8| Key::name("vt1").and_address(Ipv4Addr::new(10, 0, 0, last).into());
        let element = |last| Element::range(key(last), key(last));
        socket.commit(new().set(&set).elements("s", &[element(1), element(2)])).unwrap();
        let change = || Batch::new(Family::Bridge, TABLE);
        socket.commit(change().elements("s", &[element(2), element(3)])).unwrap();
        socket.commit(change().without_elements("s", &[element(1), element(9)])).unwrap();
        let mut stored = socket.elements(Family::Bridge, TABLE, "s").unwrap();
        stored.sort_by(|a, b| a.key.cmp(&b.key));
        let keys: Vec<_> = stored.iter().map(|stored| (stored.key.clone(), stored.last.clone())).collect();
        assert_eq!(keys, [2, 3].map(|last| (key(last), Some(key(last)))));
        assert!(stored[0].key.begins_with_name("vt1") && !stored[0].key.begins_with_name("vt"));
        assert_eq!(stored[0].key.after_name(), [10, 0, 0, 2]);
        let all: Vec<_> = stored.iter().map(Stored::element).collect();
        socket.commit(change().remove_elements("s", &all)).unwrap();
        assert!(socket.elements(Family::Bridge, TABLE, "s").unwrap().is_empty());
        assert!(socket.elements(Family::Bridge, TABLE, "absent").unwrap_err().is_missing());
    });
}

#[test]
fn kernel_elements_with_a_time_end_and_counters_are_read() {
    kernel(|socket| {
        let timed = SetSpec::new("timed", &[DataType::Interface]).timeouts();
        let counted = SetSpec::new("counted", &[DataType::Interface]).counters();
        let batch = new()
            .set(&timed)
            .set(&counted)
            .elements(
                "timed",
                &[
                    Element::new(Key::name("a")).timeout(Duration::from_secs(60)),
                    Element::new(Key::name("b")).timeout(Duration::from_millis(1)),
                ],
            )
            .elements("counted", &[Element::new(Key::name("a")).counted()]);
        socket.commit(batch).unwrap();
        let mut left = Vec::new();
        for _ in 0..1000 {
            left = socket.elements(Family::Bridge, TABLE, "timed").unwrap();
            if left.len() == 1 {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(left.len(), 1);
        assert!(left[0].left.is_some_and(|left| left <= Duration::from_secs(60) && left > Duration::from_secs(1)), "{left:?}");
        let counted = socket.elements(Family::Bridge, TABLE, "counted").unwrap();
        assert_eq!(counted[0].counter, Some(Counter::default()));
    });
}

#[test]
fn kernel_a_change_for_an_older_generation_is_refused() {
    kernel(|socket| {
        socket.commit(new()).unwrap();
        let generation = socket.generation().unwrap();
        socket.commit_if(Batch::new(Family::Bridge, TABLE).chain("a"), Some(generation)).unwrap();
        let error = socket.commit_if(Batch::new(Family::Bridge, TABLE).chain("b"), Some(generation)).unwrap_err();
        assert!(matches!(error, NftError::Changed), "{error}");
        assert!(!nft("list ruleset").contains("chain b"));
        assert!(socket.has_table(Family::Bridge, TABLE).unwrap());
        assert!(!socket.has_table(Family::Inet, TABLE).unwrap());
    });
}

#[test]
fn kernel_a_flush_by_somebody_else_is_noticed() {
    kernel(|socket| {
        socket.commit(new()).unwrap();
        let mut events = Events::open().unwrap();
        assert_eq!(events.wait(Duration::from_millis(1)).unwrap(), []);
        nft("flush ruleset");
        let changes = events.wait(Duration::from_secs(20)).unwrap();
        assert_eq!(changes[0], Change::Table(TABLE.to_owned()));
        assert!(matches!(changes[1], Change::End { pid, .. } if pid != std::process::id()));
        assert!(!socket.has_table(Family::Bridge, TABLE).unwrap());
    });
}

#[test]
fn kernel_a_large_set_is_loaded_in_one_change() {
    kernel(|socket| {
        let set = SetSpec::new("s", &[DataType::Interface, DataType::Ipv4]);
        let elements: Vec<_> = (0..20_000u32).map(|n| Element::new(Key::name(&format!("vt{n:05}")).and(&n.to_be_bytes()))).collect();
        socket.commit(new().set(&set).elements("s", &elements)).unwrap();
        assert_eq!(socket.elements(Family::Bridge, TABLE, "s").unwrap().len(), 20_000);
        socket.commit(Batch::new(Family::Bridge, TABLE).without_table()).unwrap();
        assert_eq!(nft("list ruleset"), "");
    });
}

/// A UDP datagram over loopback from one address to another, which tracking remembers.
fn talk(from: &str, to: &str) {
    let ends = [from, to].map(|address| std::net::UdpSocket::bind(format!("{address}:0")).unwrap());
    ends[0].send_to(b"x", ends[1].local_addr().unwrap()).unwrap();
    ends[1].recv(&mut [0; 1]).unwrap();
}

#[test]
fn kernel_connections_of_an_address_in_a_zone_are_forgotten_and_no_others() {
    kernel(|_| {
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        // Zone 5 for what goes to 127.0.0.5, zone 0 for the rest; before tracking, where packets of the machine itself begin.
        nft("add table inet zones");
        nft("add chain inet zones out { type filter hook output priority -300 ; }");
        nft("add rule inet zones out ip daddr 127.0.0.5 ct zone set 5");
        nft("add rule inet zones out ct state established accept");
        talk("127.0.0.2", "127.0.0.3");
        talk("127.0.0.2", "127.0.0.5");
        talk("127.0.0.4", "127.0.0.6");
        let mut connections = Connections::open().unwrap();
        let address = |last: u8| IpAddr::from([127, 0, 0, last]);
        let mut forget = |these: &[(u16, IpAddr)]| connections.forget(|zone, address| these.contains(&(zone, address)));
        assert_eq!(forget(&[(9, address(2)), (0, address(9))]).unwrap(), 0, "another zone, another address");
        assert_eq!(forget(&[(5, address(2))]).unwrap(), 1, "the zone tells them apart");
        assert_eq!(forget(&[(0, address(3))]).unwrap(), 1, "either end counts");
        assert_eq!(forget(&[(0, address(2)), (5, address(5))]).unwrap(), 0, "they are gone");
        assert_eq!(forget(&[(0, address(6))]).unwrap(), 1, "others were left");
    });
}

#[test]
fn names_are_filled_up_and_cut_to_what_an_interface_can_have() {
    assert_eq!(&name_bytes("vt0")[..4], b"vt0\0");
    assert_eq!(name_bytes("0123456789abcdefgh"), *b"0123456789abcde\0");
    assert_eq!(Key::raw(&[1]).and(&[2, 3]).bytes(), [1, 2, 3, 0]);
}

#[test]
fn kernel_maps_spans_comments_and_names_are_read_back() {
    kernel(|socket| {
        let port = |number: u16| Key::raw(&number.to_be_bytes());
        let spans: Vec<Element> = [(80, 90), (443, 443), (60_000, 65_535)]
            .into_iter()
            .flat_map(|(first, last)| Element::span(port(first), &port(last)))
            .collect();
        assert_eq!(spans.iter().filter(|element| element.is_end()).count(), 2, "nothing is behind the last port");
        let zones = SetSpec::new("zones", &[DataType::Interface, DataType::Vlan]).values(DataType::Short);
        let name = Key::name("br0").and(&[0, 5]);
        let batch = new()
            .set(&SetSpec::new("ports", &[DataType::Port]).intervals())
            .set(&SetSpec::new("todo", &[DataType::Interface]).verdicts())
            .set(&zones)
            .elements("ports", &spans)
            .chain("old")
            .rule("old", &Rule::new().bytes_in(Payload::Transport(2, 2), Lookup::In, "ports").comment("rule of ports").count().drop())
            .elements("todo", &[Element::new(Key::name("vt0")).verdict(Verdict::Jump("old".to_owned()))])
            .elements("zones", &[Element::new(name.clone()).value(Key::raw(&7_u16.to_ne_bytes()))]);
        socket.commit(batch).unwrap();
        assert!(nft("list set bridge t_test ports").contains("elements = { 80-90, 443, 60000-65535 }"), "{}", nft("list ruleset"));
        assert!(nft("list chain bridge t_test old").contains("comment \"rule of ports\""));
        assert!(nft("list map bridge t_test zones").contains("\"br0\" . 5 : "), "{}", nft("list map bridge t_test zones"));
        assert_eq!(socket.chains(Family::Bridge, TABLE).unwrap(), ["old"]);
        let mut sets = socket.sets(Family::Bridge, TABLE).unwrap();
        sets.sort();
        assert_eq!(sets, ["ports", "todo", "zones"]);
        assert_eq!(socket.elements(Family::Bridge, TABLE, "todo").unwrap()[0].chain.as_deref(), Some("old"));
        let zone = &socket.elements(Family::Bridge, TABLE, "zones").unwrap()[0];
        assert_eq!((&zone.key, &zone.value), (&name, &Some(Key::raw(&7_u16.to_ne_bytes()))));
        let rules = socket.rules(Family::Bridge, TABLE, "old").unwrap();
        let [StoredRule { chain, handle, comment, counter }] = rules.as_slice() else { panic!("{rules:?}") };
        assert_eq!((comment.as_deref(), *counter), (Some("rule of ports"), Some(Counter::default())));
        // What is made together has numbers that follow each other.
        let chains = socket.all_chains(Family::Bridge, TABLE).unwrap();
        assert_eq!(chains.iter().find(|made| made.name == *chain).unwrap().handle + 1, *handle);
        assert_eq!(socket.all_rules(Family::Bridge, TABLE, |rule, _| rule.chain).unwrap(), [chain.as_str()]);
        // One change leads the link to another chain, and removes the one before it and its set.
        let element = Element::new(Key::name("vt0"));
        let batch = Batch::new(Family::Bridge, TABLE)
            .chain("new")
            .remove_elements("todo", std::slice::from_ref(&element))
            .elements("todo", &[element.verdict(Verdict::Jump("new".to_owned()))])
            .without_chain("old")
            .without_set("ports");
        socket.commit(batch).unwrap();
        assert_eq!(socket.chains(Family::Bridge, TABLE).unwrap(), ["new"]);
        assert_eq!(socket.elements(Family::Bridge, TABLE, "todo").unwrap()[0].chain.as_deref(), Some("new"));
        // What is in use is not removed, and then nothing is.
        assert!(socket.commit(Batch::new(Family::Bridge, TABLE).without_set("zones").without_chain("new")).is_err());
        assert_eq!(socket.sets(Family::Bridge, TABLE).unwrap().len(), 2);
        assert_eq!(socket.chains(Family::Bridge, "not_there").unwrap(), Vec::<String>::new());
    });
}
