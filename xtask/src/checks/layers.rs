//! The layers: each package may use only those of the layers above its own (design: dependencies point one way).
//!
//! The table here is the one that ARCHITECTURE.md shows; a test compares the two.

use anyhow::Result;

use super::Finding;
use crate::workspace::{EdgeKind, Package, Workspace};

/// Whether packages of one layer may use each other (cargo refuses circles).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// They meet only in layers above.
    Apart,
    /// They may.
    Together,
}

/// One layer: its name, its packages, and whether they may use each other.
struct Layer {
    name: &'static str,
    within: Within,
    packages: &'static [&'static str],
}

/// From the words that everybody uses to the programs that nobody uses.
const LAYERS: &[Layer] = &[
    Layer { name: "words", within: Within::Apart, packages: &["triton-types"] },
    Layer {
        name: "languages",
        within: Within::Apart,
        packages: &["triton-vmspec", "triton-netconf", "triton-mdata", "triton-fast", "triton-fwrule", "triton-svp"],
    },
    Layer {
        name: "drivers",
        within: Within::Apart,
        packages: &["triton-files", "triton-process", "triton-cgroup", "triton-link", "triton-nft", "triton-lxc", "triton-zfs"],
    },
    Layer { name: "running and talking", within: Within::Together, packages: &["triton-agent", "triton-headnode"] },
    Layer {
        name: "model",
        within: Within::Together,
        packages: &[
            "triton-guard",
            "triton-firewall",
            "triton-nictag",
            "triton-storage",
            "triton-sysinfo",
            "triton-image",
            "triton-instance",
        ],
    },
    Layer {
        name: "programs",
        within: Within::Apart,
        packages: &["triton-cli", "cn-agent", "vm-agent", "net-agent", "firewaller", "metadata-agent", "mdata-tools", "instance-monitor"],
    },
    Layer {
        name: "judges and tools",
        within: Within::Together,
        packages: &["headnode-standin", "triton-wire", "triton-e2e", "triton-bench", "xtask"],
    },
];

const REMEDY: &str =
    "move the shared part into a crate of a higher layer, or let the caller pass it in; the table is in xtask/src/checks/layers.rs";

fn layer_of(package: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.packages.contains(&package))
}

/// Every edge between our packages points to a layer above; test edges may also point to `tests/`.
pub fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let members = workspace.members();
    let mut findings = Vec::new();
    for package in &members {
        let Some(user) = layer_of(&package.name) else {
            findings.push(Finding::new(
                package.folder(),
                format!("package {} has no layer", package.name),
                "add it to LAYERS in xtask/src/checks/layers.rs and to the table in ARCHITECTURE.md",
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(used) = members.iter().find(|member| member.name == dependency.name) else { continue };
            if let Some(level) = layer_of(&used.name)
                && !allowed(user, level, dependency.edge(), used)
            {
                findings.push(finding(package, user, used, level, dependency.edge()));
            }
        }
    }
    for name in LAYERS.iter().flat_map(|layer| layer.packages) {
        if !members.iter().any(|member| member.name == *name) {
            findings.push(Finding::new("xtask/src/checks/layers.rs", format!("package {name} does not exist"), "remove it from LAYERS"));
        }
    }
    Ok(findings)
}

fn allowed(user: usize, used: usize, edge: EdgeKind, package: &Package) -> bool {
    match edge {
        EdgeKind::Normal | EdgeKind::Build => used < user || (used == user && LAYERS[user].within == Within::Together),
        EdgeKind::Dev => used <= user || package.folder().starts_with("tests/"),
    }
}

fn finding(package: &Package, user: usize, used: &Package, level: usize, edge: EdgeKind) -> Finding {
    let section = match edge {
        EdgeKind::Normal => "dependencies",
        EdgeKind::Build => "build-dependencies",
        EdgeKind::Dev => "dev-dependencies",
    };
    let problem = if level == user {
        format!(
            "[{section}] {} -> {}: both are in the layer \"{}\", whose packages do not use each other",
            package.name, used.name, LAYERS[user].name
        )
    } else {
        format!(
            "[{section}] {} -> {}: the layer \"{}\" may not use the layer \"{}\" below it",
            package.name, used.name, LAYERS[user].name, LAYERS[level].name
        )
    };
    Finding::new(format!("{}/Cargo.toml", package.folder()), problem, REMEDY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{self, Dependency};

    fn package(name: &str, folder: &str, dependencies: Vec<Dependency>) -> Package {
        Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            id: name.to_owned(),
            source: None,
            license: None,
            manifest_path: workspace::root().join(folder).join("Cargo.toml"),
            dependencies,
        }
    }

    /// Findings about edges; that the rest of the table is absent from a made-up workspace is no news.
    fn edges(members: Vec<Package>) -> Vec<String> {
        let findings = check(&Workspace::of(members)).unwrap();
        findings.iter().filter(|finding| finding.place.ends_with("Cargo.toml")).map(ToString::to_string).collect()
    }

    #[test]
    fn an_edge_to_a_lower_layer_is_named_with_both_ends_and_a_remedy() {
        let found = edges(vec![
            package("triton-link", "crates/link", vec![Dependency::new("triton-instance", EdgeKind::Normal)]),
            package("triton-instance", "crates/instance", vec![Dependency::new("triton-link", EdgeKind::Normal)]),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("crates/link/Cargo.toml") && found[0].contains("triton-link -> triton-instance"), "{found:?}");
        assert!(found[0].contains("higher layer"), "{found:?}");
    }

    #[test]
    fn programs_do_not_use_each_other_but_parts_of_the_model_may() {
        let model = edges(vec![
            package("triton-image", "crates/image", vec![Dependency::new("triton-storage", EdgeKind::Normal)]),
            package("triton-storage", "crates/storage", vec![]),
        ]);
        assert!(model.is_empty(), "{model:?}");
        let programs = edges(vec![
            package("cn-agent", "agents/cn-agent", vec![Dependency::new("triton-cli", EdgeKind::Build)]),
            package("triton-cli", "crates/cli", vec![]),
        ]);
        assert!(programs.len() == 1 && programs[0].contains("[build-dependencies]"), "{programs:?}");
    }

    #[test]
    fn tests_may_use_the_stand_in_and_no_other_lower_package() {
        let standin = package("headnode-standin", "tests/headnode", vec![]);
        let user = package("triton-headnode", "crates/headnode", vec![Dependency::new("headnode-standin", EdgeKind::Dev)]);
        assert!(edges(vec![user, standin]).is_empty());
        let cli = package("triton-cli", "crates/cli", vec![]);
        let user = package("triton-headnode", "crates/headnode", vec![Dependency::new("triton-cli", EdgeKind::Dev)]);
        assert_eq!(edges(vec![user, cli]).len(), 1);
    }

    #[test]
    fn a_package_without_a_layer_is_found() {
        let found: Vec<_> = check(&Workspace::of(vec![package("stranger", "crates/stranger", vec![])])).unwrap();
        assert!(found[0].to_string().contains("package stranger has no layer"), "{found:?}");
    }

    #[test]
    fn the_page_shows_the_layers_of_the_table() {
        let page = workspace::read("ARCHITECTURE.md").unwrap();
        let shown: Vec<&str> = page.lines().filter(|line| line.starts_with("| **")).collect();
        assert_eq!(shown.len(), LAYERS.len(), "one row for each layer");
        for (row, layer) in shown.iter().zip(LAYERS) {
            assert!(row.contains(&format!("**{}**", layer.name)), "{row}");
            let packages: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
            assert_eq!(packages, layer.packages, "{row}");
        }
    }
}
