//! Every system call that has no safe wrapper elsewhere: the ioctls of VFIO and iommufd, each as a safe function that
//! keeps the errno.

use std::ffi::c_int;
use std::fmt;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use iommufd_bindings::iommufd::{
    iommu_destroy, iommu_ioas_alloc, iommu_ioas_iova_ranges, iommu_ioas_map, iommu_ioas_unmap,
    iommu_iova_range, iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE,
};
use memmap2::MmapRaw;
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_BIND_FLAG_TOKEN, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE,
    VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_INFO_PGSIZES, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_REGION_INFO_FLAG_CAPS,
    VFIO_TYPE1v2_IOMMU, vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd,
    vfio_device_detach_iommufd_pt, vfio_device_info, vfio_group_status, vfio_iommu_type1_dma_map,
    vfio_iommu_type1_dma_unmap, vfio_iommu_type1_info, vfio_irq_info, vfio_region_info,
};
use vfnic_hw::IovaRange;

use crate::caps;

/// A call the kernel refused.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Its name, with the arguments that matter.
    pub(crate) call: String,
    pub(crate) source: io::Error,
}

impl Failed {
    pub(crate) fn errno(&self) -> Option<c_int> {
        self.source.raw_os_error()
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.source)
    }
}

/// What the argument of an ioctl is; decides how it may be called.
struct ByValue;
/// The argument points to a `T`, of which the kernel reads and writes at most `size_of_val` bytes: every structure of
/// these interfaces begins with its size or has a fixed one.
struct ByRef<T: ?Sized>(PhantomData<fn(&mut T)>);

/// An ioctl: its number, its name for messages, and what its argument is. All of them are made in this file.
struct Ioctl<A> {
    number: u32,
    name: &'static str,
    argument: PhantomData<A>,
}

impl<A> Ioctl<A> {
    const fn vfio(number: u32, name: &'static str) -> Self {
        Self::new(100 + number, name)
    }

    const fn iommufd(number: u32, name: &'static str) -> Self {
        Self::new(0x80 + number, name)
    }

    /// Both interfaces number their calls without direction or size: type `;` and a number.
    const fn new(number: u32, name: &'static str) -> Self {
        Self {
            number: (b';' as u32) << 8 | number,
            name,
            argument: PhantomData,
        }
    }

    /// A failure that a test has planned for this call. There are none outside of tests.
    #[cfg(test)]
    fn planned(&self, detail: &str) -> Option<Failed> {
        faults::next().map(|source| Failed {
            call: format!("{}{detail}", self.name),
            source,
        })
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "as the other one")]
    const fn planned(&self, _: &str) -> Option<Failed> {
        None
    }

    fn failed(&self, detail: &str) -> Failed {
        Failed {
            source: io::Error::last_os_error(),
            call: format!("{}{detail}", self.name),
        }
    }
}

const GET_API_VERSION: Ioctl<ByValue> = Ioctl::vfio(0, "VFIO_GET_API_VERSION");
const CHECK_EXTENSION: Ioctl<ByValue> = Ioctl::vfio(1, "VFIO_CHECK_EXTENSION");
const SET_IOMMU: Ioctl<ByValue> = Ioctl::vfio(2, "VFIO_SET_IOMMU");
const GROUP_GET_STATUS: Ioctl<ByRef<vfio_group_status>> = Ioctl::vfio(3, "VFIO_GROUP_GET_STATUS");
const GROUP_SET_CONTAINER: Ioctl<ByRef<c_int>> = Ioctl::vfio(4, "VFIO_GROUP_SET_CONTAINER");
const GROUP_GET_DEVICE_FD: Ioctl<ByRef<[u8]>> = Ioctl::vfio(6, "VFIO_GROUP_GET_DEVICE_FD");
const DEVICE_GET_INFO: Ioctl<ByRef<vfio_device_info>> = Ioctl::vfio(7, "VFIO_DEVICE_GET_INFO");
const DEVICE_GET_REGION_INFO: Ioctl<ByRef<RegionInfo>> =
    Ioctl::vfio(8, "VFIO_DEVICE_GET_REGION_INFO");
