//! Two nodes on a private wire.

use anyhow::{Context, Result, ensure};

use super::{
    super::{bed::Bed, testing::READY},
    migrate, vm, wire,
};

/// An instance with its data goes from one node to the other; a guest that stayed reaches it over the wire.
pub fn transfer(first: &mut Bed) -> Result<()> {
    // Both boot: the networks of their configuration are there from a boot on.
    vm::with_image(first)?;
    migrate::prepare(first, 0)?;
    first.reboot()?;
    let mut second = wire::second(first)?;
    migrate::prepare(&mut second, 1)?;
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
    firewall(first, &mut second, &stays, &moves).context("the firewall between the nodes")?;
    second.run(&format!("vmadm delete {moves}"))?;
    migrate::by_streams(first, &mut second).context("machine_migrate")?;
    vm::sound(first)?;
    vm::sound(&mut second)?;
    ensure!(first.saved(READY), "the first node's saved state is as it was");
    Ok(())
}

/// Issue 7: rules about instances of other nodes. What `web`, a guest here, admits is what `peer`, a guest there, reaches; answers come back.
fn firewall(here: &mut Bed, there: &mut Bed, web: &str, peer: &str) -> Result<()> {
    vm::guest(here, web, "for port in 80 81; do setsid busybox nc -ll -p $port -e echo served >/dev/null 2>&1 </dev/null & done")?;
    vm::guest(there, peer, "setsid busybox nc -ll -p 80 -e echo served >/dev/null 2>&1 </dev/null &")?;
    let asks = |bed: &mut Bed, guest: &str, address: &str, port: u16| -> Result<bool> {
        let said = vm::guest(bed, guest, &format!("busybox nc -w 3 {address} {port} </dev/null 2>&1 || true"))?;
        Ok(said.contains("served"))
    };
    ensure!(
        asks(there, peer, "10.64.0.5", 81)? && asks(here, web, "10.64.0.6", 80)?,
        "without a firewall the guests do not reach each other"
    );

    there.run(&format!("vmadm update {peer} <<'END'\n{{\"set_tags\": {{\"role\": \"db\"}}, \"firewall_enabled\": true}}\nEND"))?;
    here.run(&format!("vmadm update {web} <<'END'\n{{\"set_tags\": {{\"role\": \"web\"}}, \"firewall_enabled\": true}}\nEND"))?;
    let remote = vm::property(there, peer, "tostring")?;
    let owner = vm::property(here, web, ".owner_uuid")?;
    let rule = "FROM tag role = db TO tag role = web ALLOW tcp PORT 80";
    here.run(&format!(
        "fwadm add -f - <<'END'\n{{\"rules\": [{{\"enabled\": true, \"owner_uuid\": \"{owner}\", \"rule\": \"{rule}\"}}], \"remoteVMs\": [{remote}]}}\nEND"
    ))?;
    ensure!(asks(there, peer, "10.64.0.5", 80)?, "a peer on another node is not admitted");
    ensure!(!asks(there, peer, "10.64.0.5", 81)?, "a port that no rule allows is reached from another node");
    ensure!(!asks(here, web, "10.64.0.6", 80)?, "a guest of another node that admits nothing was reached");
    here.run(&format!("fwadm delete-rvm {peer}"))?;
    ensure!(!asks(there, peer, "10.64.0.5", 80)?, "whoever is no longer known is still admitted");
    Ok(())
}

fn send(first: &Bed, second: &Bed, uuid: &str) -> Result<()> {
    wire::pipe(first.ssh().command(&format!("vmadm send {uuid}")), second.ssh().command("vmadm receive"))
}
