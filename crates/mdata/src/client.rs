//! The client's side: what the guest's tools send and how they read what comes back.

use crate::{Frame, base64};

/// The line that begins version 2, and what a server answers that knows it.
pub const NEGOTIATE: &str = "NEGOTIATE V2\n";
/// See [`NEGOTIATE`].
pub const NEGOTIATED: &str = "V2_OK";
/// What every server answers to an empty line: how a serial line is brought to order.
pub const RESET_ANSWER: &str = "invalid command";

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The value of a key.
    Get(String),
    /// Sets a key.
    Put(String, Vec<u8>),
    /// Removes a key.
    Delete(String),
    /// The names of all keys.
    Keys,
}

impl Ask {
    /// The line to send, with this request identifier.
    pub fn encode(&self, request: u32) -> String {
        let request = format!("{request:08x}");
        let frame = match self {
            Self::Get(key) => Frame::new(&request, "GET", Some(key.as_bytes())),
            Self::Delete(key) => Frame::new(&request, "DELETE", Some(key.as_bytes())),
            Self::Keys => Frame::new(&request, "KEYS", None),
            Self::Put(key, value) => {
                let terms = format!("{} {}", base64::encode(key.as_bytes()), base64::encode(value));
                Frame::new(&request, "PUT", Some(terms.as_bytes()))
            }
        };
        frame.encode()
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// With the value.
    Success(Vec<u8>),
    /// There is no such key.
    NotFound,
    /// With the server's reason.
    Failure(String),
}

/// Reads an answer to the request of this identifier; `None` for everything else that may be on the line.
pub fn read(line: &str, request: u32) -> Option<Told> {
    let frame = Frame::parse(line.trim_end())?;
    if frame.request != format!("{request:08x}") {
        return None;
    }
    match frame.code.as_str() {
        "SUCCESS" => Some(Told::Success(frame.content())),
        "NOTFOUND" => Some(Told::NotFound),
        "FAILURE" => Some(Told::Failure(frame.text())),
        _ => None,
    }
}