const DEVICE_GET_IRQ_INFO: Ioctl<ByRef<vfio_irq_info>> = Ioctl::vfio(9, "VFIO_DEVICE_GET_IRQ_INFO");
const DEVICE_SET_IRQS: Ioctl<ByRef<[u32]>> = Ioctl::vfio(10, "VFIO_DEVICE_SET_IRQS");
const DEVICE_RESET: Ioctl<ByValue> = Ioctl::vfio(11, "VFIO_DEVICE_RESET");
const IOMMU_GET_INFO: Ioctl<ByRef<Type1Info>> = Ioctl::vfio(12, "VFIO_IOMMU_GET_INFO");
const IOMMU_MAP_DMA: Ioctl<ByRef<vfio_iommu_type1_dma_map>> = Ioctl::vfio(13, "VFIO_IOMMU_MAP_DMA");
const IOMMU_UNMAP_DMA: Ioctl<ByRef<vfio_iommu_type1_dma_unmap>> =
    Ioctl::vfio(14, "VFIO_IOMMU_UNMAP_DMA");
const DEVICE_BIND_IOMMUFD: Ioctl<ByRef<vfio_device_bind_iommufd>> =
    Ioctl::vfio(18, "VFIO_DEVICE_BIND_IOMMUFD");
const DEVICE_ATTACH_IOMMUFD_PT: Ioctl<ByRef<vfio_device_attach_iommufd_pt>> =
    Ioctl::vfio(19, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
const DEVICE_DETACH_IOMMUFD_PT: Ioctl<ByRef<vfio_device_detach_iommufd_pt>> =
    Ioctl::vfio(20, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
const IOMMU_DESTROY: Ioctl<ByRef<iommu_destroy>> = Ioctl::iommufd(0, "IOMMU_DESTROY");
const IOMMU_IOAS_ALLOC: Ioctl<ByRef<iommu_ioas_alloc>> = Ioctl::iommufd(1, "IOMMU_IOAS_ALLOC");
const IOMMU_IOAS_IOVA_RANGES: Ioctl<ByRef<iommu_ioas_iova_ranges>> =
    Ioctl::iommufd(4, "IOMMU_IOAS_IOVA_RANGES");
const IOMMU_IOAS_MAP: Ioctl<ByRef<iommu_ioas_map>> = Ioctl::iommufd(5, "IOMMU_IOAS_MAP");
const IOMMU_IOAS_UNMAP: Ioctl<ByRef<iommu_ioas_unmap>> = Ioctl::iommufd(6, "IOMMU_IOAS_UNMAP");

impl Ioctl<ByValue> {
    fn call(&self, file: &File, value: u32) -> Result<c_int, Failed> {
        loop {
            let failed = if let Some(failed) = self.planned("") {
                failed
            } else {
                // SAFETY: the argument is a number to this ioctl; the kernel follows no pointer.
                let result = unsafe {
                    libc::ioctl(
                        file.as_raw_fd(),
                        libc::Ioctl::from(self.number),
                        libc::c_ulong::from(value),
                    )
                };
                if result >= 0 {
                    return Ok(result);
                }
                self.failed("")
            };
            if failed.errno() != Some(libc::EINTR) {
                return Err(failed);
            }
        }
    }
}

impl<T: ?Sized> Ioctl<ByRef<T>> {
    fn call(&self, file: &File, argument: &mut T) -> Result<c_int, Failed> {
        self.call_about(file, argument, "")
    }

    /// `detail` ends up behind the call's name in an error.
    fn call_about(&self, file: &File, argument: &mut T, detail: &str) -> Result<c_int, Failed> {
        let argument = ptr::from_mut(argument).cast::<libc::c_void>();
        let (fd, number) = (file.as_raw_fd(), libc::Ioctl::from(self.number));
        loop {
            let failed = if let Some(failed) = self.planned(detail) {
                failed
            } else {
                // SAFETY: `ByRef`'s contract, kept by the constants above and their callers in this file: `argument` is
                // the structure this ioctl takes, exclusively borrowed, its size field is not larger than it is, and the
                // pointers inside it are to memory that lives and may be accessed for the length of the call.
                let result = unsafe { libc::ioctl(fd, number, argument) };
                if result >= 0 {
                    return Ok(result);
                }
                self.failed(detail)
            };
            if failed.errno() != Some(libc::EINTR) {
                return Err(failed);
            }
        }
    }
}

/// The size field of a structure.
#[expect(
    clippy::cast_possible_truncation,
    reason = "kernel structures are small"
)]
const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

