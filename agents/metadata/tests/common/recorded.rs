//! Sessions of upstream's clients, recorded.

use serde::Deserialize;
use triton_mdata::Frame;

/// One run of a client.
#[derive(Debug, Deserialize)]
pub struct Session {
    /// Program and arguments.
    pub run: Vec<String>,
    /// Its exit status.
    pub exit: i32,
    /// What it printed.
    pub stdout: String,
    /// What it sent (`>`) and was answered (`<`), in order.
    pub exchange: Vec<(String, String)>,
}

pub fn sessions(text: &str) -> Vec<Session> {
    serde_json::from_str(text).unwrap()
}

impl Session {
    /// The client understood its last answer as it was meant: by its exit status, and by what it printed.
    pub fn judge(&self) {
        let last = self.exchange.iter().rev().find(|(side, _)| side == "<");
        let Some(frame) = last.and_then(|(_, bytes)| Frame::parse(bytes.lines().last()?)) else {
            // It asked nothing: its arguments were wrong.
            assert_eq!(self.exit, 3, "{:?}", self.run);
            return;
        };
        let expected = match frame.code.as_str() {
            "SUCCESS" => 0,
            "NOTFOUND" => 1,
            _ => 2,
        };
        assert_eq!(self.exit, expected, "{:?}: {}", self.run, frame.code);
        let told = match (self.run[0].as_str(), self.exit) {
            ("mdata-get" | "mdata-list", 0) => frame.text(),
            _ => String::new(),
        };
        assert_eq!(self.stdout.trim_end_matches('\n'), told.trim_end_matches('\n'), "{:?}", self.run);
    }
}
