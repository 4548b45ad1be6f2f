//! QEMU: its command line, its start and its end.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use triton_process::PidFd;

use super::{
    boot::{Boot, text},
    disk, qmp,
    state::State,
};
use crate::{run, say::Progress};

/// The state that `up` saves.
pub const BOOTED: &str = "booted";

/// The console's log.
pub fn log(dir: &Path) -> PathBuf {
    dir.join("console.log")
}

/// The console itself: what is written to this socket is typed.
pub fn console(dir: &Path) -> PathBuf {
    dir.join("console")
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

/// Whose end is the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Nobody's: it runs until it is ended.
    Own,
    /// This process's, however it ends.
    Ours,
}

/// How a machine starts.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// With this saved state; none: it boots.
    pub restore: Option<&'a str>,
    /// What it boots from. A saved state belongs to the devices of [`Boot::Kernel`].
    pub boot: Boot<'a>,
    /// When it ends.
    pub life: Life,
}

/// How long QEMU may take until it answers: it may have a large state to load.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts the machine, booting or with a saved state. To be called by the thread that ends last.
pub fn start(dir: &Path, state: &mut State, how: &Start<'_>, progress: &mut Progress) -> Result<()> {
    let pidfile = dir.join("qemu.pid");
    let _ = fs::remove_file(&pidfile);
    let _ = fs::remove_file(socket(dir));
    let key = fs::read(disk::key(dir).with_extension("pub")).context("could not read the public key")?;
    let mut words = arguments(dir, state, &base64(&key), how.boot);
    if let Some(name) = how.restore {
        words.extend(["-loadvm".to_owned(), name.to_owned()]);
    }
    let pid = match how.life {
        Life::Own => {
            let mut command = Command::new(PROGRAM);
            command.args(words).arg("-daemonize").arg("-pidfile").arg(&pidfile);
            run::succeed(command, PATIENCE, progress).context("could not start the machine")?;
            fs::read_to_string(&pidfile).context("QEMU left no pid")?.trim().parse().context("QEMU's pid is no number")?
        }
        Life::Ours => start_bound(dir, &words, progress)?,
    };
    state.process = triton_process::reference(pid);
    state.save(dir)?;
    if state.running().is_none() {
        bail!("QEMU ended at once; the console's log is {}", log(dir).display());
    }
    Ok(())
}

const PROGRAM: &str = "qemu-system-x86_64";

/// A child that the kernel kills with this process: nobody has to be left to do it.
fn start_bound(dir: &Path, words: &[String], progress: &mut Progress) -> Result<i32> {
    let said = dir.join("qemu.log");
    let file = fs::File::create(&said).with_context(|| format!("could not create {}", said.display()))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", PROGRAM]).args(words).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn().context("could not run setpriv")?;
    let pid = i32::try_from(child.id())?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = qmp::monitor(&socket(dir), "info status") {
        if child.try_wait()?.is_some() {
            bail!("could not start the machine: {}", fs::read_to_string(&said).unwrap_or_default().trim());
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error.context("QEMU does not answer"));
        }
        progress.turn("waiting for QEMU");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Collected whenever it ends, so that its end is seen as one.
    std::thread::spawn(move || child.wait());
    Ok(pid)
}

/// Host numbers of the two NICs' MAC addresses; the last byte is the machine's.
pub fn mac(nic: u8, number: u8) -> String {
    format!("02:08:20:fe:{nic:02x}:{:02x}", 0x10 + number)
}

/// One end of the wire between the machines of a pair: datagrams of a socket, below the first one's folder.
fn wire(dir: &Path, number: u8, end: u8) -> PathBuf {
    let base = if number == 0 { dir } else { dir.parent().unwrap_or(dir) };
    base.join(format!("wire{end}"))
}

