//! What upstream's own clients say, byte for byte as they said it, and what they were answered when they ended as the contract has it:
//! metadata cases 67 to 69. `recorded/*.json` were taken between those programs, built from their public sources, and this service
//! with the instance of section 12; each session has the program's arguments, its exit status and what it printed.
//!
//! Their request numbers are random and came with the recording; everything else is the same whenever they run.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod common;

use common::{
    Bed, PATIENCE,
    recorded::{Session, sessions},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// Over a socket each session is a connection of its own, in which nothing but the answers comes, and at whose end nothing is left.
async fn replay(sessions: &[Session]) {
    let bed = Bed::new();
    for session in sessions {
        let mut stream = bed.connect().stream;
        for (number, (side, bytes)) in session.exchange.iter().enumerate() {
            if side == ">" {
                timeout(PATIENCE, stream.write_all(bytes.as_bytes())).await.unwrap().unwrap();
                continue;
            }
            let mut answer = vec![0; bytes.len()];
            let read = timeout(PATIENCE, stream.read_exact(&mut answer)).await;
            assert!(read.is_ok_and(|read| read.is_ok()), "{:?}, {number}: nothing came", session.run);
            assert_eq!(String::from_utf8_lossy(&answer), *bytes, "{:?}, {number}", session.run);
        }
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "", "{:?}", session.run);
        session.judge();
    }
}

/// metadata case 69: upstream's Rust client, as it found the socket
#[tokio::test]
async fn upstreams_rust_client_is_answered_over_a_socket() {
    let sessions = sessions(include_str!("recorded/rust-socket.json"));
    assert!(sessions.len() >= 20);
    replay(&sessions).await;
}

/// metadata cases 67 and 68: what upstream's C client says is answered the same over a socket, to which its builds for SmartOS speak
#[tokio::test]
async fn upstreams_c_client_is_answered_over_a_socket() {
    replay(&sessions(include_str!("recorded/c-serial.json"))).await;
}
