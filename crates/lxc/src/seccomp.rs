//! The system calls that no guest makes: a policy for `lxc.seccomp.profile`.
//!
//! A denylist, since guests are whole distributions: what concerns the machine and not a guest, and what has led out of user namespaces
//! before while hardly anything needs it. Programs that could need one of them have a way without: they are told that there is no
//! such call (`ENOSYS`), or that it is not allowed (`EPERM`).

/// Not allowed.
const EPERM: [&str; 20] = [
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "open_by_handle_at",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "lookup_dcookie",
    "iopl",
    "ioperm",
    "swapon",
    "swapoff",
    "acct",
    "quotactl",
    "quotactl_fd",
    "settimeofday",
    "clock_settime",
    // The kernel's log is the machine's, all guests' traces in it.
    "syslog",
];
/// Not there, as on older kernels. Key rings are not namespaced as a whole.
const ENOSYS: [&str; 6] = ["add_key", "request_key", "keyctl", "io_uring_setup", "io_uring_enter", "io_uring_register"];
/// Of a family of addresses that has no namespaces: it reaches the machine below (`AF_VSOCK`).
const NO_VSOCK: &str = "socket errno 97 [0,40,SCMP_CMP_EQ]";

/// The policy's text, in liblxc's format of version 2.
pub fn policy() -> String {
    let mut text = String::from("2\ndenylist\nreject_force_umount\n[all]\n");
    for (calls, errno) in [(&EPERM[..], 1), (&ENOSYS[..], 38)] {
        for call in calls {
            text.push_str(&format!("{call} errno {errno}\n"));
        }
    }
    text.push_str(NO_VSOCK);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_rule_is_one_line_and_nothing_is_named_twice() {
        let text = super::policy();
        let rules: Vec<&str> = text.lines().skip(4).map(|line| line.split(' ').next().unwrap()).collect();
        let mut unique = rules.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(rules.len(), unique.len());
        assert!(text.starts_with("2\ndenylist\n") && text.contains("\nkeyctl errno 38\n") && text.ends_with("SCMP_CMP_EQ]\n"));
    }
}
