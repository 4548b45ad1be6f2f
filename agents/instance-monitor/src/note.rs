//! The monitor's log: bunyan lines on stderr, few of them, without a logging library's memory.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use triton_instance::MONITOR_LOG;
use triton_types::{InstanceUuid, Timestamp};

/// Bytes from which on the next boot begins another log. What a boot says is a few lines.
const LIMIT: u64 = 64 << 10;

/// Keeps the log bounded, if it is the file of that name in the runtime directory: one that has become long is kept beside the new one,
/// in place of the one before it.
pub fn turn(directory: &Path) {
    let path = directory.join(MONITOR_LOG);
    let long = || -> io::Result<bool> {
        let (own, named) = (File::from(nix::unistd::dup(io::stderr())?).metadata()?, fs::symlink_metadata(&path)?);
        Ok(own.len() >= LIMIT && (own.dev(), own.ino()) == (named.dev(), named.ino()))
    };
    let begin = || -> io::Result<()> {
        fs::rename(&path, path.with_extension("log.1"))?;
        let new = File::options().create(true).append(true).mode(0o600).open(&path)?;
        Ok(nix::unistd::dup2_stderr(&new)?)
    };
    // What cannot be said in the log is not worth a boot.
    if long().unwrap_or(false) {
        let _ = begin();
    }
}

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
