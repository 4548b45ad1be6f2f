//! QEMU: its command line, its start and its end.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use triton_process::PidFd;

use super::{disk, qmp, state::State};
use crate::{run, say::Progress};

/// The state that `up` saves.
pub const BOOTED: &str = "booted";

/// The console's log.
pub fn log(dir: &Path) -> PathBuf {
    dir.join("console.log")
}

/// The control socket.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("control")
}

/// Two free ports of the loopback interface.
pub fn free_ports() -> Result<[u16; 2]> {
    let bind = || TcpListener::bind(("127.0.0.1", 0)).context("could not find a free port");
    let (first, second) = (bind()?, bind()?);
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

/// Starts the machine, booting or with a saved state.
pub fn start(dir: &Path, state: &mut State, restore: Option<&str>, progress: &mut Progress) -> Result<()> {
    let pidfile = dir.join("qemu.pid");
    let _ = fs::remove_file(&pidfile);
    let _ = fs::remove_file(socket(dir));
    let key = fs::read(disk::key(dir).with_extension("pub")).context("could not read the public key")?;
    let mut command = Command::new("qemu-system-x86_64");
    command.args(arguments(dir, state, &base64(&key)));
    if let Some(name) = restore {
        command.args(["-loadvm", name]);
    }
    command.arg("-daemonize").arg("-pidfile").arg(&pidfile);
    run::succeed(command, Duration::from_secs(120), progress).context("could not start the machine")?;
    let pid: i32 = fs::read_to_string(&pidfile).context("QEMU left no pid")?.trim().parse().context("QEMU's pid is no number")?;
    state.process = triton_process::reference(pid);
    state.save(dir)?;
    if state.running().is_none() {
        bail!("QEMU ended at once; the console's log is {}", log(dir).display());
    }
    Ok(())
}

/// The same for a boot and for a restored state: QEMU compares devices.
fn arguments(dir: &Path, state: &State, key: &str) -> Vec<String> {
    let medium = state.image.join("medium.img");
    let text = |path: PathBuf| path.display().to_string().replace(',', ",,");
    let (cpu, accel) = if state.accel == "kvm" { ("host", "kvm") } else { ("max", "tcg,thread=multi") };
    let forwards = format!("hostfwd=tcp:127.0.0.1:{}-:22,hostfwd=tcp:127.0.0.1:{}-:5309", state.ssh_port, state.agent_port);
    let list: Vec<(&str, String)> = vec![
        ("-name", "triton-cn".to_owned()),
        ("-machine", "q35".to_owned()),
        ("-accel", accel.to_owned()),
        ("-cpu", cpu.to_owned()),
        ("-smp", state.cpus.to_string()),
        ("-m", state.memory.to_string()),
        ("-display", "none".to_owned()),
        ("-rtc", "base=utc".to_owned()),
        ("-kernel", state.image.join("vmlinuz").display().to_string()),
        ("-initrd", state.image.join("initrd").display().to_string()),
        ("-append", "boot=live console=ttyS0,115200n8 triton.dhcp-all-nics systemd.log_color=0 panic=10".to_owned()),
        ("-drive", format!("file={},format=raw,if=virtio,readonly=on", text(medium))),
        ("-drive", format!("file={},format=qcow2,if=none,id=pool,discard=unmap", text(disk::pool(dir)))),
        ("-device", "virtio-blk-pci,drive=pool,serial=zones".to_owned()),
        // The node reaches nothing: what comes in are the forwarded ports.
        ("-netdev", format!("user,id=net,restrict=on,{forwards}")),
        ("-device", "virtio-net-pci,netdev=net,romfile=".to_owned()),
        ("-device", "virtio-rng-pci".to_owned()),
        ("-chardev", format!("file,id=console,path={},append=on", text(log(dir)))),
        ("-serial", "chardev:console".to_owned()),
        ("-qmp", format!("unix:{},server=on,wait=off", text(socket(dir)))),
        ("-smbios", format!("type=1,uuid={},manufacturer=QEMU,product=Triton test node", state.uuid)),
        // The key is a credential for systemd: the image itself knows no key.
        ("-smbios", format!("type=11,value=io.systemd.credential.binary:ssh.authorized_keys.root={key}")),
    ];
    list.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

/// Ends the machine as a power cut does.
pub fn kill(state: &State) -> Result<()> {
    let Some(pidfd) = state.running().and_then(PidFd::open) else { return Ok(()) };
    pidfd.signal(nix::libc::SIGKILL).context("could not end QEMU")?;
    if pidfd.wait(Instant::now() + Duration::from_secs(20)) { Ok(()) } else { bail!("QEMU did not end after SIGKILL") }
}

/// Saves memory and disk under a name.
pub fn save(dir: &Path, name: &str) -> Result<()> {
    qmp::silent(&socket(dir), &format!("savevm {name}"))
}

/// Goes back to a saved state.
pub fn restore(dir: &Path, name: &str) -> Result<()> {
    qmp::silent(&socket(dir), &format!("loadvm {name}"))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_base64_with_padding() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn ports_are_forwarded_to_loopback_only_and_the_image_is_never_written() {
        let state = State::new("/image".into(), "tcg".to_owned(), 1024, 1, [2200, 5300], "u".to_owned());
        let arguments = arguments(Path::new("/dir,x"), &state, "a2V5");
        let netdev = arguments.iter().find(|argument| argument.starts_with("user,")).unwrap();
        assert_eq!(netdev, "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:2200-:22,hostfwd=tcp:127.0.0.1:5300-:5309");
        assert!(arguments.contains(&"file=/image/medium.img,format=raw,if=virtio,readonly=on".to_owned()));
        assert!(arguments.iter().any(|argument| argument.starts_with("file=/dir,,x/pool.qcow2,")), "a comma in a path is doubled");
    }
}
