//! liblxc's C interface, declared by hand and loaded at run time: the FFI of this crate.
//!
//! The declaration ends after the last member that is called. Up to there, `lxc/lxccontainer.h` of LXC 5.0, 6.0 and 7.0 agree.
//! Members that are not called are bare pointers of the same size.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    os::fd::{FromRawFd, OwnedFd},
    ptr::NonNull,
};

use libloading::{Library, Symbol};

type Unused = *const c_void;

#[repr(C)]
pub(crate) struct RawContainer {
    name: *mut c_char,
    configfile: *mut c_char,
    pidfile: *mut c_char,
    slock: Unused,
    privlock: Unused,
    numthreads: c_int,
    lxc_conf: Unused,
    error_string: *mut c_char,
    error_num: c_int,
    daemonize: bool,
    config_path: *mut c_char,
    is_defined: Unused,
    state: Option<unsafe extern "C" fn(*mut RawContainer) -> *const c_char>,
    is_running: Unused,
    freeze: Unused,
    unfreeze: Unused,
    init_pid: Option<unsafe extern "C" fn(*mut RawContainer) -> libc::pid_t>,
    load_config: Option<unsafe extern "C" fn(*mut RawContainer, *const c_char) -> bool>,
    start: Option<unsafe extern "C" fn(*mut RawContainer, c_int, *const *const c_char) -> bool>,
    startl: Unused,
    stop: Unused,
    want_daemonize: Option<unsafe extern "C" fn(*mut RawContainer, bool) -> bool>,
    want_close_all_fds: Unused,
    config_file_name: Unused,
    wait: Unused,
    set_config_item: Option<unsafe extern "C" fn(*mut RawContainer, *const c_char, *const c_char) -> bool>,
    destroy: Unused,
    save_config: Unused,
    create: Unused,
    createl: Unused,
    rename: Unused,
    reboot: Unused,
    shutdown: Unused,
    clear_config: Option<unsafe extern "C" fn(*mut RawContainer)>,
    clear_config_item: Unused,
    get_config_item: Unused,
    get_running_config_item: Unused,
    get_keys: Unused,
    get_interfaces: Unused,
    get_ips: Unused,
    get_cgroup_item: Unused,
    set_cgroup_item: Unused,
    get_config_path: Unused,
    set_config_path: Unused,
    clone: Unused,
    console_getfd: Option<unsafe extern "C" fn(*mut RawContainer, *mut c_int, *mut c_int) -> c_int>,
}

/// `struct lxc_log`.
#[repr(C)]
struct RawLog {
    name: *const c_char,
    lxcpath: *const c_char,
    file: *const c_char,
    level: *const c_char,
    prefix: *const c_char,
    quiet: bool,
}

type New = unsafe extern "C" fn(*const c_char, *const c_char) -> *mut RawContainer;
type Put = unsafe extern "C" fn(*mut RawContainer) -> c_int;
type Version = unsafe extern "C" fn() -> *const c_char;
type LogInit = unsafe extern "C" fn(*mut RawLog) -> c_int;

/// The loaded library.
#[derive(Debug)]
pub(crate) struct Api {
    library: Library,
}

impl Api {
    pub fn load() -> Result<Self, libloading::Error> {
        // SAFETY: liblxc's initialisers only set up its own tables; the soname's major number fixes the interface.
        let library = unsafe { Library::new("liblxc.so.1") }?;
        let api = Self { library };
        api.symbol::<New>(c"lxc_container_new")?;
        api.symbol::<Put>(c"lxc_container_put")?;
        api.symbol::<Version>(c"lxc_get_version")?;
        Ok(api)
    }

    fn symbol<T>(&self, name: &CStr) -> Result<Symbol<'_, T>, libloading::Error> {
        // SAFETY: callers name each symbol with the type that lxccontainer.h gives it.
        unsafe { self.library.get(name.to_bytes_with_nul()) }
    }

    pub fn version(&self) -> Option<String> {
        let version = self.symbol::<Version>(c"lxc_get_version").ok()?;
        // SAFETY: it takes nothing and returns a static string.
        let text = unsafe { version().as_ref() }.map(|first| unsafe { CStr::from_ptr(first) });
        text.map(|text| text.to_string_lossy().into_owned())
    }

    /// Sends errors to stderr too. Once per process.
    pub fn log_to_stderr(&self) {
        let Ok(init) = self.symbol::<LogInit>(c"lxc_log_init") else { return };
        let null = std::ptr::null();
        let mut log = RawLog { name: null, lxcpath: null, file: null, level: c"ERROR".as_ptr(), prefix: null, quiet: false };
        // SAFETY: the structure is as declared, its strings outlive the call, and liblxc copies what it keeps.
        unsafe { init(&raw mut log) };
    }

    pub fn new_container(&self, name: &CStr, lxcpath: &CStr) -> Option<RawRef> {
        let new = self.symbol::<New>(c"lxc_container_new").ok()?;
        // SAFETY: two C strings that outlive the call; the result is null or a new container.
        NonNull::new(unsafe { new(name.as_ptr(), lxcpath.as_ptr()) }).map(RawRef)
    }

    pub fn put(&self, container: &RawRef) {
        if let Ok(put) = self.symbol::<Put>(c"lxc_container_put") {
            // SAFETY: the reference came from `lxc_container_new` and is given back once, by its owner's drop.
            unsafe { put(container.0.as_ptr()) };
        }
    }
}

