//! The newer interface: a device's own node, tied to an iommufd and given an address space there.

use std::fs::File;
use std::os::fd::AsRawFd;

use iommufd_bindings::iommufd::{
    iommu_destroy, iommu_ioas_alloc, iommu_ioas_iova_ranges, iommu_ioas_map, iommu_ioas_unmap,
    iommu_iova_range, iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE,
};
use memmap2::MmapRaw;
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_BIND_FLAG_TOKEN, vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd,
    vfio_device_detach_iommufd_pt,
};
use vfnic_hw::IovaRange;

use super::{
    DEVICE_ATTACH_IOMMUFD_PT, DEVICE_BIND_IOMMUFD, DEVICE_DETACH_IOMMUFD_PT, Failed, IOMMU_DESTROY,
    IOMMU_IOAS_ALLOC, IOMMU_IOAS_IOVA_RANGES, IOMMU_IOAS_MAP, IOMMU_IOAS_UNMAP, Reach, size,
};

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
