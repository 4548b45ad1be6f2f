//! The few calls of liblxc, safe to make from a **single-threaded program only**: liblxc forks, changes the environment and
//! the signal mask, and keeps state of the process. So only the instance monitor's short-lived children make them.

use std::{
    ffi::CString,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use crate::ffi::{Api, RawRef};

/// liblxc could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LxcError {
    /// It is not installed, or not what it should be.
    #[error("could not load liblxc.so.1")]
    Load(#[source] libloading::Error),
    /// A version whose structures are not known.
    #[error("liblxc has version {0:?}; 5, 6 and 7 are known")]
    Version(String),
    /// More than one thread.
    #[error("liblxc is used by a program with several threads")]
    Threads,
    /// liblxc did not make the object.
    #[error("liblxc refused a container named {name:?} below {}", lxcpath.display())]
    New {
        /// The name.
        name: String,
        /// Directory that names the container's sockets.
        lxcpath: PathBuf,
    },
    /// The config was refused; liblxc's log says why.
    #[error("liblxc refused the config {}", .0.display())]
    Config(PathBuf),
    /// The container does not run, or its monitor does not answer.
    #[error("the console of container {0:?} cannot be had: it does not run here, or its monitor does not answer")]
    Console(String),
    /// A variable was refused.
    #[error("liblxc refused the variable {0:?}")]
    Variable(String),
    /// A text with a NUL in it.
    #[error("a name or path has a NUL byte in it")]
    Nul,
}

/// The loaded library.
#[derive(Debug)]
pub struct LibLxc {
    api: Api,
    version: String,
}

impl LibLxc {
    /// Loads liblxc.
    ///
    /// # Errors
    /// When it is not there, its version is not known, or this program has several threads.
    pub fn load() -> Result<Self, LxcError> {
        if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
            return Err(LxcError::Threads);
        }
        Self::load_unchecked()
    }

    /// [`LibLxc::load`] without the check of threads, which a test harness has.
    pub(crate) fn load_unchecked() -> Result<Self, LxcError> {
        let api = Api::load().map_err(LxcError::Load)?;
        let version = api.version().unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        match major {
            Some(5..=7) => Ok(Self { api, version }),
            _ => Err(LxcError::Version(version)),
        }
    }

    /// Version, such as `6.0.4`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Sends liblxc's errors to stderr too.
    pub fn log_to_stderr(&self) {
        self.api.log_to_stderr();
    }

    /// The container `name`, running or not. `lxcpath` is part of the name of its command socket: the same for all who speak
    /// of this container, and searchable by the container's mapped root.
    ///
    /// # Errors
    /// When liblxc cannot make the object.
    pub fn open(&self, name: &str, lxcpath: &Path) -> Result<Container<'_>, LxcError> {
        let c_name = CString::new(name).map_err(|_| LxcError::Nul)?;
        let c_path = CString::new(lxcpath.as_os_str().as_bytes()).map_err(|_| LxcError::Nul)?;
        let refused = || LxcError::New { name: name.to_owned(), lxcpath: lxcpath.to_owned() };
        let raw = self.api.new_container(&c_name, &c_path).ok_or_else(refused)?;
        let container = Container { library: self, raw };
        // A structure that is not as declared shows here, before anything is called through it.
        if container.raw.name().as_deref() != Some(name) || container.raw.lxcpath().as_deref() != lxcpath.to_str() {
            return Err(refused());
        }
        Ok(container)
    }
}

/// How a foreground start ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The container did start. If false, only liblxc's log knows why not.
    pub ok: bool,
    /// To be read by [`crate::ExitOutcome::decode`] if it did.
    pub error_num: i32,
}

/// The master end of a guest's terminal. Dropping it gives the terminal free.
#[derive(Debug)]
pub struct ConsoleFd {
    /// Reads what the guest prints and writes what it reads.
    pub master: OwnedFd,
    _allocation: OwnedFd,
}

/// A container object of liblxc.
#[derive(Debug)]
pub struct Container<'a> {
    library: &'a LibLxc,
    raw: RawRef,
}

impl Container<'_> {
    /// Reads the config in `file`, and nothing else.
    ///
    /// # Errors
    /// When liblxc refuses it; the reason is in its log.
    pub fn load_config(&mut self, file: &Path) -> Result<(), LxcError> {
        let c_file = CString::new(file.as_os_str().as_bytes()).map_err(|_| LxcError::Nul)?;
        self.raw.clear_config();
        if self.raw.load_config(&c_file) { Ok(()) } else { Err(LxcError::Config(file.to_owned())) }
    }

    /// Starts the container and returns when its init has ended. The caller is its parent and moves to the monitor's group.
    pub fn start_foreground(&mut self) -> Started {
        self.start(None)
    }

    /// As [`Container::start_foreground`], with this command instead of the config's: liblxc's own splitting of commands knows no
    /// escapes. The program is looked for in the guest's `PATH`.
    ///
    /// # Errors
    /// When a word has a NUL in it.
    pub fn start_foreground_with(&mut self, command: &[String]) -> Result<Started, LxcError> {
        let words: Result<Vec<_>, _> = command.iter().map(|word| CString::new(word.as_bytes())).collect();
        Ok(self.start(Some(&words.map_err(|_| LxcError::Nul)?)))
    }

    /// Gives init a variable, whatever its value is made of.
    ///
    /// # Errors
    /// When liblxc refuses it, or it has a NUL in it.
    pub fn set_variable(&mut self, name: &str, value: &str) -> Result<(), LxcError> {
        let text = CString::new(format!("{name}={value}")).map_err(|_| LxcError::Nul)?;
        match self.raw.set_config_item(c"lxc.environment", &text) {
            true => Ok(()),
            false => Err(LxcError::Variable(name.to_owned())),
        }
    }

    fn start(&mut self, command: Option<&[CString]>) -> Started {
        let ok = self.raw.start_foreground(command);
        Started { ok, error_num: self.raw.error_num() }
    }

    /// liblxc's word for the container's state: `STOPPED`, `RUNNING`.
    pub fn state(&self) -> Option<String> {
        self.raw.state()
    }

    /// Init's pid, asked from the container's monitor.
    pub fn init_pid(&self) -> Option<i32> {
        self.raw.init_pid()
    }

    /// The guest's console.
    ///
    /// # Errors
    /// When the container does not run.
    pub fn console(&self) -> Result<ConsoleFd, LxcError> {
        let (allocation, master) = self.raw.console(0).ok_or_else(|| LxcError::Console(self.raw.name().unwrap_or_default()))?;
        Ok(ConsoleFd { master, _allocation: allocation })
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.library.api.put(&self.raw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_is_as_declared_in_the_installed_library() {
        let library = LibLxc::load_unchecked().unwrap();
        let container = library.open("triton-test-layout", Path::new("/tmp")).unwrap();
        assert_eq!(container.state().as_deref(), Some("STOPPED"));
        assert_eq!(container.init_pid(), None);
        assert!(matches!(container.console(), Err(LxcError::Console(name)) if name == "triton-test-layout"));
    }

    #[test]
    fn a_threaded_program_is_refused() {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv().is_ok());
        assert!(matches!(LibLxc::load(), Err(LxcError::Threads)));
        drop(release);
        thread.join().unwrap();
    }
}
