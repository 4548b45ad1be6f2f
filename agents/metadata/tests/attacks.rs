//! The attacks of metadata.md section 10 that one connection, or many of one guest, can make: each costs its own guest alone.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod common;

use std::{
    fs::File,
    io::Read,
    os::fd::AsFd,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use common::{Bed, PATIENCE, failure, fast, success};
use metadata_agent::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};
use triton_mdata::client::Ask;

/// Waits for a condition that nothing tells of.
async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < PATIENCE, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// metadata attack cases 14 and 17: a client that asks for much and reads nothing
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_not_read_from_and_then_cut_off() {
    let bed = Bed::with(Limits { stalled_ms: 500, ..fast() });
    bed.store.vm.lock().unwrap()["customer_metadata"]["big"] = "x".repeat(1 << 20).into();
    let mut slow = bed.connect();
    let line = Ask::Get("big".to_owned()).encode(1);
    let mut sent = 0;
    while let Ok(Ok(())) = timeout(Duration::from_millis(200), slow.stream.write_all(line.as_bytes())).await {
        sent += line.len();
        assert!(sent < 8 << 20, "it goes on reading although nobody takes its answers");
        assert!(bed.guest.memory.used() < 4 << 20, "one answer is kept, not many: {}", bed.guest.memory.used());
    }
    assert_eq!(bed.connect().get("sdc:alias").await, success("web0"), "another connection of the same guest");
    until("it is cut off", || bed.guest.memory.used() == 0).await;
}

/// metadata attack case 15: no newline, and a line of 20 MiB
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_without_end_ends_the_connection_at_its_bound() {
    let bed = Bed::new();
    let mut endless = bed.connect();
    let chunk = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 20 << 20 && endless.stream.write_all(&chunk).await.is_ok() {
        sent += chunk.len();
        assert!(bed.guest.memory.used() <= 6 << 20, "{}", bed.guest.memory.used());
    }
    assert!(sent < 6 << 20, "{sent} bytes of one line were taken");
    assert_eq!(endless.line().await, None);
    until("its memory is free", || bed.guest.memory.used() == 0).await;
    assert_eq!(bed.connect().get("sdc:alias").await, success("web0"));
}

/// Ruling 31: what would be more than the guest's share is refused, not kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_of_a_guest_share_its_memory() {
    let bed = Bed::with(Limits { memory: 3 << 20, ..fast() });
    let mut clients: Vec<UnixStream> = (0..8).map(|_| bed.connect().stream).collect();
    let chunk = vec![b'x'; 64 << 10];
    for _ in 0..32 {
        for client in &mut clients {
            let _ = timeout(Duration::from_secs(5), client.write_all(&chunk)).await.expect("it reads or closes");
            assert!(bed.guest.memory.used() <= 3 << 20);
        }
    }
    drop(clients);
    until("its memory is free", || bed.guest.memory.used() == 0).await;
}

