//! A host made of files: sysfs, dev and proc trees in a folder that goes when the value goes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{OpenOptions, PciAddress, Sysfs};

pub(crate) struct Host {
    root: PathBuf,
}

impl Host {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = std::env::temp_dir().join(format!(
            "vfnic-backend-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        for part in [
            "sys/bus/pci/devices",
            "sys/kernel/iommu_groups",
            "dev/vfio",
            "proc",
        ] {
            fs::create_dir_all(root.join(part)).unwrap();
        }
        Self { root }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn sysfs(&self) -> Sysfs {
        Sysfs::new(self.path("sys"))
    }

    pub(crate) fn options(&self) -> OpenOptions {
        OpenOptions {
            sysfs: self.path("sys"),
            dev: self.path("dev"),
            proc: self.path("proc"),
            ..OpenOptions::default()
        }
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn link(&self, path: &str, target: impl AsRef<Path>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// A function with a driver and a group, a member of which it becomes.
    pub(crate) fn function(
        &self,
        address: &str,
        driver: Option<&str>,
        group: Option<u32>,
    ) -> PciAddress {
        let device = format!("sys/bus/pci/devices/{address}");
        fs::create_dir_all(self.path(&device)).unwrap();
        if let Some(driver) = driver {
            self.link(
                &format!("{device}/driver"),
                format!("../../drivers/{driver}"),
            );
        }
        if let Some(group) = group {
            self.link(
                &format!("{device}/iommu_group"),
                format!("../../../../kernel/iommu_groups/{group}"),
            );
            self.link(
                &format!("sys/kernel/iommu_groups/{group}/devices/{address}"),
                self.path(&device),
            );
        }
        address.parse().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}
