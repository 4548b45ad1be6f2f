//! Words that clap cannot read as they are written.

/// True if the first word that is no option of vmadm itself asks for help: `help`, `-?`.
pub fn wants_help(args: &[std::ffi::OsString]) -> bool {
    let mut words = args.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        match word.as_ref() {
            "help" | "-?" => return true,
            "--root" => drop(words.next()),
            option if option.starts_with('-') => {}
            _ => return false,
        }
    }
    false
}

/// Rewrites what clap cannot read: `kill -9 UUID`, `kill -SIGKILL UUID` and `list -p -h`.
pub fn rewrite(args: impl IntoIterator<Item = std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let mut verb: Option<String> = None;
    let mut out = Vec::new();
    let mut value_of_root = false;
    for (index, arg) in args.into_iter().enumerate() {
        let text = arg.to_string_lossy().into_owned();
        if index > 0 && verb.is_none() && !value_of_root && !text.starts_with('-') {
            verb = Some(text.clone());
        }
        value_of_root = text == "--root";
        match verb.as_deref() {
            Some("kill") if is_signal_flag(&text) => {
                out.push("-s".into());
                out.push(text.trim_start_matches('-').into());
            }
            Some("list") if text == "-h" => out.push("--header".into()),
            _ => out.push(arg),
        }
    }
    out
}

fn is_signal_flag(text: &str) -> bool {
    text.strip_prefix('-')
        .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'+'))
}

#[cfg(test)]
mod tests {
    use super::{super::VmadmArgs, *};

    fn words(text: &str) -> Vec<String> {
        rewrite(text.split(' ').map(Into::into)).into_iter().map(|s| s.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn signals_may_be_written_as_flags() {
        assert_eq!(words("vmadm kill -9 u").join(" "), "vmadm kill -s 9 u");
        assert_eq!(words("vmadm kill -SIGKILL u").join(" "), "vmadm kill -s SIGKILL u");
        assert_eq!(words("vmadm --root /kill kill -9 u").join(" "), "vmadm --root /kill kill -s 9 u");
        assert_eq!(words("vmadm kill -s 9 u").join(" "), "vmadm kill -s 9 u");
        assert_eq!(words("vmadm lookup -1 alias=x").join(" "), "vmadm lookup -1 alias=x");
        assert_eq!(words("vmadm list -p -h").join(" "), "vmadm list -p --header");
    }

    #[test]
    fn help_is_asked_for_where_a_verb_would_be() {
        let wants = |text: &str| wants_help(&text.split(' ').map(Into::into).collect::<Vec<_>>());
        for text in ["vmadm help", "vmadm -?", "vmadm --root /x help", "vmadm --root=/x -?"] {
            assert!(wants(text), "{text}");
        }
        for text in ["vmadm", "vmadm list", "vmadm --root help list", "vmadm lookup help"] {
            assert!(!wants(text), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        VmadmArgs::command().debug_assert();
    }
}
