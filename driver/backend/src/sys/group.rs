//! The older interface: groups of devices in a container, whose IOMMU driver is type 1.

use std::ffi::c_int;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use memmap2::MmapRaw;
use vfio_bindings::bindings::vfio::{
    VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_INFO_PGSIZES,
    VFIO_TYPE1v2_IOMMU, vfio_group_status, vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap,
    vfio_iommu_type1_info,
};

use super::{
    CHECK_EXTENSION, Failed, GET_API_VERSION, GROUP_GET_DEVICE_FD, GROUP_GET_STATUS,
    GROUP_SET_CONTAINER, IOMMU_GET_INFO, IOMMU_MAP_DMA, IOMMU_UNMAP_DMA, Reach, SET_IOMMU,
    Type1Info, size,
};
use crate::caps;

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
