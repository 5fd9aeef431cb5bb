//! Memory of another process, mapped from a file that it passed: what vfio-user clients lend the card.
//!
//! The other process can write it at any moment, like every driver. What it must not be able to do is take it away: a
//! file shortened under a mapping turns the next access into SIGBUS, which would end the simulator. So only memory files
//! that can no longer shrink are mapped. One that is not sealed yet is sealed here; one that cannot be sealed is
//! refused, and so are huge pages, where punching a hole gives the page to somebody else and the next access fails all
//! the same.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs};
use rustix::io::Errno;
use vfnic_ring::{DmaBacking, Iova};

/// File system of huge pages (`HUGETLBFS_MAGIC`).
const HUGETLBFS: u32 = 0x9584_58f6;

/// What tells one file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// A memory file that cannot shrink any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    pub(crate) id: FileId,
    pub(crate) len: u64,
}

impl Sealed {
    /// Judges a file by its descriptor, and seals it against shrinking if nobody did.
    ///
    /// # Errors
    ///
    /// `EPERM` when it is not a memory file, cannot be sealed, or is made of huge pages; `EBADF` for an `O_PATH`
    /// descriptor.
    pub(crate) fn check(fd: impl AsFd) -> Result<Self, Errno> {
        // Seals come first: only the kernel's own memory files have any, so none of the calls after this one can end up
        // in a file system that the client implements and that answers when it likes.
        let seals = fcntl_get_seals(&fd).map_err(|errno| match errno {
            Errno::INVAL => Errno::PERM,
            other => other,
        })?;
        if !seals.contains(SealFlags::SHRINK) {
            fcntl_add_seals(&fd, SealFlags::SHRINK)?;
        }
        let system = fstatfs(&fd)?;
        if u32::try_from(system.f_type).is_ok_and(|kind| kind == HUGETLBFS) {
            return Err(Errno::PERM);
        }
        let stat = fstat(&fd)?;
        Ok(Self {
            id: FileId {
                device: stat.st_dev,
                inode: stat.st_ino,
            },
            len: u64::try_from(stat.st_size).unwrap_or(0),
        })
    }
}

/// A whole memory file, mapped.
#[derive(Debug)]
pub(crate) struct SharedFile {
    map: MmapRaw,
}

impl SharedFile {
    /// Maps all of it, readable and writable.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is empty, otherwise what the kernel says: `EACCES` for a read-only descriptor, `EPERM` for one
    /// sealed against writing, `ENOMEM` for one longer than the address space.
    pub(crate) fn map(fd: impl AsFd, file: &Sealed) -> Result<Arc<Self>, Errno> {
        let len = usize::try_from(file.len).map_err(|_| Errno::NOMEM)?;
        if len == 0 {
            return Err(Errno::INVAL);
        }
        let map = MmapOptions::new()
            .len(len)
            .map_raw(fd.as_fd().as_raw_fd())
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOMEM))?;
        Ok(Arc::new(Self { map }))
    }

    /// Bytes mapped.
    pub(crate) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// The piece of it that starts at `offset`, a multiple of 4096, as memory the device sees at `iova`.
    pub(crate) fn window(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        iova: u64,
    ) -> Option<Arc<dyn DmaBacking>> {
        let end = offset.checked_add(len)?;
        if end > self.len() || !offset.is_multiple_of(4096) {
            return None;
        }
        let window = Window {
            offset: usize::try_from(offset).ok()?,
            len: usize::try_from(len).ok()?,
            iova: Iova(iova),
            file: self.clone(),
        };
        Some(Arc::new(window))
    }
}

/// A piece of a mapped file.
#[derive(Debug)]
struct Window {
    offset: usize,
    len: usize,
    iova: Iova,
    file: Arc<SharedFile>,
}

// SAFETY: `window` checked that the bytes lie inside the mapping, which is readable and writable, page-aligned like the
// offset, kept by `file`, and backed to its end because the file cannot shrink. Everybody in this process reaches them
// through atomics and volatile accesses, as with all device-reachable memory.
unsafe impl DmaBacking for Window {
    fn base(&self) -> NonNull<u8> {
        let base = self.file.map.as_mut_ptr().wrapping_add(self.offset);
        // No mapping begins at address zero.
        NonNull::new(base).unwrap_or(NonNull::dangling())
    }
    fn len(&self) -> usize {
        self.len
    }
    fn iova(&self) -> Iova {
        self.iova
    }
}
