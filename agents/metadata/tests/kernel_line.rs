//! The serial line itself, on a real pseudo-terminal: upstream's C client as it was recorded, and what a guest can do to its terminal
//! (metadata cases 67 and 68; attack cases 15 and 19).
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod common;

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::AsFd,
    process::Command,
    time::{Duration, Instant},
};

use common::{Bed, PATIENCE, fast, recorded::sessions};
use metadata_agent::{Limits, Terminal, serve_line};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::openpty,
    sys::termios::{FlowArg, SetArg, cfmakeraw, tcflow, tcgetattr, tcsetattr},
};

/// A guest's side of a line that is served.
struct Line {
    slave: File,
    service: tokio::task::JoinHandle<()>,
}

impl Line {
    fn of(bed: &Bed) -> Self {
        let pair = openpty(None, None).unwrap();
        let mut settings = tcgetattr(&pair.slave).unwrap();
        cfmakeraw(&mut settings);
        tcsetattr(&pair.slave, SetArg::TCSANOW, &settings).unwrap();
        nix::fcntl::fcntl(&pair.slave, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_RDWR)).unwrap();
        let (guest, terminal) = (bed.guest.clone(), Terminal::new(pair.master).unwrap());
        let service = tokio::spawn(async move { serve_line(&guest, &terminal).await });
        Self { slave: pair.slave.into(), service }
    }

    /// What comes within `patience`, at most `length` bytes.
    fn read(&mut self, length: usize, patience: Duration) -> String {
        let (begin, mut bytes) = (Instant::now(), vec![0; length]);
        let mut have = 0;
        while have < length {
            let left = PollTimeout::try_from(patience.saturating_sub(begin.elapsed())).unwrap();
            let mut waiting = [PollFd::new(self.slave.as_fd(), PollFlags::POLLIN)];
            if poll(&mut waiting, left).unwrap() == 0 {
                break;
            }
            have += self.slave.read(&mut bytes[have..]).unwrap();
        }
        String::from_utf8_lossy(&bytes[..have]).into_owned()
    }

    /// Sends this and is answered exactly that.
    fn talk(&mut self, request: &str, answer: &str) {
        self.slave.write_all(request.as_bytes()).unwrap();
        assert_eq!(self.read(answer.len(), PATIENCE), answer, "{request:?}");
    }

    fn assert_served(&mut self) {
        self.talk("\n", "invalid command\n");
        self.talk("V2 25 9b100599 7f3a9c01 GET c2RjOmFsaWFz\n", "V2 25 1131cc18 7f3a9c01 SUCCESS d2ViMA==\n");
        assert_eq!(self.read(1, Duration::from_millis(50)), "", "and nothing else");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.service.abort();
    }
}

/// Runs what blocks beside the service.
async fn beside(body: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(body).await.unwrap();
}

/// metadata cases 67 and 68: every session of the recordings on one line, as their clients had it
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernel_upstreams_clients_are_answered_over_a_serial_line() {
    for recording in [include_str!("recorded/c-serial.json"), include_str!("recorded/rust-serial.json")] {
        replay(recording).await;
    }
}

async fn replay(recording: &'static str) {
    let bed = Bed::new();
    let mut line = Line::of(&bed);
    beside(move || {
        let sessions = sessions(recording);
        assert!(sessions.len() >= 20);
        for session in sessions {
            for (number, (side, bytes)) in session.exchange.iter().enumerate() {
                match side.as_str() {
                    ">" => line.slave.write_all(bytes.as_bytes()).unwrap(),
                    _ => assert_eq!(line.read(bytes.len(), PATIENCE), *bytes, "{:?}, {number}", session.run),
                }
            }
            assert_eq!(line.read(1, Duration::from_millis(20)), "", "{:?}", session.run);
            session.judge();
        }
    })
    .await;
}

/// metadata attack case 15 on a line that cannot be closed: the rest of a line that is too long is thrown away as it comes, not kept
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernel_a_line_that_is_too_long_is_thrown_away_up_to_its_end_and_nothing_of_it_kept() {
    let bed = Bed::with(Limits { line: 64 << 10, ..fast() });
    let memory = bed.guest.memory.clone();
    let mut line = Line::of(&bed);
    beside(move || {
        line.assert_served();
        let chunk = "x".repeat(4096);
        for sent in 0..256 {
            line.slave.write_all(chunk.as_bytes()).unwrap();
            assert!(memory.used() <= 96 << 10, "{} bytes are kept after {} KiB", memory.used(), 4 * sent);
        }
        line.slave.write_all(b"\n").unwrap();
        line.assert_served();
    })
    .await;
}

