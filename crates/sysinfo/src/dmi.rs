//! What the firmware says about the machine (DMI type 1), and the uuid that Triton knows it by.

use uuid::Uuid;

use crate::Source;

/// Why the firmware's uuid cannot serve as the machine's identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DmiError {
    /// No DMI, or not readable for this user.
    #[error("the firmware gives no system uuid (/sys/class/dmi/id/product_uuid cannot be read)")]
    Absent,
    /// Filled in by nobody.
    #[error("the firmware's system uuid {0:?} is not unique to this machine")]
    Unset(String),
}

/// DMI type 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dmi {
    /// `sys_vendor`.
    pub manufacturer: Option<String>,
    /// `product_name`.
    pub product: Option<String>,
    /// `product_serial`.
    pub serial: Option<String>,
    /// `product_sku`.
    pub sku: Option<String>,
    /// `product_version`.
    pub version: Option<String>,
    /// `product_family`.
    pub family: Option<String>,
    uuid: Option<String>,
}

/// Swaps the bytes within the first three groups of a uuid: `dmidecode` and the kernel print them little-endian, SmartOS and iPXE
/// do not, and the headnode knows a machine by the latter form (cn-agent.md section 7.2). Its own inverse.
pub fn swap_uuid(uuid: Uuid) -> Uuid {
    Uuid::from_bytes_le(uuid.into_bytes())
}

impl Dmi {
    /// Reads what there is.
    pub fn read(source: &Source) -> Self {
        let read = |name: &str| source.read(&format!("/sys/class/dmi/id/{name}"));
        Self {
            manufacturer: read("sys_vendor"),
            product: read("product_name"),
            serial: read("product_serial"),
            sku: read("product_sku"),
            version: read("product_version"),
            family: read("product_family"),
            uuid: read("product_uuid"),
        }
    }

    /// The uuid as `dmidecode` prints it, in lower case.
    ///
    /// # Errors
    /// When there is none, or one that the vendor left unset (all zeros, all ones, or no uuid at all).
    pub fn uuid(&self) -> Result<Uuid, DmiError> {
        let text = self.uuid.as_deref().ok_or(DmiError::Absent)?;
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == 36 && !uuid.is_nil() && !uuid.is_max() => Ok(uuid),
            _ => Err(DmiError::Unset(text.chars().take(64).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cn-agent case 51
    #[test]
    fn the_first_three_groups_are_swapped_and_swapping_twice_changes_nothing() {
        let printed: Uuid = "4C4C4544-0057-4710-8051-B3C04F585131".parse().unwrap();
        assert_eq!(swap_uuid(printed).to_string(), "44454c4c-5700-1047-8051-b3c04f585131");
        assert_eq!(swap_uuid(swap_uuid(printed)), printed);
    }

    #[test]
    fn an_unset_uuid_is_no_identity() {
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "Not Settable",
            "4C4C4544005747108051B3C04F585131",
        ] {
            let dmi = Dmi { uuid: Some(text.to_owned()), ..Dmi::default() };
            assert_eq!(dmi.uuid(), Err(DmiError::Unset(text.to_owned())));
        }
        assert_eq!(Dmi::default().uuid(), Err(DmiError::Absent));
    }
}
