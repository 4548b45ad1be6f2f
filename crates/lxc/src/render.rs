//! The text of a config. Pure: the same spec gives the same text, and no value can bring in another key.

use std::path::Path;

use crate::{ContainerSpec, Device, Hook, InitUser, Limits, Mount, signal::is_signal_name};

/// A value that cannot stand in a config.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} cannot be {value:?}: {reason}")]
pub struct RenderError {
    /// Key of the config.
    pub key: String,
    /// The value.
    pub value: String,
    /// Why not.
    pub reason: &'static str,
}

/// The config of `spec`. Every value is checked first: one malformed value would make liblxc refuse the whole file
/// (instances.md section 7.1), and one with a newline would be another key.
///
/// # Errors
/// Names the key and the value.
pub fn render(spec: &ContainerSpec) -> Result<String, RenderError> {
    let mut out = Config::default();
    identity(&mut out, spec)?;
    root(&mut out, spec)?;
    groups(&mut out, spec)?;
    limits(&mut out, &spec.limits, spec.legacy_cgroups)?;
    devices(&mut out, spec)?;
    mounts(&mut out, &spec.mounts)?;
    isolation(&mut out, spec)?;
    terminal_and_log(&mut out, spec)?;
    lifecycle(&mut out, spec)?;
    Ok(out.text)
}

#[derive(Default)]
struct Config {
    text: String,
}

impl Config {
    fn set(&mut self, key: &str, value: &str) -> Result<(), RenderError> {
        let refuse = |reason| Err(RenderError { key: key.to_owned(), value: value.chars().take(256).collect(), reason });
        if value.is_empty() {
            return refuse("it is empty");
        }
        if value.chars().any(char::is_control) {
            return refuse("it has control characters");
        }
        if value.trim() != value {
            return refuse("it begins or ends with white space");
        }
        if value.starts_with(['"', '\'']) {
            return refuse("it begins with a quotation mark");
        }
        self.text.push_str(key);
        self.text.push_str(" = ");
        self.text.push_str(value);
        self.text.push('\n');
        Ok(())
    }

    fn number(&mut self, key: &str, value: impl Into<i128>) -> Result<(), RenderError> {
        self.set(key, &value.into().to_string())
    }

    fn path(&mut self, key: &str, value: &Path) -> Result<(), RenderError> {
        self.set(key, absolute(key, value)?)
    }

    /// Sets `key` after `good` has judged the value.
    fn checked(&mut self, key: &str, value: &str, good: impl Fn(&str) -> bool, reason: &'static str) -> Result<(), RenderError> {
        if good(value) { self.set(key, value) } else { Err(refused(key, value, reason)) }
    }
}

fn refused(key: &str, value: &str, reason: &'static str) -> RenderError {
    RenderError { key: key.to_owned(), value: value.chars().take(256).collect(), reason }
}

fn absolute<'a>(key: &str, path: &'a Path) -> Result<&'a str, RenderError> {
    match path.to_str() {
        Some(text) if path.is_absolute() => Ok(text),
        _ => Err(refused(key, &path.to_string_lossy(), "an absolute path in UTF-8 is needed")),
    }
}

fn word(extra: &'static str) -> impl Fn(&str) -> bool {
    move |text| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

fn identity(out: &mut Config, spec: &ContainerSpec) -> Result<(), RenderError> {
    if !word("-_.")(&spec.name) {
        return Err(refused("name", &spec.name, "only letters, digits, '-', '_' and '.' are allowed"));
    }
    out.text.push_str(&format!("# Container {}. Derived at each start: changes here are lost.\n", spec.name));
    let hostname = |text: &str| word("-.")(text) && text.len() <= 64;
    out.checked("lxc.uts.name", &spec.hostname, hostname, "at most 64 letters, digits, '-' and '.' are allowed")?;
    out.set("lxc.arch", std::env::consts::ARCH)?;
    if spec.ids.base == 0 || spec.ids.size == 0 || spec.ids.base.checked_add(spec.ids.size).is_none() {
        return Err(refused("lxc.idmap", &format!("{} {}", spec.ids.base, spec.ids.size), "the range must not hold id 0 of the host"));
    }
    for kind in ['u', 'g'] {
        out.set("lxc.idmap", &format!("{kind} 0 {} {}", spec.ids.base, spec.ids.size))?;
    }
    Ok(())
}

fn root(out: &mut Config, spec: &ContainerSpec) -> Result<(), RenderError> {
    let path = absolute("lxc.rootfs.path", &spec.rootfs)?;
    out.checked("lxc.rootfs.path", &format!("dir:{path}"), |_| path.len() > 1, "the host's own root is no guest's")?;
    out.set("lxc.rootfs.managed", "0")?;
    if spec.idmapped {
        out.set("lxc.rootfs.options", "idmap=container")?;
    }
    if !spec.init.is_empty() {
        init(out, &spec.init)?;
    }
    user(out, spec)?;
    for (name, value) in &spec.environment {
        let key = "lxc.environment";
        if !word("_")(name) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(refused(key, name, "it is no name of a variable"));
        }
        out.set(key, &format!("{name}={value}"))?;
    }
    Ok(())
}

