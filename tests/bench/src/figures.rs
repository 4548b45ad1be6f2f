//! Figures and where they come from.

use std::{fmt, fs};

use serde_json::{Value, json};

/// One measured value beside its bound.
#[derive(Clone, Debug)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    bound: &'static str,
}

impl Figure {
    /// A figure; `bound` as in design section 11, `-` for none.
    pub fn new(name: &str, value: f64, unit: &'static str, bound: &'static str) -> Self {
        Self { name: name.to_owned(), value, unit, bound }
    }

    /// For `--json`.
    pub fn to_json(&self) -> Value {
        json!({"name": self.name.trim(), "value": self.value, "unit": self.unit, "bound": self.bound})
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<68} {:>9.2} {:<3} {}", self.name, self.value, self.unit, self.bound)
    }
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value that this share of all does not exceed.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// A process and its children.
pub fn with_children(pid: i64) -> Vec<i64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut pids = vec![pid];
    // The guest's init is a child of the monitor's child, not of the monitor.
    pids.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i64>().ok()));
    pids
}

fn status_kib(file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// Proportional memory of a process.
pub fn pss_kib(pid: i64) -> Option<u64> {
    status_kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// Resident memory of a process.
pub fn rss_kib(pid: i64) -> Option<u64> {
    status_kib(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// User and system time of a process, in clock ticks of 10 ms.
pub fn cpu_ticks(pid: i64) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
    fields.get(11..13).unwrap_or_default().iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}
