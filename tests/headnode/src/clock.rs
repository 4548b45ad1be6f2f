//! The stand-in's clock: the machine's, or one that a test moves.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Wall-clock time in milliseconds since 1970. Clones share one time.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    frozen: Option<i64>,
    offset: i64,
}

impl Clock {
    /// The machine's clock.
    pub fn real() -> Self {
        Self(Arc::new(Mutex::new(State { frozen: None, offset: 0 })))
    }

    /// A clock that stands until it is moved.
    pub fn frozen() -> Self {
        Self(Arc::new(Mutex::new(State { frozen: Some(jiff::Timestamp::now().as_millisecond()), offset: 0 })))
    }

    /// Now, in milliseconds since 1970.
    pub fn now(&self) -> i64 {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.frozen.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond()) + state.offset
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.offset = state.offset.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }

    /// Now, as Triton prints it.
    pub(crate) fn iso(&self) -> String {
        iso(self.now())
    }
}

/// `2024-05-02T10:31:07.420Z`
pub(crate) fn iso(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned(), |time| format!("{time:.3}"))
}
