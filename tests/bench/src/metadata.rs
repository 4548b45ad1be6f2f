//! The metadata service with many sockets: round trips, throughput, memory, and what a hostile guest costs its neighbours.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use triton_e2e::{MetadataService, Node, until};
use triton_mdata::client::{Ask, Told, read};

use crate::{
    figures::{Figure, median, percentile, rss_kib},
    synthetic,
};

/// Guests with traffic.
const BUSY: usize = 200;
/// Threads that play them.
const PLAYERS: usize = 4;
/// How long each measurement takes.
const SPAN: Duration = Duration::from_secs(4);

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

/// What one guest does to the service while the others are measured.
type Attack = fn(&Path, &AtomicBool);

const ATTACKS: [(&str, Attack); 4] = [
    ("floods with connections", |socket, over| {
        let mut held = Vec::new();
        while !over.load(Ordering::Relaxed) {
            held.extend(triton_agent::unix::connect(socket).ok());
            if held.len() > 500 {
                held.clear();
            }
        }
    }),
    ("sends lines without end", |socket, over| {
        let chunk = vec![b'x'; 64 << 10];
        while !over.load(Ordering::Relaxed) {
            let Ok(mut stream) = triton_agent::unix::connect(socket) else { continue };
            let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
            while !over.load(Ordering::Relaxed) && stream.write_all(&chunk).is_ok() {}
        }
    }),
    ("asks for all and reads nothing", |socket, over| {
        let line = Ask::Get("sdc:nics".to_owned()).encode(1).repeat(200);
        while !over.load(Ordering::Relaxed) {
            let streams: Vec<_> = (0..20).filter_map(|_| triton_agent::unix::connect(socket).ok()).collect();
            for mut stream in streams {
                let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
                while !over.load(Ordering::Relaxed) && stream.write_all(line.as_bytes()).is_ok() {}
            }
        }
    }),
    ("writes in a storm", |socket, over| {
        let mut clients: Vec<UnixStream> = (0..8).filter_map(|_| triton_agent::unix::connect(socket).ok()).collect();
        let mut number = 0;
        while !over.load(Ordering::Relaxed) {
            for client in &mut clients {
                number += 1;
                let _ = client.set_write_timeout(Some(Duration::from_millis(50)));
                let _ = client.write_all(Ask::Put(format!("k{number}"), b"v".to_vec()).encode(number).as_bytes());
            }
        }
    }),
];

/// The figures.
pub fn metadata(instances: usize) -> Vec<Figure> {
    let node = Node::new("bench-metadata");
    let config = node.layout().at("/opt/smartdc/agents/etc");
    fs::create_dir_all(&config).expect("disk");
    let before = {
        let service = MetadataService::start(&node);
        rss_kib(i64::from(service.pid())).unwrap_or_default()
    };
    synthetic::instances(&node, instances);
    let begin = Instant::now();
    let service = MetadataService::start(&node);
    let status = |key: &str| service.status()[key].as_u64().unwrap_or_default() as usize;
    until("every instance has its socket", || status("sockets") == instances);
    let start = begin.elapsed();
    let pid = i64::from(service.pid());
    let idle = rss_kib(pid).unwrap_or_default();
    let sockets: Vec<PathBuf> = fs::read_dir(node.layout().at("/var/zonecontrol"))
        .expect("disk")
        .flatten()
        .map(|entry| entry.path().join("metadata.sock"))
        .take(BUSY + 1)
        .collect();
    let (hostile, busy) = sockets.split_last().expect("there are instances");
    // Warm, and short of each guest's burst.
    let calm = play(busy);
    let loaded = rss_kib(pid).unwrap_or_default();
    let mut figures = vec![
        Figure::new(&format!("metadata: {instances} sockets until all are served"), start.as_secs_f64() * 1e3, "ms", "-"),
        Figure::new("metadata: memory per idle instance", (idle.saturating_sub(before)) as f64 / instances as f64, "KiB", "-"),
        Figure::new("metadata: resident memory under traffic", loaded as f64 / 1024.0, "MiB", "-"),
        Figure::new("metadata: round trip, median", median(&calm.times), "ms", "-"),
        Figure::new("metadata: round trip, 99 of 100 within", percentile(&calm.times, 0.99), "ms", "-"),
        Figure::new(&format!("metadata: {BUSY} busy guests, requests a second"), calm.rate, "", "-"),
    ];
    let most = AtomicUsize::new(0);
    for (name, attack) in ATTACKS {
        let calm = play(busy).rate;
        let over = AtomicBool::new(false);
        let attacked = std::thread::scope(|scope| {
            scope.spawn(|| attack(hostile, &over));
            let played = play(busy);
            most.fetch_max(rss_kib(pid).unwrap_or_default() as usize, Ordering::Relaxed);
            over.store(true, Ordering::Relaxed);
            played.rate
        });
        let again = play(busy).rate;
        let ratio = attacked / ((calm + again) / 2.0);
        figures.push(Figure::new(&format!("  neighbours' share while a guest {name}"), ratio, "x", "0.9"));
    }
    let attacked: Value = json!(most.load(Ordering::Relaxed));
    figures.push(Figure::new("metadata: most memory under attack", attacked.as_f64().unwrap_or_default() / 1024.0, "MiB", "-"));
    figures
}
