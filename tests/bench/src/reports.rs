//! vm-agent and net-agent with many instances: how soon VMAPI and NAPI know of a change, and what that costs at rest (issue 5).
//!
//! All instances but a few exist as files and links alone; those that change are real containers. A time begins with what the kernel tells
//! of: the death of init, the run-state of a guest that runs, a machine file that is replaced or gone. It ends when the request that says
//! so arrives at the stand-in.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use triton_e2e::{Headnode, Node, Reporters, http, until};

use crate::{
    figures::{Figure, cpu_ticks, median, percentile, rss_kib},
    files::{FileEvents, now_ms},
    synthetic,
};

const AGENTS: [&str; 2] = ["vm-agent", "net-agent"];
/// How long the agents are watched at rest: two of what happens every minute.
const REST: Duration = Duration::from_secs(120);
/// Between two changes: what the first one set off is over, and no pause between two reports of one instance is in the way.
const APART: Duration = Duration::from_millis(1500);
const OWNER: &str = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it: starts, rest, changes.
    All,
    /// Changes alone.
    Changes,
}

/// The figures, from `rounds` rounds of changes.
pub fn figures(instances: usize, rounds: usize, part: Part) -> Vec<Figure> {
    let node = Node::with_image("bench-reports");
    let mut synthetic = synthetic::instances(&node, instances);
    synthetic.add_links();
    let mut headnode = Headnode::start(&node);
    headnode.kill_agent();
    let mut agents = Reporters::idle(&node, "10.64.0.0/16");
    let mut figures = Vec::new();
    let passes: &[&str] = if part == Part::All { &["first", "with nothing changed"] } else { &["first"] };
    for (pass, what) in passes.iter().enumerate() {
        // What NAPI answers changes the instances, which VMAPI is told: where that is not measured, it comes first.
        let order = if part == Part::All { AGENTS } else { [AGENTS[1], AGENTS[0]] };
        for name in order {
            let time = begin(&mut agents, name, instances);
            figures.push(Figure::new(&format!("{name}: {instances} instances in step, {what}"), time.as_secs_f64() * 1e3, "ms", "-"));
        }
        if pass == 0 {
            // What NAPI's answers changed here is still being told to VMAPI.
            quiet(&node);
            if part == Part::All {
                AGENTS.iter().for_each(|name| agents.kill(name));
            }
        } else {
            figures.push(Figure::new("  requests that changed something, the second time", changing(&node, 0).len() as f64, "", "0"));
        }
        http(&node, Headnode::CONTROL, "DELETE", "/record", None);
    }
    if part == Part::All {
        figures.extend(at_rest(&agents));
    }
    figures.extend(Latencies::measure(&node, rounds).figures());
    figures
}

/// Starts an agent, and says how long it took until it and its service know the same.
fn begin(agents: &mut Reporters<'_>, name: &'static str, instances: usize) -> Duration {
    let begun = Instant::now();
    agents.run(name);
    let limit = Duration::from_secs(600);
    loop {
        let status = agents.status(name);
        let nics = status["nics"].as_u64().unwrap_or_default();
        let known = name != "net-agent" || nics >= instances as u64 && status["nics_in_step"] == status["nics"] && status["waiting"] == 0;
        if status["ready"] == true && known {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < limit, "{name} is not in step: {status}");
        // The answer takes all NICs: whoever asks often takes the processor from those who are measured.
        sleep((begun.elapsed() / 50).max(Duration::from_millis(20)));
    }
}

fn record(node: &Node, since: u64) -> Vec<Value> {
    let record = http(node, Headnode::CONTROL, "GET", &format!("/record?since={since}"), None).json();
    record.as_array().cloned().unwrap_or_default()
}

/// Requests of the agents that change something.
fn changing(node: &Node, since: u64) -> Vec<Value> {
    let agent = |entry: &Value| AGENTS.iter().any(|name| entry["headers"]["user-agent"].as_str().is_some_and(|who| who.starts_with(name)));
    record(node, since).into_iter().filter(|entry| agent(entry) && entry["method"] != "GET").collect()
}

