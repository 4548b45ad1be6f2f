//! What a hostile guest does to the metadata service: its own socket, its own serial line, its own mount targets.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{OpenOptionsExt, symlink},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::sys::termios::{LocalFlags, SetArg, cfmakeraw, tcgetattr, tcsetattr};
use triton_mdata::client::Ask;

use crate::Node;

/// A running guest, and what of it the host sees.
#[derive(Debug)]
pub struct Hostile<'a> {
    node: &'a Node,
    uuid: String,
    socket: PathBuf,
}

impl<'a> Hostile<'a> {
    /// The running guest `uuid` of `node`.
    ///
    /// # Panics
    /// When that is no uuid.
    pub fn new(node: &'a Node, uuid: String) -> Self {
        let socket = node.layout().zonecontrol(uuid.parse().expect("a uuid")).join("metadata.sock");
        Self { node, uuid, socket }
    }
}

/// Goes on until it is told that it is over; returns how often it did what it does.
pub type Attack = fn(&Hostile<'_>, &AtomicBool) -> usize;

/// The attacks that the service must bear (metadata.md section 10, cases 7, 14 to 16, 19).
pub const ATTACKS: [(&str, Attack); 8] = [
    ("reads nothing of what it asks for", slow_reader),
    ("reads large values in a loop", large_values),
    ("sends lines without end", no_newline),
    ("sends lines of 20 MiB", long_lines),
    ("lets its serial line echo", echo_loop),
    ("floods with connections", connections),
    ("has links at its mounts' targets", links),
    ("writes in a storm", writes),
];

fn connect(hostile: &Hostile<'_>) -> Option<UnixStream> {
    let stream = triton_agent::unix::connect(&hostile.socket).ok()?;
    stream.set_write_timeout(Some(Duration::from_millis(100))).ok()?;
    Some(stream)
}

fn goes_on(over: &AtomicBool) -> bool {
    !over.load(Ordering::Relaxed)
}

fn slow_reader(hostile: &Hostile<'_>, over: &AtomicBool) -> usize {
    let line = Ask::Get("sdc:nics".to_owned()).encode(1).repeat(200);
    let (mut held, mut sent) = (Vec::new(), 0);
    while goes_on(over) {
        held.retain_mut(|stream: &mut UnixStream| {
            let taken = stream.write(line.as_bytes());
            sent += usize::from(taken.is_ok());
            // One that is full stays open: its answers wait in the service.
            taken.as_ref().is_ok_and(|count| *count > 0) || taken.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        });
        if held.len() < 32 {
            held.extend(connect(hostile));
        }
    }
    sent
}

/// What it asks for is a large part of a large document, which has to be read for small values, too.
fn large_values(hostile: &Hostile<'_>, over: &AtomicBool) -> usize {
    let ask = |stream: &mut UnixStream, ask: &Ask| {
        let _ = stream.set_write_timeout(Some(Duration::from_secs(5)));
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut line = Vec::new();
        stream.write_all(ask.encode(1).as_bytes()).is_ok()
            && BufReader::new(stream).read_until(b'\n', &mut line).is_ok_and(|count| count > 0)
    };
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..4)
            .map(|number| {
                scope.spawn(move || {
                    let Some(mut stream) = connect(hostile) else { return 0 };
                    let key = format!("large{number}");
                    if number < 3 {
                        ask(&mut stream, &Ask::Put(key.clone(), vec![b'v'; 1 << 20]));
                    }
                    let (mut asked, wanted) = (0, Ask::Get(if number < 3 { key } else { "sdc:uuid".to_owned() }));
                    while goes_on(over) {
                        if ask(&mut stream, &wanted) {
                            asked += 1;
                        } else {
                            let Some(again) = connect(hostile) else { break };
                            stream = again;
                        }
                    }
                    asked
                })
            })
            .collect();
        askers.into_iter().map(|asker| asker.join().unwrap_or_default()).sum()
    })
}

fn no_newline(hostile: &Hostile<'_>, over: &AtomicBool) -> usize {
    let chunk = vec![b'x'; 64 << 10];
    let mut sent = 0;
    while goes_on(over) {
        let Some(mut stream) = connect(hostile) else { continue };
        while goes_on(over) && stream.write_all(&chunk).is_ok() {
            sent += 1;
        }
    }
    sent
}