fn user(out: &mut Config, spec: &ContainerSpec) -> Result<(), RenderError> {
    let user = &spec.user;
    if *user != InitUser::default() {
        for (key, id) in [("lxc.init.uid", user.uid), ("lxc.init.gid", user.gid)] {
            out.checked(key, &id.to_string(), |_| id < spec.ids.size, "it is not in the guest's range of ids")?;
        }
    }
    match &spec.directory {
        Some(directory) => out.checked("lxc.init.cwd", directory, |path| path.starts_with('/'), "an absolute path is needed"),
        None => Ok(()),
    }
}

/// liblxc splits the command at white space, with quotation marks around whole words and no way to escape one.
fn init(out: &mut Config, command: &[String]) -> Result<(), RenderError> {
    let key = "lxc.init.cmd";
    let program = command.first().map(String::as_str).unwrap_or_default();
    if !program.starts_with('/') || program.contains(|c: char| c.is_whitespace() || "\"'".contains(c)) {
        return Err(refused(key, program, "an absolute path without white space or quotation marks is needed"));
    }
    let mut words = vec![program.to_owned()];
    for word in &command[1..] {
        let plain = !word.is_empty() && !word.contains(char::is_whitespace) && !word.starts_with(['"', '\'']);
        words.push(match (plain, word.contains('"'), word.contains('\'')) {
            (true, ..) => word.clone(),
            (false, false, _) => format!("\"{word}\""),
            (false, true, false) => format!("'{word}'"),
            (false, true, true) => return Err(refused(key, word, "it needs quoting and has both kinds of quotation marks")),
        });
    }
    out.set(key, &words.join(" "))
}

fn groups(out: &mut Config, spec: &ContainerSpec) -> Result<(), RenderError> {
    let dirs = &spec.cgroups;
    let relative = |text: &str| text.split('/').all(|name| word("-_.@\\:")(name) && name != "." && name != "..");
    let reason = "a relative path of a control group is needed";
    out.set("lxc.cgroup.relative", "0")?;
    out.checked("lxc.cgroup.dir.monitor", &dirs.monitor, relative, reason)?;
    out.checked("lxc.cgroup.dir.monitor.pivot", &dirs.pivot, relative, reason)?;
    out.checked("lxc.cgroup.dir.container", &dirs.payload, relative, reason)?;
    out.checked("lxc.cgroup.dir.container.inner", &dirs.inner, |text| word("-_")(text), "one plain name is needed")
}

fn limits(out: &mut Config, limits: &Limits, legacy: bool) -> Result<(), RenderError> {
    const PERIOD: u64 = 100_000;
    let quota = limits.cpu_cap.map(|percent| u64::from(percent) * PERIOD / 100);
    match quota {
        Some(0) => return Err(refused("lxc.cgroup2.cpu.max", "0", "no processor time at all cannot run anything")),
        Some(quota) => out.set("lxc.cgroup2.cpu.max", &format!("{quota} {PERIOD}"))?,
        None => out.set("lxc.cgroup2.cpu.max", &format!("max {PERIOD}"))?,
    }
    let weight = limits.cpu_weight.map(|weight| weight.clamp(1, 10_000));
    if let Some(weight) = weight {
        out.number("lxc.cgroup2.cpu.weight", weight)?;
    }
    let swap = limits.memory_and_swap.map(|both| both.saturating_sub(limits.memory.unwrap_or(0)));
    if let Some(memory) = limits.memory {
        out.number("lxc.cgroup2.memory.max", memory)?;
        if let Some(swap) = swap {
            out.number("lxc.cgroup2.memory.swap.max", swap)?;
        }
    }
    if let Some(pids) = limits.pids {
        out.number("lxc.cgroup2.pids.max", pids)?;
    }
    if let Some(weight) = limits.io_weight {
        out.number("lxc.cgroup2.io.weight", weight.clamp(1, 10_000))?;
    }
    if !legacy {
        return Ok(());
    }
    out.number("lxc.cgroup.cpu.cfs_period_us", PERIOD)?;
    out.number("lxc.cgroup.cpu.cfs_quota_us", quota.map_or(-1, i128::from))?;
    if let Some(weight) = weight {
        // v2's 100 is v1's 1024.
        out.number("lxc.cgroup.cpu.shares", (u64::from(weight) * 1024 / 100).max(2))?;
    }
    if let Some(memory) = limits.memory {
        out.number("lxc.cgroup.memory.limit_in_bytes", memory)?;
        if let Some(swap) = swap {
            out.number("lxc.cgroup.memory.memsw.limit_in_bytes", memory.saturating_add(swap))?;
        }
    }
    match limits.pids {
        Some(pids) => out.number("lxc.cgroup.pids.max", pids),
        None => Ok(()),
    }
}

