//! Limits of other processes: prlimit(2), the FFI of this crate.
#![allow(unsafe_code)]

use nix::errno::Errno;

/// Sets how many bytes the process `pid` may lock in memory, now and at most. One that has ended is success.
///
/// # Errors
/// `EPERM` without CAP_SYS_RESOURCE.
pub fn limit_locked_memory(pid: i32, bytes: u64) -> Result<(), Errno> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the new limit outlives the call, and a null pointer means that the old one is not wanted.
    let result = unsafe { libc::prlimit(pid, libc::RLIMIT_MEMLOCK, &raw const limit, std::ptr::null_mut()) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    #[test]
    fn a_process_has_the_limit_that_it_was_given_and_none_is_success() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        super::limit_locked_memory(pid, 4096).unwrap();
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max locked memory")).unwrap();
        assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["4096", "4096"]);
        child.kill().unwrap();
        child.wait().unwrap();
        super::limit_locked_memory(pid, 4096).unwrap();
    }
}
