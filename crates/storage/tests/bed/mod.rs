//! A pool of OpenZFS for one test.
#![allow(dead_code)] // not every test binary uses all of it

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use triton_files::Layout;
use triton_storage::{CloneOptions, Storage};
use triton_types::{ImageUuid, StorageKind};

/// A pool on a file, mounted below a root of its own; gone at the end.
pub struct Bed {
    pub root: PathBuf,
    pub pool: String,
    pub storage: Option<Storage>,
}

impl Bed {
    /// `None` without the kernel module.
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let pool = format!("tritontest{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = PathBuf::from("/run").join(&pool);
        fs::create_dir_all(&root).unwrap();
        let mut bed = Self { root, pool, storage: None };
        let layout = Layout::new(&bed.root);
        layout.prepare().unwrap();
        if !std::path::Path::new("/dev/zfs").exists() {
            assert!(Storage::choose(&layout, StorageKind::Zfs, &bed.pool).unwrap_err().to_string().contains("ZFS is not available"));
            return None;
        }
        let file = bed.root.join("vdev");
        fs::File::create(&file).unwrap().set_len(512 << 20).unwrap();
        run(
            "zpool",
            &["create", "-o", "cachefile=none", "-O", "atime=off", "-m", bed.at("").to_str().unwrap(), &bed.pool, file.to_str().unwrap()],
        );
        bed.storage = Some(Storage::choose(&layout, StorageKind::Zfs, &bed.pool).unwrap());
        Some(bed)
    }

    pub fn storage(&self) -> &Storage {
        self.storage.as_ref().unwrap()
    }

    pub fn at(&self, below: &str) -> PathBuf {
        self.root.join(&self.pool).join(below)
    }

    /// An image with one file of 1 MiB in its root.
    pub fn image(&self) -> ImageUuid {
        let image = ImageUuid::random();
        let path = self.storage().begin_image(image, None).unwrap();
        assert_eq!(path, self.at(&format!("{image}-partial")));
        fs::create_dir_all(path.join("root/etc")).unwrap();
        fs::write(path.join("root/etc/data"), vec![7; 1 << 20]).unwrap();
        self.storage().commit_image(image).unwrap();
        image
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if self.storage.take().is_some() {
            run("zpool", &["destroy", "-f", &self.pool]);
        }
        fs::remove_dir_all(&self.root).unwrap();
    }
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn quota(mib: u64) -> CloneOptions {
    CloneOptions { quota_mib: Some(mib), ..CloneOptions::default() }
}
