//! Whether this machine's KVM runs the image's kernel: found out by booting it, since a device that answers is no proof.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::platform;

/// A stock kernel is through in a few seconds with KVM.
const PATIENCE: Duration = Duration::from_secs(20);

/// `kvm`, or `tcg`. Remembered for this kernel, as long as this machine has not booted again.
pub fn choose(kernel: &Path, mut turn: impl FnMut()) -> Result<String> {
    let release = fs::read_to_string(kernel.with_file_name("kernel")).unwrap_or_default();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let memory = platform::cache_folder().join(format!("accel-{}", release.trim()));
    if let Ok(known) = fs::read_to_string(&memory)
        && let Some((chosen, then)) = known.trim().split_once(' ')
        && then == boot.trim()
    {
        return Ok(chosen.to_owned());
    }
    let works = Path::new("/dev/kvm").exists() && probe(kernel, &mut turn)?;
    let chosen = if works { "kvm" } else { "tcg" };
    triton_files::write_atomic(&memory, format!("{chosen} {boot}").as_bytes(), 0o644)?;
    Ok(chosen.to_owned())
}

/// Boots the kernel without a root: one that gets as far as missing it works.
fn probe(kernel: &Path, turn: &mut impl FnMut()) -> Result<bool> {
    let log = kernel.with_file_name(format!("probe-{}.log", std::process::id()));
    let mut child = Command::new("qemu-system-x86_64")
        .args(["-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "512", "-display", "none", "-no-reboot", "-nodefaults"])
        .arg("-kernel")
        .arg(kernel)
        .args(["-append", "console=ttyS0 panic=-1", "-serial"])
        .arg(format!("file:{}", log.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("could not run qemu-system-x86_64")?;
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() && Instant::now() < deadline {
        turn();
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = child.kill();
    let _ = child.wait();
    let said = fs::read(&log).unwrap_or_default();
    let _ = fs::remove_file(&log);
    Ok(String::from_utf8_lossy(&said).contains("Unable to mount root fs"))
}
