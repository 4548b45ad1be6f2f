//! The shape of EC2, as far as cloud-init needs it: version 2009-04-04. Pure.

use serde_json::Value;
use triton_types::JsonMap;

use super::page::{Page, keys, name, primary, text, user_data};

/// Versions that are there; cloud-init asks for others first and takes what there is.
pub(crate) const VERSIONS: [&str; 2] = ["2009-04-04", "latest"];

/// What is at a path below a version; `None` for nothing.
pub(crate) fn page(vm: &JsonMap, path: &[&str]) -> Option<Page> {
    match path {
        [] => Some(Page::list(["meta-data/"].into_iter().chain(user_data(vm).map(|_| "user-data")))),
        ["user-data"] => user_data(vm).map(Page::text),
        ["meta-data"] => {
            let leaves = LEAVES.iter().filter(|leaf| leaf_of(vm, leaf).is_some()).map(|leaf| (*leaf).to_owned());
            let folders = [("placement/", zone(vm).is_some()), ("public-keys/", !keys(vm).is_empty())];
            Some(Page::list(leaves.chain(folders.iter().filter(|(_, there)| *there).map(|(name, _)| (*name).to_owned()))))
        }
        ["meta-data", "placement"] => zone(vm).map(|_| Page::text("availability-zone")),
        ["meta-data", "placement", "availability-zone"] => zone(vm).map(Page::text),
        ["meta-data", "public-keys"] => {
            let keys = keys(vm);
            (!keys.is_empty()).then(|| Page::list((0..keys.len()).map(|index| format!("{index}=key-{index}"))))
        }
        ["meta-data", "public-keys", index] => key(vm, index).map(|_| Page::text("openssh-key")),
        ["meta-data", "public-keys", index, "openssh-key"] => key(vm, index).map(Page::text),
        ["meta-data", leaf] => leaf_of(vm, leaf).map(Page::text),
        _ => None,
    }
}

const LEAVES: [&str; 7] = ["ami-id", "hostname", "instance-id", "instance-type", "local-hostname", "local-ipv4", "mac"];

fn leaf_of(vm: &JsonMap, leaf: &str) -> Option<String> {
    let of_nic = |key: &str| primary(vm)?.get(key)?.as_str().map(str::to_owned);
    match leaf {
        "ami-id" => text(vm, "image_uuid").map(str::to_owned),
        "instance-id" => text(vm, "uuid").map(str::to_owned),
        "instance-type" => text(vm, "package_name").map(str::to_owned),
        "hostname" | "local-hostname" => Some(name(vm).to_owned()),
        "local-ipv4" => of_nic("ip").filter(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok()),
        "mac" => of_nic("mac"),
        _ => None,
    }
}

fn zone(vm: &JsonMap) -> Option<&str> {
    vm.get("datacenter_name").and_then(Value::as_str)
}

fn key<'a>(vm: &'a JsonMap, index: &str) -> Option<&'a str> {
    let number: usize = index.parse().ok().filter(|number: &usize| number.to_string() == index)?;
    keys(vm).get(number).copied()
}
