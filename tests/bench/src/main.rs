//! Budgets of design section 11 that concern instances, measured as ratios in one run.
//!
//! `cargo xtask bench` builds the programs in release mode and runs this. It never judges a time of its own: it sets what
//! the project does beside the same done by hand on the same machine in the same minute.

mod by_hand;
mod figures;
mod files;
mod firewall;
mod metadata;
mod reports;
mod synthetic;

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use figures::{Figure, median, pss_kib, rss_kib};

use reports::Part;
use serde_json::json;
use triton_e2e::{Headnode, Node, until};

/// Measure the budgets that concern instances, as ratios to the same work done by hand
#[derive(Debug, Parser)]
#[command(name = "triton-bench", version)]
struct Args {
    /// Rounds of each pair
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Synthetic instances for the figures at scale
    #[arg(long, default_value_t = 2000)]
    instances: usize,
    /// Only these: `create`, `scale`, `firewall`, `metadata`, `reports`, or of the last `changes` alone
    #[arg(long, value_parser = ["create", "scale", "firewall", "metadata", "reports", "changes"])]
    only: Option<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let firewall = || firewall::figures(args.instances, args.rounds);
    let metadata = || metadata::metadata(args.instances, args.rounds);
    let reports = |part| reports::figures(args.instances, args.rounds, part);
    let figures = match args.only.as_deref() {
        Some("create") => create_and_start(&args),
        Some("scale") => at_scale(&args),
        Some("firewall") => firewall(),
        Some("metadata") => metadata(),
        Some("reports") => reports(Part::All),
        Some("changes") => reports(Part::Changes),
        _ => [create_and_start(&args), at_scale(&args), metadata(), firewall(), reports(Part::All)].concat(),
    };
    if args.json {
        println!("{}", json!(figures.iter().map(Figure::to_json).collect::<Vec<_>>()));
    } else {
        println!("{:<68} {:>12}  bound", "figure", "measured");
        for figure in &figures {
            println!("{figure}");
        }
    }
    ExitCode::SUCCESS
}

fn timed(action: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    action();
    begin.elapsed()
}

/// Instances beside which one's monitor is measured: they share the pages of its program.
const MONITORS: usize = 60;

/// Create and start of one instance beside copy and `lxc-start` by hand, alternating.
fn create_and_start(args: &Args) -> Vec<Figure> {
    let node = Node::with_image("bench-create");
    let payload = node.payload(5);
    // On a node the bridge of a network is there, and making one is not what is measured.
    let neighbour = node.create(&node.payload(6));
    let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        let mut uuid = String::new();
        let time = timed(|| uuid = node.create(&payload));
        node.vmadm(&["delete", &uuid]).ok();
        let hand = by_hand::create_and_start(&node);
        // The first pair warms the caches.
        if round > 0 {
            ours.push(time);
            by_hand.push(hand);
        }
    }
    let ratios: Vec<f64> = ours.iter().zip(&by_hand).map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()).collect();
    let neighbours: Vec<String> = (7..6 + MONITORS as u8).map(|host| node.create(&node.payload(host))).chain([neighbour]).collect();
    let monitor = median(&neighbours.iter().map(|uuid| monitor_kib(&node, uuid) as f64).collect::<Vec<_>>());
    neighbours.iter().for_each(|uuid| drop(node.vmadm(&["delete", uuid]).ok()));
    vec![
        Figure::new("create + start: ours / by hand (median of pairs)", median(&ratios), "", "1.25"),
        Figure::new("  ours, ms", median(&ours.iter().map(|d| d.as_secs_f64() * 1e3).collect::<Vec<_>>()), "ms", "-"),
        Figure::new("  by hand, ms", median(&by_hand.iter().map(|d| d.as_secs_f64() * 1e3).collect::<Vec<_>>()), "ms", "-"),
        Figure::new(&format!("memory of one monitor of {MONITORS} (PSS, supervisor and child)"), monitor / 1024.0, "MiB", "1"),
    ]
}

/// Memory of the processes that an instance's monitor is, in KiB.
fn monitor_kib(node: &Node, uuid: &str) -> u64 {
    let bytes = fs::read(node.layout().run_state(uuid.parse().expect("a uuid"))).expect("it runs");
    let run: serde_json::Value = serde_json::from_slice(&bytes).expect("a run-state");
    figures::with_children(run["supervisor"]["pid"].as_i64().unwrap_or_default()).into_iter().filter_map(pss_kib).sum()
}

/// What a node with many instances costs.
fn at_scale(args: &Args) -> Vec<Figure> {
    let node = Node::new("bench-scale");
    let _synthetic = synthetic::instances(&node, args.instances);
    let read = timed(|| synthetic::read_all(&node));
    let list = median(&(0..args.rounds).map(|_| timed(|| drop(node.vmadm(&["list"]).ok())).as_secs_f64() * 1e3).collect::<Vec<_>>());
    let get = median(
        &(0..args.rounds)
            .map(|_| timed(|| drop(node.vmadm(&["lookup", "-1", "alias=synthetic7"]).ok())).as_secs_f64() * 1e3)
            .collect::<Vec<_>>(),
    );
    let mut figures = vec![
        Figure::new(&format!("vmadm list of {} instances", args.instances), list, "ms", "-"),
        Figure::new("  beside reading their files once", list / (read.as_secs_f64() * 1e3), "x", "-"),
        Figure::new(&format!("vmadm lookup among {} instances", args.instances), get, "ms", "-"),
    ];
    figures.extend(agent(&node));
    figures
}

/// cn-agent's start until it serves, and its memory and processor time at rest.
fn agent(node: &Node) -> Vec<Figure> {
    let address = "127.0.0.1:5309";
    let config = json!({"cnapi": {"url": "http://127.0.0.1:1"}, "no_rabbit": true});
    let path = node.layout().at("/opt/smartdc/agents/etc");
    fs::create_dir_all(&path).expect("disk");
    fs::write(path.join("cn-agent.config.json"), config.to_string()).expect("disk");
    let begin = Instant::now();
    let mut agent = node.spawn("cn-agent", &[], &[("ADMIN_IP", "127.0.0.1")]);
    let namespace = triton_link::NetNs::open(&node.layout().namespaces().join("net")).expect("the node's namespace");
    until("cn-agent serves", || namespace.run(|| std::net::TcpStream::connect(address).is_ok()).unwrap_or(false));
    let start = begin.elapsed();
    let _ = agent.kill();
    let _ = agent.wait();
    // At rest is when CNAPI has taken a first status, and what the start set off is over.
    let headnode = Headnode::start(node);
    let pid = headnode.agent_pid().map(i64::from).unwrap_or_default();
    std::thread::sleep(Duration::from_secs(15));
    let before = figures::cpu_ticks(pid);
    // Two of what happens every minute.
    let rest = Duration::from_secs(120);
    std::thread::sleep(rest);
    let ticks = figures::cpu_ticks(pid).saturating_sub(before);
    let resident = rss_kib(pid).unwrap_or_default();
    vec![
        Figure::new("cn-agent: start until it serves", start.as_secs_f64() * 1e3, "ms", "2000"),
        Figure::new("cn-agent: resident memory", resident as f64 / 1024.0, "MiB", "150 (all)"),
        Figure::new("cn-agent: processor at rest", ticks as f64 / 100.0 / rest.as_secs_f64() * 100.0, "%", "1 (all)"),
    ]
}
