//! The Cloud Firewall of a full node: the whole table, one rule, memory, and what a packet pays.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket},
};
use serde_json::json;
use triton_files::Layout;
use triton_firewall::{Change, Compiler, Filter, Firewall, LocalVm, News, Port};
use triton_fwrule::{Options, RemoteVm, Rule, VmFacts};
use triton_link::NetNs;
use triton_types::JsonMap;

use crate::{
    figures::{Figure, median, rss_kib},
    timed,
};

const OWNERS: usize = 200;
/// Frames of one measurement of speed.
const FRAMES: u32 = 100_000;

fn uuid(kind: u8, number: usize) -> String {
    format!("{kind:02x}000000-0000-4000-8000-{number:012x}")
}

fn object(value: serde_json::Value) -> JsonMap {
    match value {
        serde_json::Value::Object(object) => object,
        _ => JsonMap::new(),
    }
}

fn address(kind: u8, number: usize) -> IpAddr {
    let [.., b, c, d] = (number as u32).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(kind, b, c, d))
}

fn link(number: usize) -> String {
    format!("vt{number}")
}

fn locals(count: usize) -> Vec<LocalVm> {
    (0..count)
        .map(|number| {
            let vm = json!({
                "uuid": uuid(0xa0, number), "owner_uuid": uuid(0xb0, number % OWNERS), "firewall_enabled": true, "state": "running",
                "nics": [{"ip": address(10, number)}], "tags": {"role": if number % 2 == 0 { "www" } else { "db" }, "number": number % 20},
            });
            let facts = VmFacts::from_object(&object(vm)).expect("a VM");
            let port = Port { link: link(number), networks: vec![("br0".to_owned(), 1)], dhcp: false, addrconf: false };
            LocalVm { facts, ports: vec![port] }
        })
        .collect()
}

fn remotes(count: usize) -> Vec<RemoteVm> {
    let vm = |number: usize| {
        json!({"uuid": uuid(0xc0, number), "owner_uuid": uuid(0xb0, number % OWNERS), "ips": [address(11, number)],
            "tags": {"role": if number.is_multiple_of(2) { "www" } else { "db" }}})
    };
    (0..count).map(|number| RemoteVm::parse(&object(vm(number))).expect("a remote VM")).collect()
}

fn rule(number: usize, port: usize) -> Rule {
    let text = match (number / OWNERS + number) % 5 {
        0 => format!("FROM any TO tag role = www ALLOW tcp PORT {port}"),
        1 => format!("FROM tag role = www TO tag role = db ALLOW tcp PORTS {port}, {} - {}", port + 10, port + 20),
        2 => format!("FROM subnet 172.16.{}.0/24 TO all vms ALLOW udp PORT {port}", number % 256),
        3 => format!("FROM tag number = {} TO any BLOCK tcp PORT {port}", number % 20),
        _ => format!("FROM (ip 192.0.2.{} OR tag role = www) TO tag number = {} ALLOW tcp PORT {port}", number % 250 + 1, number % 20),
    };
    let rule = json!({"uuid": uuid(0xd0, number), "owner_uuid": uuid(0xb0, number % OWNERS), "enabled": true, "rule": text});
    Rule::from_json(&rule, &Options::default()).expect("a rule")
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let ran = Command::new(words.next().unwrap_or_default()).args(words).stdout(Stdio::null()).status();
    assert!(ran.is_ok_and(|status| status.success()), "{line}");
}

/// All figures, in a namespace and a folder that end with them.
pub fn figures(instances: usize, rounds: usize) -> Vec<Figure> {
    let namespace = NetNs::create().expect("a network namespace");
    let _entered = namespace.enter().expect("the namespace");
    let root = std::env::temp_dir().join(format!("triton-bench-firewall-{}", std::process::id()));
    fs::create_dir_all(root.join("run/triton")).expect("disk");
    let figures = measured(&Layout::new(&root), instances, rounds);
    let _ = fs::remove_dir_all(&root);
    figures
}