/// A structure with room for capabilities behind it. 64-bit words, for the alignment of what is inside.
#[derive(Clone, Copy)]
#[repr(C)]
struct Roomy<T, const WORDS: usize> {
    head: T,
    tail: [u64; WORDS],
}

impl<T: Copy, const WORDS: usize> Roomy<T, WORDS> {
    /// All the bytes, for the capability parser, which counts offsets from the structure's start: `head` bytes that it
    /// does not look at, then the tail.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<T>()];
        bytes.extend(self.tail.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }
}

/// 500 ranges; machines have a handful.
type Type1Info = Roomy<vfio_iommu_type1_info, 1000>;
/// 60 sparse areas; devices have one or two.
type RegionInfo = Roomy<vfio_region_info, 124>;

/// The version of VFIO's container interface; 0 is the only one there has been.
pub(crate) fn api_version(container: &File) -> Result<c_int, Failed> {
    GET_API_VERSION.call(container, 0)
}

/// Whether the container can have the type 1 IOMMU driver, second version (unmapping takes whole mappings only).
pub(crate) fn has_type1(container: &File) -> Result<bool, Failed> {
    Ok(CHECK_EXTENSION.call(container, VFIO_TYPE1v2_IOMMU)? == 1)
}

/// Gives the container the type 1 IOMMU driver, once it has a group.
pub(crate) fn set_type1(container: &File) -> Result<(), Failed> {
    SET_IOMMU.call(container, VFIO_TYPE1v2_IOMMU).map(drop)
}

/// The status bits of a group.
pub(crate) fn group_flags(group: &File) -> Result<u32, Failed> {
    let mut status = vfio_group_status {
        argsz: size::<vfio_group_status>(),
        flags: 0,
    };
    GROUP_GET_STATUS.call(group, &mut status)?;
    Ok(status.flags)
}

/// Puts a group into a container; closing the group takes it out again.
pub(crate) fn set_container(group: &File, container: &File) -> Result<(), Failed> {
    GROUP_SET_CONTAINER
        .call(group, &mut container.as_raw_fd())
        .map(drop)
}

/// Opens a device of a group. `name` is its address, with options after a space.
pub(crate) fn group_device(group: &File, name: &str) -> Result<File, Failed> {
    let mut text: Vec<u8> = name.bytes().filter(|&byte| byte != 0).collect();
    text.push(0);
    let fd = GROUP_GET_DEVICE_FD.call(group, &mut text[..])?;
    // SAFETY: the kernel just made this descriptor for us (close-on-exec), and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

/// The flags of a device.
pub(crate) fn device_flags(device: &File) -> Result<u32, Failed> {
    let mut info = vfio_device_info {
        argsz: size::<vfio_device_info>(),
        ..Default::default()
    };
    DEVICE_GET_INFO.call(device, &mut info)?;
    Ok(info.flags)
}

/// A region of a device: where it is in the device's file, and how it can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) flags: u32,
    pub(crate) size: u64,
    pub(crate) offset: u64,
    /// The parts that can be mapped as (offset, length); `None` is all of it.
    pub(crate) sparse: Option<Vec<(u64, u64)>>,
}

