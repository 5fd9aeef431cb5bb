use iommufd_bindings::iommufd::iommu_iova_range;

use super::*;
use crate::testing::calls;

#[test]
fn h25_an_interrupted_call_is_made_again_and_nothing_else_is() {
    let file = File::open("/dev/null").unwrap();
    for interruptions in 0..4 {
        calls::plan(vec![Some(libc::EINTR); interruptions]);
        // By value and by reference.
        assert_eq!(reset(&file).unwrap_err().errno(), Some(libc::ENOTTY));
        assert_eq!(calls::left(), 0);
        calls::plan(vec![Some(libc::EINTR); interruptions]);
        assert_eq!(region(&file, 0).unwrap_err().errno(), Some(libc::ENOTTY));
        assert_eq!(calls::left(), 0);
    }
    // Everything else is the caller's to judge.
    for errno in [libc::EAGAIN, libc::ENOMEM, libc::EIO] {
        calls::plan([Some(errno), Some(libc::EINTR)]);
        assert_eq!(device_flags(&file).unwrap_err().errno(), Some(errno));
        assert_eq!(calls::left(), 1);
    }
    calls::plan([]);
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
