//! The states of an instance as the headnode reads them (instances.md section 5.1).

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)*
            /// A word from a newer peer: kept, and passed on unchanged.
            #[serde(untagged)]
            Other(String),
        }
        impl $name {
            /// The word on the wire.
            pub fn as_str(&self) -> &str {
                match self { $(Self::$variant => $text,)* Self::Other(text) => text }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// `state` of a VM object.
    VmState {
        /// Being created.
        Provisioning = "provisioning",
        /// Its files exist, its dataset does not.
        Configured = "configured",
        /// Install or delete is in progress, or was interrupted while deleting.
        Incomplete = "incomplete",
        /// Complete and not running.
        Stopped = "stopped",
        /// File systems are mounted, init has not begun.
        Ready = "ready",
        /// Init is alive.
        Running = "running",
        /// On its way down.
        ShuttingDown = "shutting_down",
        /// Stopped, but something of it is still held.
        Down = "down",
        /// Creation failed or was interrupted: it can only be deleted.
        Failed = "failed",
        /// Its machine file cannot be read: it exists, and more is not known (ruling 1).
        Unreadable = "unreadable",
    }
}

words! {
    /// `zone_state` of a VM object: what the container is, without the record of what it is meant to become.
    ZoneState {
        /// Files exist, the dataset does not.
        Configured = "configured",
        /// Install or delete in progress.
        Incomplete = "incomplete",
        /// Complete, not running.
        Installed = "installed",
        /// Mounted, init not begun.
        Ready = "ready",
        /// Init is alive.
        Running = "running",
        /// Stopping.
        ShuttingDown = "shutting_down",
        /// Stopped, resources still held.
        Down = "down",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_survives() {
        let state: VmState = serde_json::from_str("\"hibernating\"").unwrap();
        assert_eq!(state, VmState::Other("hibernating".into()));
        assert_eq!(serde_json::to_string(&state).unwrap(), "\"hibernating\"");
        assert_eq!(serde_json::to_string(&VmState::ShuttingDown).unwrap(), "\"shutting_down\"");
    }
}