/// Asks for a region.
pub(crate) fn region(device: &File, index: u32) -> Result<Region, Failed> {
    let mut info = RegionInfo {
        head: vfio_region_info {
            argsz: size::<RegionInfo>(),
            index,
            ..Default::default()
        },
        tail: [0; _],
    };
    DEVICE_GET_REGION_INFO.call_about(device, &mut info, &format!(" {index}"))?;
    let has_caps = info.head.flags & VFIO_REGION_INFO_FLAG_CAPS != 0;
    Ok(Region {
        flags: info.head.flags,
        size: info.head.size,
        offset: info.head.offset,
        sparse: has_caps
            .then(|| caps::sparse_areas(&info.bytes(), info.head.cap_offset))
            .flatten(),
    })
}

/// How many interrupts of a kind a device has.
pub(crate) fn irq_count(device: &File, index: u32) -> Result<u32, Failed> {
    let mut info = vfio_irq_info {
        argsz: size::<vfio_irq_info>(),
        index,
        ..Default::default()
    };
    DEVICE_GET_IRQ_INFO.call_about(device, &mut info, &format!(" {index}"))?;
    Ok(info.count)
}

/// Routes the first interrupts of a kind to eventfds.
pub(crate) fn set_irqs(device: &File, index: u32, events: &[BorrowedFd<'_>]) -> Result<(), Failed> {
    let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    let fds = events.iter().map(|fd| fd.as_raw_fd().cast_unsigned());
    irq_set(device, flags, index, fds.collect())
}

/// Switches a kind of interrupt off.
pub(crate) fn clear_irqs(device: &File, index: u32) -> Result<(), Failed> {
    let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    irq_set(device, flags, index, Vec::new())
}

fn irq_set(device: &File, flags: u32, index: u32, data: Vec<u32>) -> Result<(), Failed> {
    // `vfio_irq_set`: size, flags, index, first, count, then the data.
    let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut set = vec![20 + 4 * count, flags, index, 0, count];
    set.extend(data);
    DEVICE_SET_IRQS
        .call_about(device, &mut set[..], &format!(" {index}, {count} events"))
        .map(drop)
}

/// Resets a function; returns when it can be used again.
pub(crate) fn reset(device: &File) -> Result<(), Failed> {
    DEVICE_RESET.call(device, 0).map(drop)
}

/// What an IOMMU can map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Where; `None` where the kernel does not say.
    pub(crate) ranges: Option<Vec<IovaRange>>,
    /// The smallest page, bytes.
    pub(crate) page: u64,
}

/// Asks the container's type 1 driver what can be mapped.
pub(crate) fn type1_reach(container: &File) -> Result<Reach, Failed> {
    let mut info = Box::new(Type1Info {
        head: vfio_iommu_type1_info {
            argsz: size::<Type1Info>(),
            ..Default::default()
        },
        tail: [0; _],
    });
    IOMMU_GET_INFO.call(container, &mut info)?;
    let sizes = info.head.iova_pgsizes;
    let has_sizes = info.head.flags & VFIO_IOMMU_INFO_PGSIZES != 0 && sizes != 0;
    let has_caps = info.head.flags & VFIO_IOMMU_INFO_CAPS != 0;
    Ok(Reach {
        ranges: has_caps
            .then(|| caps::iova_ranges(&info.bytes(), info.head.cap_offset))
            .flatten(),
        page: if has_sizes {
            sizes & sizes.wrapping_neg()
        } else {
            4096
        },
    })
}

/// Lets the container's devices read and write `memory` at `iova`.
///
/// The pages stay pinned, and so nobody else's, until they are unmapped, whatever happens to `memory`.
pub(crate) fn type1_map(container: &File, memory: &MmapRaw, iova: u64) -> Result<(), Failed> {
    let mut map = vfio_iommu_type1_dma_map {
        argsz: size::<vfio_iommu_type1_dma_map>(),
        flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: memory.as_mut_ptr().expose_provenance() as u64,
        iova,
        size: memory.len() as u64,
    };
    IOMMU_MAP_DMA.call(container, &mut map).map(drop)
}

