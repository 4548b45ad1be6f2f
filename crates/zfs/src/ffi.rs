//! `libzfs_core.so.3` and `libnvpair.so.3`, loaded at run time; declarations by hand from their public headers.
//!
//! The ABI of both is kept from OpenZFS 2.1 to 2.3. No `lzc_*` function may be called before `libzfs_core_init` has
//! succeeded: the library would abort the process. [`Library::load`] is the only way to a [`Library`] and sees to it.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_uint, c_void},
    os::fd::{AsRawFd, BorrowedFd},
    ptr::{self, NonNull},
};

use libloading::os::unix::{Library as Dynamic, RTLD_LOCAL, RTLD_NOW};

use crate::Unavailable;

/// Opaque `nvlist_t`.
type RawList = *mut c_void;
/// Opaque `nvpair_t`.
type RawPair = *mut c_void;

/// `LZC_DATSET_TYPE_ZFS`: a file system.
const TYPE_ZFS: c_int = 2;
/// `NV_UNIQUE_NAME`.
const UNIQUE_NAME: c_uint = 1;

const CORE: &str = "libzfs_core.so.3";
const NVPAIR: &str = "libnvpair.so.3";

macro_rules! functions {
    ($($library:ident: $name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions that are used, bound once. `boolean_t` is a C enum, so an `int`.
        struct Functions { $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)* }

        impl Functions {
            fn bind(core: &Dynamic, nvpair: &Dynamic) -> Result<Self, Unavailable> {
                let both = [(CORE, core), (NVPAIR, nvpair)];
                Ok(Self { $($name: {
                    let (file, library) = both[Self::$library()];
                    // SAFETY: the type is that of the library's public header, the same in all versions with this soname;
                    // the library is never unloaded while the pointer lives (Library keeps both).
                    let symbol = unsafe { library.get::<unsafe extern "C" fn($($argument),*) $(-> $result)?>(concat!(stringify!($name), "\0").as_bytes()) };
                    *symbol.map_err(|e| Unavailable::Library { library: file, reason: e.to_string() })?
                },)* })
            }
        }
    };
}

impl Functions {
    const fn core() -> usize {
        0
    }
    const fn nvpair() -> usize {
        1
    }
}

functions! {
    core: libzfs_core_init() -> c_int;
    core: lzc_create(*const c_char, c_int, RawList, *mut u8, c_uint) -> c_int;
    core: lzc_clone(*const c_char, *const c_char, RawList) -> c_int;
    core: lzc_snapshot(RawList, RawList, *mut RawList) -> c_int;
    core: lzc_destroy_snaps(RawList, c_int, *mut RawList) -> c_int;
    core: lzc_destroy(*const c_char) -> c_int;
    core: lzc_hold(RawList, c_int, *mut RawList) -> c_int;
    core: lzc_release(RawList, *mut RawList) -> c_int;
    core: lzc_get_holds(*const c_char, *mut RawList) -> c_int;
    core: lzc_rollback_to(*const c_char, *const c_char) -> c_int;
    core: lzc_exists(*const c_char) -> c_int;
    core: lzc_send(*const c_char, *const c_char, c_int, c_int) -> c_int;
    core: lzc_receive(*const c_char, RawList, *const c_char, c_int, c_int, c_int) -> c_int;
    nvpair: nvlist_alloc(*mut RawList, c_uint, c_int) -> c_int;
    nvpair: nvlist_free(RawList);
    nvpair: nvlist_add_boolean(RawList, *const c_char) -> c_int;
    nvpair: nvlist_add_uint64(RawList, *const c_char, u64) -> c_int;
    nvpair: nvlist_add_string(RawList, *const c_char, *const c_char) -> c_int;
    nvpair: nvlist_add_nvlist(RawList, *const c_char, RawList) -> c_int;
    nvpair: nvlist_next_nvpair(RawList, RawPair) -> RawPair;
    nvpair: nvpair_name(RawPair) -> *const c_char;
}

/// Both libraries, initialised. Never dropped in practice (the driver keeps one for the process).
pub(crate) struct Library {
    functions: Functions,
    _core: Dynamic,
    _nvpair: Dynamic,
}

