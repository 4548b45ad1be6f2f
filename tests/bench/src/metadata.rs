//! The metadata service with many sockets: round trips, throughput, memory, and what a hostile guest costs its neighbours.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use triton_e2e::{
    MetadataService, Node,
    hostile::{self, ATTACKS, Attack, Hostile},
    until,
};
use triton_mdata::client::{Ask, Told, read};

use crate::{
    figures::{Figure, median, percentile, rss_kib},
    synthetic,
};

/// Guests with traffic.
const BUSY: usize = 200;
/// Threads that play them.
const PLAYERS: usize = 4;
/// MiB that one hostile guest may cost: what is kept for it (16), and one read of a document of 4 MiB, as text, as values and as an answer.
const MEMORY: &str = "32";
/// How long each measurement takes.
const SPAN: Duration = Duration::from_secs(2);

struct Client {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Client {
    fn connect(socket: &Path) -> Self {
        let writer = triton_agent::unix::connect(socket).expect("the service listens");
        let reader = BufReader::new(writer.try_clone().expect("a descriptor"));
        Self { writer, reader }
    }

    fn ask(&mut self, number: u32) {
        self.writer.write_all(Ask::Get("sdc:alias".to_owned()).encode(number).as_bytes()).expect("it reads");
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("it answers");
        assert!(matches!(read(&line, number), Some(Told::Success(_))), "{line}");
    }
}

/// What the busy guests did in a span: round trips in milliseconds, and how many a second.
struct Played {
    times: Vec<f64>,
    rate: f64,
}

fn play(sockets: &[PathBuf]) -> Played {
    let begin = Instant::now();
    let parts = std::thread::scope(|scope| {
        let players: Vec<_> = sockets
            .chunks(sockets.len().div_ceil(PLAYERS))
            .map(|sockets| {
                scope.spawn(move || {
                    let mut clients: Vec<Client> = sockets.iter().map(|socket| Client::connect(socket)).collect();
                    let (mut times, mut number) = (Vec::new(), 0);
                    while begin.elapsed() < SPAN {
                        for client in &mut clients {
                            number += 1;
                            let asked = Instant::now();
                            client.ask(number);
                            times.push(asked.elapsed().as_secs_f64() * 1e3);
                        }
                    }
                    times
                })
            })
            .collect();
        players.into_iter().map(|player| player.join().expect("a player ends")).collect::<Vec<_>>()
    });
    let times = parts.concat();
    Played { rate: times.len() as f64 / begin.elapsed().as_secs_f64(), times }
}

/// The neighbours' part of their rate that is left while the guest is hostile, and how much memory the service took for it, in KiB.
fn under(attack: Attack, hostile: &Hostile<'_>, busy: &[PathBuf], pid: i64, rounds: usize) -> (f64, u64) {
    let resident = || rss_kib(pid).unwrap_or_default();
    let (mut ratios, mut most, at_rest) = (Vec::new(), 0, resident());
    let (mut calm, mut attacks) = (play(busy).rate, 0);
    for _ in 0..rounds {
        let over = AtomicBool::new(false);
        let attacked = std::thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                hostile::step_back();
                attack(hostile, &over)
            });
            let watcher = scope.spawn(|| {
                let mut most = 0;
                while !over.load(Ordering::Relaxed) {
                    most = most.max(resident());
                    std::thread::sleep(Duration::from_millis(50));
                }
                most
            });
            let played = play(busy);
            over.store(true, Ordering::Relaxed);
            attacks += attacker.join().expect("the attacker ends");
            most = most.max(watcher.join().expect("the watcher ends"));
            played.rate
        });
        let again = play(busy).rate;
        ratios.push(attacked / ((calm + again) / 2.0));
        calm = again;
    }
    // On a machine with other work the attacker may get no turn at all: then there is no figure.
    let ratio = if attacks > 0 { median(&ratios) } else { f64::NAN };
    (ratio, most.saturating_sub(at_rest))
}

/// The figures.
pub fn metadata(instances: usize, rounds: usize) -> Vec<Figure> {
    let node = Node::with_image("bench-metadata");
    let before = {
        let service = MetadataService::start(&node);
        rss_kib(i64::from(service.pid())).unwrap_or_default()
    };
    let _synthetic = synthetic::instances(&node, instances);
    let begin = Instant::now();
    let service = MetadataService::start(&node);
    let status = |key: &str| service.status()[key].as_u64().unwrap_or_default() as usize;
    until("every instance has its socket", || status("sockets") == instances);
    let start = begin.elapsed();
    let pid = i64::from(service.pid());
    let idle = rss_kib(pid).unwrap_or_default();
    let directories = fs::read_dir(node.layout().at("/var/zonecontrol")).expect("disk").flatten();
    let busy: Vec<PathBuf> = directories.map(|entry| entry.path().join("metadata.sock")).take(BUSY).collect();
    // Warm, and short of each guest's burst.
    play(&busy);
    let calm = play(&busy);
    let loaded = rss_kib(pid).unwrap_or_default();
    let mut figures = vec![
        Figure::new(&format!("metadata: {instances} sockets until all are served"), start.as_secs_f64() * 1e3, "ms", "-"),
        Figure::new("metadata: memory per idle instance", (idle.saturating_sub(before)) as f64 / instances as f64, "KiB", "-"),
        Figure::new("metadata: resident memory under traffic", loaded as f64 / 1024.0, "MiB", "-"),
        Figure::new("metadata: round trip, median", median(&calm.times), "ms", "-"),
        Figure::new("metadata: round trip, 99 of 100 within", percentile(&calm.times, 0.99), "ms", "-"),
        Figure::new(&format!("metadata: {BUSY} busy guests, requests a second"), calm.rate, "", "-"),
    ];
    let hostile = Hostile::new(&node, node.create(&node.payload(5)));
    until("the hostile guest has its line", || status("serial_lines") == 1);
    for (name, attack) in ATTACKS {
        let (ratio, memory) = under(attack, &hostile, &busy, pid, rounds);
        figures.push(Figure::new(&format!("  neighbours' rate while a guest {name}"), ratio, "x", "0.9"));
        figures.push(Figure::new("    and memory that the service takes for it", memory as f64 / 1024.0, "MiB", MEMORY));
    }
    figures
}
