//! One connection: lines in, answers out, strictly in order. Whoever does not read is not read from, and whoever sends long lines is
//! read from as fast as its guest may send them.

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    Guest,
    budget::Share,
    intake::{Meter, of_answer},
};

/// Bytes that are read at once.
const CHUNK: usize = 16 << 10;

/// Serves a connection until the client closes it or asks for too much.
pub async fn talk(guest: &Guest, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let limits = &guest.limits;
    let mut share = Share::new(&guest.memory);
    let mut buffer: Vec<u8> = Vec::new();
    // Up to where there is no line feed: a long line is not searched again and again.
    let mut searched = 0;
    let mut meter = Meter::default();
    let mut began = Instant::now();
    loop {
        while let Some(end) = buffer[searched..].iter().position(|&byte| byte == b'\n').map(|at| searched + at) {
            guest.pay(meter.grown_to(end)).await;
            meter.next_line();
            let answer = guest.answer(&buffer[..end]).await;
            buffer.drain(..=end);
            searched = 0;
            began = Instant::now();
            if let Some(answer) = answer {
                let kept = buffer.capacity() + answer.len();
                guest.pay(of_answer(answer.len())).await;
                if !share.resize(kept) || !send(&mut stream, answer.as_bytes(), limits.stalled()).await {
                    guest.numbers.cut();
                    return;
                }
            }
        }
        searched = buffer.len();
        if searched > limits.line {
            guest.numbers.cut();
            return;
        }
        if buffer.is_empty() && buffer.capacity() > CHUNK {
            buffer = Vec::new();
        }
        if !share.resize(buffer.len() + CHUNK) {
            guest.numbers.cut();
            return;
        }
        let deadline = if buffer.is_empty() { Instant::now() + limits.idle() } else { began + limits.partial() };
        let was_empty = buffer.is_empty();
        let more = async {
            guest.pay(meter.grown_to(buffer.len())).await;
            buffer.reserve(CHUNK);
            (&mut stream).take(CHUNK as u64).read_buf(&mut buffer).await
        };
        match timeout_at(deadline, more).await {
            // The client is gone, or has said all it will; what it did not end is discarded.
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) if was_empty => began = Instant::now(),
            Ok(Ok(_)) => {}
            Err(_) => {
                guest.numbers.cut();
                return;
            }
        }
    }
}

/// Writes all of it; every part of it must be taken within `patience`.
async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8], patience: std::time::Duration) -> bool {
    let mut left = bytes;
    while !left.is_empty() {
        match timeout(patience, stream.write(left)).await {
            Ok(Ok(count)) if count > 0 => left = &left[count..],
            _ => return false,
        }
    }
    true
}
