//! An overlay network between two nodes: guests of both reach each other by VXLAN over the wire, as the stand-in for portolan says.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    super::{bed::Bed, node::BED},
    vm, wire,
};

/// The nodes' underlay addresses, on a VLAN of the wire.
const UNDERLAY: [&str; 2] = ["10.66.0.1", "10.66.0.2"];
const VLAN: u16 = 66;
/// Most that fits into a packet of the overlay network, whose MTU is 1400, behind the headers of IPv4 and ICMP.
const LARGEST: usize = 1372;

/// Guests on two nodes, one that moves between them, and one of another network.
pub fn between(first: &mut Bed) -> Result<()> {
    vm::with_image(first)?;
    prepare(first, 0)?;
    first.reboot()?;
    let mut second = wire::second(first)?;
    prepare(&mut second, 1)?;
    second.reboot()?;

    let mut portolan = Portolan::start(first)?;
    UNDERLAY.iter().try_for_each(|underlay| portolan.tell(&format!("node {underlay}")))?;
    let image = vm::image(first)?;
    let one = create(first, &image, 5, 5)?;
    let two = create(&mut second, &image, 5, 6)?;
    let other = create(&mut second, &image, 6, 7)?;
    for (end, vnet, host) in [(0, 5, 5), (1, 5, 6), (1, 6, 7)] {
        portolan.place(vnet, host, end)?;
    }
    let reach = |bed: &mut Bed, guest: &str, host: u8| -> Result<()> {
        for (words, address) in [("-4", format!("192.168.128.{host}")), ("-6", format!("fd66::{host}"))] {
            vm::guest(bed, guest, &format!("ping {words} -c 3 -W 5 {address}")).with_context(|| address.clone())?;
        }
        Ok(())
    };
    // The nodes looked for portolan for minutes before it was there: their next look is up to a minute away.
    for (bed, guest, host) in [(&mut *first, &one, 6), (&mut second, &two, 5)] {
        let script = vm::guest_script(guest, &format!("ping -4 -c 1 -W 2 192.168.128.{host}"));
        bed.until("portolan is found", &script, Duration::from_secs(150))?;
    }
    reach(first, &one, 6).context("from the first node to the second")?;
    reach(&mut second, &two, 5).context("from the second node to the first")?;
    vm::guest(first, &one, &format!("ping -4 -c 2 -W 5 -s {LARGEST} 192.168.128.6")).context("the largest packet")?;
    let silent = vm::guest(first, &one, "ping -4 -c 2 -W 2 192.168.128.7 || echo unreached")?;
    ensure!(silent.contains("unreached"), "a guest of another overlay network was reached: {silent}");
    stream(first, &one, &mut second, &two)?;
    let wire = second.run("ip -d -s -j link show type vxlan")?;
    ensure!(wire.contains("\"id\":5") && wire.contains("\"id\":6"), "the networks are not carried by VXLAN: {wire}");

    // It moves; who stays finds it at its new place.
    let stays = create(&mut second, &image, 5, 8)?;
    portolan.place(5, 8, 1)?;
    reach(&mut second, &stays, 6).context("both on one node")?;
    second.run(&format!("vmadm delete {two}"))?;
    let moved = create(first, &image, 5, 6)?;
    portolan.place(5, 6, 0)?;
    let script = vm::guest_script(&stays, "ping -4 -c 1 -W 2 192.168.128.6 && ping -6 -c 1 -W 2 fd66::6");
    second.until("the guest is found at its new node", &script, Duration::from_secs(60))?;
    reach(first, &moved, 8).context("from its new node")?;

    // What is known stays known while portolan is away and the agents are killed.
    portolan.end()?;
    for bed in [&mut *first, &mut second] {
        bed.run("systemctl kill -s KILL triton-net-agent")?;
    }
    reach(first, &moved, 8).context("without portolan and while the agent begins anew")?;
    for (bed, guests) in [(&mut *first, vec![one, moved]), (&mut second, vec![stays, other])] {
        bed.run(&format!("for uuid in {}; do vmadm delete $uuid || exit 1; done", guests.join(" ")))?;
        let left = bed.run("ip -o link show type vxlan")?;
        ensure!(left.trim().is_empty(), "a network without instances stayed: {left}");
        vm::sound(bed)?;
    }
    Ok(())
}

