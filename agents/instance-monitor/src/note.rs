//! The monitor's log: bunyan lines on stderr, few of them, without a logging library's memory.

use triton_types::{InstanceUuid, Timestamp};

fn write(uuid: InstanceUuid, level: u8, message: &str) {
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    let line = serde_json::json!({
        "v": 0,
        "level": level,
        "name": "instance-monitor",
        "hostname": hostname.to_string_lossy(),
        "pid": std::process::id(),
        "time": Timestamp::now(),
        "vm_uuid": uuid,
        "msg": message,
    });
    eprintln!("{line}");
}

/// Something that an operator may want to know later.
pub fn info(uuid: InstanceUuid, message: &str) {
    write(uuid, 30, message);
}

/// Something that went wrong and did not stop the work.
pub fn warn(uuid: InstanceUuid, message: &str) {
    write(uuid, 40, message);
}

/// Why the work ended.
pub fn error(uuid: InstanceUuid, message: &str) {
    write(uuid, 50, message);
}

/// The text of an error and of what caused it.
pub fn chain(error: &dyn std::error::Error) -> String {
    triton_instance::chain(error)
}
