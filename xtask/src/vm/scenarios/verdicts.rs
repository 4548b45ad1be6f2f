//! Issue 7: what passes between guests of two nodes is what the rules' oracle says. Random rules are given to both nodes; frames of every
//! kind go over the wire between them, their answers come back.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::IpAddr,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use triton_fwrule::{Direction, Flow, Packet, Rule, Verdict, VmFacts, Vms, decide};
use triton_types::Mac;
use triton_wire::{
    frames::{self, FLOWS, Segment},
    world::{self, Dice, VMS},
};

use super::{
    super::{
        bed::Bed,
        node::BED,
        probe::{frame, hex},
    },
    vm, wire,
};

/// Sets of rules.
const ROUNDS: usize = 6;
/// The instances by their numbers in the world: two here, two there.
const HERE: [usize; 2] = [0, 2];
const THERE: [usize; 2] = [3, 4];
/// Who sends to whom in each round.
const WAYS: [(usize, usize); 5] = [(0, 3), (3, 0), (2, 4), (4, 2), (3, 2)];
/// What is admitted from everybody in half of the rounds.
const ADMITTING: [&str; 6] = ["tcp PORT all", "udp PORT all", "icmp TYPE all", "icmp6 TYPE all", "ah", "esp"];
/// Ports of fragmented datagrams.
const FRAGMENTED: [u16; 2] = [22, 9998];

/// An instance of one of the two nodes.
struct Guest {
    facts: VmFacts,
    mac: [u8; 6],
    /// Of its first process.
    pid: String,
    /// Its NIC as the guest has it.
    link: String,
}

/// What was sent, and what is to come of it.
struct Sent {
    flow: Flow,
    ipv6: bool,
    source: u16,
    /// It passes the sender's node; it passes both.
    passes: [bool; 2],
}

/// Two nodes with two guests each.
struct Nodes<'a> {
    beds: [&'a mut Bed; 2],
    guests: Vec<(usize, Guest)>,
    sources: u16,
    compared: usize,
}

/// Two nodes, random rules, all kinds of frames.
pub fn across(first: &mut Bed) -> Result<()> {
    vm::with_image(first)?;
    let mut second = wire::second(first)?;
    let image = vm::image(first)?;
    let mut nodes = Nodes { beds: [first, &mut second], guests: Vec::new(), sources: 10_000, compared: 0 };
    for number in HERE.into_iter().chain(THERE) {
        let guest = nodes.create(&image, number).with_context(|| format!("guest {number}"))?;
        nodes.guests.push((number, guest));
    }
    let (mut dice, mut passed) = (Dice(20_261_128), 0);
    for round in 0..ROUNDS {
        let mut rules: Vec<Rule> = (0..3 + dice.roll(10)).map(|_| dice.rule()).collect();
        // Few random rules admit anything: some rounds begin with all of a protocol.
        rules.extend(
            ADMITTING.into_iter().filter(|_| dice.roll(2) == 0).map(|of| world::rule(None, &format!("FROM any TO all vms ALLOW {of}"))),
        );
        nodes.take(&rules)?;
        for (from, to) in WAYS {
            let texts: Vec<String> = rules.iter().map(|rule| format!("{:?} {} {}", rule.owner, rule.enabled, rule.spec)).collect();
            passed += nodes
                .compare(&rules, from, to)
                .with_context(|| format!("round {round}, guest {from} to guest {to}, rules:\n{}", texts.join("\n")))?;
        }
        for bed in &mut nodes.beds {
            let uuids: Vec<String> = rules.iter().map(|rule| rule.uuid.to_string()).collect();
            bed.run(&format!("fwadm delete {}", uuids.join(" ")))?;
        }
    }
    let compared = nodes.compared;
    ensure!(compared > 900 && passed > 100 && passed < compared - 100, "{passed} of {compared} passed: that says nothing");
    nodes.beds.iter_mut().try_for_each(|bed| vm::sound(bed))
}

fn node(number: usize) -> usize {
    usize::from(THERE.contains(&number))
}