/// metadata attack case 15: what is thrown away is paid for as what is kept
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernel_a_line_without_end_is_read_at_the_guests_rate_of_bytes() {
    let bed = Bed::with(Limits { line: 64 << 10, bytes: (100_000.0, 100_000.0), ..fast() });
    let mut line = Line::of(&bed);
    beside(move || {
        line.assert_served();
        let (begin, chunk) = (Instant::now(), "x".repeat(4096));
        for _ in 0..75 {
            line.slave.write_all(chunk.as_bytes()).unwrap();
        }
        // 300 kB less the burst, what is free, and what the terminal holds: slower than this it may be, not faster.
        assert!(begin.elapsed() > Duration::from_millis(1500), "{:?}", begin.elapsed());
    })
    .await;
}

/// metadata attack case 19: a terminal that was stopped, or is another's alone, costs its guest its answers until it is let go
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernel_a_terminal_that_was_stopped_is_served_again_when_it_goes_on() {
    let bed = Bed::with(Limits { serial_stalled_ms: 200, ..fast() });
    let mut line = Line::of(&bed);
    beside(move || {
        line.assert_served();
        // Nothing that the guest sends leaves its side; what it is sent waits.
        tcflow(&line.slave, FlowArg::TCOOFF).unwrap();
        tcflow(&line.slave, FlowArg::TCOON).unwrap();
        line.assert_served();
        // It asks for much and reads nothing: answers are dropped, whole or in part, and the next client finds an idle line.
        for _ in 0..2000 {
            let mut room = [PollFd::new(line.slave.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut room, PollTimeout::from(500_u16)).unwrap() == 0 {
                break;
            }
            let _ = line.slave.write(b"GET sdc:nics\nGET user-script\n");
        }
        // As clients do: take what is there until it is silent for 100 ms.
        while !line.read(4096, Duration::from_millis(1000)).is_empty() {}
        line.assert_served();
        // Other settings of the terminal, down to its line discipline's own treatment of bytes.
        let mut settings = tcgetattr(&line.slave).unwrap();
        settings.local_flags.insert(nix::sys::termios::LocalFlags::ICANON | nix::sys::termios::LocalFlags::ISIG);
        tcsetattr(&line.slave, SetArg::TCSANOW, &settings).unwrap();
        line.slave.write_all(b"\x03\x04\x1a\x11\x13\n").unwrap();
        while !line.read(4096, Duration::from_millis(500)).is_empty() {}
        line.assert_served();
    })
    .await;
}

/// Calls `ioctl` on the guest's side with this number and argument, which Perl knows how to write.
fn control(line: &Line, call: &str) {
    let program = format!("ioctl(STDIN, {call}) or die \"$!\\n\"");
    let output = Command::new("perl").args(["-e", &program]).stdin(line.slave.try_clone().unwrap()).output().unwrap();
    assert!(output.status.success(), "{call}: {}", String::from_utf8_lossy(&output.stderr));
}

/// metadata attack case 19: what its guest types into its own terminal (TIOCSTI), another line discipline (TIOCSETD) and a terminal
/// that nobody else may open (TIOCEXCL) hurt that guest's clients at most, and no longer than until it is let go
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernel_a_terminal_that_its_guest_turns_inside_out_is_served_as_soon_as_it_is_one_again() {
    const TIOCSTI: u32 = 0x5412;
    const TIOCSETD: u32 = 0x5423;
    const TIOCEXCL: u32 = 0x540c;
    const TIOCNXCL: u32 = 0x540d;
    const N_TTY: u32 = 0;
    const N_NULL: u32 = 27;
    let bed = Bed::with(Limits { serial_stalled_ms: 200, ..fast() });
    let mut line = Line::of(&bed);
    beside(move || {
        line.assert_served();
        // It comes back to who typed it, and the service never sees it: it would have answered the line.
        for byte in "GET sdc:uuid\n".bytes() {
            control(&line, &format!("{TIOCSTI}, my $typed = chr {byte}"));
        }
        assert_eq!(line.read(13, PATIENCE), "GET sdc:uuid\n");
        assert_eq!(line.read(1, Duration::from_millis(300)), "", "what was typed into the terminal was answered");
        line.assert_served();

        // What is answered into a discipline that takes nothing is lost, and does not keep the service.
        line.slave.write_all(b"GET sdc:nics\n").unwrap();
        control(&line, &format!("{TIOCSETD}, my $discipline = pack('i', {N_NULL})"));
        assert!(line.slave.write_all(b"GET sdc:uuid\n").is_err(), "the other discipline is not in force");
        std::thread::sleep(Duration::from_millis(400));
        control(&line, &format!("{TIOCSETD}, my $discipline = pack('i', {N_TTY})"));
        while !line.read(4096, Duration::from_millis(500)).is_empty() {}
        line.assert_served();

        control(&line, &format!("{TIOCEXCL}, 0"));
        line.assert_served();
        control(&line, &format!("{TIOCNXCL}, 0"));
        line.assert_served();
    })
    .await;
}