/// Waits until no agent has said anything for some seconds.
fn quiet(node: &Node) {
    loop {
        http(node, Headnode::CONTROL, "DELETE", "/record", None);
        sleep(Duration::from_secs(4));
        if changing(node, 0).is_empty() {
            return;
        }
    }
}

fn at_rest(agents: &Reporters<'_>) -> Vec<Figure> {
    sleep(Duration::from_secs(10));
    let pids = AGENTS.map(|name| (name, i64::from(agents.pid(name).expect("it runs"))));
    let before = pids.map(|(_, pid)| cpu_ticks(pid));
    sleep(REST);
    let mut figures = Vec::new();
    for ((name, pid), before) in pids.into_iter().zip(before) {
        let ticks = cpu_ticks(pid).saturating_sub(before);
        figures.push(Figure::new(
            &format!("{name}: resident memory"),
            rss_kib(pid).unwrap_or_default() as f64 / 1024.0,
            "MiB",
            "150 (all)",
        ));
        figures.push(Figure::new(&format!("{name}: processor at rest"), ticks as f64 / REST.as_secs_f64(), "%", "1 (all)"));
    }
    figures
}

/// Milliseconds from the kernel's event to the request, of each kind of change.
#[derive(Default)]
struct Latencies {
    vmapi: Vec<(&'static str, f64)>,
    napi: Vec<(&'static str, f64)>,
}

/// What is changed, how, and what to look for.
struct Change<'a> {
    kind: &'static str,
    uuid: &'a str,
    mac: &'a str,
    /// The event from which the time counts; the time of the deed itself if none.
    event: Option<&'static str>,
    /// The one that NAPI is told of, if it is another: a guest that is being stopped has stopped for its NICs.
    event_of_nics: Option<&'static str>,
    vmapi: fn(&Value) -> bool,
    /// Whether a request to NAPI says it; none if NAPI is not told.
    napi: Option<fn(&Value) -> bool>,
}

impl Latencies {
    fn measure(node: &Node, rounds: usize) -> Self {
        let mut all = Self::default();
        let events = FileEvents::of(node.layout());
        for round in 0..rounds {
            // NAPI gives no address twice.
            let host = 210 + u8::try_from(round % 40).unwrap_or_default();
            let mac = format!("02:08:20:00:00:{host:02x}");
            let mut payload = node.payload(host);
            payload["owner_uuid"] = OWNER.into();
            payload["uuid"] = triton_types::InstanceUuid::random().to_string().into();
            let uuid = payload["uuid"].as_str().expect("it was just set").to_owned();
            let change = |kind, event, vmapi, napi| Change { kind, uuid: &uuid, mac: &mac, event, event_of_nics: None, vmapi, napi };
            let runs: fn(&Value) -> bool = |body| body["state"] == "running";
            let runs_not: fn(&Value) -> bool = |body| body["zone_state"] != "running";
            let stopped: fn(&Value) -> bool = |body| body["state"] == "stopped";
            let deleted: fn(&Value) -> bool = |entry| entry["method"] == "DELETE";
            all.add(node, &events, &change("created", Some("running"), runs, Some(runs)), || drop(node.create(&payload)));
            all.add(node, &events, &change("init killed", None, runs_not, Some(stopped)), || {
                let pid = i32::try_from(node.get(&uuid)["pid"].as_i64().expect("it runs")).expect("a pid");
                let at = now_ms();
                kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
                Some(at)
            });
            until("what is left of the guest is cleared up", || node.state(&uuid) == "stopped");
            all.add(node, &events, &change("started", Some("running"), runs, Some(runs)), || drop(node.vmadm(&["start", &uuid]).ok()));
            all.add(node, &events, &change("updated", Some("machine"), |body| body["alias"] == "renamed", None), || {
                drop(node.vmadm(&["update", &uuid, "alias=renamed"]).ok());
            });
            let stop = Change { event_of_nics: Some("stopping"), ..change("stopped", Some("stopped"), stopped, Some(stopped)) };
            all.add(node, &events, &stop, || {
                drop(node.vmadm(&["stop", &uuid, "-F"]).ok());
            });
            all.add(node, &events, &change("destroyed", Some("gone"), |body| body["state"] == "destroyed", Some(deleted)), || {
                drop(node.vmadm(&["delete", &uuid]).ok());
            });
        }
        all
    }

