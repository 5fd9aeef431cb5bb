//! The kernel's part of binding, on a tree of files.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::trees::Tree;

/// Does what the kernel does when `drivers_probe` is written: gives the function to the driver its override names.
pub(crate) struct Kernel {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Kernel {
    pub(crate) fn of(tree: &Tree, default: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let root = tree.root().to_owned();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let probe = root.join("sys/bus/pci/drivers_probe");
            while !stopped.load(Ordering::Relaxed) {
                let address = fs::read_to_string(&probe).unwrap_or_default();
                let device = root.join("sys/bus/pci/devices").join(address.trim());
                if !address.trim().is_empty() {
                    let _ = fs::write(&probe, "");
                    let wanted =
                        fs::read_to_string(device.join("driver_override")).unwrap_or_default();
                    let wanted = if wanted.trim().is_empty() {
                        default
                    } else {
                        wanted.trim()
                    };
                    let _ = fs::remove_file(device.join("driver"));
                    let driver = root.join("sys/bus/pci/drivers").join(wanted);
                    let _ = std::os::unix::fs::symlink(driver, device.join("driver"));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
