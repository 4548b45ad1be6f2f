//! Memory and the time of boot.

use crate::Source;

/// Installed memory that the kernel can use, in MiB, rounded down.
pub(crate) fn total_mib(source: &Source) -> Option<u64> {
    let text = source.read("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// Where the node keeps its time of boot once its clock was set (unit `triton-boot-time`).
const KEPT: &str = "/run/triton/boot-time";

/// When the kernel was started, in seconds since 1970.
///
/// The kernel's own figure (now minus uptime would be off by one now and then, and the headnode would see a reboot) follows each
/// step of the clock. So the node keeps what it was when time servers had set the clock first, and that counts from then on.
pub fn boot_time(source: &Source) -> Option<u64> {
    source
        .read_number(KEPT)
        .or_else(|| source.read("/proc/stat")?.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok())
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
    #[test]
    fn a_kept_time_outlives_steps_of_the_clock_and_one_that_is_none_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let machine = Source::at(folder.path());
        put("proc/stat", "cpu 1 2\nbtime 1714639501\nprocesses 1\n");
        assert_eq!(boot_time(&machine), Some(1_714_639_501));
        put("run/triton/boot-time", "1714639000\n");
        put("proc/stat", "cpu 1 2\nbtime 1999999999\nprocesses 1\n");
        assert_eq!(boot_time(&machine), Some(1_714_639_000));
        put("run/triton/boot-time", "yesterday\n");
        assert_eq!(boot_time(&machine), Some(1_999_999_999));
    }
}