fn measured(layout: &Layout, instances: usize, rounds: usize) -> Vec<Figure> {
    let before = rss_kib(i64::from(std::process::id())).unwrap_or_default();
    let (locals, remotes) = (locals(instances), remotes(instances * 10));
    let mut rules: Vec<Rule> = (0..instances * 5 / 2).map(|number| rule(number, 1000 + number % 5000)).collect();
    let mut known: BTreeMap<_, _> = rules.iter().map(|rule| (rule.uuid, rule.clone())).collect();
    let known_remotes: BTreeMap<_, _> = remotes.iter().map(|vm| (vm.uuid, vm.clone())).collect();
    let mut filter = Filter::open(layout).expect("nf_tables");
    let [wire_bare, wire_before] = [(); 2].map(|()| wire());
    let mut compiler = Compiler::default();
    let compiling = timed(|| compiler.update(&known, &known_remotes, &locals, &News::everything()));
    let mut messages = 0;
    let applying = timed(|| messages = filter.follow(&mut compiler, false).expect("the table").messages);
    let mut other = Filter::open(layout).expect("nf_tables");
    let again = timed(|| assert_eq!(other.apply(compiler.desired()).expect("the table").messages, 0, "nothing differs"));
    let memory = rss_kib(i64::from(std::process::id())).unwrap_or_default().saturating_sub(before);
    // The same set, by `nft`.
    let file = layout.at("/run/triton/table.nft");
    let listed = Command::new("nft").args(["list", "table", "bridge", "triton_fw"]).output().expect("nft").stdout;
    let text = [b"delete table bridge triton_fw\n".as_slice(), &listed].concat();
    fs::write(&file, text).expect("disk");
    let by_nft = timed(|| run(&format!("nft -f {}", file.display())));
    filter.apply(&Default::default()).expect("no table");
    filter.apply(compiler.desired()).expect("the table");
    filter.follow(&mut compiler, false).expect("the table");
    let wire_full = wire();
    let (mut ours, mut compiled, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let number = 3 + 5 * round;
        rules[number] = rule(number, 40_000 + round);
        let changed = rules[number].clone();
        let news = News { rules: [changed.uuid].into(), ..News::default() };
        known.insert(changed.uuid, changed);
        let mut alone = Duration::ZERO;
        let time = timed(|| {
            alone = timed(|| compiler.update(&known, &known_remotes, &locals, &news));
            filter.follow(&mut compiler, false).expect("the change");
        });
        if round > 0 {
            ours.push(time.as_secs_f64() * 1e3);
            compiled.push(alone.as_secs_f64() * 1e3);
        }
    }
    // Afterwards: what `nft` adds is somebody else's change, after which everything is compared.
    for round in 0..=rounds {
        let line =
            format!("nft add rule bridge triton_fw answers ip saddr 192.0.2.{} tcp dport {} counter drop", round + 1, 41_000 + round);
        let nft = timed(|| run(&line));
        if round > 0 {
            theirs.push(nft.as_secs_f64() * 1e3);
        }
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let agents = as_the_agent_does(layout, &locals, &mut rules, &remotes, rounds);
    let name = format!("firewall: {} VMs, {} rules, {} remote VMs", instances, rules.len(), remotes.len());
    let mut figures = vec![
        Figure::new(&format!("{name}: messages"), messages as f64, "", "-"),
        Figure::new("  compiled", ms(compiling), "ms", "-"),
        Figure::new("  put in force, one transaction", ms(applying), "ms", "2000"),
        Figure::new("  the same by nft -f", ms(by_nft), "ms", "-"),
        Figure::new("  ours / nft -f", ms(applying) / ms(by_nft), "x", "-"),
        Figure::new("  compared by another process, when nothing differs", ms(again), "ms", "-"),
        Figure::new("  one rule changed (compiled and put in force)", median(&ours), "ms", "20"),
        Figure::new("    compiled", median(&compiled), "ms", "-"),
        Figure::new("  one rule added by nft", median(&theirs), "ms", "-"),
        Figure::new("  ours / nft", median(&ours) / median(&theirs), "x", "-"),
        Figure::new("  memory of this process for it", memory as f64 / 1024.0, "MiB", "-"),
        Figure::new("  packets a second: second run without a table / first", wire_before / wire_bare, "x", "-"),
        Figure::new("  packets a second: through all of it / without a table", wire_full / wire_bare.max(wire_before), "x", "-"),
        Figure::new("  packets a second without a table", wire_bare.max(wire_before), "/s", "-"),
        Figure::new("  packets a second through all of it", wire_full, "/s", "-"),
    ];
    figures.extend(agents);
    figures
}

/// With the files of `/var/fw`, as firewaller changes rules: all of a first comparison, then one rule at a time.
fn as_the_agent_does(layout: &Layout, locals: &[LocalVm], rules: &mut [Rule], remotes: &[RemoteVm], rounds: usize) -> Vec<Figure> {
    layout.prepare().expect("disk");
    let before = rss_kib(i64::from(std::process::id())).unwrap_or_default();
    let mut firewall = Firewall::open(layout).expect("nf_tables");
    let replace =
        |rules: Vec<Rule>, remote_vms: Vec<RemoteVm>| Change::Replace { rules, remote_vms, no_rules: vec![], no_remote_vms: vec![] };
    let change = |firewall: &mut Firewall, wanted: &Change| {
        timed(|| drop(firewall.change(wanted, || Ok(locals.to_vec())).expect("the change"))).as_secs_f64() * 1e3
    };
    let all = change(&mut firewall, &replace(rules.to_vec(), remotes.to_vec()));
    let memory = rss_kib(i64::from(std::process::id())).unwrap_or_default().saturating_sub(before);
    let mut one = Vec::new();
    for round in 0..=rounds {
        let number = 4 + 5 * round;
        rules[number] = rule(number, 42_000 + round);
        one.push(change(&mut firewall, &replace(vec![rules[number].clone()], vec![])));
    }
    let closely = timed(|| {
        firewall.repair(|| Ok(locals.to_vec())).expect("whole");
    });
    let closely = closely.as_secs_f64() * 1e3;
    vec![
        Figure::new("  a first comparison: all files written, all in force", all, "ms", "-"),
        Figure::new("  one rule: its file written, in force", median(&one[1..]), "ms", "100"),
        Figure::new("  every line of the table compared", closely, "ms", "-"),
        Figure::new("  memory of this process for it", memory as f64 / 1024.0, "MiB", "-"),
    ]
}

/// UDP packets a second from one port of a bridge to another, the first and last instance's when there is a table.
fn wire() -> f64 {
    run("ip link add br0 type bridge mcast_snooping 0");
    run("ip link set br0 up");
    for (name, mac) in [("vt0", "02:08:20:00:00:01"), ("vt1", "02:08:20:00:00:02")] {
        run(&format!("ip link add {name} address fe:08:20:00:00:0{} type veth peer name p{name} address {mac}", &name[2..]));
        run(&format!("ip link set {name} master br0"));
        run(&format!("ip link set {name} up"));
        run(&format!("ip link set p{name} up"));
        run(&format!("bridge fdb add {mac} dev {name} master static"));
    }
    let (from, to) = (raw("pvt0"), raw("pvt1"));
    let frame = admitted();
    let marker = [&[0xff; 6][..], &[2, 8, 0x20, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[0; 38]].concat();
    let begin = Instant::now();
    for _ in 0..FRAMES {
        while send(from.as_raw_fd(), &frame, MsgFlags::empty()).is_err() {}
    }
    send(from.as_raw_fd(), &marker, MsgFlags::empty()).expect("the marker");
    let mut buffer = [0; 2048];
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut fds = [PollFd::new(to.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(1000_u16)).expect("poll");
        let got = recv(to.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).unwrap_or(0);
        // A full socket loses the marker: it is sent again.
        if buffer.get(12..14) == Some(&[8, 6]) && got > 0 {
            break;
        }
        if got == 0 {
            let _ = send(from.as_raw_fd(), &marker, MsgFlags::empty());
        }
        assert!(Instant::now() < deadline, "nothing arrives");
    }
    let speed = f64::from(FRAMES) / begin.elapsed().as_secs_f64();
    for name in ["vt0", "vt1", "br0"] {
        run(&format!("ip link delete {name}"));
    }
    speed
}

/// A UDP packet to instance 1 that rule 201 of its owner admits. It has no UDP checksum, which is none that is wrong.
fn admitted() -> Vec<u8> {
    const RULE: usize = 201;
    let mut header = [0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, 17, 0, 0, 172, 16, RULE as u8, 1, 10, 0, 0, 1];
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    let port = (1000 + RULE as u16).to_be_bytes();
    let mut frame = [&[2, 8, 0x20, 0, 0, 2, 2, 8, 0x20, 0, 0, 1, 8, 0][..], &header, &[0x4e, 0x20], &port, &[0, 26, 0, 0]].concat();
    frame.resize(60, 0);
    frame
}

fn raw(interface: &str) -> OwnedFd {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).expect("a socket");
    let mut addresses = getifaddrs().expect("interfaces");
    let address = addresses.find_map(|own| (own.interface_name == interface).then(|| own.address?.as_link_addr().copied())?);
    bind(socket.as_raw_fd(), &address.expect("the link")).expect("bind");
    socket
}