fn long_lines(hostile: &Hostile<'_>, over: &AtomicBool) -> usize {
    let mut line = vec![b'x'; 20 << 20];
    line.push(b'\n');
    let mut sent = 0;
    while goes_on(over) {
        let streams: Vec<UnixStream> = (0..4).filter_map(|_| connect(hostile)).collect();
        for mut stream in streams {
            // It is cut off in the middle.
            let _ = stream.write_all(&line);
            sent += 1;
        }
    }
    sent
}

/// The device of the guest's line, as its config names it.
fn line_device(hostile: &Hostile<'_>) -> Option<PathBuf> {
    let runtime = hostile.node.layout().runtime(hostile.uuid.parse().ok()?);
    let config = std::fs::read_to_string(runtime.join("lxc.conf")).ok()?;
    let entry = config.lines().find_map(|line| line.split_once(" dev/ttyS1 ")?.0.strip_prefix("lxc.mount.entry = "))?;
    Some(PathBuf::from(entry))
}

fn echo_loop(hostile: &Hostile<'_>, over: &AtomicBool) -> usize {
    let device = line_device(hostile).expect("the guest has a line");
    // A line that nobody reads at the other end is full at once: it must not keep the attacker from its end.
    let mut line = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(device).expect("the line can be opened");
    let mut rounds = 0;
    while goes_on(over) {
        let mut settings = tcgetattr(&line).expect("a terminal");
        cfmakeraw(&mut settings);
        settings.local_flags.insert(LocalFlags::ECHO);
        tcsetattr(&line, SetArg::TCSANOW, &settings).expect("its settings");
        rounds += usize::from(line.write_all(b"\nGET sdc:uuid\n").is_ok());
        // What it is told it takes, so that the echo has room and the loop goes on.
        let _ = line.read(&mut [0; 4096]);
        std::thread::sleep(Duration::from_millis(1));
    }
    rounds
}

fn connections(hostile: &Hostile<'_>, over: &AtomicBool) -> usize {
    let (mut held, mut made) = (Vec::new(), 0);
    while goes_on(over) {
        let stream = triton_agent::unix::connect(&hostile.socket).ok();
        made += usize::from(stream.is_some());
        held.extend(stream);
        if held.len() > 500 {
            held.clear();
        }
    }
    made
}

/// Each boot meets a link at one of the targets; what the guest itself does there meanwhile costs its own time.
fn links(hostile: &Hostile<'_>, over: &AtomicBool) -> usize {
    let root = hostile.node.layout().at("/zones").join(&hostile.uuid).join("root");
    let mut boots = 0;
    for target in [".zonecontrol", "native", "dev", "var"].iter().cycle() {
        if !goes_on(over) {
            break;
        }
        let path = root.join(target);
        let aside = root.join(format!("{target}-aside"));
        let moved = std::fs::rename(&path, &aside).is_ok();
        let _ = symlink(Path::new("/proc/1/root/etc"), &path);
        let restarted = hostile.node.vmadm(&["reboot", &hostile.uuid, "-F"]);
        boots += 1;
        let _ = std::fs::remove_file(&path);
        if moved {
            let _ = std::fs::rename(&aside, &path);
        }
        if restarted.code != Some(0) {
            // It cost the guest its boot.
            let _ = hostile.node.vmadm(&["start", &hostile.uuid]);
        }
        let pause = std::time::Instant::now();
        // A guest that reboots is no client: one boot a second is what the node's monitor lets it have.
        while goes_on(over) && pause.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // A boot that met a link goes without that mount: the next one has it again.
    let _ = hostile.node.vmadm(&["reboot", &hostile.uuid, "-F"]);
    boots
}

fn writes(hostile: &Hostile<'_>, over: &AtomicBool) -> usize {
    let mut clients: Vec<UnixStream> = (0..8).filter_map(|_| connect(hostile)).collect();
    let (mut number, mut sent) = (0, 0);
    while goes_on(over) {
        for client in &mut clients {
            number += 1;
            let line = Ask::Put(format!("k{}", number % 900), format!("v{number}").into_bytes()).encode(number);
            sent += usize::from(client.write_all(line.as_bytes()).is_ok());
            let _ = client.set_read_timeout(Some(Duration::from_millis(1)));
            let _ = client.read(&mut [0; 4096]);
        }
    }
    sent
}

/// What a guest does costs the guest: the attacker gets what the others leave of this machine's processors.
pub fn step_back() {
    let thread = nix::unistd::gettid().to_string();
    let _ = Command::new("renice").args(["-n", "19", "-p", &thread]).output();
}
