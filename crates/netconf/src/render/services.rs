//! The node's name, resolvers and time servers.

use super::File;
use crate::Plan;

pub(super) fn render(plan: &Plan) -> Vec<File> {
    let mut files = Vec::new();
    if let Some(hostname) = &plan.hostname {
        files.push(File { path: "etc/hostname".to_owned(), text: format!("{hostname}\n") });
    }
    if !plan.resolvers.is_empty() || !plan.domains.is_empty() {
        let search = (!plan.domains.is_empty()).then(|| format!("search {}\n", plan.domains.join(" ")));
        let servers = plan.resolvers.iter().map(|resolver| format!("nameserver {resolver}\n"));
        // A part of resolv.conf: the image adds what leases of DHCP say, where this says nothing.
        files.push(File { path: "etc/triton/resolv.conf".to_owned(), text: search.into_iter().chain(servers).collect() });
    }
    if !plan.ntp.is_empty() {
        let servers: String = plan.ntp.iter().map(|host| format!("server {host} iburst\n")).collect();
        files.push(File { path: "etc/chrony/sources.d/triton.sources".to_owned(), text: servers });
    }
    files
}
