//! Which platform image runs: `Live Image` and `platform_buildstamp`.

use std::{fs, path::Path, time::SystemTime};

use triton_files::Layout;

use crate::NodeConfig;

/// Stands for a distribution whose files carry no usable time. The allocator needs a non-empty stamp, and it must not change.
const UNDATED: &str = "20200101T000000Z";

/// The stamp of the platform, `20240103T120000Z`.
///
/// On a Triton platform image it is `TRITON_RELEASE` in `<root>/etc/os-release`. A stock distribution has none: then it is the time at
/// which the machine's `os-release` was last modified, in UTC, which the distribution's package sets to the time of its own build; so
/// it names the release, is the same on machines of the same release, and changes only with a point release. If that is no time of this
/// century either (images with all times cleared), it is a fixed stamp.
pub(crate) fn stamp(layout: &Layout) -> String {
    stamp_of(&[layout.at("/etc/os-release"), "/etc/os-release".into()])
}

fn stamp_of(files: &[impl AsRef<Path>]) -> String {
    for file in files {
        let Ok(text) = fs::read_to_string(file) else { continue };
        if let Some(release) = release(&text) {
            return release;
        }
        let modified = fs::metadata(file).and_then(|meta| meta.modified()).ok();
        return modified.and_then(format).unwrap_or_else(|| UNDATED.to_owned());
    }
    UNDATED.to_owned()
}

fn release(os_release: &str) -> Option<String> {
    let line = os_release.lines().find_map(|line| line.trim().strip_prefix("TRITON_RELEASE="))?;
    let value = line.trim().trim_matches(['"', '\'']);
    (!value.is_empty() && value.len() <= 64 && value.chars().all(|c| c.is_ascii_graphic())).then(|| value.to_owned())
}

fn format(time: SystemTime) -> Option<String> {
    let text = jiff::Timestamp::try_from(time).ok()?.strftime("%Y%m%dT%H%M%SZ").to_string();
    is_stamp(&text).then_some(text)
}

/// `^20\d{6}T\d{6}Z$`
fn is_stamp(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    text.len() == 16 && text.starts_with("20") && digits(&text[..8]) && &text[8..9] == "T" && digits(&text[9..15]) && text.ends_with('Z')
}

/// Domain of the node: `dns_domain` of node.config, else of triton-networking.json. The same for the data centre's name.
pub(crate) fn setting(key: &str, config: &NodeConfig, networking: &serde_json::Value) -> Option<String> {
    let from_network = networking.get(key).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
    config.get(key).or(from_network).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_platform_image_names_its_release() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("os-release");
        fs::write(&file, "NAME=\"Triton\"\nTRITON_RELEASE=\"20240103T120000Z\"\n").unwrap();
        assert_eq!(stamp_of(&[file]), "20240103T120000Z");
    }

    #[test]
    fn a_stock_distribution_gets_a_stamp_that_stays() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("os-release");
        fs::write(&file, "ID=debian\nTRITON_RELEASE=\"\"\n").unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_707_562_800);
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        assert_eq!(stamp_of(&[root.path().join("none"), file.clone()]), "20240210T110000Z");
        fs::File::options().write(true).open(&file).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(stamp_of(&[file]), UNDATED);
        assert_eq!(stamp_of(&[root.path().join("none")]), UNDATED);
        assert!(is_stamp(UNDATED) && is_stamp(&stamp(&Layout::new("/"))));
    }
}