/// Ends a mapping; returns how many bytes of mappings ended, which may be fewer than were asked for.
pub(crate) fn type1_unmap(container: &File, iova: u64, len: u64) -> Result<u64, Failed> {
    let mut unmap = vfio_iommu_type1_dma_unmap {
        argsz: size::<vfio_iommu_type1_dma_unmap>(),
        iova,
        size: len,
        ..Default::default()
    };
    IOMMU_UNMAP_DMA.call(container, &mut unmap)?;
    Ok(unmap.size)
}

/// Ties a device's own node to an iommufd; `token` is the PF's secret, where its owner is a VFIO user too.
pub(crate) fn bind_iommufd(
    device: &File,
    iommufd: &File,
    token: Option<[u8; 16]>,
) -> Result<(), Failed> {
    let mut bind = vfio_device_bind_iommufd {
        // Kernels older than the token know the structure only this far.
        argsz: 16,
        iommufd: iommufd.as_raw_fd(),
        ..Default::default()
    };
    if let Some(token) = &token {
        bind.argsz = size::<vfio_device_bind_iommufd>();
        bind.flags = VFIO_DEVICE_BIND_FLAG_TOKEN;
        bind.token_uuid_ptr = token.as_ptr().expose_provenance() as u64;
    }
    DEVICE_BIND_IOMMUFD.call(device, &mut bind).map(drop)
}

/// Gives a device the address space `ioas`.
pub(crate) fn attach_ioas(device: &File, ioas: u32) -> Result<(), Failed> {
    let mut attach = vfio_device_attach_iommufd_pt {
        // Likewise: without the PASID.
        argsz: 12,
        pt_id: ioas,
        ..Default::default()
    };
    DEVICE_ATTACH_IOMMUFD_PT.call(device, &mut attach).map(drop)
}

/// Takes a device's address space away: none of its DMA is translated any more.
pub(crate) fn detach_ioas(device: &File) -> Result<(), Failed> {
    let mut detach = vfio_device_detach_iommufd_pt {
        argsz: 8,
        ..Default::default()
    };
    DEVICE_DETACH_IOMMUFD_PT.call(device, &mut detach).map(drop)
}

/// Makes an address space.
pub(crate) fn ioas_alloc(iommufd: &File) -> Result<u32, Failed> {
    let mut alloc = iommu_ioas_alloc {
        size: size::<iommu_ioas_alloc>(),
        ..Default::default()
    };
    IOMMU_IOAS_ALLOC.call(iommufd, &mut alloc)?;
    Ok(alloc.out_ioas_id)
}

/// Destroys an address space that no device uses.
pub(crate) fn ioas_destroy(iommufd: &File, ioas: u32) -> Result<(), Failed> {
    let mut destroy = iommu_destroy {
        size: size::<iommu_destroy>(),
        id: ioas,
    };
    IOMMU_DESTROY.call(iommufd, &mut destroy).map(drop)
}

/// Asks what an address space can map.
pub(crate) fn ioas_reach(iommufd: &File, ioas: u32) -> Result<Reach, Failed> {
    let mut room = vec![iommu_iova_range::default(); 500];
    let mut ask = iommu_ioas_iova_ranges {
        size: size::<iommu_ioas_iova_ranges>(),
        ioas_id: ioas,
        num_iovas: 500,
        allowed_iovas: room.as_mut_ptr().expose_provenance() as u64,
        ..Default::default()
    };
    IOMMU_IOAS_IOVA_RANGES.call(iommufd, &mut ask)?;
    let ranges = room.iter().take(ask.num_iovas as usize);
    Ok(Reach {
        ranges: Some(
            ranges
                .map(|range| IovaRange {
                    start: range.start,
                    end: range.last,
                })
                .collect(),
        ),
        page: ask.out_iova_alignment.max(1),
    })
}

