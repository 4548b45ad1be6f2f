//! Exit codes of agents, so that an operator (and systemd) can tell a mistake in the configuration from a failure.

use std::{
    error::Error,
    process::{ExitCode, Termination},
};

use crate::{ConfigError, chain};

/// How an agent ended. The numbers are those of sysexits.h where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AgentExit {
    /// It was asked to stop and did.
    Stopped = 0,
    /// It could not go on; worth a restart.
    Failed = 1,
    /// The command line is wrong.
    BadArguments = 2,
    /// Something it needs at start is not there: a store, a namespace, a socket's address.
    Unavailable = 69,
    /// A defect: it panicked.
    Defect = 70,
    /// The configuration cannot be used; a restart will not help.
    BadConfiguration = 78,
}

impl AgentExit {
    /// Logs `error` with its causes and says how to end: a [`ConfigError`] anywhere in the chain is a bad configuration.
    pub fn from_error(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = %chain(error), "the agent cannot go on");
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<ConfigError>() {
                return Self::BadConfiguration;
            }
            cause = error.source();
        }
        Self::Failed
    }
}

impl Termination for AgentExit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

impl From<AgentExit> for ExitCode {
    fn from(exit: AgentExit) -> Self {
        exit.report()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not start")]
    struct Start(#[source] ConfigError);

    #[test]
    fn a_bad_configuration_is_told_from_a_failure_wherever_it_is_in_the_chain() {
        let config = crate::load_json::<u8>(Path::new("/nonexistent/config.json")).unwrap_err();
        assert_eq!(AgentExit::from_error(&Start(config)), AgentExit::BadConfiguration);
        assert_eq!(AgentExit::from_error(&std::io::Error::other("x")), AgentExit::Failed);
    }
}
