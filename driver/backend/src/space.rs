//! An IOVA space whose mappings the kernel makes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vfnic_hw::{DmaError, DmaRequest, DmaSpace, IovaRange, PciError};
use vfnic_ring::DmaRegion;

use crate::check::Target;
use crate::handed::Nodes;
use crate::iommu::{Container, Iommu, Iommufd, refused};
use crate::iova::IovaAllocator;
use crate::memlock::Memlock;
use crate::memory::{self, HUGE_PAGE, Memory, Unmap, page_size};
use crate::{Interface, OpenOptions, PciAddress, Sysfs};

/// An IOVA space that VFIO functions are opened in: a container or an iommufd address space.
///
/// Which of the two is settled by the first function. Clones are handles on the same space. Nothing can be mapped
/// before a function is in it; what is mapped stays, for functions that join later, until its last handle goes. Until
/// then a container keeps hold of one group at least, and its functions can be opened in this space only.
#[derive(Clone, Debug)]
pub struct VfioSpace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: OpenOptions,
    state: Mutex<State>,
    /// Page size of the last mapping that asked for huge pages.
    page: AtomicUsize,
    leaked: AtomicU64,
    process: u32,
}

#[derive(Debug)]
struct State {
    iommu: Option<Box<dyn Iommu>>,
    iova: IovaAllocator,
    mapped: u64,
    open: BTreeMap<PciAddress, Target>,
}

/// A function's place in a space, given back on drop. To be dropped after the function's descriptor.
#[derive(Debug)]
pub(crate) struct Lease {
    space: VfioSpace,
    target: Target,
}

impl VfioSpace {
    /// A space with nothing in it. Opens nothing.
    #[must_use]
    pub fn new(options: &OpenOptions) -> Self {
        Self(Arc::new(Inner {
            options: options.clone(),
            state: Mutex::new(State {
                iommu: None,
                iova: IovaAllocator::new(page_size() as u64),
                mapped: 0,
                open: BTreeMap::new(),
            }),
            page: AtomicUsize::new(0),
            leaked: AtomicU64::new(0),
            process: std::process::id(),
        }))
    }

    /// Bytes of memory kept for good because the kernel would not confirm that a mapping had ended. Not zero is a
    /// defect of the kernel's or ours; each time is also logged as an error.
    #[must_use]
    pub fn leaked_bytes(&self) -> u64 {
        self.0.leaked.load(Ordering::Relaxed)
    }

    pub(crate) fn options(&self) -> &OpenOptions {
        &self.0.options
    }

    /// Whether this is the process that made the space. A child of `fork` shares its descriptors, and what it did with
    /// them it would do to the parent's devices.
    pub(crate) fn is_ours(&self) -> bool {
        self.0.process == std::process::id()
    }

    /// Opens a function in the space, by nodes that were handed over if there are any.
    pub(crate) fn open(
        &self,
        address: PciAddress,
        handed: Option<Nodes>,
    ) -> Result<(File, Lease), PciError> {
        let mut target = match handed {
            Some(nodes) => Target::handed(address, nodes, self.options())?,
            None => Target::find(address, self.options())?,
        };
        let mut state = self.0.lock();
        if state.open.contains_key(&address) {
            return Err(PciError::Busy {
                path: target.group_node.display().to_string(),
                device: target.device,
                holder: Some("this process".to_owned()),
            });
        }
        let file = state.enter(&target, self.options())?;
        // What is needed of them is copied; a group's last copy has to go when the group is left.
        target.handed = None;
        state.open.insert(address, target.clone());
        let lease = Lease {
            space: self.clone(),
            target,
        };
        if let Err(error) = state.learn_reach(&lease.target) {
            // The lease's drop takes the lock too.
            drop(state);
            drop(file);
            return Err(error);
        }
        Ok((file, lease))
    }
}

