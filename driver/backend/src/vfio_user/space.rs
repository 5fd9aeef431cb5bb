//! An IOVA space that vfio-user servers are told of: memory they can map themselves.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::io::Errno;
use vfnic_hw::{DmaError, DmaRequest, DmaSpace, IovaRange};
use vfnic_ring::DmaRegion;

use super::connection::{Connection, Failure};
use super::frame::{Command, Message};
use crate::Sysfs;
use crate::iova::IovaAllocator;
use crate::memory::{self, HUGE_PAGE, Memory, Unmap, page_size};

const READ_WRITE: u32 = 3;

/// An IOVA space for functions behind vfio-user servers. Clones are handles on the same space.
///
/// Its memory is shared memory of fixed size, passed to every server in the space. Nothing is pinned, so
/// RLIMIT_MEMLOCK has no part in it. A server that does not let go of memory keeps only its own view of it: the pages
/// are never anybody else's while it does, and their addresses are not used again.
#[derive(Clone, Debug)]
pub struct UserSpace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    page: AtomicUsize,
}

#[derive(Debug)]
struct State {
    iova: IovaAllocator,
    servers: Vec<Weak<Connection>>,
    /// By address.
    windows: BTreeMap<u64, Window>,
}

#[derive(Debug)]
struct Window {
    len: u64,
    file: File,
}

impl Default for UserSpace {
    fn default() -> Self {
        Self::new()
    }
}

impl UserSpace {
    /// A space with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        let page = page_size() as u64;
        let mut iova = IovaAllocator::new(page);
        // The protocol has no ranges; an emulated IOMMU translates all there is.
        let all = IovaRange {
            start: 0,
            end: (1 << 48) - 1,
        };
        iova.set_ranges(vec![all], page);
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                iova,
                servers: Vec::new(),
                windows: BTreeMap::new(),
            }),
            page: AtomicUsize::new(0),
        }))
    }

    /// A server joins: it is told of all memory there is.
    pub(super) fn join(&self, server: &Arc<Connection>) -> Result<(), Failure> {
        let mut state = self.0.lock();
        for (&iova, window) in &state.windows {
            map(server, iova, window)?;
        }
        state.servers.retain(|server| server.strong_count() > 0);
        state.servers.push(Arc::downgrade(server));
        Ok(())
    }
}

fn map(server: &Connection, iova: u64, window: &Window) -> Result<(), Failure> {
    let message = Message::new(Command::DmaMap)
        .u32(32)
        .u32(READ_WRITE)
        .u64(0)
        .u64(iova)
        .u64(window.len);
    server
        .ask(Command::DmaMap, message, &[window.file.as_fd()])
        .map(drop)
}

fn unmap(server: &Connection, iova: u64, len: u64) -> Result<(), Failure> {
    let message = Message::new(Command::DmaUnmap)
        .u32(24)
        .u32(0)
        .u64(iova)
        .u64(len);
    server.ask(Command::DmaUnmap, message, &[]).map(drop)
}

impl State {
    /// The servers that are still there.
    fn live(&self) -> Vec<Arc<Connection>> {
        let live = self.servers.iter().filter_map(Weak::upgrade);
        live.filter(|server| !server.is_broken()).collect()
    }

    /// Takes a window away from these servers; true when none of them has it any more. One that is gone has not.
    fn withdraw(servers: &[Arc<Connection>], iova: u64, len: u64) -> bool {
        let mut all = true;
        for server in servers {
            if let Err(Failure::Refused(errno)) = unmap(server, iova, len) {
                log::error!(
                    "vfio-user: a server refused to unmap {len} bytes at {iova:#x} (errno {errno}); the addresses are not used again"
                );
                all = false;
            }
        }
        all
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn map(self: &Arc<Self>, len: usize, huge: bool) -> Result<DmaRegion, DmaError> {
        let page = if huge { HUGE_PAGE } else { page_size() };
        let too_much = || DmaError::Allocate {
            need: len as u64,
            source: std::io::ErrorKind::OutOfMemory.into(),
        };
        let len = len
            .max(1)
            .checked_next_multiple_of(page)
            .filter(|&len| isize::try_from(len).is_ok())
            .ok_or_else(too_much)?;
        let need = len as u64;
        let allocate = |source| DmaError::Allocate { need, source };
        let memory = Memory::shared(len, huge).map_err(allocate)?;
        let Some(file) = memory.file() else {
            return Err(allocate(std::io::ErrorKind::Unsupported.into()));
        };
        let file = file.try_clone().map_err(allocate)?;
        let mut state = self.lock();
        let align = if len >= HUGE_PAGE { HUGE_PAGE } else { page } as u64;
        let Some(start) = state.iova.take(need, align) else {
            return Err(DmaError::NoIova {
                need,
                ranges: state.iova.describe(),
            });
        };
        let window = Window { len: need, file };
        let servers = state.live();
        for (i, server) in servers.iter().enumerate() {
            let full = state.windows.len() >= server.limits().maps;
            let told = if full {
                Err(Failure::Refused(
                    Errno::NOSPC.raw_os_error().cast_unsigned(),
                ))
            } else {
                map(server, start, &window)
            };
            let errno = match told {
                Ok(()) => continue,
                Err(Failure::Refused(errno)) => i32::try_from(errno).unwrap_or(libc::EINVAL),
                Err(Failure::Unconnected(_) | Failure::Broken(_)) => libc::ENOTCONN,
            };
            if State::withdraw(&servers[..i], start, need) {
                state.iova.give_back(start);
            }
            return Err(DmaError::Map {
                need,
                iova: start,
                source: std::io::Error::from_raw_os_error(errno),
            });
        }
        state.windows.insert(start, window);
        drop(state);
        Ok(memory::region(memory, start, self.clone()))
    }
}

impl Unmap for Inner {
    fn unmap(&self, iova: u64, len: u64) -> bool {
        let mut state = self.lock();
        state.windows.remove(&iova);
        let mut servers = state.live();
        servers.retain(|server| server.is_ours());
        if State::withdraw(&servers, iova, len) {
            state.iova.give_back(iova);
        }
        // The memory is shared: what a server still has of it is its own.
        true
    }
}

impl DmaSpace for UserSpace {
    fn map(&self, request: DmaRequest) -> Result<DmaRegion, DmaError> {
        if request.prefer_huge {
            let free = Sysfs::new("/sys").free_huge_pages(HUGE_PAGE);
            if memory::is_worth_huge_pages(request.len, free)
                && let Ok(region) = self.0.map(request.len, true)
            {
                self.0.page.store(HUGE_PAGE, Ordering::Relaxed);
                return Ok(region);
            }
        }
        let region = self.0.map(request.len, false)?;
        if request.prefer_huge {
            self.0.page.store(page_size(), Ordering::Relaxed);
        }
        Ok(region)
    }

    fn ranges(&self) -> Vec<IovaRange> {
        self.0.lock().iova.ranges().to_vec()
    }

    fn mapped_bytes(&self) -> u64 {
        self.0
            .lock()
            .windows
            .values()
            .map(|window| window.len)
            .sum()
    }

    fn page_size(&self) -> usize {
        self.0.page.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[path = "space_tests.rs"]
mod tests;