/// A reference to a container object of liblxc.
#[derive(Debug)]
pub(crate) struct RawRef(NonNull<RawContainer>);

impl RawRef {
    fn raw(&self) -> &RawContainer {
        // SAFETY: valid from `lxc_container_new` to `lxc_container_put`, and only one thread has it.
        unsafe { self.0.as_ref() }
    }

    pub fn name(&self) -> Option<String> {
        text(self.raw().name)
    }

    pub fn lxcpath(&self) -> Option<String> {
        text(self.raw().config_path)
    }

    pub fn error_num(&self) -> i32 {
        self.raw().error_num
    }

    pub fn state(&self) -> Option<String> {
        let state = self.raw().state?;
        // SAFETY: a member function called on its own container; the result is a static string.
        text(unsafe { state(self.0.as_ptr()) })
    }

    pub fn init_pid(&self) -> Option<i32> {
        let init_pid = self.raw().init_pid?;
        // SAFETY: a member function called on its own container.
        let pid = unsafe { init_pid(self.0.as_ptr()) };
        (pid > 0).then_some(pid)
    }

    /// Forgets what `lxc_container_new` read from the default place.
    pub fn clear_config(&self) {
        if let Some(clear) = self.raw().clear_config {
            // SAFETY: a member function called on its own container.
            unsafe { clear(self.0.as_ptr()) };
        }
    }

    pub fn load_config(&self, file: &CString) -> bool {
        // SAFETY: a member function called on its own container with a C string that outlives the call.
        self.raw().load_config.is_some_and(|load| unsafe { load(self.0.as_ptr(), file.as_ptr()) })
    }

    pub fn set_config_item(&self, key: &CStr, value: &CStr) -> bool {
        // SAFETY: a member function called on its own container with two C strings that outlive the call.
        self.raw().set_config_item.is_some_and(|set| unsafe { set(self.0.as_ptr(), key.as_ptr(), value.as_ptr()) })
    }

    /// Without a command the config's own is run.
    pub fn start_foreground(&self, command: Option<&[CString]>) -> bool {
        let (Some(daemonize), Some(start)) = (self.raw().want_daemonize, self.raw().start) else { return false };
        let mut words: Vec<*const c_char> = command.unwrap_or_default().iter().map(|word| word.as_ptr()).collect();
        words.push(std::ptr::null());
        let argv = if command.is_some() { words.as_ptr() } else { std::ptr::null() };
        // SAFETY: member functions called on their own container; the argument vector is null, or ends with null and outlives
        // the call, as do its strings.
        unsafe { daemonize(self.0.as_ptr(), false) && start(self.0.as_ptr(), 0, argv) }
    }

    /// The descriptors of terminal `number` (0: the console): the allocation, and the terminal's master end.
    pub fn console(&self, number: i32) -> Option<(OwnedFd, OwnedFd)> {
        let (mut number, mut master) = (number, -1);
        let getfd = self.raw().console_getfd?;
        // SAFETY: a member function called on its own container, with two integers to write to.
        let allocation = unsafe { getfd(self.0.as_ptr(), &raw mut number, &raw mut master) };
        if allocation < 0 || master < 0 {
            return None;
        }
        // SAFETY: both descriptors were just received from the container's monitor and belong to nobody else.
        Some(unsafe { (OwnedFd::from_raw_fd(allocation), OwnedFd::from_raw_fd(master)) })
    }
}

fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: liblxc's strings are null or terminated, and live as long as the container they belong to.
    let text = unsafe { pointer.as_ref() }.map(|first| unsafe { CStr::from_ptr(first) });
    text.map(|text| text.to_string_lossy().into_owned())
}
