//! The signals that end an agent. They end the agent only: instances keep running (design section 9, invariant 2).

use std::{fmt, io};

use tokio::signal::unix::{SignalKind, signal};

/// Why the agent was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// SIGTERM: the service manager.
    Terminate,
    /// SIGINT: somebody at a terminal.
    Interrupt,
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// Takes over SIGTERM and SIGINT at once; the future ends with the first of them.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn shutdown_signal() -> io::Result<impl Future<Output = Shutdown> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => Shutdown::Terminate,
            _ = interrupt.recv() => Shutdown::Interrupt,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_signal_is_taken_from_the_moment_of_the_call() {
        for (number, expected) in [(nix::sys::signal::SIGTERM, Shutdown::Terminate), (nix::sys::signal::SIGINT, Shutdown::Interrupt)] {
            let future = shutdown_signal().unwrap();
            nix::sys::signal::raise(number).unwrap();
            assert_eq!(future.await, expected);
        }
    }
}
