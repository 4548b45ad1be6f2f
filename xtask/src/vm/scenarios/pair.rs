//! Two nodes on a private wire.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{
    super::{
        bed::Bed,
        node::BED,
        testing::{READY, SIZE},
    },
    vm,
};

/// An instance with its data goes from one node to the other; a guest that stayed reaches it over the wire.
pub fn transfer(first: &mut Bed) -> Result<()> {
    // Both boot: the networks of their configuration are there from a boot on.
    vm::with_image(first)?;
    first.reboot()?;
    let mut second = Bed::up(first.place().second(), &SIZE, first.deadline())?;
    copy_image(first, &mut second)?;
    second.run(&format!("imgadm install -m {BED}/image/manifest.json -f {BED}/image/*.tar.gz"))?;
    second.reboot()?;

    let image = vm::image(first)?;
    let stays = vm::create(first, &vm::payload(&image, 5, true))?;
    let moves = vm::create(first, &vm::payload(&image, 6, true))?;
    vm::guest(
        first,
        &moves,
        "mkdir /data; echo content > /data/file; chown 33:44 /data/file; chmod 2750 /data/file; ln -s file /data/link",
    )?;
    let look = "cd /data; stat -c '%n %u:%g %a' file; cat link";
    let before = vm::guest(first, &moves, look)?;
    let keys = "{uuid, alias, hostname, max_physical_memory, cpu_cap, quota, nics, image_uuid, owner_uuid, create_timestamp}";
    let object = vm::property(first, &moves, keys)?;
    first.run(&format!("vmadm stop {moves}"))?;
    send(first, &second, &moves)?;
    first.run(&format!("vmadm delete {moves}"))?;

    ensure!(vm::property(&mut second, &moves, keys)? == object, "the object differs");
    second.run(&format!("vmadm start {moves}"))?;
    ensure!(vm::guest(&mut second, &moves, look)? == before, "the data differs");
    vm::guest(&mut second, &moves, "ping -c 3 -W 5 10.64.0.5").context("the wire between the nodes")?;
    vm::guest(first, &stays, "ping -c 3 -W 5 10.64.0.6").context("the wire between the nodes")?;
    vm::sound(first)?;
    vm::sound(&mut second)?;
    second.run(&format!("vmadm delete {moves}"))?;
    ensure!(first.saved(READY), "the first node's saved state is as it was");
    Ok(())
}

/// The files of the image, which the first node got before it was saved.
fn copy_image(first: &Bed, second: &mut Bed) -> Result<()> {
    second.run(&format!("mkdir -p {BED}"))?;
    pipe(first.ssh().command(&format!("tar -C {BED} -cf - image")), second.ssh().command(&format!("tar -C {BED} -xf -")))
}

fn send(first: &Bed, second: &Bed, uuid: &str) -> Result<()> {
    pipe(first.ssh().command(&format!("vmadm send {uuid}")), second.ssh().command("vmadm receive"))
}

/// What one command prints is what the other reads.
fn pipe(mut from: Command, mut to: Command) -> Result<()> {
    let mut sender = from.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("could not run ssh")?;
    let stream = sender.stdout.take().context("ssh has no output")?;
    let received = to.stdin(stream).stdout(Stdio::null()).status().context("could not run ssh")?;
    let sent = sender.wait().context("could not wait for ssh")?;
    ensure!(sent.success() && received.success(), "the sender ended with {sent}, the receiver with {received}");
    Ok(())
}
