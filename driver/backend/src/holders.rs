//! Who has a node open, as far as this process may see.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A process that has a node open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, chosen by itself: not to be printed as it is.
    pub name: String,
}

/// The processes under `proc` that have `node` open, ascending. Those of other users are not seen without privilege.
#[must_use]
pub fn holders(node: &Path, proc: &Path) -> Vec<Holder> {
    let (Some(node), Ok(processes)) = (identity(node), fs::read_dir(proc)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Another user's process: its descriptors are not for us to see.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        if descriptors
            .flatten()
            .any(|descriptor| identity(&descriptor.path()) == Some(node))
        {
            let comm = fs::read(process.path().join("comm")).unwrap_or_default();
            found.push(Holder {
                pid,
                name: String::from_utf8_lossy(&comm).trim_end().to_owned(),
            });
        }
    }
    found.sort_unstable_by_key(|holder| holder.pid);
    found
}

/// What makes two paths one node: a device's number wherever its nodes are, or a file's place.
fn identity(path: &Path) -> Option<(bool, u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some(if meta.file_type().is_char_device() {
        (true, meta.rdev(), 0)
    } else {
        (false, meta.dev(), meta.ino())
    })
}