    fn add<T: At>(&mut self, node: &Node, events: &FileEvents, change: &Change<'_>, deed: impl FnOnce() -> T) {
        sleep(APART);
        http(node, Headnode::CONTROL, "DELETE", "/record", None);
        events.clear();
        let done = deed().at();
        // Both told long ago, most likely: whoever asks the stand-in again and again takes the processor from those who are measured.
        sleep(APART);
        let mut told = (None, None);
        until(&format!("both services know that it was {}", change.kind), || {
            let entries = changing(node, 0);
            let (vms, nic) = (format!("/vms/{}", change.uuid), change.mac.replace(':', ""));
            let at = |entry: &Value| millis(&entry["time"]);
            let vmapi = entries
                .iter()
                .find(|entry| entry["path"].as_str().is_some_and(|path| path.starts_with(&vms)) && (change.vmapi)(&entry["body"]));
            let of_nic = |entry: &&Value| {
                entry["path"].as_str().is_some_and(|path| path.ends_with(&nic)) || entry["body"]["mac"] == json!(change.mac)
            };
            let says = |entry: &&Value| change.napi.is_some_and(|says| says(&entry["body"]) || says(entry));
            let napi = entries.iter().filter(of_nic).find(says);
            told = (vmapi.and_then(at), napi.and_then(at));
            told.0.is_some() && (change.napi.is_none() || told.1.is_some())
        });
        let since = match change.event {
            Some(event) => events.first(change.uuid, event).expect("the kernel told of it"),
            None => done.expect("the deed says when"),
        };
        let since_for_nics = change.event_of_nics.and_then(|event| events.first(change.uuid, event)).unwrap_or(since);
        // Progress, and with the time of the event what a trace of the same time can be held against.
        let (vmapi, napi) = (told.0.map(|at| at - since), told.1.map(|at| at - since_for_nics));
        let took = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.0} ms"));
        eprintln!("{} at {since:.0}: VMAPI {}, NAPI {}", change.kind, took(vmapi), took(napi));
        self.vmapi.extend(vmapi.map(|time| (change.kind, time)));
        self.napi.extend(napi.map(|time| (change.kind, time)));
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for (service, times) in [("VMAPI", &self.vmapi), ("NAPI", &self.napi)] {
            let all: Vec<f64> = times.iter().map(|(_, ms)| *ms).collect();
            figures.push(Figure::new(&format!("{service}: change to request, median"), median(&all), "ms", "50"));
            figures.push(Figure::new(&format!("{service}: change to request, 99 of 100 within"), percentile(&all, 0.99), "ms", "-"));
            let mut kinds: Vec<&str> = times.iter().map(|(kind, _)| *kind).collect();
            kinds.sort_unstable();
            kinds.dedup();
            for kind in kinds {
                let of_kind: Vec<f64> = times.iter().filter(|(other, _)| *other == kind).map(|(_, ms)| *ms).collect();
                figures.push(Figure::new(&format!("  {kind}, median"), median(&of_kind), "ms", "-"));
            }
        }
        figures
    }
}

fn millis(time: &Value) -> Option<f64> {
    Some(time.as_str()?.parse::<jiff::Timestamp>().ok()?.as_millisecond() as f64)
}

/// When a deed was done, if it says so.
trait At {
    fn at(self) -> Option<f64>;
}

impl At for () {
    fn at(self) -> Option<f64> {
        None
    }
}

impl At for Option<f64> {
    fn at(self) -> Option<f64> {
        self
    }
}
