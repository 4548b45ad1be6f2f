//! Identities. An instance's uuid cannot be passed where an image's is wanted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text that is not the identity it was used as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: a lower-case uuid (8-4-4-4-12 hex digits) is needed")]
pub struct IdError {
    what: &'static str,
    text: String,
}

/// Reads the one form that Triton uses: lower-case, with hyphens, of any version (instances.md section 1).
fn parse(text: &str, what: &'static str) -> Result<uuid::Uuid, IdError> {
    let well_formed = text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase());
    match uuid::Uuid::try_parse(text) {
        Ok(uuid) if well_formed => Ok(uuid),
        _ => Err(IdError { what, text: text.chars().take(64).collect() }),
    }
}

macro_rules! uuid_kind {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// The all-zero uuid: "none" or "the administrator" (instances.md section 1).
            pub const NIL: Self = Self(uuid::Uuid::nil());

            /// A new random identity (version 4).
            pub fn random() -> Self {
                Self(uuid::Uuid::new_v4())
            }

            /// The bare value, for hashing and comparison with other kinds.
            pub const fn as_uuid(&self) -> &uuid::Uuid {
                &self.0
            }
        }

        impl From<uuid::Uuid> for $name {
            fn from(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text, $what).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

uuid_kind!(
    /// An instance: `uuid` and `zonename` of a VM object.
    InstanceUuid,
    "an instance uuid"
);
uuid_kind!(
    /// An image in IMGAPI and on this compute node. LXD images carry uuids of no RFC version.
    ImageUuid,
    "an image uuid"
);
uuid_kind!(
    /// A private volume of an instance.
    VolumeUuid,
    "a volume uuid"
);
uuid_kind!(
    /// A compute node.
    ServerUuid,
    "a server uuid"
);
uuid_kind!(
    /// A network of NAPI.
    NetworkUuid,
    "a network uuid"
);
uuid_kind!(
    /// A rule of the cloud firewall.
    RuleUuid,
    "a rule uuid"
);
uuid_kind!(
    /// An account: who owns an instance or a rule.
    OwnerUuid,
    "an owner uuid"
);

#[cfg(test)]
mod tests {
    use super::*;

    /// instances case 22
    #[test]
    fn only_the_lower_case_hyphenated_form_is_an_identity() {
        let good = "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10";
        assert_eq!(good.parse::<InstanceUuid>().unwrap().to_string(), good);
        assert!("ffffffff-ffff-ffff-ffff-ffffffffffff".parse::<InstanceUuid>().is_ok(), "no version is required");
        for bad in [
            "0F1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10",
            "0f1c9a3e7a0d4f9b8a446f2f0c9b7d10",
            "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d100",
            " 0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10",
            "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d1 ",
            "{0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d1}",
            "",
        ] {
            assert!(bad.parse::<InstanceUuid>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_error_names_the_kind_and_the_text() {
        let error = "nope".parse::<ImageUuid>().unwrap_err().to_string();
        assert!(error.contains("an image uuid") && error.contains("nope"), "{error}");
    }
}