fn devices(out: &mut Config, spec: &ContainerSpec) -> Result<(), RenderError> {
    let families = if spec.legacy_cgroups { &["lxc.cgroup2", "lxc.cgroup"][..] } else { &["lxc.cgroup2"] };
    for family in families {
        out.set(&format!("{family}.devices.deny"), "a")?;
        for Device { kind, major, minor, access } in &spec.devices {
            let key = format!("{family}.devices.allow");
            let minor = minor.map_or("*".to_owned(), |minor| minor.to_string());
            let value = format!("{kind} {major}:{minor} {access}");
            let good = matches!(kind, 'c' | 'b') && !access.is_empty() && access.chars().all(|c| "rwm".contains(c));
            out.checked(&key, &value, |_| good, "it is no device")?;
        }
    }
    Ok(())
}

fn mounts(out: &mut Config, mounts: &[Mount]) -> Result<(), RenderError> {
    out.set("lxc.mount.auto", "proc:mixed sys:mixed cgroup:mixed")?;
    for Mount { source, target, kind, options } in mounts {
        let key = "lxc.mount.entry";
        if target.is_empty() || target.starts_with('/') || target.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err(refused(key, target, "a target is relative to the guest's root and has no empty name, '.' or '..'"));
        }
        if source.is_empty() || kind.is_empty() || !word("_.")(kind) {
            return Err(refused(key, source, "a source and a file system type are needed"));
        }
        if options.is_empty() || !options.iter().all(|option| word("=-_./:@%+")(option)) {
            return Err(refused(key, &options.join(","), "options are plain words"));
        }
        out.set(key, &format!("{} {} {kind} {} 0 0", fstab(source), fstab(target), options.join(",")))?;
    }
    Ok(())
}

/// Escapes a field as getmntent(3) reads it.
fn fstab(field: &str) -> String {
    field.replace('\\', "\\134").replace(' ', "\\040").replace('#', "\\043")
}

fn isolation(out: &mut Config, spec: &ContainerSpec) -> Result<(), RenderError> {
    if let Some(profile) = &spec.seccomp_profile {
        out.path("lxc.seccomp.profile", profile)?;
    }
    if let Some(profile) = &spec.apparmor_profile {
        out.checked("lxc.apparmor.profile", profile, word("-_./:"), "it is no name of a profile")?;
    }
    if !spec.cap_drop.is_empty() {
        let capabilities = spec.cap_drop.join(" ");
        let lower = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || "_ ".contains(c));
        out.checked("lxc.cap.drop", &capabilities, lower, "capabilities are lower-case names without CAP_")?;
    }
    for limit in &spec.prlimits {
        let known = ["as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rtprio", "stack"];
        let key = format!("lxc.prlimit.{}", limit.name.chars().take(32).collect::<String>());
        if !known.contains(&limit.name.as_str()) {
            return Err(refused("lxc.prlimit", &limit.name, "there is no such limit"));
        }
        out.set(&key, &limit.value.map_or("unlimited".to_owned(), |value| value.to_string()))?;
    }
    Ok(())
}

fn terminal_and_log(out: &mut Config, spec: &ContainerSpec) -> Result<(), RenderError> {
    out.set("lxc.autodev", "1")?;
    out.set("lxc.pty.max", "1024")?;
    // Consoles beside /dev/console would be pseudo terminals held open by the monitor of every guest.
    out.set("lxc.tty.max", "0")?;
    out.path("lxc.console.logfile", &spec.console.file)?;
    let bounded = (4096..=16 * 1024 * 1024).contains(&spec.console.size);
    out.checked("lxc.console.size", &spec.console.size.to_string(), |_| bounded, "4 KiB to 16 MiB are allowed")?;
    out.set("lxc.console.rotate", "1")?;
    out.path("lxc.log.file", &spec.log.file)?;
    let levels = ["TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "ERROR"];
    out.checked("lxc.log.level", &spec.log.level, |level| levels.contains(&level), "there is no such level")
}

fn lifecycle(out: &mut Config, spec: &ContainerSpec) -> Result<(), RenderError> {
    // Links are made by the start-host hook, before init runs; LXC makes the namespace and the loopback device.
    out.set("lxc.net.0.type", "empty")?;
    out.set("lxc.net.0.flags", "up")?;
    // A killed monitor must not take its guest along (ruling 70).
    out.set("lxc.monitor.signal.pdeath", "0")?;
    out.set("lxc.ephemeral", "0")?;
    out.checked("lxc.signal.halt", &spec.halt_signal, is_signal_name, "it is no name of a signal")?;
    out.checked("lxc.signal.reboot", &spec.reboot_signal, is_signal_name, "it is no name of a signal")?;
    out.set("lxc.hook.version", "1")?;
    let hooks = [("start-host", &spec.hooks.start_host), ("stop", &spec.hooks.stop), ("post-stop", &spec.hooks.post_stop)];
    for (kind, hook) in hooks {
        let Some(Hook(words)) = hook else { continue };
        let key = format!("lxc.hook.{kind}");
        let plain = word("-_./:@%+,=");
        if !words.first().is_some_and(|program| program.starts_with('/')) || !words.iter().all(|word| plain(word)) {
            return Err(refused(&key, &words.join(" "), "an absolute path and arguments without anything special to a shell are needed"));
        }
        out.set(&key, &words.join(" "))?;
    }
    Ok(())
}