impl Library {
    /// Loads the libraries and opens `/dev/zfs`.
    pub(crate) fn load() -> Result<Self, Unavailable> {
        let open = |library: &'static str| {
            // SAFETY: loading runs the initialisers of distribution libraries, which have no preconditions.
            unsafe { Dynamic::open(Some(library), RTLD_NOW | RTLD_LOCAL) }
                .map_err(|e| Unavailable::Library { library, reason: e.to_string() })
        };
        let nvpair = open(NVPAIR)?;
        let core = open(CORE)?;
        let functions = Functions::bind(&core, &nvpair)?;
        // SAFETY: takes no arguments and may be called at any time; it opens /dev/zfs and returns an errno.
        let errno = unsafe { (functions.libzfs_core_init)() };
        if errno != 0 {
            return Err(Unavailable::Module(std::io::Error::from_raw_os_error(errno).to_string()));
        }
        Ok(Self { functions, _core: core, _nvpair: nvpair })
    }

    fn list(&self) -> Result<List<'_>, c_int> {
        let mut raw: RawList = ptr::null_mut();
        // SAFETY: writes one pointer to `raw`, which lives across the call.
        match unsafe { (self.functions.nvlist_alloc)(&raw mut raw, UNIQUE_NAME, 0) } {
            0 => NonNull::new(raw).map(|raw| List { raw, functions: &self.functions }).ok_or(libc::ENOMEM),
            errno => Err(errno),
        }
    }

    /// A list of numbers, for properties.
    pub(crate) fn numbers(&self, entries: &[(&'static str, u64)]) -> Result<List<'_>, c_int> {
        let list = self.list()?;
        for (name, value) in entries {
            let name = text(name)?;
            // SAFETY: the list is live and `name` is a C string for the time of the call; the library copies it.
            check(unsafe { (self.functions.nvlist_add_uint64)(list.as_ptr(), name.as_ptr(), *value) })?;
        }
        Ok(list)
    }

    /// A list of bare names.
    fn names(&self, names: &[&str]) -> Result<List<'_>, c_int> {
        let list = self.list()?;
        for name in names {
            let name = text(name)?;
            // SAFETY: as in `numbers`.
            check(unsafe { (self.functions.nvlist_add_boolean)(list.as_ptr(), name.as_ptr()) })?;
        }
        Ok(list)
    }

    /// Runs `call` with a place for the list of per-name errors, and frees that list: the call's own errno is the first of them.
    fn with_errors(&self, call: impl FnOnce(*mut RawList) -> c_int) -> Result<(), c_int> {
        let mut errors: RawList = ptr::null_mut();
        let errno = call(&raw mut errors);
        if let Some(raw) = NonNull::new(errors) {
            drop(List { raw, functions: &self.functions });
        }
        check(errno)
    }

    pub(crate) fn create(&self, name: &str, properties: &[(&'static str, u64)]) -> Result<(), c_int> {
        let (name, list) = (text(name)?, self.numbers(properties)?);
        // SAFETY: initialised; C string and list live across the call; no encryption key is given.
        check(unsafe { (self.functions.lzc_create)(name.as_ptr(), TYPE_ZFS, list.as_ptr(), ptr::null_mut(), 0) })
    }

    pub(crate) fn clone(&self, name: &str, origin: &str, properties: &[(&'static str, u64)]) -> Result<(), c_int> {
        let (name, origin, list) = (text(name)?, text(origin)?, self.numbers(properties)?);
        // SAFETY: initialised; C strings and list live across the call.
        check(unsafe { (self.functions.lzc_clone)(name.as_ptr(), origin.as_ptr(), list.as_ptr()) })
    }

    pub(crate) fn snapshot(&self, names: &[&str]) -> Result<(), c_int> {
        let list = self.names(names)?;
        // SAFETY: initialised; the list lives across the call; NULL properties are allowed.
        self.with_errors(|errors| unsafe { (self.functions.lzc_snapshot)(list.as_ptr(), ptr::null_mut(), errors) })
    }

    pub(crate) fn destroy_snapshot(&self, name: &str) -> Result<(), c_int> {
        let list = self.names(&[name])?;
        // SAFETY: initialised; the list lives across the call; 0 means: not deferred.
        self.with_errors(|errors| unsafe { (self.functions.lzc_destroy_snaps)(list.as_ptr(), 0, errors) })
    }

    pub(crate) fn destroy(&self, name: &str) -> Result<(), c_int> {
        let name = text(name)?;
        // SAFETY: initialised; the C string lives across the call.
        check(unsafe { (self.functions.lzc_destroy)(name.as_ptr()) })
    }

    pub(crate) fn hold(&self, snapshot: &str, tag: &str) -> Result<(), c_int> {
        let (list, snapshot, tag) = (self.list()?, text(snapshot)?, text(tag)?);
        // SAFETY: as in `numbers`.
        check(unsafe { (self.functions.nvlist_add_string)(list.as_ptr(), snapshot.as_ptr(), tag.as_ptr()) })?;
        // SAFETY: initialised; the list lives across the call; -1 means that no descriptor ends the hold.
        self.with_errors(|errors| unsafe { (self.functions.lzc_hold)(list.as_ptr(), -1, errors) })
    }

    pub(crate) fn release(&self, snapshot: &str, tag: &str) -> Result<(), c_int> {
        let (outer, inner, snapshot) = (self.list()?, self.names(&[tag])?, text(snapshot)?);
        // SAFETY: both lists are live; the inner one is copied into the outer one.
        check(unsafe { (self.functions.nvlist_add_nvlist)(outer.as_ptr(), snapshot.as_ptr(), inner.as_ptr()) })?;
        // SAFETY: initialised; the list lives across the call.
        self.with_errors(|errors| unsafe { (self.functions.lzc_release)(outer.as_ptr(), errors) })
    }

    pub(crate) fn holds(&self, snapshot: &str) -> Result<Vec<String>, c_int> {
        let snapshot = text(snapshot)?;
        let mut raw: RawList = ptr::null_mut();
        // SAFETY: initialised; writes one pointer to `raw`, a list that the caller owns.
        check(unsafe { (self.functions.lzc_get_holds)(snapshot.as_ptr(), &raw mut raw) })?;
        Ok(NonNull::new(raw).map(|raw| List { raw, functions: &self.functions }.names()).unwrap_or_default())
    }

    pub(crate) fn rollback_to(&self, dataset: &str, snapshot: &str) -> Result<(), c_int> {
        let (dataset, snapshot) = (text(dataset)?, text(snapshot)?);
        // SAFETY: initialised; C strings live across the call.
        check(unsafe { (self.functions.lzc_rollback_to)(dataset.as_ptr(), snapshot.as_ptr()) })
    }

    pub(crate) fn exists(&self, name: &str) -> Result<bool, c_int> {
        let name = text(name)?;
        // SAFETY: initialised; the C string lives across the call.
        Ok(unsafe { (self.functions.lzc_exists)(name.as_ptr()) } != 0)
    }

    pub(crate) fn send(&self, snapshot: &str, from: Option<&str>, to: BorrowedFd<'_>, flags: c_int) -> Result<(), c_int> {
        let snapshot = text(snapshot)?;
        let from = from.map(text).transpose()?;
        let from = from.as_deref().map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: initialised; C strings live across the call; NULL `from` means a full stream; the descriptor is open.
        check(unsafe { (self.functions.lzc_send)(snapshot.as_ptr(), from, to.as_raw_fd(), flags) })
    }

    pub(crate) fn receive(&self, snapshot: &str, origin: Option<&str>, force: bool, from: BorrowedFd<'_>) -> Result<(), c_int> {
        let snapshot = text(snapshot)?;
        let origin = origin.map(text).transpose()?;
        let origin = origin.as_deref().map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: initialised; C strings live across the call; no properties, not raw; the descriptor is open.
        check(unsafe { (self.functions.lzc_receive)(snapshot.as_ptr(), ptr::null_mut(), origin, c_int::from(force), 0, from.as_raw_fd()) })
    }
}

fn text(text: &str) -> Result<CString, c_int> {
    CString::new(text).map_err(|_| libc::EINVAL)
}

fn check(errno: c_int) -> Result<(), c_int> {
    if errno == 0 { Ok(()) } else { Err(errno) }
}

/// An owned `nvlist_t`.
pub(crate) struct List<'a> {
    raw: NonNull<c_void>,
    functions: &'a Functions,
}

impl List<'_> {
    fn as_ptr(&self) -> RawList {
        self.raw.as_ptr()
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut pair: RawPair = ptr::null_mut();
        loop {
            // SAFETY: the list is live; `pair` is NULL or the previous pair of this list.
            pair = unsafe { (self.functions.nvlist_next_nvpair)(self.as_ptr(), pair) };
            if pair.is_null() {
                return names;
            }
            // SAFETY: the pair belongs to the live list; its name is a C string that lives as long as the list.
            names.push(unsafe { CStr::from_ptr((self.functions.nvpair_name)(pair)) }.to_string_lossy().into_owned());
        }
    }
}

impl Drop for List<'_> {
    fn drop(&mut self) {
        // SAFETY: the list is owned and not used after this.
        unsafe { (self.functions.nvlist_free)(self.as_ptr()) }
    }
}
