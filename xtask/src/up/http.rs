//! Requests to the stand-in headnode, as an operator's `curl` would make them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// An answer: status and body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, `null` without one.
    pub body: Value,
}

/// Largest body that is read.
const BODY: u64 = 16 << 20;

/// Makes one request on a connection of its own. HTTP/1.0: the body ends with the connection.
pub fn request(server: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
    let what = || format!("{method} http://{server}{path}");
    let exchange = || -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        let text = body.map(Value::to_string).unwrap_or_default();
        let mut head = format!("{method} {path} HTTP/1.0\r\nhost: {server}\r\naccept: application/json\r\nuser-agent: xtask\r\n");
        if body.is_some() {
            head.push_str("content-type: application/json\r\n");
        }
        write!(stream, "{head}content-length: {}\r\n\r\n{text}", text.len())?;
        let mut bytes = Vec::new();
        stream.take(BODY).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = exchange().with_context(what)?;
    parse(&bytes).with_context(what)
}

/// As [`request`]; a status beside 2xx is an error with the server's words.
pub fn call(server: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let answer = request(server, method, path, body)?;
    if !(200..300).contains(&answer.status) {
        bail!("{method} http://{server}{path} answered {}: {}", answer.status, answer.body);
    }
    Ok(answer.body)
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").context("no HTTP answer")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).context("no status in the answer")?;
    let body = &bytes[end + 4..];
    let body = match body {
        [] => Value::Null,
        text => serde_json::from_slice(text).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(text).into_owned())),
    };
    Ok(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_read_and_a_torn_answer_is_an_error() {
        let answer = parse(b"HTTP/1.0 404 Not Found\r\ncontent-type: x\r\n\r\n{\"code\":\"ResourceNotFound\"}").unwrap();
        assert_eq!((answer.status, answer.body["code"].as_str()), (404, Some("ResourceNotFound")));
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().body, Value::Null);
        assert!(parse(b"HTTP/1.1 200").is_err());
    }
}
