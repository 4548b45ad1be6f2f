//! What `error_num` says about the end of a container's init (ruling 71). It is no plain wait status.

/// How a container's init ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitOutcome {
    /// It exited with this code.
    Exited(u8),
    /// It was killed by this signal.
    Signalled(i32),
    /// The guest powered itself off or halted.
    Halted,
    /// The guest asked for a reboot.
    Rebooted,
}

impl ExitOutcome {
    /// Reads `error_num` of a container whose start succeeded.
    ///
    /// `code << 8` for an exit; a low byte of 0x7f for a signal, whose number is above it. The kernel ends the init of a pid
    /// namespace with SIGINT at power-off and with SIGHUP at reboot; from inside, or with its default action, neither signal
    /// can end it, so the two are told from a real death by signal.
    pub fn decode(error_num: i32) -> Self {
        let (high, low) = ((error_num >> 8) & 0xff, error_num & 0xff);
        match low {
            0 => Self::Exited(u8::try_from(high).unwrap_or(u8::MAX)),
            0x7f => Self::by_signal(high),
            _ => Self::by_signal(low & 0x7f),
        }
    }

    fn by_signal(signal: i32) -> Self {
        match signal {
            libc::SIGHUP => Self::Rebooted,
            libc::SIGINT => Self::Halted,
            signal => Self::Signalled(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ExitOutcome::{self, Exited, Halted, Rebooted, Signalled};

    #[test]
    fn error_num_is_decoded_as_measured() {
        for (error_num, outcome) in [
            (0, Exited(0)),
            (1792, Exited(7)),
            (255 << 8, Exited(255)),
            (2431, Signalled(9)),
            (0x0f7f, Signalled(15)),
            (639, Halted),
            (383, Rebooted),
            (9, Signalled(9)),
            (0x80 | 11, Signalled(11)),
            (1, Rebooted),
            (2, Halted),
        ] {
            assert_eq!(ExitOutcome::decode(error_num), outcome, "{error_num}");
        }
    }
}