/// metadata attack case 14: one byte now and then
#[tokio::test(start_paused = true)]
async fn a_line_must_end_in_time_and_an_idle_connection_ends_later() {
    let bed = Bed::with(Limits::default());
    let mut drip = bed.connect();
    let begin = tokio::time::Instant::now();
    while timeout(Duration::from_secs(10), drip.stream.read(&mut [0; 8])).await.is_err() {
        let _ = drip.stream.write_all(b"x").await;
    }
    assert!((60..=75).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    let mut idle = bed.connect();
    assert_eq!(idle.lines("\n", 1).await, "invalid command\n");
    let begin = tokio::time::Instant::now();
    assert_eq!(timeout(Duration::from_secs(900), idle.stream.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    assert_eq!(begin.elapsed().as_secs(), 600);
}

/// metadata attack case 15: millions of empty lines, and damaged frames
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_empty_or_damaged_lines_is_taken_at_the_guests_rate() {
    for line in ["\n", "V2 1 2 3\n"] {
        let bed = Bed::with(Limits { reads: (100.0, 50.0), ..Limits::default() });
        let flood = bed.connect();
        let (mut reader, mut writer) = flood.stream.into_split();
        let reading = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
        let all = line.repeat(1 << 20);
        let begin = Instant::now();
        let taken = timeout(Duration::from_secs(1), writer.write_all(all.as_bytes())).await;
        assert!(taken.is_err(), "all of the flood was taken in {:?}", begin.elapsed());
        assert!(bed.guest.memory.used() < 1 << 20);
        drop(writer);
        reading.abort();
    }
}

/// metadata attack case 16: PUT of distinct keys, of huge values, of the same value; DELETE
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_writes_is_slowed_and_has_a_bound() {
    let bed = Bed::with(Limits { writes: (50.0, 10.0), reads: (1e6, 1e6), ..Limits::default() });
    let begin = Instant::now();
    let mut storm = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let mut client = bed.connect();
        storm.spawn(async move {
            for key in 0..10_000 {
                client.put(&format!("{writer}.{key}"), "v").await;
            }
        });
    }
    until("a second has gone", || begin.elapsed() >= Duration::from_secs(1)).await;
    let writes = bed.store.writes.load(Ordering::Relaxed);
    storm.abort_all();
    let allowed = 10.0 + 50.0 * begin.elapsed().as_secs_f64() + 8.0;
    assert!(writes as f64 <= allowed && writes >= 20, "{writes} writes, {allowed} allowed");

    let bed = Bed::with(Limits { keys: 20, total: 10_000, value: 4000, ..fast() });
    let mut client = bed.connect();
    let mut refused = 0;
    for key in 0..30 {
        let (code, text) = client.put(&format!("k{key}"), "v").await;
        refused += usize::from(code == "FAILURE" && text.contains("20 keys"));
    }
    assert_eq!(bed.store.stored("customer_metadata").len() + refused, 11 + 30);
    assert_eq!(bed.store.stored("customer_metadata").len(), 20);
    assert_eq!(client.put("k0", &"v".repeat(4001)).await.0, "FAILURE");
    for key in ["k0", "k1", "k2"] {
        client.put(key, &"v".repeat(4000)).await;
    }
    assert_eq!(bed.store.stored("customer_metadata")["k2"], "v", "the sum has a bound too");
    assert_eq!(client.delete("k0").await, success("OK"), "removing always helps");
    assert_eq!(client.put("k2", &"v".repeat(4000)).await, success("OK"));
}

/// Section 8.2: keys that a guest makes are short and have no control characters; those that are there are served.
#[tokio::test]
async fn new_keys_are_plain_and_old_ones_stay_readable() {
    let bed = Bed::new();
    let mut client = bed.connect();
    for key in ["a\nb", "a\0b", "a\u{1b}[31mb", &"k".repeat(257), &"☃".repeat(100)] {
        assert_eq!(client.put(key, "v").await, failure("Invalid PUT Request"), "{key:?}");
    }
    assert_eq!(client.put(&"k".repeat(256), "v").await, success("OK"));
    bed.store.vm.lock().unwrap()["customer_metadata"]["odd\u{1b}key"] = "here".into();
    assert_eq!(client.get("odd\u{1b}key").await, success("here"));
    assert_eq!(client.delete("odd\u{1b}key").await, success("OK"));
    // metadata attack case 23
    let value = "\u{1b}]0;x\u{7}\n.\n..\n\0end";
    assert_eq!((client.put("v", value).await, client.get("v").await), (success("OK"), success(value)));
    // metadata attack case 21: a key of a mebibyte
    assert_eq!(client.get(&"k".repeat(1 << 20)).await.0, "NOTFOUND");
}

/// metadata attack case 17: KEYS of as many keys as there may be, in a loop, unread
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_list_that_nobody_reads_is_kept_once() {
    let bed = Bed::with(Limits { stalled_ms: 300, ..fast() });
    for key in 0..1000 {
        bed.store.vm.lock().unwrap()["customer_metadata"][format!("{key:0200}")] = "v".into();
    }
    let mut slow = bed.connect();
    let line = Ask::Keys.encode(1).repeat(1000);
    let _ = timeout(Duration::from_millis(300), slow.stream.write_all(line.as_bytes())).await;
    assert!(bed.guest.memory.used() < 1 << 20, "{}", bed.guest.memory.used());
    until("it is cut off", || bed.guest.memory.used() == 0).await;
}

/// metadata attack case 18
#[tokio::test]
async fn descriptors_that_come_with_bytes_are_never_received() {
    let bed = Bed::new();
    let client = bed.connect();
    let (reader, writer) = std::io::pipe().unwrap();
    let stream = client.stream.into_std().unwrap();
    triton_process::send_descriptor(&stream, b'\n', Some(writer.as_fd())).unwrap();
    drop(writer);
    // The pipe ends: nobody but this test had its other side.
    let ended = tokio::task::spawn_blocking(move || File::from(std::os::fd::OwnedFd::from(reader)).read(&mut [0; 8]).unwrap());
    assert_eq!(timeout(PATIENCE, ended).await.unwrap().unwrap(), 0);
    drop(stream);
}
