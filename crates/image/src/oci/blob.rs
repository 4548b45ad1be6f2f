//! Descriptors and digests: content is named by what it is.

use std::{
    fmt,
    io::{self, Read, Write},
    str::FromStr,
};

use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::OciError;
use crate::{CancelToken, Progress, download::hex};

/// Algorithms that layouts use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha256,
    Sha512,
}

/// `sha256:` and hex digits. Its parts are file names: nothing else ever is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl FromStr for Digest {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (algorithm, hex) = text.split_once(':').unwrap_or((text, ""));
        let (algorithm, length) = match algorithm {
            "sha256" => (Algorithm::Sha256, 64),
            "sha512" => (Algorithm::Sha512, 128),
            _ => return Err(format!("{:?} is no digest by sha256 or sha512", text.chars().take(200).collect::<String>())),
        };
        if hex.len() != length || !hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
            return Err(format!(
                "{:?} is no digest: {length} lower-case hex digits are needed",
                text.chars().take(200).collect::<String>()
            ));
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm_name(), self.hex)
    }
}

impl Digest {
    fn algorithm_name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// The blob's name in a layout.
    pub(super) fn path(&self) -> String {
        format!("blobs/{}/{}", self.algorithm_name(), self.hex)
    }
}

/// What a document says of a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub platform: Option<Platform>,
}

/// Which machines an image is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
}

/// What a copied blob is in the words of image servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digests {
    pub sha1: String,
    pub size: u64,
}

enum Hash {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// Copies exactly the blob that `descriptor` describes.
pub(super) fn copy(
    descriptor: &Descriptor,
    reader: &mut dyn Read,
    out: &mut dyn Write,
    cancel: &CancelToken,
    progress: &dyn Progress,
) -> Result<Digests, OciError> {
    let mut sha1 = Sha1::new();
    let mut own = match descriptor.digest.algorithm {
        Algorithm::Sha256 => Hash::Sha256(Sha256::new()),
        Algorithm::Sha512 => Hash::Sha512(Sha512::new()),
    };
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    // One byte more than is right shows a blob that is too long.
    let mut bounded = reader.take(descriptor.size.saturating_add(1));
    loop {
        if cancel.is_cancelled() {
            return Err(OciError::Cancelled);
        }
        let count = match bounded.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(OciError::Read { what: format!("blob {}", descriptor.digest), source }),
        };
        let bytes = &buffer[..count];
        sha1.update(bytes);
        match &mut own {
            Hash::Sha256(hash) => hash.update(bytes),
            Hash::Sha512(hash) => hash.update(bytes),
        }
        out.write_all(bytes).map_err(OciError::Write)?;
        size += count as u64;
        progress.bytes(size, descriptor.size);
    }
    if size != descriptor.size {
        return Err(OciError::Size { digest: descriptor.digest.to_string(), expected: descriptor.size, found: size });
    }
    let found = match own {
        Hash::Sha256(hash) => hex(&hash.finalize()),
        Hash::Sha512(hash) => hex(&hash.finalize()),
    };
    if found != descriptor.digest.hex {
        let found = format!("{}:{found}", descriptor.digest.algorithm_name());
        return Err(OciError::Checksum { expected: descriptor.digest.to_string(), found });
    }
    Ok(Digests { sha1: hex(&sha1.finalize()), size })
}

/// SHA-256 of a text, as hex digits.
pub(super) fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

impl Digest {
    /// The hex digits.
    pub(super) fn hex(&self) -> &str {
        &self.hex
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_an_algorithm_and_hex_digits_and_no_path() {
        let good = format!("sha256:{}", "a".repeat(64));
        assert_eq!(good.parse::<Digest>().unwrap().path(), format!("blobs/sha256/{}", "a".repeat(64)));
        for bad in ["", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", &format!("sha256:../{}", "a".repeat(61)), &good.to_uppercase()] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
