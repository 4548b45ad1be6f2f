//! Executing a program of the guest, as one of its users.

use std::{ffi::CString, io::ErrorKind, process::ExitCode};

use nix::{
    errno::Errno,
    sys::stat::{Mode, umask},
    unistd::{Gid, Uid, chdir, execve, setgroups, setresgid, setresuid, setsid},
};

use super::{Run, account, ffi};

/// What shells say of a program that is not there, and of one that cannot be executed.
const NOT_THERE: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn text(word: &str) -> Result<CString, String> {
    CString::new(word).map_err(|_| format!("{word:?} has a zero byte in it"))
}

/// Becomes the program. Gives the status of a shell when it cannot be executed.
pub(super) fn run(run: &Run) -> Result<ExitCode, String> {
    let account = match account::find(run.user.as_deref().unwrap_or_default()) {
        Ok(account) => account,
        Err(error) => return Ok(refuse(&error, NOT_EXECUTABLE)),
    };
    let mut environment = vec![("PATH".to_owned(), PATH.to_owned()), ("HOME".to_owned(), account.home)];
    if run.terminal {
        environment.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    for (name, value) in &run.environment {
        environment.retain(|(known, _)| known != name);
        environment.push((name.clone(), value.clone()));
    }
    let _ = setsid();
    if run.terminal {
        ffi::own_terminal().map_err(|errno| format!("the terminal cannot be had: {errno}"))?;
    }
    let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let became = setgroups(&groups).and_then(|()| setresgid(gid, gid, gid)).and_then(|()| setresuid(uid, uid, uid));
    if let Err(errno) = became {
        return Ok(refuse(&format!("user {uid} cannot be had: {errno}"), NOT_EXECUTABLE));
    }
    if !run.detached {
        // Changing users has undone it.
        let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    }
    umask(Mode::from_bits_truncate(0o022));
    let directory = run.directory.as_deref().unwrap_or("/");
    if let Err(errno) = chdir(directory) {
        return Ok(refuse(&format!("directory {directory:?}: {}", errno.desc()), NOT_EXECUTABLE));
    }
    ffi::close_others_on_exec().map_err(|errno| format!("descriptors cannot be closed: {errno}"))?;
    ffi::usual_signals();
    let arguments: Vec<CString> = run.command.iter().map(|word| text(word)).collect::<Result<_, _>>()?;
    let variables: Vec<CString> = environment.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect::<Result<_, _>>()?;
    let Some(name) = run.command.first() else { return Ok(refuse("there is no command", NOT_THERE)) };
    let path = environment.iter().find(|(name, _)| name == "PATH").map_or(PATH, |(_, value)| value);
    let mut last = Errno::ENOENT;
    for candidate in candidates(name, path) {
        let Err(errno) = execve(&text(&candidate)?, &arguments, &variables);
        // One that may not be executed is told, unless a later one can be.
        if errno != Errno::ENOENT && errno != Errno::ENOTDIR {
            last = errno;
        }
    }
    let code = if std::io::Error::from(last).kind() == ErrorKind::NotFound { NOT_THERE } else { NOT_EXECUTABLE };
    Ok(refuse(&format!("exec {name:?}: {}", last.desc()), code))
}

fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.contains('/') || name.is_empty() {
        return vec![name.to_owned()];
    }
    path.split(':').filter(|directory| directory.starts_with('/')).map(|directory| format!("{directory}/{name}")).collect()
}

fn refuse(reason: &str, code: u8) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::from(code)
}
