//! Entering the pinned namespaces of a compute node that is not the whole machine (ruling 46).

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use triton_files::Layout;

/// The namespaces of a node could not be entered: work outside of them would touch the machine's own network.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} the {kind} namespace {}", path.display())]
pub struct NamespaceError {
    action: &'static str,
    kind: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What [`enter_namespaces`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entered {
    /// The network namespace was entered.
    pub net: bool,
    /// The mount namespace was entered.
    pub mnt: bool,
}

/// Moves this process into the namespaces pinned in `<root>/run/triton/ns/{net,mnt}`, as far as they exist and it is not in
/// them yet. Call it before the first thread starts: the kernel refuses a mount namespace to a process with threads.
///
/// A pin is a bind mount of a namespace. A plain, empty file as `mnt` pins nothing: that is what a mount namespace sees of its
/// own pin, since it cannot hold itself. As `net` it is what a restart of the machine leaves of a pin: the node has no network
/// any more, and what it does would be done to the machine's own. Root is needed only when there is something to enter.
///
/// # Errors
/// When a pin is there and cannot be entered, or the network's is there no more.
pub fn enter_namespaces(layout: &Layout) -> Result<Entered, NamespaceError> {
    if layout.is_host() {
        return Ok(Entered::default());
    }
    let directory = std::env::current_dir();
    // Both are opened before either is entered: after that the path may not be there.
    let net = open_pin(&layout.namespaces().join("net"), "net")?;
    let mnt = open_pin(&layout.namespaces().join("mnt"), "mnt")?;
    let entered = Entered { net: net.is_some(), mnt: mnt.is_some() };
    if let Some(pin) = net {
        pin.enter(CloneFlags::CLONE_NEWNET)?;
    }
    if let Some(pin) = mnt {
        pin.enter(CloneFlags::CLONE_NEWNS)?;
        // The kernel moved us to the namespace's root directory.
        if let Ok(directory) = directory {
            let _ = std::env::set_current_dir(directory);
        }
    }
    Ok(entered)
}

struct Pin {
    file: File,
    path: PathBuf,
    kind: &'static str,
}

impl Pin {
    fn error(&self, action: &'static str) -> impl Fn(io::Error) -> NamespaceError {
        move |source| NamespaceError { action, kind: self.kind, path: self.path.clone(), source }
    }

    fn enter(&self, flag: CloneFlags) -> Result<(), NamespaceError> {
        setns(&self.file, flag).map_err(|errno| self.error("enter")(errno.into()))
    }
}

/// The pin in `path`, unless there is none or this process is in that namespace already.
fn open_pin(path: &Path, kind: &'static str) -> Result<Option<Pin>, NamespaceError> {
    use std::os::unix::fs::MetadataExt;
    let error = |source| NamespaceError { action: "open", kind, path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error(e)),
    };
    let pin = Pin { file, path: path.to_owned(), kind };
    let metadata = pin.file.metadata().map_err(pin.error("inspect"))?;
    if fstatfs(&pin.file).map_err(|errno| pin.error("inspect")(errno.into()))?.filesystem_type() != NSFS_MAGIC {
        return match metadata.len() {
            0 if kind == "mnt" => Ok(None),
            0 => {
                let gone = "it is gone, as after a restart of the machine: what set the node up has to make it again";
                Err(pin.error("use")(io::Error::new(io::ErrorKind::NotFound, gone)))
            }
            _ => Err(pin.error("use")(io::Error::new(io::ErrorKind::InvalidData, "the file is not a namespace"))),
        };
    }
    let own = fs::metadata(format!("/proc/thread-self/ns/{kind}")).map_err(pin.error("compare with"))?;
    let same = own.ino() == metadata.ino() && own.dev() == metadata.dev();
    Ok((!same).then_some(pin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_pins_and_the_real_node_stay_where_they_are() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(enter_namespaces(&Layout::new(directory.path())).unwrap(), Entered::default());
        assert_eq!(enter_namespaces(&Layout::new("/")).unwrap(), Entered::default());
        let pins = Layout::new(directory.path()).namespaces();
        fs::create_dir_all(&pins).unwrap();
        fs::write(pins.join("mnt"), "").unwrap();
        assert_eq!(enter_namespaces(&Layout::new(directory.path())).unwrap(), Entered::default());
    }

    #[test]
    fn a_file_that_is_no_namespace_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let pins = Layout::new(directory.path()).namespaces();
        fs::create_dir_all(&pins).unwrap();
        fs::write(pins.join("net"), "hello").unwrap();
        let error = enter_namespaces(&Layout::new(directory.path())).unwrap_err();
        assert!(error.to_string().contains("ns/net"), "{error}");
    }

    #[test]
    fn a_network_that_a_restart_of_the_machine_took_is_not_replaced_by_the_machine_s() {
        let directory = tempfile::tempdir().unwrap();
        let pins = Layout::new(directory.path()).namespaces();
        fs::create_dir_all(&pins).unwrap();
        fs::write(pins.join("net"), "").unwrap();
        let error = enter_namespaces(&Layout::new(directory.path())).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.to_string().contains("ns/net") && source.contains("restart"), "{error}: {source}");
    }

    /// A namespace pinned by `unshare`, unpinned when dropped.
    struct Pinned(PathBuf);

    impl Drop for Pinned {
        fn drop(&mut self) {
            let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
        }
    }

    #[test]
    fn a_pinned_network_is_entered_once() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        fs::create_dir_all(layout.namespaces()).unwrap();
        let pin = Pinned(layout.namespaces().join("net"));
        fs::write(&pin.0, "").unwrap();
        let option = format!("--net={}", pin.0.display());
        assert!(std::process::Command::new("unshare").args([option.as_str(), "true"]).status().unwrap().success());
        assert_eq!(enter_namespaces(&layout).unwrap(), Entered { net: true, mnt: false });
        assert_eq!(fs::metadata("/proc/thread-self/ns/net").unwrap().ino(), fs::metadata(&pin.0).unwrap().ino());
        assert_eq!(enter_namespaces(&layout).unwrap(), Entered::default());
    }

    #[test]
    fn the_own_namespace_counts_as_entered() {
        let own = Path::new("/proc/thread-self/ns/net");
        assert!(open_pin(own, "net").unwrap().is_none());
    }
}
