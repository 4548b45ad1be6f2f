//! What long lines cost their guest, and nobody else (metadata.md sections 8.2 and 10, attack cases 15 and 82): on a clock that only
//! moves when everybody waits, so that each figure is exact.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod common;

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use common::{Bed, Memory, fast, fixture, success};
use metadata_agent::{Limits, Shared, talk};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, sleep, timeout},
};
use triton_mdata::client::Ask;

/// Bytes that fit between a client and the service, as in a socket's buffer.
const PIPE: usize = 64 << 10;
/// Bytes of a line that are free.
const FREE: usize = 4 << 10;

fn limits() -> Limits {
    Limits { bytes: (100_000.0, 200_000.0), ..Limits::default() }
}

fn connect(bed: &Bed) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let guest = bed.guest.clone();
    tokio::spawn(async move { talk(&guest, theirs).await });
    ours
}

/// Sends for ever what `line` says, on a new connection whenever the old one ends; returns what was taken in `span`.
async fn send_junk(bed: &Bed, line: &[u8], span: Duration) -> usize {
    let (begin, mut sent) = (Instant::now(), 0);
    while begin.elapsed() < span {
        let mut stream = connect(bed);
        while let Ok(Ok(count)) = timeout(span.saturating_sub(begin.elapsed()), stream.write(line)).await {
            sent += count;
        }
    }
    sent
}

/// Lines without end, and lines of 20 MiB: what is read of them is the burst, then the rate, whatever their sender does.
#[tokio::test(start_paused = true)]
async fn who_sends_no_line_is_read_from_at_the_guests_rate_of_bytes() {
    let mut long = vec![b'x'; 20 << 20];
    long.push(b'\n');
    for junk in [vec![b'x'; 64 << 10], long] {
        for senders in [1, 8] {
            let bed = Arc::new(Bed::with(limits()));
            let span = Duration::from_secs(30);
            let junk = Arc::new(junk.clone());
            let tasks: Vec<_> = (0..senders)
                .map(|_| {
                    let (bed, junk) = (bed.clone(), junk.clone());
                    tokio::spawn(async move { send_junk(&bed, &junk, span).await })
                })
                .collect();
            let mut sent = 0;
            for task in tasks {
                sent += task.await.unwrap();
            }
            // What waits in a pipe was taken by nobody.
            let most = 200_000 + 30 * 100_000 + senders * 2 * (PIPE + FREE + (16 << 10));
            assert!(sent <= most, "{senders} senders: {sent} of at most {most}");
            assert!(sent >= 30 * 100_000, "{senders} senders: {sent}");
        }
    }
}

/// The others' clock does not move for it, nor does that of the guest's own short requests; answers stay in order.
#[tokio::test(start_paused = true)]
async fn short_requests_wait_for_no_long_line_of_others() {
    let bed = Arc::new(Bed::with(Limits { reads: (1e6, 1e6), ..limits() }));
    let neighbour = Bed::with(limits());
    let junk = bed.clone();
    let sender = tokio::spawn(async move { send_junk(&junk, &[b'x'; 64 << 10], Duration::from_secs(3600)).await });
    sleep(Duration::from_secs(20)).await;
    for bed in [&neighbour, bed.as_ref()] {
        let mut client = bed.connect();
        let begin = Instant::now();
        for _ in 0..20 {
            assert_eq!(client.get("sdc:alias").await, success("web0"));
        }
        assert_eq!(begin.elapsed(), Duration::ZERO, "a short request waited");
    }
    sender.abort();
    // A guest that paid for much is served its next long line when it has paid, and what came after it waits its turn.
    let mut client = bed.connect();
    let key = "k".repeat(60_000);
    let lines = format!("{}{}", Ask::Get(key).encode(1), Ask::Get("sdc:alias".to_owned()).encode(2));
    let begin = Instant::now();
    let answers = client.lines(&lines, 2).await;
    assert!(begin.elapsed() > Duration::from_millis(500), "{:?}", begin.elapsed());
    let order: Vec<_> = answers.lines().map(|line| line.split(' ').nth(3).unwrap().to_owned()).collect();
    assert_eq!(order, ["00000001", "00000002"]);
}

/// Attack case 17: who reads large answers as fast as they come pays for them, too.
#[tokio::test(start_paused = true)]
async fn large_answers_come_at_the_guests_rate_of_bytes() {
    let bed = Bed::with(Limits { reads: (1e6, 1e6), ..limits() });
    bed.store.vm.lock().unwrap()["customer_metadata"]["big"] = "x".repeat(75_000).into();
    let mut client = bed.connect();
    let begin = Instant::now();
    for _ in 0..20 {
        assert_eq!(client.get("big").await.0, "SUCCESS");
    }
    // 20 answers of 100 kB, less the burst of 200 kB and what is free, at 100 kB/s.
    let took = begin.elapsed().as_secs_f64();
    assert!((16.5..18.5).contains(&took), "{took}");
}

/// A line that is being paid for must end in time all the same (section 8.2), and its memory is free then.
#[tokio::test(start_paused = true)]
async fn a_line_that_cannot_be_paid_for_in_time_ends_its_connection() {
    let bed = Bed::with(Limits { bytes: (1000.0, 1000.0), partial_ms: 5000, ..fast() });
    let mut stream = connect(&bed);
    stream.write_all(&[b'x'; PIPE]).await.unwrap();
    let begin = Instant::now();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "it is closed");
    assert_eq!(begin.elapsed().as_secs(), 5);
    assert_eq!(bed.guest.memory.used(), 0);
}

/// Documents that are read at once, each of which takes memory: one of each guest, and no more than there may be of all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_at_once_are_one_of_each_guest_and_have_a_bound_of_all() {
    let look = async |guests: usize, most: usize| {
        let limits = Limits { readers_of_all: 3, ..fast() };
        let shared = Shared::new(&limits);
        let store = Arc::new(Memory { vm: Mutex::new(fixture()), slow: Duration::from_millis(2), ..Memory::default() });
        let beds: Vec<_> = (0..guests).map(|_| Bed::beside(&shared, store.clone(), limits)).collect();
        let mut asking = tokio::task::JoinSet::new();
        for bed in &beds {
            for _ in 0..8 {
                let mut client = bed.connect();
                asking.spawn(async move {
                    for _ in 0..5 {
                        assert_eq!(client.get("sdc:alias").await, success("web0"));
                    }
                });
            }
        }
        while let Some(asked) = asking.join_next().await {
            asked.unwrap();
        }
        assert_eq!(store.looks.1.load(Ordering::Relaxed), most, "{guests} guests");
    };
    look(1, 1).await;
    look(6, 3).await;
}