/// What a node needs before its boot: an underlay address, and how its overlay networks are made.
fn prepare(bed: &mut Bed, end: usize) -> Result<()> {
    let own = UNDERLAY[end];
    let rule = format!("-e vxlan -s svp -p svp/host={} -p svp/underlay_ip={own} -p vxlan/listen_ip={own} -p mtu=1400", UNDERLAY[0]);
    wire::address(bed, &format!("02:08:20:00:66:a{end}"), VLAN, own, &format!(".nictag_rules = {{\"sdc_overlay\": \"{rule}\"}}"))
}

fn mac(vnet: u32, host: u8) -> String {
    format!("02:08:20:00:{vnet:02x}:{host:02x}")
}

fn create(bed: &mut Bed, image: &str, vnet: u32, host: u8) -> Result<String> {
    let mut payload: Value = vm::payload(image, host, true);
    payload["nics"] = json!([{"nic_tag": format!("sdc_overlay/{vnet}"), "mac": mac(vnet, host), "primary": true,
        "ips": [format!("192.168.128.{host}/24"), format!("fd66::{host}/64")]}]);
    vm::create(bed, &payload)
}

/// A megabyte and what it is, from one guest to the other. Who receives keeps its own direction open: the sender would end with it.
fn stream(from: &mut Bed, sender: &str, to: &mut Bed, receiver: &str) -> Result<()> {
    vm::guest(to, receiver, "setsid sh -c 'sleep 60 | busybox nc -l -p 90 >/tmp/came' >/dev/null 2>&1 </dev/null &")?;
    let sent = vm::guest(
        from,
        sender,
        "dd if=/dev/urandom of=/tmp/big bs=64k count=16 2>/dev/null; busybox nc -w 20 192.168.128.6 90 </tmp/big; busybox md5sum </tmp/big",
    )?;
    let script = vm::guest_script(receiver, "busybox md5sum </tmp/came");
    let came =
        to.until("the stream has come", &format!("s=$({script}); echo \"$s\"; [ \"$s\" = \"{}\" ]", sent.trim()), Duration::from_secs(30))?;
    ensure!(came.trim() == sent.trim(), "what came is not what was sent");
    Ok(())
}

/// The stand-in, on the first node.
struct Portolan {
    child: Child,
    into: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Portolan {
    fn start(bed: &mut Bed) -> Result<Self> {
        let address = UNDERLAY[0];
        // No node runs portolan: the door to it is opened by hand.
        wire::admit(bed, address, "10.66.0.0/24")?;
        let mut command = bed.ssh().command(&format!("{BED}/tests/portolan --listen {address}:1296"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("could not run ssh")?;
        let into = child.stdin.take().context("ssh has no input")?;
        let says = BufReader::new(child.stdout.take().context("ssh has no output")?).lines();
        Ok(Self { child, into, says })
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.into, "{line}").context("portolan is gone")?;
        let said = self.says.next().transpose().context("portolan is gone")?;
        ensure!(said.as_deref() == Some("done"), "portolan says {said:?} to {line}");
        Ok(())
    }

    fn place(&mut self, vnet: u32, host: u8, end: usize) -> Result<()> {
        self.tell(&format!("place {vnet} 0 {} {} 192.168.128.{host} fd66::{host}", mac(vnet, host), UNDERLAY[end]))
    }

    /// It goes; no node has done what the protocol forbids.
    fn end(self) -> Result<()> {
        let Self { mut child, into, .. } = self;
        drop(into);
        let status = child.wait().context("could not wait for ssh")?;
        ensure!(status.success(), "portolan: {status}");
        Ok(())
    }
}
