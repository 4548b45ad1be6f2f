//! The command line of cn-setup.

use std::{net::IpAddr, path::PathBuf};

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use ipnet::IpNet;
use triton_agent::CommonArgs;
use triton_types::{Mac, NicTag};

use super::layout::PoolLayout;

/// Make this machine a compute node without a headnode: its pool, its datasets, its network.
///
/// Looks at all disks, says what it would do, asks, and does it. Takes every disk that is empty and not in use, unless disks
/// are named. A disk with data is taken only if it is named with --erase; one that is in use never is. A set-up that was cut
/// off goes on where it ended when the command is run again; on a node that is set up it changes nothing.
///
/// The pool gets the datasets config, cores, opt and var; what the node is told here is kept in /opt/triton/config and used at
/// every boot. The network is as it was until `systemctl reload triton-network` or the next boot.
///
/// Exit status: 0 success, 1 failure, 2 wrong usage or a request that cannot be met (nothing was changed).
#[derive(Debug, Parser)]
#[command(
    name = "cn-setup",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  cn-setup --dry-run\n  cn-setup --disk sdb --disk sdc --layout mirror --dhcp\n  \
                  cn-setup --erase nvme0n1 --address 10.0.0.5/24 --gateway 10.0.0.1 --resolver 10.0.0.2 --yes"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) setup: Setup,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What is no set-up.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Setup {
    /// Say what would be done, and change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,

    /// Use this disk (a name like sdb, or a path below /dev); may be repeated [default: every empty disk]
    #[arg(long, value_name = "DISK", help_heading = "Pool")]
    pub(crate) disk: Vec<String>,
    /// Use this disk even if it holds data, which is DESTROYED; may be repeated
    #[arg(long, value_name = "DISK", help_heading = "Pool")]
    pub(crate) erase: Vec<String>,
    /// How the pool is laid out [default: by the number of disks: 1 single, 2 mirror, 3 or 4 raidz1, up to 12 raidz2]
    #[arg(long, value_enum, value_name = "LAYOUT", help_heading = "Pool")]
    pub(crate) layout: Option<PoolLayout>,

    /// The node's name
    #[arg(long, value_name = "NAME", value_parser = name, help_heading = "Network")]
    pub(crate) hostname: Option<String>,
    /// Ask for an address [default, if this machine has one NIC and no networking.json yet]
    #[arg(long, conflicts_with_all = ["address", "no_network"], help_heading = "Network")]
    pub(crate) dhcp: bool,
    /// The node's address and the length of its network's prefix
    #[arg(long, value_name = "ADDRESS/LENGTH", conflicts_with = "no_network", help_heading = "Network")]
    pub(crate) address: Option<IpNet>,
    /// Write no configuration of the network: what the node has stays
    #[arg(long, help_heading = "Network")]
    pub(crate) no_network: bool,
    /// The router
    #[arg(long, value_name = "ADDRESS", requires = "address", help_heading = "Network")]
    pub(crate) gateway: Option<IpAddr>,
    /// The VLAN of the node's own address; 0: untagged
    #[arg(long, value_name = "ID", default_value_t = 0, help_heading = "Network")]
    pub(crate) vlan: u16,
    /// The NIC of the admin network, by MAC address [default: the only NIC]
    #[arg(long, value_name = "MAC", help_heading = "Network")]
    pub(crate) admin_nic: Option<Mac>,
    /// A further network for instances: its nic tag and the MAC address of its NIC; may be repeated
    #[arg(long, value_name = "TAG=MAC", value_parser = tag, help_heading = "Network")]
    pub(crate) nic_tag: Vec<(NicTag, Mac)>,
    /// Who is asked for names; may be repeated
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    pub(crate) resolver: Vec<IpAddr>,
    /// A time server; may be repeated
    #[arg(long, value_name = "HOST", value_parser = name, help_heading = "Network")]
    pub(crate) ntp: Vec<String>,
    /// The name of the data centre
    #[arg(long, value_name = "NAME", value_parser = name, help_heading = "Network")]
    pub(crate) datacenter: Option<String>,
    /// The domain of the data centre
    #[arg(long, value_name = "DOMAIN", value_parser = name, help_heading = "Network")]
    pub(crate) domain: Option<String>,

    /// Where the kernel tells of disks and NICs
    #[arg(long, value_name = "DIR", default_value = "/sys", hide = true)]
    pub(crate) sysfs: PathBuf,
    /// Where devices are
    #[arg(long, value_name = "DIR", default_value = "/dev", hide = true)]
    pub(crate) dev: PathBuf,
}

/// A host's or domain's name, or an address.
fn name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let address = text.parse::<IpAddr>().is_ok();
    if address || (text.len() <= 253 && text.split('.').all(label)) {
        Ok(text.to_owned())
    } else {
        Err("letters, digits and -, in parts of at most 63 with dots between them".to_owned())
    }
}

fn tag(text: &str) -> Result<(NicTag, Mac), String> {
    let (tag, mac) = text.split_once('=').ok_or("TAG=MAC is wanted")?;
    let tag = tag.parse().map_err(|_| format!("{tag:?} is no nic tag"))?;
    Ok((tag, mac.parse().map_err(|_| format!("{mac:?} is no MAC address"))?))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Args;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn bad_words_are_refused_before_anything_is_looked_at() {
        for bad in [
            &["--hostname", "a b"][..],
            &["--hostname", "-a"],
            &["--ntp", "a;reboot"],
            &["--nic-tag", "external"],
            &["--nic-tag", "external=aggr0"],
            &["--address", "10.0.0.5"],
            &["--gateway", "10.0.0.1"],
            &["--dhcp", "--address", "10.0.0.5/24"],
            &["--layout", "raid5"],
            &["sdb"],
        ] {
            let words = ["cn-setup"].iter().chain(bad);
            assert!(Args::try_parse_from(words).is_err(), "{bad:?}");
        }
        let good = ["cn-setup", "--nic-tag", "external=00:50:56:00:00:01", "--ntp", "0.pool.example.com", "--ntp", "fd00::1"];
        assert!(Args::try_parse_from(good).is_ok());
    }
}
