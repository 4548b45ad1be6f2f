//! The line to CNAPI: one request in flight.
//!
//! "At most one request in flight" (section 5) and "a heartbeat at least every 11 s" (section 5.1) meet here. Every request takes the
//! line for itself, each attempt anew, so that pauses between retries block nobody. A request lasts 5 s at most; a heartbeat waits for
//! 2 s of them and then goes on a connection of its own. So two requests overlap only while CNAPI is stalling one of them, and
//! heartbeats are never more than 5 + 2 s apart by this agent's doing.

use std::time::Duration;

use triton_headnode::{CnApi, HttpError};

use crate::Numbers;

/// The line to CNAPI. Waiters are served in their order.
#[derive(Debug)]
pub struct Wire {
    cnapi: CnApi,
    line: tokio::sync::Mutex<()>,
    numbers: Numbers,
}

impl Wire {
    /// The line of `cnapi`.
    pub fn new(cnapi: CnApi, numbers: Numbers) -> Self {
        Self { cnapi, line: tokio::sync::Mutex::new(()), numbers }
    }

    /// Makes one request when the line is free. `message` names it in the numbers.
    ///
    /// # Errors
    /// When CNAPI did not take it.
    pub(super) async fn send<F>(&self, message: &'static str, request: impl FnOnce(CnApi) -> F) -> Result<(), HttpError>
    where
        F: Future<Output = Result<(), HttpError>>,
    {
        let _line = self.line.lock().await;
        let result = request(self.cnapi.clone()).await;
        self.numbers.message(message, result.is_ok());
        result
    }

    /// Sends a heartbeat: when the line is free, or after `patience`.
    ///
    /// # Errors
    /// When CNAPI did not take it.
    pub(super) async fn heartbeat(&self, patience: Duration) -> Result<(), HttpError> {
        let _line = tokio::time::timeout(patience, self.line.lock()).await.ok();
        let result = self.cnapi.heartbeat().await;
        self.numbers.message("heartbeat", result.is_ok());
        result
    }
}
