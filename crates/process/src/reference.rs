//! Pid and start time: a name for a process that is not reused.

use std::fs;

use triton_types::ProcessRef;

/// The start time of `pid`, or `None` if there is no such process (a zombie counts as none).
pub fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold spaces and parentheses: fields are counted after its last ')'.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The process `pid` as it is now.
pub fn reference(pid: i32) -> Option<ProcessRef> {
    Some(ProcessRef { pid, start_ticks: start_ticks(pid)? })
}

/// True while that very process lives.
pub fn is_alive(process: ProcessRef) -> bool {
    start_ticks(process.pid) == Some(process.start_ticks)
}