/// As [`type1_map`], in an address space.
pub(crate) fn ioas_map(
    iommufd: &File,
    ioas: u32,
    memory: &MmapRaw,
    iova: u64,
) -> Result<(), Failed> {
    let mut map = iommu_ioas_map {
        size: size::<iommu_ioas_map>(),
        flags: iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA
            | iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE
            | iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE,
        ioas_id: ioas,
        user_va: memory.as_mut_ptr().expose_provenance() as u64,
        length: memory.len() as u64,
        iova,
        ..Default::default()
    };
    IOMMU_IOAS_MAP.call(iommufd, &mut map).map(drop)
}

/// As [`type1_unmap`], in an address space.
pub(crate) fn ioas_unmap(iommufd: &File, ioas: u32, iova: u64, len: u64) -> Result<u64, Failed> {
    let mut unmap = iommu_ioas_unmap {
        size: size::<iommu_ioas_unmap>(),
        ioas_id: ioas,
        iova,
        length: len,
    };
    IOMMU_IOAS_UNMAP.call(iommufd, &mut unmap)?;
    Ok(unmap.length)
}

/// What a test wants the next ioctls of its thread to come to, each once: an errno, or to be let through.
#[cfg(test)]
pub(crate) mod faults {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::io;

    thread_local! {
        static PLAN: RefCell<VecDeque<Option<i32>>> = const { RefCell::new(VecDeque::new()) };
    }

    pub(crate) fn plan(calls: impl IntoIterator<Item = Option<i32>>) {
        PLAN.set(calls.into_iter().collect());
    }

    /// How many planned calls have not been made.
    pub(crate) fn left() -> usize {
        PLAN.with_borrow(VecDeque::len)
    }

