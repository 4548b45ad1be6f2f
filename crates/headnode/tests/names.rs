//! Names of services, asked of a binder that is a few lines here (firewaller.md section 2.1).
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{
    base::{Message, MessageBuilder, Rtype, iana::Rcode},
    rdata::A,
};
use http::Method;
use tokio::net::{TcpListener, UdpSocket};
use triton_headnode::{Call, FastFeed, HttpClient, HttpOptions, Names};

/// Knows `fwapi.dc.example` alone, says lies about it first, and counts questions.
async fn binder(time: u32) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let question = Message::from_octets(&buffer[..length]).unwrap();
            let sole = question.sole_question().unwrap();
            assert_eq!(sole.qtype(), Rtype::A);
            let known = sole.qname().to_string().eq_ignore_ascii_case("fwapi.dc.example");
            let code = if known { Rcode::NOERROR } else { Rcode::NXDOMAIN };
            let mut answer = MessageBuilder::new_vec().start_answer(&question, code).unwrap();
            if known {
                for address in [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 3)] {
                    answer.push((sole.qname(), time, A::new(address))).unwrap();
                }
            }
            let answer = answer.finish();
            // Of another question, and no message at all: neither is taken.
            let mut other = answer.clone();
            other[0] ^= 0xff;
            for bytes in [&other[..], &answer[..7], &answer[..]] {
                socket.send_to(bytes, from).await.unwrap();
            }
        }
    });
    (address, asked)
}

/// A service, and its port.
async fn service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = axum::Router::new().route("/ping", axum::routing::get(|| async { "{}" }));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    port
}

#[tokio::test]
async fn services_are_found_by_the_binder_and_asked_for_once_within_their_time() {
    let (server, asked) = binder(30).await;
    let names = Names::by_binder("dc.example", &server.to_string());
    let client = HttpClient::new(HttpOptions { names: names.clone(), ..HttpOptions::new("test") });
    let base = format!("http://fwapi.dc.example:{}", service().await).parse().unwrap();
    for _ in 0..3 {
        assert_eq!(&client.call(&base, Call::new(Method::GET, "/ping")).await.unwrap().body[..], b"{}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let both: Vec<SocketAddr> = ["127.0.0.1:2020", "127.0.0.3:2020"].map(|address| address.parse().unwrap()).into();
    assert_eq!(names.lookup("FWAPI.dc.example", 2020).await.unwrap(), both, "whatever the case of its letters");
    // FAST, too: its server here hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("fwapi.dc.example:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    assert!(FastFeed::connect_with(&names, &address, "cn0").await.is_ok());
}

#[tokio::test]
async fn an_answer_counts_for_its_time_only() {
    let (server, asked) = binder(0).await;
    let names = Names::by_binder("dc.example", &server.to_string());
    names.lookup("fwapi.dc.example", 80).await.unwrap();
    names.lookup("fwapi.dc.example", 80).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1, "at least a second");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    names.lookup("fwapi.dc.example", 80).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_the_binder_does_not_know_or_is_not_asked_for_is_the_systems() {
    let (server, asked) = binder(30).await;
    let names = Names::by_binder("dc.example", &server.to_string());
    let error = names.lookup("nobody.dc.example", 80).await.unwrap_err().to_string();
    assert!(error.contains(&format!("the binder {server}: it knows no such name")), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 1, "such an answer is one");
    assert!(names.lookup("localhost", 80).await.unwrap().iter().all(|address| address.ip().is_loopback()));
    assert_eq!(names.lookup("127.0.0.9", 80).await.unwrap(), ["127.0.0.9:80".parse().unwrap()]);
    assert_eq!(names.lookup("[::1]", 80).await.unwrap(), ["[::1]:80".parse().unwrap()]);
    assert_eq!(asked.load(Ordering::Relaxed), 1, "neither is in its domain");
    // One that is silent is not waited for longer than a request lasts.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let names = Names::by_binder("dc.example", &silent.local_addr().unwrap().to_string());
    let begun = std::time::Instant::now();
    let error = names.lookup("fwapi.dc.example", 80).await.unwrap_err().to_string();
    assert!(error.contains("timed out") || error.contains("no answer"), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(1400), "it was asked twice");
}
