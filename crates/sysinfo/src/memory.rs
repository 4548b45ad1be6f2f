//! Memory and the time of boot.

use crate::Source;

/// Installed memory that the kernel can use, in MiB, rounded down.
pub(crate) fn total_mib(source: &Source) -> Option<u64> {
    let text = source.read("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// When the kernel was started, in seconds since 1970: the kernel's own figure, the same at every reading
/// (now minus uptime would be off by one now and then, and the headnode would see a reboot).
pub(crate) fn boot_time(source: &Source) -> Option<u64> {
    source.read("/proc/stat")?.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_tells_both() {
        let kernel = Source::kernel();
        assert!(total_mib(&kernel).unwrap() > 0);
        assert!(boot_time(&kernel).unwrap() > 1_500_000_000);
    }
}