/// The same for a boot and for a restored state: QEMU compares devices.
fn arguments(dir: &Path, state: &State, key: &str, boot: Boot<'_>) -> Vec<String> {
    let (cpu, accel) = if state.accel == "kvm" { ("host", "kvm") } else { ("max", "tcg,thread=multi") };
    let forwards =
        format!("hostfwd=tcp:127.0.0.1:{}-:22,hostfwd=tcp:127.0.0.1:{}-:5309{}", state.ssh_port, state.agent_port, boot.network());
    let [ours, theirs] = [state.number, 1 - state.number.min(1)].map(|end| text(&wire(dir, state.number, end)));
    let list: Vec<(&str, String)> = vec![
        ("-name", format!("triton-cn{}", state.number)),
        ("-machine", boot.machine().to_owned()),
        ("-accel", accel.to_owned()),
        ("-cpu", cpu.to_owned()),
        ("-smp", state.cpus.to_string()),
        ("-m", state.memory.to_string()),
        // No screen, floppy, CD-ROM: each would cost an emulated boot a while.
        ("-display", "none".to_owned()),
        ("-vga", "none".to_owned()),
        ("-rtc", "base=utc".to_owned()),
        ("-drive", format!("file={},format=qcow2,if=none,id=pool,discard=unmap", text(&disk::pool(dir)))),
        ("-device", "virtio-blk-pci,drive=pool,serial=zones".to_owned()),
        // The node reaches nothing: what comes in are the forwarded ports.
        ("-netdev", format!("user,id=net,restrict=on,{forwards}")),
        ("-device", format!("virtio-net-pci,netdev=net,mac={}{}", mac(0, state.number), boot.nic())),
        // What is sent while nobody is at the other end is lost, as on a wire.
        ("-netdev", format!("dgram,id=wire,local.type=unix,local.path={ours},remote.type=unix,remote.path={theirs}")),
        ("-device", format!("virtio-net-pci,netdev=wire,romfile=,mac={}", mac(1, state.number))),
        ("-device", "virtio-rng-pci".to_owned()),
        ("-chardev", format!("socket,id=console,path={},server=on,wait=off,logfile={},logappend=on", text(&console(dir)), text(&log(dir)))),
        ("-serial", "chardev:console".to_owned()),
        ("-qmp", format!("unix:{},server=on,wait=off", text(&socket(dir)))),
        ("-smbios", format!("type=1,uuid={},manufacturer=QEMU,product=Triton test node", state.uuid)),
        // The key is a credential for systemd: the image itself knows no key.
        ("-smbios", format!("type=11,value=io.systemd.credential.binary:ssh.authorized_keys.root={key}")),
    ];
    // A disk to spare is for those who boot as tests do; whoever boots otherwise counts disks.
    let spare = [
        ("-drive", format!("file={},format=qcow2,if=none,id=spare,discard=unmap", text(&disk::spare(dir)))),
        ("-device", "virtio-blk-pci,drive=spare,serial=spare".to_owned()),
    ];
    let spare = spare.into_iter().filter(|_| matches!(boot, Boot::Kernel(_)));
    let list = list.into_iter().chain(spare).chain(boot.words(state));
    std::iter::once("-nodefaults".to_owned()).chain(list.flat_map(|(name, value)| [name.to_owned(), value])).collect()
}

/// Opens a port of the running node on a port of loopback, until the machine ends.
pub fn forward(dir: &Path, local: u16, inside: u16) -> Result<()> {
    let said = qmp::monitor(&socket(dir), &format!("hostfwd_add net tcp:127.0.0.1:{local}-:{inside}"))?;
    if said.is_empty() { Ok(()) } else { bail!("QEMU refused to forward 127.0.0.1:{local}: {said}") }
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

    fn of(number: u8) -> State {
        State::new(number, "/image".into(), "tcg".to_owned(), (1024, 1), [2200, 5300], "u".to_owned())
    }

    #[test]
    fn ports_are_forwarded_to_loopback_only_and_the_image_is_never_written() {
        let arguments = arguments(Path::new("/dir,x"), &of(0), "a2V5", Boot::Kernel(""));
        let netdev = arguments.iter().find(|argument| argument.starts_with("user,")).unwrap();
        assert_eq!(netdev, "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:2200-:22,hostfwd=tcp:127.0.0.1:5300-:5309");
        assert!(arguments.contains(&"file=/image/medium.img,format=raw,if=virtio,readonly=on".to_owned()));
        assert!(arguments.iter().any(|argument| argument.starts_with("file=/dir,,x/pool.qcow2,")), "a comma in a path is doubled");
    }

    #[test]
    fn the_wire_of_a_pair_has_two_ends_that_name_each_other() {
        let wire = |dir: &str, number| {
            let arguments = arguments(Path::new(dir), &of(number), "", Boot::Kernel(""));
            arguments.into_iter().find(|argument| argument.starts_with("dgram,")).unwrap()
        };
        let end =
            |ours, theirs| format!("dgram,id=wire,local.type=unix,local.path=/d/wire{ours},remote.type=unix,remote.path=/d/wire{theirs}");
        assert_eq!((wire("/d", 0), wire("/d/second", 1)), (end(0, 1), end(1, 0)));
        assert_ne!(mac(1, 0), mac(1, 1));
    }
}
