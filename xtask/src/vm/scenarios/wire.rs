//! What scenarios of two nodes need: the second one, with the image of the guests; addresses of the nodes' own on the wire between them.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{
    super::{bed::Bed, node::BED, testing::SIZE},
    vm,
};

/// The second node, with the image that the first one has.
pub fn second(first: &Bed) -> Result<Bed> {
    let mut second = Bed::up(first.place().second(), &SIZE, first.deadline())?;
    second.run(&format!("mkdir -p {BED}"))?;
    // The first node got its files before it was saved.
    pipe(first.ssh().command(&format!("tar -C {BED} -cf - image")), second.ssh().command(&format!("tar -C {BED} -xf -")))?;
    vm::install(&mut second)?;
    Ok(second)
}

/// Gives a node an address of its own on a VLAN of the wire, from its next boot on; `more` is a filter of jq for the rest of its networks.
pub fn address(bed: &mut Bed, mac: &str, vlan: u16, ip: &str, more: &str) -> Result<()> {
    let nic = json!({"mac": mac, "nic_tag": "external", "vlan_id": vlan, "ip": ip, "netmask": "255.255.255.0"});
    let script = format!(
        "set -e; cd /opt/triton/config; jq '.vnics += [{nic}] | {more}' triton-networking.json >new.json; mv new.json triton-networking.json"
    );
    bed.run(&script).map(drop).context("could not give a node an address on the wire")
}

/// Makes the link with this address a part of the admin network, and those of `subnet` admitted there, until the next boot.
pub fn admit(bed: &mut Bed, address: &str, subnet: &str) -> Result<()> {
    let script = format!(
        "set -e; link=$(ip -4 -o addr show | sed -n 's/^[0-9]*: *\\([^ @]*\\).* inet {address}\\/.*/\\1/p'); [ -n \"$link\" ]
        {}",
        admitted("$link", subnet)
    );
    bed.run(&script).map(drop).with_context(|| format!("could not open the door at {address}"))
}

/// What makes a link (a word of the shell) a part of the admin network, and those of `subnet` admitted there, until [`REFUSED`] or the
/// next boot. By hand it would be undone at once.
pub fn admitted(link: &str, subnet: &str) -> String {
    format!(
        "file=/etc/triton/admin-networks; [ -e $file.own ] || cp $file $file.own && \
         printf 'link %s\\nnetwork %s\\n' \"{link}\" '{subnet}' >>$file && systemctl reload triton-host-firewall"
    )
}

/// What takes back all that [`admitted`] did.
pub const REFUSED: &str = "mv /etc/triton/admin-networks.own /etc/triton/admin-networks && systemctl reload triton-host-firewall";

/// What one command prints is what the other reads.
pub fn pipe(mut from: Command, mut to: Command) -> Result<()> {
    let mut sender = from.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("could not run ssh")?;
    let stream = sender.stdout.take().context("ssh has no output")?;
    let received = to.stdin(stream).stdout(Stdio::null()).status().context("could not run ssh")?;
    let sent = sender.wait().context("could not wait for ssh")?;
    ensure!(sent.success() && received.success(), "the sender ended with {sent}, the receiver with {received}");
    Ok(())
}
