//! Signals as LXC spells them in configs.

/// True for what `lxc.signal.*` takes: a name with `SIG`, `SIGRTMIN+n` and `SIGRTMAX-n`.
pub(crate) fn is_signal_name(text: &str) -> bool {
    const NAMES: &[&str] =
        &["HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "PWR", "WINCH", "CONT", "STOP", "TSTP", "ALRM", "CHLD", "URG", "IO"];
    let Some(name) = text.strip_prefix("SIG") else { return false };
    let offset = |digits: &str| digits.len() <= 2 && digits.parse::<u8>().is_ok_and(|n| n <= 30);
    NAMES.contains(&name)
        || name.strip_prefix("RTMIN+").is_some_and(offset)
        || name.strip_prefix("RTMAX-").is_some_and(offset)
        || matches!(name, "RTMIN" | "RTMAX")
}
