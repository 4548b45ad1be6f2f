//! An orderly reboot of the node, as the operator asks for it.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{super::bed::Bed, vm};

/// What ran and is to run runs again, after it was asked to end; all else stays as it was.
pub fn orderly(bed: &mut Bed) -> Result<()> {
    vm::with_image(bed)?;
    let image = vm::image(bed)?;
    let running = vm::create(bed, &vm::payload(&image, 5, true))?;
    let once = vm::create(bed, &vm::payload(&image, 6, true))?;
    let stopped = vm::create(bed, &vm::payload(&image, 7, false))?;
    vm::guest(
        bed,
        &running,
        "echo 'echo orderly >> /ends' > /etc/local.d/end.stop; echo 'echo boot >> /boots' > /etc/local.d/begin.start; chmod 755 /etc/local.d/*",
    )?;
    // Issue 6: a guest has its metadata again after a boot of the node, by the socket and, without it, by its serial line.
    vm::guest(bed, &running, "/native/usr/sbin/mdata-put kept 'over a boot'")?;
    bed.run(&format!("vmadm update {once} autoboot=false"))?;
    ensure!(vm::property(bed, &once, ".state")? == "running", "a change of autoboot ended the instance");
    bed.reboot()?;
    vm::sound(bed)?;
    vm::await_state(bed, &running, "running")?;
    // Issue 7: FWAPI's tools find firewaller at the node's admin address (firewaller section 9), which its sandbox must let it find out.
    let script = "a=$(sysinfo | jq -r '.[\"Admin IP\"]'); ss -Hltn 'sport = :2021' | grep -F \"$a:2021\"";
    bed.until("firewaller serves at the admin address", script, Duration::from_secs(60))?;
    for uuid in [&once, &stopped] {
        ensure!(vm::property(bed, uuid, ".state")? == "stopped", "{uuid} runs, though autoboot is off");
        ensure!(vm::property(bed, uuid, ".autoboot")? == "false", "autoboot of {uuid} changed");
    }
    // The node's end is a halt: it changes nothing of what is wanted (ruling 40).
    ensure!(vm::property(bed, &running, ".autoboot")? == "true", "autoboot was lost");
    let said = vm::guest(bed, &running, "cat /ends /boots; ip addr")?;
    ensure!(
        said.starts_with("orderly\nboot\n") && said.contains("10.64.0.5/24"),
        "the guest was not ended and booted once, in order: {said}"
    );
    let asks = "get=/native/usr/sbin/mdata-get; $get kept; $get sdc:uuid";
    let expected = format!("over a boot\n{running}\n");
    ensure!(vm::guest(bed, &running, asks)? == expected, "by the socket");
    // The tools are seen beside the socket's directories, which are mounts of their own.
    let by_line = format!("/bin/busybox umount /.zonecontrol /native/.zonecontrol; {asks}");
    ensure!(vm::guest(bed, &running, &by_line)? == expected, "by the serial line");
    bed.run(&format!("vmadm start {once} && vmadm start {stopped}"))?;
    vm::await_state(bed, &once, "running")?;
    vm::await_state(bed, &stopped, "running")
}