    pub(crate) fn next() -> Option<io::Error> {
        PLAN.with_borrow_mut(VecDeque::pop_front)
            .flatten()
            .map(io::Error::from_raw_os_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h25_an_interrupted_call_is_made_again_and_nothing_else_is() {
        let file = File::open("/dev/null").unwrap();
        for interruptions in 0..4 {
            faults::plan(vec![Some(libc::EINTR); interruptions]);
            // By value and by reference.
            assert_eq!(reset(&file).unwrap_err().errno(), Some(libc::ENOTTY));
            assert_eq!(faults::left(), 0);
            faults::plan(vec![Some(libc::EINTR); interruptions]);
            assert_eq!(region(&file, 0).unwrap_err().errno(), Some(libc::ENOTTY));
            assert_eq!(faults::left(), 0);
        }
        // Everything else is the caller's to judge.
        for errno in [libc::EAGAIN, libc::ENOMEM, libc::EIO] {
            faults::plan([Some(errno), Some(libc::EINTR)]);
            assert_eq!(device_flags(&file).unwrap_err().errno(), Some(errno));
            assert_eq!(faults::left(), 1);
        }
        faults::plan([]);
    }

    /// Against the numbers of the kernel's own headers, written out.
    #[test]
    fn ioctl_numbers() {
        let numbers = [
            (GET_API_VERSION.number, 0x3b64),
            (CHECK_EXTENSION.number, 0x3b65),
            (SET_IOMMU.number, 0x3b66),
            (GROUP_GET_STATUS.number, 0x3b67),
            (GROUP_SET_CONTAINER.number, 0x3b68),
            (GROUP_GET_DEVICE_FD.number, 0x3b6a),
            (DEVICE_GET_INFO.number, 0x3b6b),
            (DEVICE_GET_REGION_INFO.number, 0x3b6c),
            (DEVICE_GET_IRQ_INFO.number, 0x3b6d),
            (DEVICE_SET_IRQS.number, 0x3b6e),
            (DEVICE_RESET.number, 0x3b6f),
            (IOMMU_GET_INFO.number, 0x3b70),
            (IOMMU_MAP_DMA.number, 0x3b71),
            (IOMMU_UNMAP_DMA.number, 0x3b72),
            (DEVICE_BIND_IOMMUFD.number, 0x3b76),
            (DEVICE_ATTACH_IOMMUFD_PT.number, 0x3b77),
            (DEVICE_DETACH_IOMMUFD_PT.number, 0x3b78),
            (IOMMU_DESTROY.number, 0x3b80),
            (IOMMU_IOAS_ALLOC.number, 0x3b81),
            (IOMMU_IOAS_IOVA_RANGES.number, 0x3b84),
            (IOMMU_IOAS_MAP.number, 0x3b85),
            (IOMMU_IOAS_UNMAP.number, 0x3b86),
        ];
        for (ours, kernel) in numbers {
            assert_eq!(ours, kernel);
        }
    }

    #[test]
    fn structure_sizes() {
        assert_eq!(size_of::<vfio_group_status>(), 8);
        assert_eq!(size_of::<vfio_device_info>(), 24);
        assert_eq!(size_of::<vfio_region_info>(), 32);
        assert_eq!(size_of::<vfio_irq_info>(), 16);
        assert_eq!(size_of::<vfio_iommu_type1_info>(), 24);
        assert_eq!(size_of::<vfio_iommu_type1_dma_map>(), 32);
        assert_eq!(size_of::<vfio_iommu_type1_dma_unmap>(), 24);
        assert_eq!(size_of::<vfio_device_bind_iommufd>(), 24);
        assert_eq!(size_of::<vfio_device_attach_iommufd_pt>(), 16);
        assert_eq!(size_of::<vfio_device_detach_iommufd_pt>(), 12);
        assert_eq!(size_of::<iommu_destroy>(), 8);
        assert_eq!(size_of::<iommu_ioas_alloc>(), 12);
        assert_eq!(size_of::<iommu_iova_range>(), 16);
        assert_eq!(size_of::<iommu_ioas_iova_ranges>(), 32);
        assert_eq!(size_of::<iommu_ioas_map>(), 40);
        assert_eq!(size_of::<iommu_ioas_unmap>(), 24);
        // The capabilities start right behind the structure they belong to.
        assert_eq!(std::mem::offset_of!(Type1Info, tail), 24);
        assert_eq!(std::mem::offset_of!(RegionInfo, tail), 32);
    }

    /// A file that knows no such call: every wrapper says which call it was and keeps the errno.
    #[test]
    fn a_refusal_keeps_its_errno() {
        let file = File::open("/dev/null").unwrap();
        let failures = [
            api_version(&file).unwrap_err(),
            has_type1(&file).unwrap_err(),
            set_type1(&file).unwrap_err(),
            group_flags(&file).unwrap_err(),
            set_container(&file, &file).unwrap_err(),
            group_device(&file, "0000:31:10.1").unwrap_err(),
            device_flags(&file).unwrap_err(),
            region(&file, 0).unwrap_err(),
            irq_count(&file, 2).unwrap_err(),
            set_irqs(&file, 2, &[]).unwrap_err(),
            clear_irqs(&file, 2).unwrap_err(),
            reset(&file).unwrap_err(),
            type1_reach(&file).unwrap_err(),
            type1_unmap(&file, 0, 4096).unwrap_err(),
            bind_iommufd(&file, &file, Some([0; 16])).unwrap_err(),
            attach_ioas(&file, 1).unwrap_err(),
            detach_ioas(&file).unwrap_err(),
            ioas_alloc(&file).unwrap_err(),
            ioas_destroy(&file, 1).unwrap_err(),
            ioas_reach(&file, 1).unwrap_err(),
            ioas_unmap(&file, 1, 0, 4096).unwrap_err(),
        ];
        for failed in failures {
            assert_eq!(failed.errno(), Some(libc::ENOTTY), "{failed}");
            assert!(failed.call.starts_with("VFIO_") || failed.call.starts_with("IOMMU_"));
        }
    }
}
