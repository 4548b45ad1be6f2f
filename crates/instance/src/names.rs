//! Names derived from an instance's identity.

use sha2::{Digest, Sha256};
use triton_types::InstanceUuid;

/// The host end of the veth of `interface`: `vt` and 13 letters of a hash of both (ruling 24), 15 bytes in all.
///
/// Derived, never stored; the same for every NIC of every kind.
pub fn host_link(uuid: InstanceUuid, interface: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = Sha256::new().chain_update(uuid.as_uuid().as_bytes()).chain_update(interface.as_bytes()).finalize();
    let mut bits = digest.iter().take(16).fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    let mut name = String::from("vt");
    for _ in 0..13 {
        name.push(char::from(ALPHABET[(bits & 31) as usize]));
        bits >>= 5;
    }
    name
}

/// The name of the interface inside the guest: `eth<N>` for `net<N>` (ruling 29).
pub fn guest_link(interface: &str) -> String {
    match interface.strip_prefix("net") {
        Some(number) => format!("eth{number}"),
        None => interface.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_links_fit_the_kernel_and_differ_by_instance_and_interface() {
        let uuid = "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10".parse().unwrap();
        let name = host_link(uuid, "net0");
        assert_eq!((name.len(), name.as_str()), (15, host_link(uuid, "net0").as_str()));
        assert!(name.starts_with("vt"));
        assert_ne!(name, host_link(uuid, "net1"));
        assert_ne!(name, host_link(InstanceUuid::random(), "net0"));
        assert_eq!((guest_link("net3").as_str(), guest_link("eth0").as_str()), ("eth3", "eth0"));
    }
}
