use vfnic_hw::IovaRange;

use super::*;
use crate::testing::kernel::device::{CONFIG, Region};

#[test]
fn d62_h29_what_is_no_pci_function_is_refused() {
    for interface in BOTH {
        let (host, kernel) = host();
        // A platform device.
        kernel.state().vf().flags = 1 | 1 << 2;
        let error = open(VF, &by(&host, interface)).unwrap_err();
        assert!(error.to_string().contains("PCI function"), "{error}");
        kernel.assert_at_rest("refused");
    }
}

#[test]
fn d64_config_space_that_is_not_all_there_is_refused_at_opening() {
    let (host, kernel) = host();
    let end = CONFIG + 4096;
    for (size, offset) in [
        // Absent; too short for a header; where nothing can be read; nowhere.
        (0, CONFIG),
        (0x2f, CONFIG),
        (4096, end - 0x20),
        (4096, i64::MAX as u64),
        (u64::MAX, u64::MAX - 4),
    ] {
        for interface in BOTH {
            kernel.state().vf().regions[7] = Region {
                flags: 3,
                size,
                offset,
                caps: None,
            };
            let error = open(VF, &by(&host, interface)).unwrap_err();
            assert!(error.to_string().contains("config space"), "{error}");
            kernel.assert_at_rest("refused");
        }
    }
}

#[test]
fn d61_a_bar_is_as_long_as_it_is_and_mapped_as_far_as_it_may_be() {
    let (host, kernel) = host();
    let bar = |flags, size, caps| {
        kernel.state().vf().regions[0] = Region {
            flags,
            size,
            offset: 0x1_0000,
            caps,
        };
        let function = opened(&host, Interface::Cdev);
        let bar = function.bar(0)?;
        // It works, whichever way it is reached, as far as there is a device behind it.
        bar.write32(0x1000, 0x55);
        assert_eq!(
            bar.read32(0x1000),
            if bar.len() > 0x1000 { 0x55 } else { u32::MAX }
        );
        Ok::<_, PciError>(bar.len())
    };
    for size in [0, 3] {
        let PciError::Bar { have, .. } = bar(7, size, None).unwrap_err() else {
            panic!()
        };
        assert_eq!(have, size);
    }
    assert_eq!(bar(3, 0x4000, None).unwrap(), 0x4000, "not to be mapped");
    assert_eq!(bar(7, 4, None).unwrap(), 4);
    // Larger than a BAR of these can be: what offsets reach. Larger than there is: reached by calls, which fail.
    assert_eq!(bar(3, 1 << 40, None).unwrap(), u32::MAX);
    assert_eq!(bar(7, u64::MAX, None).unwrap(), u32::MAX);

    // Capabilities: a count, then offsets and lengths.
    let sparse = |areas: &[(u64, u64)]| {
        let mut bytes = [1_u16, 1, 0, 0].map(u16::to_ne_bytes).concat();
        let count = u32::try_from(areas.len()).unwrap();
        bytes.extend([count, 0].map(u32::to_ne_bytes).concat());
        for &(start, len) in areas {
            bytes.extend([start, len].map(u64::to_ne_bytes).concat());
        }
        bytes
    };
    let page = sparse(&[(0x1000, 0x1000)]);
    for caps in [
        (32, page.clone()),
        // None that can be mapped; outside, empty, overlapping, not of whole pages; more than there is room for.
        (32, sparse(&[])),
        (
            32,
            sparse(&[(0x3000, 0x2000), (u64::MAX, 2), (0x1000, 0), (0x10, 0x10)]),
        ),
        (32, sparse(&[(0, 0x2000), (0x1000, 0x1000)])),
        (32, sparse(&vec![(0, 0x1000); 200])),
        // The first capability before, behind and in the middle of what there is.
        (0, page.clone()),
        (8, page.clone()),
        (33, page.clone()),
        (u32::MAX, page.clone()),
        // One that is its own next.
        (32, [9_u16, 1, 32, 0].map(u16::to_ne_bytes).concat()),
        // More areas than bytes.
        (
            32,
            [&page[..8], &u32::MAX.to_ne_bytes(), &page[12..]].concat(),
        ),
    ] {
        assert_eq!(
            bar(7, 0x4000, Some(caps.clone())).unwrap(),
            0x4000,
            "{caps:?}"
        );
        kernel.assert_at_rest("closed");
    }
}

#[test]
fn n7_n8_vectors_are_as_many_as_the_kernel_says_and_notices_can_be_missing() {
    let (host, kernel) = host();
    for interface in BOTH {
        // None of a kind, or a kernel that does not know the kind.
        for none in [Some(0), None] {
            kernel.state().vf().irqs = [None, None, Some(0), none, none];
            let function = opened(&host, interface);
            assert_eq!(function.vector_count(), 0);
            assert!(function.error_event().is_none() && function.request_event().is_none());
            let error = function
                .enable_vectors(&[Event::new().unwrap()])
                .unwrap_err();
            assert!(matches!(
                error,
                PciError::Vectors {
                    want: 1,
                    have: 0,
                    ..
                }
            ));
            function.enable_vectors(&[]).unwrap();
        }
        // More than there can be: as many as are used are taken.
        kernel.state().vf().irqs = [None, None, Some(u32::MAX), Some(7), Some(7)];
        let function = opened(&host, interface);
        assert_eq!(function.vector_count(), u32::MAX);
        function.enable_vectors(&[Event::new().unwrap()]).unwrap();
        drop(function);
        kernel.assert_at_rest("closed");
    }
    // Events that are refused: no reason not to open for notices, and told for vectors.
    kernel
        .state()
        .refuse
        .insert("VFIO_DEVICE_SET_IRQS", libc::ENOSPC);
    let function = opened(&host, Interface::Cdev);
    assert!(function.error_event().is_none() && function.request_event().is_none());
    let error = function
        .enable_vectors(&[Event::new().unwrap()])
        .unwrap_err();
    assert_eq!(errno(&error), Some(libc::ENOSPC));
}

