//! Whether this platform satisfies an image (instances.md section 8.1).

use std::cmp::Ordering;

use serde_json::Value;
use triton_types::ImageManifest;

use crate::ImageError;

/// The running platform, from sysinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `Live Image`, the platform's time stamp; absent on a machine that was not booted from a platform image: then
    /// requirements on stamps are not checked.
    pub live_image: Option<String>,
    /// `SDC Version`, `7.0`.
    pub sdc_version: String,
}

impl Default for Platform {
    fn default() -> Self {
        Self { live_image: None, sdc_version: "7.0".to_owned() }
    }
}

/// Versions by their numbers: `6.5` < `7.0` < `10.0`.
fn compare(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| text.split('.').map(|part| part.parse::<u64>().unwrap_or(0)).collect::<Vec<_>>();
    numbers(a).cmp(&numbers(b))
}

impl Platform {
    /// Refuses an image whose `requirements.min_platform` or `max_platform` exclude this platform.
    pub(crate) fn check(&self, manifest: &ImageManifest) -> Result<(), ImageError> {
        let spec = |key: &str| match manifest.requirements.as_ref().and_then(|requirements| requirements.get(key)) {
            Some(Value::Object(map)) => {
                let text = |value: &Value| value.as_str().map(str::to_owned);
                map.iter().filter_map(|(version, stamp)| Some((version.clone(), text(stamp)?))).collect()
            }
            _ => Vec::new(),
        };
        let uuid = manifest.uuid;
        let (min, max) = (spec("min_platform"), spec("max_platform"));
        if let Some((required, found)) = self.violated(&min, Ordering::Less, |keys| keys.min_by(|a, b| compare(a, b))) {
            return Err(ImageError::MinPlatform { uuid, required, found });
        }
        if let Some((required, found)) = self.violated(&max, Ordering::Greater, |keys| keys.max_by(|a, b| compare(a, b))) {
            return Err(ImageError::MaxPlatform { uuid, required, found });
        }
        Ok(())
    }

    /// The requirement and what was found instead, when what was found compares as `wrong`.
    fn violated<'a>(
        &self,
        spec: &'a [(String, String)],
        wrong: Ordering,
        extreme: impl Fn(&mut dyn Iterator<Item = &'a str>) -> Option<&'a str>,
    ) -> Option<(String, String)> {
        if let Some((_, stamp)) = spec.iter().find(|(version, _)| *version == self.sdc_version) {
            // Stamps are of one length (20240101T000000Z), so their order is that of texts.
            let live = self.live_image.as_deref()?;
            return (live.cmp(stamp.as_str()) == wrong).then(|| (stamp.clone(), live.to_owned()));
        }
        let version = extreme(&mut spec.iter().map(|(version, _)| version.as_str()))?;
        (compare(&self.sdc_version, version) == wrong).then(|| (format!("SDC {version}"), format!("SDC {}", self.sdc_version)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(requirements: &Value, live: Option<&str>) -> Result<(), &'static str> {
        let manifest = ImageManifest::from_value(&json!({
            "v": 2, "uuid": "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10", "name": "base", "version": "1", "type": "lxd", "os": "linux",
            "requirements": requirements
        }))
        .unwrap();
        let platform = Platform { live_image: live.map(str::to_owned), ..Platform::default() };
        platform.check(&manifest).map_err(|error| error.code())
    }

    /// instances case 84
    #[test]
    fn a_platform_outside_of_the_requirement_is_refused() {
        let live = Some("20240101T000000Z");
        assert_eq!(check(&json!({"min_platform": {"7.0": "99990101T000000Z"}}), live), Err("MinPlatform"));
        assert_eq!(check(&json!({"min_platform": {"6.5": "20120101T000000Z"}}), live), Ok(()));
        assert_eq!(check(&json!({"min_platform": {"7.0": "20240101T000000Z"}}), live), Ok(()));
        assert_eq!(check(&json!({"min_platform": {"8.0": "x", "10.0": "y"}}), live), Err("MinPlatform"));
        assert_eq!(check(&json!({"max_platform": {"7.0": "20130101T000000Z"}}), live), Err("MaxPlatform"));
        assert_eq!(check(&json!({"max_platform": {"6.5": "20130101T000000Z"}}), live), Err("MaxPlatform"));
        assert_eq!(check(&json!({"max_platform": {"10.0": "x"}}), live), Ok(()));
        assert_eq!(check(&json!({}), live), Ok(()));
    }

    #[test]
    fn without_a_platform_image_stamps_are_not_compared() {
        assert_eq!(check(&json!({"min_platform": {"7.0": "99990101T000000Z"}}), None), Ok(()));
    }
}
