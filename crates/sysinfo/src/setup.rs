//! Whether the headnode has set this compute node up.

use serde_json::Value;
use triton_files::{Layout, read_json};

/// `complete` of triton-setup-state.json in `/opt/triton/config` if that directory exists, else in `/usr/triton/config`.
/// An absent or unreadable file means no: a set-up server has one.
pub(crate) fn is_set_up(layout: &Layout) -> bool {
    let pool = layout.at("/opt/triton/config");
    let directory = if pool.is_dir() { pool } else { layout.config() };
    let state: Value = read_json(&directory.join("triton-setup-state.json")).ok().flatten().unwrap_or_default();
    state.get("complete") == Some(&Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_pool_s_directory_decides_once_it_exists() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        assert!(!is_set_up(&layout));
        fs::create_dir_all(layout.config()).unwrap();
        fs::write(layout.config().join("triton-setup-state.json"), r#"{"complete":true}"#).unwrap();
        assert!(is_set_up(&layout));
        fs::create_dir_all(layout.at("/opt/triton/config")).unwrap();
        assert!(!is_set_up(&layout));
        fs::write(layout.at("/opt/triton/config/triton-setup-state.json"), r#"{"complete":"true"}"#).unwrap();
        assert!(!is_set_up(&layout), "only the boolean counts");
    }
}