fn object(number: usize) -> Value {
    let ips = world::addresses(number).map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 16 } else { 64 }));
    json!({"uuid": VMS[number], "owner_uuid": world::owner(number), "tags": world::tags(number), "firewall_enabled": true,
        "nics": [{"nic_tag": "external", "mac": format!("02:08:20:00:07:{number:02x}"), "ips": ips, "primary": true}]})
}

impl Nodes<'_> {
    fn create(&mut self, image: &str, number: usize) -> Result<Guest> {
        let bed = &mut *self.beds[node(number)];
        let mut payload = vm::payload(image, 100, true);
        let mut facts = object(number);
        for (key, value) in facts.as_object().into_iter().flatten() {
            payload[key] = value.clone();
        }
        payload["alias"] = format!("guest{number}").into();
        vm::create(bed, &payload)?;
        let pid = vm::property(bed, VMS[number], ".pid")?;
        let mac: Mac = vm::property(bed, VMS[number], ".nics[0].mac")?.parse().context("the MAC address of its NIC")?;
        let link = vm::guest(bed, VMS[number], &format!("grep -il {mac} /sys/class/net/*/address"))?;
        let link = link.trim().split('/').nth(4).context("it has no NIC with its address")?.to_owned();
        facts["state"] = "running".into();
        let facts = facts.as_object().context("it is an object")?;
        Ok(Guest { facts: VmFacts::from_object(facts).map_err(anyhow::Error::msg)?, mac: mac.0, pid, link })
    }

    /// Gives both nodes the rules, and each what it has to know of the other's instances.
    fn take(&mut self, rules: &[Rule]) -> Result<()> {
        let rules: Vec<Value> = rules.iter().map(Rule::to_json).collect();
        for (at, others) in [(0, THERE), (1, HERE)] {
            let remote: Vec<Value> = others
                .iter()
                .map(|number| {
                    let mut object = object(*number);
                    object["state"] = "running".into();
                    object
                })
                .collect();
            let change = json!({"rules": rules, "remoteVMs": remote});
            self.beds[at].run(&format!("fwadm add -f - <<'END'\n{change}\nEND"))?;
        }
        Ok(())
    }

    fn guest(&self, number: usize) -> Result<&Guest> {
        self.guests.iter().find_map(|(other, guest)| (*other == number).then_some(guest)).context("no such guest")
    }

    fn probe(&self, number: usize, words: &str) -> Result<Command> {
        let guest = self.guest(number)?;
        let script = format!("nsenter -t {} -n {BED}/xtask probe-wire --link {} {words}", guest.pid, guest.link);
        let mut command = self.beds[node(number)].ssh().command(&script);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(command)
    }

    /// What arrives at one guest when the other sends these frames, up to a frame that nobody filters.
    fn collected(&mut self, from: usize, to: usize, sent: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        self.sources += 1;
        let last = frames::arp_request((self.guest(from)?.mac, world::addresses(from)[0]), world::addresses(to)[0], self.sources);
        let mut listens = self.probe(to, &format!("--last {} listen", hex(&last)))?.spawn().context("could not run ssh")?;
        let mut lines = BufReader::new(listens.stdout.take().context("ssh has no output")?).lines();
        let begins = lines.next().transpose().context("could not read what ssh says")?;
        ensure!(begins.as_deref() == Some("listening"), "nobody listens: {begins:?}");
        let mut sends = self.probe(from, "send")?.spawn().context("could not run ssh")?;
        let mut into = sends.stdin.take().context("ssh has no input")?;
        for frame in sent.iter().chain([&last]) {
            writeln!(into, "{}", hex(frame)).context("could not send")?;
        }
        drop(into);
        ended(sends, "the sender")?;
        let came = lines.map(|line| frame(line.context("could not read what ssh says")?.trim())).collect::<Result<_>>();
        ended(listens, "who listens")?;
        came
    }

    /// Compares every flow with the oracle, and what answers it. The number of those that passed.
    fn compare(&mut self, rules: &[Rule], from: usize, to: usize) -> Result<usize> {
        for bed in &mut self.beds {
            bed.run(&format!("{BED}/xtask probe-wire forget"))?;
        }
        let facts: Vec<VmFacts> = self.guests.iter().map(|(_, guest)| guest.facts.clone()).collect();
        let says = |number: usize, direction, remote: IpAddr, flow| {
            let vms = Vms { local: &facts, remote: &[] };
            let vm = self.guest(number)?.facts.uuid;
            Ok::<bool, anyhow::Error>(decide(rules, &vms, &Packet { vm, direction, remote, flow }) == Verdict::Allow)
        };
        let ends = |ipv6: bool| -> Result<[([u8; 6], IpAddr); 2]> {
            let end = |number: usize| Ok::<_, anyhow::Error>((self.guest(number)?.mac, world::addresses(number)[usize::from(ipv6)]));
            Ok([end(from)?, end(to)?])
        };
        let judged = |flow, ipv6: bool| -> Result<[bool; 2]> {
            let [(_, here), (_, there)] = ends(ipv6)?;
            let leaves = says(from, Direction::Out, there, flow)?;
            Ok([leaves, leaves && says(to, Direction::In, here, flow)?])
        };
        let (mut sent, mut all, mut source) = (Vec::new(), Vec::new(), self.sources);
        for ipv6 in [false, true] {
            let [one, other] = ends(ipv6)?;
            for flow in FLOWS.into_iter().filter(|flow| !matches!((flow, ipv6), (Flow::Icmp(..), true) | (Flow::Icmp6(..), false))) {
                source += 1;
                all.push(frames::packet(one, other, flow, source, Segment::Syn));
                sent.push(Sent { flow, ipv6, source, passes: judged(flow, ipv6)? });
            }
        }
        let mut fragmented = Vec::new();
        for (ipv6, port) in [false, true].into_iter().flat_map(|ipv6| FRAGMENTED.map(|port| (ipv6, port))) {
            source += 1;
            let [one, other] = ends(ipv6)?;
            let (parts, payload) = frames::fragments(one, other, port, source, source);
            // Of each datagram alone: reassembled IPv6 ones have another identification.
            fragmented.push((parts, payload, source, ipv6, port, judged(Flow::Udp(port), ipv6)?[1]));
        }
        let mut answers = Vec::new();
        for sent in sent.iter().filter(|sent| matches!(sent.flow, Flow::Udp(_))) {
            let (Flow::Udp(port), [one, other]) = (sent.flow, ends(sent.ipv6)?) else { continue };
            // Who let the question pass lets the answer pass; for the others it is a flow of its own.
            let back = Flow::Udp(sent.source);
            let leaves = sent.passes[1] || says(to, Direction::Out, one.1, back)?;
            let arrives = leaves && (sent.passes[0] || says(from, Direction::In, other.1, back)?);
            answers.push((frames::packet(other, one, back, port, Segment::Syn), sent.flow, arrives));
        }
        self.sources = source;

        let came: BTreeSet<Vec<u8>> = self.collected(from, to, &all)?.into_iter().collect();
        for (sent, frame) in sent.iter().zip(&all) {
            let arrived = came.contains(frame);
            ensure!(arrived == sent.passes[1], "{:?} (ipv6: {}): arrived: {arrived}", sent.flow, sent.ipv6);
        }
        let back: Vec<Vec<u8>> = answers.iter().map(|(frame, ..)| frame.clone()).collect();
        let came: BTreeSet<Vec<u8>> = self.collected(to, from, &back)?.into_iter().collect();
        for (frame, flow, arrives) in &answers {
            ensure!(came.contains(frame) == *arrives, "the answer to {flow:?}: arrived: {}", !arrives);
        }
        for (parts, payload, source, ipv6, port, passes) in &fragmented {
            let came = frames::reassembled(&self.collected(from, to, parts)?, *source);
            let wanted: &[u8] = if *passes { payload } else { &[] };
            ensure!(came == wanted, "a datagram to port {port} in fragments (ipv6: {ipv6}): {} of its bytes arrived", came.len());
        }
        self.compared += sent.len() + answers.len() + fragmented.len();
        Ok(sent.iter().filter(|sent| sent.passes[1]).count() + fragmented.iter().filter(|all| all.5).count())
    }
}

fn ended(child: Child, who: &str) -> Result<()> {
    let output = child.wait_with_output().context("could not wait for ssh")?;
    if !output.status.success() {
        bail!("{who} ended with {}", output.status);
    }
    Ok(())
}