/// Mappings are made inside what the IOMMU says it reaches, whatever it says and in whichever way.
#[test]
fn h8_mappings_stay_inside_what_the_iommu_says() {
    const MIB: u64 = 1 << 20;
    for interface in BOTH {
        let (host, kernel) = host();
        kernel.state().page_sizes = 0x1000;
        // Out of order, one backwards, one of a page, holes between.
        let ranges = vec![
            (64 * MIB, 65 * MIB - 1),
            (9 * MIB, 8 * MIB),
            (2 * MIB, 2 * MIB + 0xfff),
            (4 * MIB, 4 * MIB + 0x2fff),
        ];
        kernel.state().ranges = ranges;
        let function = opened(&host, interface);
        let space = function.dma_space();
        let regions: Vec<_> = (0..3).map(|_| space.map(PAGE).unwrap()).collect();
        let places: Vec<_> = regions.iter().map(|region| region.iova().0).collect();
        assert_eq!(
            places,
            [2 * MIB, 4 * MIB, 4 * MIB + 0x2000],
            "{interface:?}"
        );
        let large = DmaRequest {
            len: 2 << 20,
            ..PAGE
        };
        let error = space.map(large).unwrap_err();
        assert!(matches!(error, DmaError::NoIova { .. }), "{error}");
        assert!(error.to_string().contains("0x200000-0x200fff"), "{error}");
        drop((regions, space, function));
        kernel.assert_at_rest("closed");

        // A function that joins can make it less; what is mapped stays.
        let (host, kernel) = self::host();
        kernel.function(&host, "0000:31:10.3", 10, "vfio5");
        let space = VfioSpace::new(&by(&host, interface));
        let _one = open_in(VF, &space).unwrap();
        let region = space.map(PAGE).unwrap();
        let hole = region.iova().0 + MIB;
        kernel.state().ranges = vec![(0, MIB + 0xfff), (hole, hole + MIB - 1)];
        let _two = open_in("0000:31:10.3", &space).unwrap();
        assert_eq!(space.map(PAGE).unwrap().iova().0, hole, "{interface:?}");

        // Larger pages are what everything is made of then.
        let (host, kernel) = self::host();
        kernel.state().page_sizes = 0x1_0000;
        let space = VfioSpace::new(&by(&host, interface));
        let _function = open_in(VF, &space).unwrap();
        let refused = space.map(PAGE).unwrap_err();
        assert!(matches!(refused, DmaError::Map { .. }), "{refused}");
        let region = space
            .map(DmaRequest {
                len: 0x1_0000,
                ..PAGE
            })
            .unwrap();
        assert_eq!(region.iova().0 % 0x1_0000, 0);
    }
}

/// A container's capabilities that say nothing, or nonsense: below the interrupts' window of a PC is what is believed.
#[test]
fn d63_h8_without_ranges_what_every_iommu_of_a_pc_has_is_used() {
    let pairs = |count: u32, pairs: &[u64]| {
        let mut bytes = [1_u16, 1, 0, 0].map(u16::to_ne_bytes).concat();
        bytes.extend([count, 0].map(u32::to_ne_bytes).concat());
        bytes.extend(pairs.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    };
    // The capability of another kind that has itself as its next, one that points outside, and one before the first.
    let other = |next: u32| {
        let mut bytes = [2_u16, 1].map(u16::to_ne_bytes).concat();
        bytes.extend(next.to_ne_bytes());
        bytes
    };
    for caps in [
        (24, other(24)),
        (24, other(u32::MAX)),
        (24, other(0)),
        (0, pairs(1, &[0, 1])),
        (u32::MAX, pairs(1, &[0, 1])),
        (24, pairs(u32::MAX, &[0, 1])),
        // More than there is room for: the kernel then says how much room there should be, and no more.
        (24, pairs(600, &vec![7; 1200])),
    ] {
        let (host, kernel) = host();
        kernel.state().type1_caps = Some(caps.clone());
        kernel.state().page_sizes = 0;
        let function = opened(&host, Interface::Group);
        let ranges = function.dma_space().ranges();
        let expected = [IovaRange {
            start: 0,
            end: 0xfedf_ffff,
        }];
        assert_eq!(ranges, expected, "{caps:?}");
        drop(function.dma_space().map(PAGE).unwrap());
    }
}

/// More ranges than anybody asked for room for: the newer interface says so, and the function is not opened with
/// half of them.
#[test]
fn h8_an_address_space_in_more_pieces_than_there_is_room_for_is_refused() {
    let (host, kernel) = host();
    kernel.state().ranges = (1..=600).map(|i| (i << 20, (i << 20) + 0xfff)).collect();
    let error = open(VF, &by(&host, Interface::Cdev)).unwrap_err();
    assert_eq!(errno(&error), Some(libc::EMSGSIZE), "{error}");
    kernel.assert_at_rest("refused");
    kernel.state().ranges.truncate(500);
    drop(opened(&host, Interface::Cdev));
}
