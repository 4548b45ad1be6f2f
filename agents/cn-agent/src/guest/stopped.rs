//! The way into the root of a guest that does not run: only files, nothing of it is executed.

use std::{
    fs,
    io::{Read, Write, pipe},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
};

use nix::{
    fcntl::{OFlag, open},
    sched::{CloneFlags, unshare},
    sys::stat::Mode,
    unistd::{ForkResult, chroot, fchdir},
};

use super::{Action, Entry, enter, ffi};

/// Capabilities that files of others need: CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID.
const FOR_FILES: u64 = 0b1_1111;

pub(super) fn enter(entry: &Entry) -> Result<ExitCode, String> {
    if matches!(entry.action, Action::Run(_)) {
        return Err("it does not run".to_owned());
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = open(&entry.place.root, flags, Mode::empty()).map_err(|errno| format!("its root cannot be opened: {errno}"))?;
    if !entry.place.shifted {
        // The ids on disk are the guest's own: this process keeps to files, and to the root, by what it gives up.
        return enter::in_child(false, || {
            below(&root)?;
            ffi::keep_only(FOR_FILES).map_err(|errno| format!("capabilities cannot be given up: {errno}"))?;
            enter::act(&entry.action)
        });
    }
    with_ids(entry, &root)
}

fn below(root: &OwnedFd) -> Result<(), String> {
    let entered = fchdir(root.as_fd()).and_then(|()| chroot(".")).and_then(|()| nix::unistd::chdir("/"));
    entered.map_err(|errno| format!("its root cannot be entered: {errno}"))
}

/// In a user namespace of its own, whose ids are the guest's. Only somebody outside can say which they are.
fn with_ids(entry: &Entry, root: &OwnedFd) -> Result<ExitCode, String> {
    let error = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let (mut asked, mut ask) = pipe().map_err(|e| error("no pipe", &e))?;
    let (mut done, mut tell) = pipe().map_err(|e| error("no pipe", &e))?;
    let maps = format!("0 {} {}", entry.place.ids.base, entry.place.ids.size);
    match ffi::fork().map_err(|e| error("there can be no process more", &e))? {
        ForkResult::Child => {
            drop((asked, tell));
            let mut inside = || {
                unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|e| error("no user namespace", &e))?;
                ask.write_all(b"x").map_err(|e| error("the helper is alone", &e))?;
                done.read_exact(&mut [0]).map_err(|_| "its ids cannot be had".to_owned())?;
                ffi::become_root().map_err(|e| error("its root cannot be had", &e))?;
                below(root)?;
                ffi::keep_only(FOR_FILES | 1 << 6 | 1 << 7).map_err(|e| error("capabilities cannot be given up", &e))?;
                enter::act(&entry.action)
            };
            let result = inside();
            Ok(result.unwrap_or_else(|error| {
                eprintln!("cannot enter the guest: {error}");
                ExitCode::from(super::NOT_ENTERED)
            }))
        }
        ForkResult::Parent { child } => {
            drop((ask, done));
            if asked.read_exact(&mut [0]).is_ok() {
                let map = |file: &str| fs::write(format!("/proc/{child}/{file}"), &maps);
                if map("gid_map").and_then(|()| map("uid_map")).is_ok() {
                    let _ = tell.write_all(b"x");
                }
            }
            drop(tell);
            enter::attend(child)
        }
    }
}