impl State {
    fn enter(&mut self, target: &Target, options: &OpenOptions) -> Result<File, PciError> {
        if let Some(iommu) = &mut self.iommu {
            iommu.takes(target)?;
            return iommu.open(target, options);
        }
        let handed = target.handed.as_ref().map(|nodes| nodes.interface);
        let has_node = |path: &std::path::Path| path.exists();
        let device_node = target.device_node.as_deref().is_some_and(has_node);
        let interface = handed.unwrap_or(options.interface);
        let cdev = match interface {
            Interface::Group => false,
            Interface::Cdev => true,
            Interface::Auto => device_node && has_node(&options.dev.join("iommu")),
        };
        // A user may have been given one kind of node and not the other.
        let mut denied = None;
        if cdev {
            match Self::first::<Iommufd>(target, options, Iommufd::new) {
                Ok((iommu, file)) => {
                    self.iommu = Some(iommu);
                    return Ok(file);
                }
                Err(error @ PciError::Permission { .. })
                    if interface == Interface::Auto && has_node(&target.group_node) =>
                {
                    denied = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let (iommu, file) =
            Self::first::<Container>(target, options, Container::new).map_err(|error| {
                match (denied, error) {
                    (Some(first), PciError::Permission { .. }) => first,
                    (_, error) => error,
                }
            })?;
        self.iommu = Some(iommu);
        Ok(file)
    }

    fn first<I: Iommu + 'static>(
        target: &Target,
        options: &OpenOptions,
        new: fn(&Target, &OpenOptions) -> Result<I, PciError>,
    ) -> Result<(Box<dyn Iommu>, File), PciError> {
        let mut iommu = new(target, options)?;
        let file = iommu.open(target, options)?;
        Ok((Box::new(iommu), file))
    }

    fn learn_reach(&mut self, target: &Target) -> Result<(), PciError> {
        let Some(iommu) = &self.iommu else {
            return Ok(());
        };
        let reach = iommu
            .reach()
            .map_err(|failed| refused(&target.device, failed))?;
        // A kernel too old to tell: below the window where interrupts are on a PC.
        let ranges = reach.ranges.unwrap_or_else(|| {
            vec![IovaRange {
                start: 0,
                end: 0xfedf_ffff,
            }]
        });
        self.iova.set_ranges(ranges, reach.page);
        Ok(())
    }

    fn closed(&mut self, target: Option<&Target>) {
        let idle = self.open.is_empty() && self.mapped == 0;
        if let Some(iommu) = &mut self.iommu {
            iommu.closed(target, idle);
        }
    }
}

impl Lease {
    /// The place of a function that was never opened.
    #[cfg(test)]
    pub(crate) fn of(space: &VfioSpace, address: PciAddress) -> Self {
        Self {
            target: Target::find(address, space.options()).unwrap(),
            space: space.clone(),
        }
    }

    pub(crate) fn space(&self) -> &VfioSpace {
        &self.space
    }

    pub(crate) fn device(&self) -> &str {
        &self.target.device
    }

    /// Ends the function's DMA as far as can be done while it is open.
    pub(crate) fn detach(&self, file: &File) {
        if let Some(iommu) = &mut self.space.0.lock().iommu {
            iommu.detach(file);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.space.0.lock();
        state.open.remove(&self.target.address);
        if self.space.is_ours() {
            state.closed(Some(&self.target));
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is a single statement; a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn map(self: &Arc<Self>, len: usize, huge: bool) -> Result<DmaRegion, DmaError> {
        let page = if huge { HUGE_PAGE } else { page_size() };
        let need = len.max(1).checked_next_multiple_of(page);
        let too_much = || DmaError::Allocate {
            need: len as u64,
            source: io::ErrorKind::OutOfMemory.into(),
        };
        let len = need.ok_or_else(too_much)?;
        let need = len as u64;
        let mut state = self.lock();
        let State {
            iommu, iova, open, ..
        } = &mut *state;
        let (Some(iommu), false) = (iommu, open.is_empty()) else {
            return Err(DmaError::Map {
                need,
                iova: 0,
                source: io::Error::new(
                    io::ErrorKind::NotConnected,
                    "no function has been opened in this space yet",
                ),
            });
        };
        let memlock = Memlock::read(&self.options.proc, iommu.counter());
        memlock.check(need)?;
        let memory =
            Memory::private(len, huge).map_err(|source| DmaError::Allocate { need, source })?;
        // Aligned for the IOMMU's own large pages, where the area is worth one.
        let align = if len >= HUGE_PAGE { HUGE_PAGE } else { page } as u64;
        let Some(start) = iova.take(need, align) else {
            return Err(DmaError::NoIova {
                need,
                ranges: iova.describe(),
            });
        };
        if let Err(failed) = iommu.map(&memory, start) {
            // EEXIST: something is there that was never told to us. Never use that place again (SPDK #1705).
            if failed.errno() != Some(libc::EEXIST) {
                iova.give_back(start);
            }
            if failed.errno() == Some(libc::ENOMEM) {
                memlock.limit(need)?;
            }
            return Err(DmaError::Map {
                need,
                iova: start,
                source: failed.source,
            });
        }
        state.mapped = state.mapped.saturating_add(need);
        drop(state);
        Ok(memory::region(memory, start, self.clone()))
    }
}

impl Unmap for Inner {
    fn unmap(&self, iova: u64, len: u64) -> bool {
        if self.process != std::process::id() {
            return false;
        }
        let mut state = self.lock();
        let ended = match &state.iommu {
            Some(iommu) => iommu.unmap(iova, len),
            None => Ok(len),
        };
        let problem = match ended {
            Ok(ended) if ended == len => {
                state.iova.give_back(iova);
                state.mapped = state.mapped.saturating_sub(len);
                state.closed(None);
                return true;
            }
            Ok(ended) => format!("only {ended} bytes ended"),
            Err(failed) => failed.to_string(),
        };
        drop(state);
        self.leaked.fetch_add(len, Ordering::Relaxed);
        log::error!(
            "unmapping {len} bytes at IOVA {iova:#x}: {problem}; the memory and its addresses are not used again"
        );
        false
    }
}

impl DmaSpace for VfioSpace {
    fn map(&self, request: DmaRequest) -> Result<DmaRegion, DmaError> {
        if request.prefer_huge {
            let free = Sysfs::new(&self.0.options.sysfs).free_huge_pages(HUGE_PAGE);
            if memory::is_worth_huge_pages(request.len, free) {
                match self.0.map(request.len, true) {
                    Ok(region) => {
                        self.0.page.store(HUGE_PAGE, Ordering::Relaxed);
                        return Ok(region);
                    }
                    Err(error) => log::info!("huge pages were free and could not be had: {error}"),
                }
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
        self.0.lock().mapped
    }

    fn page_size(&self) -> usize {
        self.0.page.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[path = "space_tests.rs"]
mod tests;
