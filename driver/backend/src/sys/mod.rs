//! Every system call that has no safe wrapper elsewhere: the ioctls of VFIO and iommufd, each as a safe function that
//! keeps the errno.

use std::ffi::c_int;
use std::fmt;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::ptr;

use iommufd_bindings::iommufd::{
    iommu_destroy, iommu_ioas_alloc, iommu_ioas_iova_ranges, iommu_ioas_map, iommu_ioas_unmap,
};
use vfio_bindings::bindings::vfio::{
    vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd, vfio_device_detach_iommufd_pt,
    vfio_device_info, vfio_group_status, vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap,
    vfio_iommu_type1_info, vfio_irq_info, vfio_region_info,
};
use vfnic_hw::IovaRange;

mod device;
mod group;
mod iommufd;
#[cfg(test)]
mod tests;

pub(crate) use device::{Region, clear_irqs, device_flags, irq_count, region, reset, set_irqs};
pub(crate) use group::{
    api_version, group_device, group_flags, has_type1, set_container, set_type1, type1_map,
    type1_reach, type1_unmap,
};
pub(crate) use iommufd::{
    attach_ioas, bind_iommufd, detach_ioas, ioas_alloc, ioas_destroy, ioas_map, ioas_reach,
    ioas_unmap,
};

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

/// An ioctl: its number, its name for messages, and what its argument is. All of them are made below.
struct Ioctl<A> {
    number: u32,
    name: &'static str,
    argument: PhantomData<A>,
}

impl<A> Ioctl<A> {
    const fn vfio(number: u32, name: &'static str) -> Self {
        Self::new(number.saturating_add(100), name)
    }

    const fn iommufd(number: u32, name: &'static str) -> Self {
        Self::new(number.saturating_add(0x80), name)
    }

    /// Both interfaces number their calls without direction or size: type `;` and a number.
    const fn new(number: u32, name: &'static str) -> Self {
        Self {
            number: (b';' as u32) << 8 | number,
            name,
            argument: PhantomData,
        }
    }

    /// Makes the call, and again when it was interrupted. `detail` ends up behind the call's name in an error.
    fn until_answered(
        &self,
        file: &File,
        argument: u64,
        detail: &str,
        call: impl Fn(c_int, libc::Ioctl) -> c_int,
    ) -> Result<c_int, Failed> {
        let (fd, number) = (file.as_raw_fd(), libc::Ioctl::from(self.number));
        loop {
            let result =
                planned(file, self.number, argument).unwrap_or_else(|| match call(fd, number) {
                    result @ 0.. => Ok(result),
                    _ => Err(io::Error::last_os_error()),
                });
            match result {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                other => {
                    return other.map_err(|source| Failed {
                        call: format!("{}{detail}", self.name),
                        source,
                    });
                }
            }
        }
    }
}

/// What a test wants this call to come to. There are no tests outside of tests.
#[cfg(test)]
use crate::testing::calls::answer as planned;

#[cfg(not(test))]
const fn planned(_: &File, _: u32, _: u64) -> Option<io::Result<c_int>> {
    None
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
        self.until_answered(file, value.into(), "", |fd, number| {
            // SAFETY: the argument is a number to this ioctl; the kernel follows no pointer.
            unsafe { libc::ioctl(fd, number, libc::c_ulong::from(value)) }
        })
    }
}

impl<T: ?Sized> Ioctl<ByRef<T>> {
    fn call(&self, file: &File, argument: &mut T) -> Result<c_int, Failed> {
        self.call_about(file, argument, "")
    }

    fn call_about(&self, file: &File, argument: &mut T, detail: &str) -> Result<c_int, Failed> {
        let argument = ptr::from_mut(argument).cast::<libc::c_void>();
        let address = argument.expose_provenance() as u64;
        self.until_answered(file, address, detail, |fd, number| {
            // SAFETY: `ByRef`'s contract, kept by the constants above and their callers in this module: `argument` is
            // the structure this ioctl takes, exclusively borrowed, its size field is not larger than it is, and the
            // pointers inside it are to memory that lives and may be accessed for the length of the call.
            unsafe { libc::ioctl(fd, number, argument) }
        })
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

/// What an IOMMU can map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Where; `None` where the kernel does not say.
    pub(crate) ranges: Option<Vec<IovaRange>>,
    /// The smallest page, bytes.
    pub(crate) page: u64,
}
