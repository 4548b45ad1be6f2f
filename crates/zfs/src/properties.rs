//! Properties that are given at creation: typed here, numbers in the kernel, words for the `zfs` command.

use std::{fmt, str::FromStr};

/// A value that a property cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a value of the property {property}")]
pub struct PropertyError {
    property: &'static str,
    value: String,
}

/// Compression of new blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// The default algorithm.
    On,
    /// None.
    Off,
    /// `lzjb`.
    Lzjb,
    /// `gzip-1` to `gzip-9`; `gzip` is level 6.
    Gzip(u8),
    /// Runs of zeros only.
    Zle,
    /// `lz4`.
    Lz4,
}

impl Compression {
    /// The kernel's number (`enum zio_compress`, part of the on-disk format).
    fn number(self) -> u64 {
        match self {
            Self::On => 1,
            Self::Off => 2,
            Self::Lzjb => 3,
            Self::Gzip(level) => 4 + u64::from(level),
            Self::Zle => 14,
            Self::Lz4 => 15,
        }
    }
}

impl FromStr for Compression {
    type Err = PropertyError;
    fn from_str(text: &str) -> Result<Self, PropertyError> {
        Ok(match text {
            "on" => Self::On,
            "off" => Self::Off,
            "lzjb" => Self::Lzjb,
            "gzip" => Self::Gzip(6),
            "zle" => Self::Zle,
            "lz4" => Self::Lz4,
            _ => match text.strip_prefix("gzip-").map(str::as_bytes) {
                Some(&[digit @ b'1'..=b'9']) => Self::Gzip(digit - b'0'),
                _ => return Err(PropertyError { property: "compression", value: text.chars().take(40).collect() }),
            },
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => f.write_str("on"),
            Self::Off => f.write_str("off"),
            Self::Lzjb => f.write_str("lzjb"),
            Self::Gzip(level) => write!(f, "gzip-{level}"),
            Self::Zle => f.write_str("zle"),
            Self::Lz4 => f.write_str("lz4"),
        }
    }
}

/// Who mounts a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanMount {
    /// Nobody.
    Off,
    /// `zfs mount -a`, so: at boot.
    On,
    /// Whoever asks for it by name.
    NoAuto,
}

/// Native properties; `None` leaves one as it is inherited or was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Bytes that the dataset with all below it may use; 0 is none.
    pub quota: Option<u64>,
    /// Block size of new files in bytes, a power of two.
    pub recordsize: Option<u64>,
    /// Compression of new blocks.
    pub compression: Option<Compression>,
    /// Whether device nodes work.
    pub devices: Option<bool>,
    /// Who mounts it.
    pub canmount: Option<CanMount>,
    /// Whether it belongs to guests: the machine itself does not mount it.
    pub zoned: Option<bool>,
    /// Most file systems below; `u64::MAX` is no limit.
    pub filesystem_limit: Option<u64>,
    /// Most snapshots below; `u64::MAX` is no limit.
    pub snapshot_limit: Option<u64>,
}

impl Properties {
    /// Names and numbers as the kernel takes them from `lzc_create` and `lzc_clone`.
    pub(crate) fn numbers(&self) -> Vec<(&'static str, u64)> {
        let canmount = self.canmount.map(|c| match c {
            CanMount::Off => 0,
            CanMount::On => 1,
            CanMount::NoAuto => 2,
        });
        [
            ("quota", self.quota),
            ("recordsize", self.recordsize),
            ("compression", self.compression.map(Compression::number)),
            ("devices", self.devices.map(u64::from)),
            ("canmount", canmount),
            ("zoned", self.zoned.map(u64::from)),
            ("filesystem_limit", self.filesystem_limit),
            ("snapshot_limit", self.snapshot_limit),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }

    /// `name=value` texts as the `zfs` command takes them.
    pub(crate) fn words(&self) -> Vec<String> {
        let bytes = |n: u64| if n == 0 { "none".to_owned() } else { n.to_string() };
        let limit = |n: u64| if n == u64::MAX { "none".to_owned() } else { n.to_string() };
        let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
        let canmount = |c| match c {
            CanMount::Off => "off".to_owned(),
            CanMount::On => "on".to_owned(),
            CanMount::NoAuto => "noauto".to_owned(),
        };
        [
            ("quota", self.quota.map(bytes)),
            ("recordsize", self.recordsize.map(|n| n.to_string())),
            ("compression", self.compression.map(|c| c.to_string())),
            ("devices", self.devices.map(switch)),
            ("canmount", self.canmount.map(canmount)),
            ("zoned", self.zoned.map(switch)),
            ("filesystem_limit", self.filesystem_limit.map(limit)),
            ("snapshot_limit", self.snapshot_limit.map(limit)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value?)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_property_has_its_number_and_its_word() {
        let properties = Properties {
            quota: Some(10 << 30),
            recordsize: Some(131_072),
            compression: Some(Compression::Gzip(9)),
            devices: Some(false),
            canmount: Some(CanMount::NoAuto),
            zoned: Some(true),
            filesystem_limit: Some(u64::MAX),
            snapshot_limit: Some(0),
        };
        assert_eq!(
            properties.numbers(),
            [
                ("quota", 10 << 30),
                ("recordsize", 131_072),
                ("compression", 13),
                ("devices", 0),
                ("canmount", 2),
                ("zoned", 1),
                ("filesystem_limit", u64::MAX),
                ("snapshot_limit", 0)
            ]
        );
        assert_eq!(
            properties.words().join(" "),
            "quota=10737418240 recordsize=131072 compression=gzip-9 devices=off canmount=noauto zoned=on filesystem_limit=none snapshot_limit=0"
        );
        assert_eq!(Properties { quota: Some(0), ..Default::default() }.words(), ["quota=none"]);
        assert!(Properties::default().numbers().is_empty());
    }

    #[test]
    fn compression_words_are_read_and_printed() {
        for word in ["on", "off", "lzjb", "gzip-1", "gzip-9", "zle", "lz4"] {
            assert_eq!(word.parse::<Compression>().unwrap().to_string(), word);
        }
        assert_eq!("gzip".parse::<Compression>().unwrap(), Compression::Gzip(6));
        for bad in ["gzip-0", "gzip-10", "gzip-", "LZ4", ""] {
            assert!(bad.parse::<Compression>().is_err(), "{bad}");
        }
    }
}
