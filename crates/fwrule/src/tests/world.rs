//! The instances of section 15.2, and probes of what rules say about them.

use serde_json::{Value, json};

use crate::{Direction, Flow, Options, Packet, RemoteVm, Rule, Verdict, VmFacts, Vms, decide};

const O1: &str = "e6c73bd2-fae4-4e0a-af76-2c05d088b066";
const O2: &str = "930896af-bf8c-48d4-885c-6573a94b1853";

/// The uuid behind a name of the tables.
fn uuid(name: &str) -> &'static str {
    match name {
        "A" => "00000000-0000-4000-8000-00000000000a",
        "B" => "00000000-0000-4000-8000-00000000000b",
        "C" => "00000000-0000-4000-8000-00000000000c",
        "D" => "00000000-0000-4000-8000-00000000000d",
        "E" => "00000000-0000-4000-8000-00000000000e",
        "R1" => "00000000-0000-4000-8000-000000000101",
        "R2" => "00000000-0000-4000-8000-000000000102",
        "R3" => "00000000-0000-4000-8000-000000000103",
        _ => panic!("no instance is named {name}"),
    }
}

fn local(name: &str, owner: &str, ips: &[&str], tags: &Value, firewall: bool, state: &str) -> VmFacts {
    let nics: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    let object = json!({"uuid": uuid(name), "owner_uuid": owner, "tags": tags, "nics": nics, "firewall_enabled": firewall, "state": state});
    VmFacts::from_object(object.as_object().unwrap()).unwrap()
}

fn remote(name: &str, owner: Option<&str>, ips: &[&str]) -> RemoteVm {
    let mut object = json!({"uuid": uuid(name), "ips": ips, "tags": {"role": "db"}});
    if let Some(owner) = owner {
        object["owner_uuid"] = json!(owner);
    }
    RemoteVm::with_ips(object.as_object().unwrap()).unwrap()
}

fn rule((kind, text): &(&str, &str)) -> Rule {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for index in 1..words.len() {
        if words[index - 1].trim_start_matches('(') == "vm" {
            let name = words[index].trim_end_matches(')');
            words[index] = words[index].replacen(name, uuid(name), 1);
        }
    }
    let mut object = json!({"rule": words.join(" "), "enabled": !kind.ends_with("disabled")});
    match kind.split(' ').next() {
        Some("O1") => object["owner_uuid"] = json!(O1),
        Some("O2") => object["owner_uuid"] = json!(O2),
        _ => object["global"] = json!(true),
    }
    Rule::from_json(&object, &Options { enforce_global: true, ..Options::default() }).unwrap()
}

/// A probe as the table writes it: `A in 10.8.0.1 tcp/22`.
fn packet(probe: &str) -> Packet {
    let words: Vec<_> = probe.split(' ').collect();
    let [vm, direction, remote, what] = words[..] else { panic!("{probe:?} is no probe") };
    let (name, detail) = what.split_once('/').unwrap_or((what, ""));
    let pair = || detail.split_once(':').map(|(number, code)| (number.parse().unwrap(), code.parse().unwrap())).unwrap();
    let flow = match name {
        "tcp" => Flow::Tcp(detail.parse().unwrap()),
        "udp" => Flow::Udp(detail.parse().unwrap()),
        "icmp" => Flow::Icmp(pair().0, pair().1),
        "icmp6" => Flow::Icmp6(pair().0, pair().1),
        "ah" => Flow::Ah,
        "esp" => Flow::Esp,
        _ => panic!("{name} is no protocol"),
    };
    let direction = if direction == "in" { Direction::In } else { Direction::Out };
    Packet { vm: uuid(vm).parse().unwrap(), direction, remote: remote.parse().unwrap(), flow }
}

/// Asserts what the rules say about a packet.
pub(super) fn probe(rules: &[(&str, &str)], probe: &str, verdict: &str) {
    let rules: Vec<_> = rules.iter().map(rule).collect();
    let locals = [
        local("A", O1, &["10.0.0.1"], &json!({"role": "www"}), true, "running"),
        local("B", O1, &["10.0.0.2", "fd00::2"], &json!({"role": "db", "n": 1, "flag": true}), true, "running"),
        local("C", O2, &["10.0.0.3"], &json!({"role": "www"}), true, "running"),
        local("D", O1, &["10.0.0.4"], &json!({"role": "db"}), false, "running"),
        local("E", O1, &["10.0.0.5"], &json!({}), true, "stopped"),
    ];
    let remotes =
        [remote("R1", Some(O1), &["10.9.0.1", "fd00:9::1"]), remote("R2", Some(O2), &["10.9.0.2"]), remote("R3", None, &["10.9.0.3"])];
    let decided = decide(&rules, &Vms { local: &locals, remote: &remotes }, &packet(probe));
    let wanted = if verdict == "allow" { Verdict::Allow } else { Verdict::Block };
    assert_eq!(decided, wanted, "{probe}");
}
