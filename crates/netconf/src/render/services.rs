//! The node's name, resolvers and time servers.

use super::File;
use crate::{Plan, render::text::Unit};

pub(super) fn render(plan: &Plan) -> Vec<File> {
    let mut files = Vec::new();
    if let Some(hostname) = &plan.hostname {
        files.push(File { path: "etc/hostname".to_owned(), text: format!("{hostname}\n") });
    }
    if !plan.resolvers.is_empty() || !plan.domains.is_empty() {
        let resolvers: Vec<String> = plan.resolvers.iter().map(ToString::to_string).collect();
        let unit = Unit::about("where names are looked up").section("Resolve");
        let unit = unit.set_if("DNS", Some(resolvers.join(" ")).filter(|list| !list.is_empty()));
        let unit = unit.set_if("Domains", Some(plan.domains.join(" ")).filter(|list| !list.is_empty()));
        files.push(File { path: "etc/systemd/resolved.conf.d/10-triton.conf".to_owned(), text: unit.set("DNSSEC", "no").finish() });
    }
    if !plan.ntp.is_empty() {
        let servers: String = plan.ntp.iter().map(|host| format!("server {host} iburst\n")).collect();
        files.push(File { path: "etc/chrony/sources.d/triton.sources".to_owned(), text: servers });
    }
    files
}
