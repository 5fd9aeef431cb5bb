//! IOVA spaces.

use std::sync::Arc;

use vfnic_hw::{DmaError, DmaRequest, DmaSpace, Iova, IovaRange, Model};
use vfnic_ring::HeapDma;
use vfnic_sim::{Aperture, Card, Mapping, SimSpace, ViolationKind};

use super::raw::one_vf;

const fn request(len: usize) -> DmaRequest {
    DmaRequest {
        len,
        prefer_huge: false,
    }
}

#[test]
fn addresses_are_low_disjoint_and_not_the_cpus() {
    let space = SimSpace::new();
    let regions: Vec<_> = (1..20)
        .map(|size| space.map(request(size * 3000)).expect("there is room"))
        .collect();
    let mut last = 0;
    for region in &regions {
        let start = region.iova().0;
        assert!(start >= 0x10_0000 && start % 4096 == 0, "{start:#x}");
        assert!(start > last, "an unmapped page lies between two");
        assert_ne!(start, region.base().as_ptr() as u64);
        last = start + region.len() as u64;
    }
    assert!(last < 1 << 32);
    let bytes: usize = regions.iter().map(|region| region.len()).sum();
    assert_eq!(space.mapped_bytes(), bytes as u64);
    drop(regions);
    assert_eq!(space.mapped_bytes(), 0);
}

#[test]
fn apertures_and_reserved_ranges_are_kept() {
    let space = SimSpace::with_aperture(Aperture {
        start: 0x1000,
        end: 0xffff,
        reserved: vec![IovaRange {
            start: 0x4000,
            end: 0x7fff,
        }],
    });
    assert_eq!(
        space.ranges(),
        [
            IovaRange {
                start: 0x1000,
                end: 0x3fff
            },
            IovaRange {
                start: 0x8000,
                end: 0xffff
            }
        ]
    );
    let first = space.map(request(8192)).expect("fits below the hole");
    assert_eq!(first.iova().0, 0x1000);
    let second = space.map(request(8192)).expect("fits above it");
    assert_eq!(second.iova().0, 0x8000);
    assert!(matches!(
        space.map(request(0x8000)),
        Err(DmaError::NoIova { need: 0x8000, .. })
    ));
    drop(first);
    let third = space.map(request(4096)).expect("room above");
    assert_eq!(
        third.iova().0,
        0xb000,
        "what was freed is not used again before it must"
    );
    let fourth = space.map(request(8192)).expect("the last of it");
    assert_eq!(fourth.iova().0, 0xd000);
    let fifth = space.map(request(8192)).expect("now it must");
    assert_eq!(fifth.iova().0, 0x1000);
}

#[test]
fn limits_and_refusals_are_typed() {
    let space = SimSpace::new();
    space.limit_locked(Some(8192));
    let _one = space.map(request(4096)).expect("within the limit");
    assert!(matches!(
        space.map(request(8192)),
        Err(DmaError::Memlock {
            need: 8192,
            locked: 4096,
            allowed: 8192
        })
    ));
    space.limit_locked(None);
    space.refuse_next(1);
    assert!(matches!(
        space.map(request(4096)),
        Err(DmaError::Map { need: 4096, .. })
    ));
    assert!(space.map(request(4096)).is_ok());
}

#[test]
fn a_function_opens_in_a_space_of_its_own_or_a_shared_one() {
    let card = Card::builder(Model::X540)
        .vfs(3)
        .build()
        .expect("a fine card");
    let space = SimSpace::new();
    let shared = [0, 1].map(|vf| card.function_in(vf, &space).expect("free"));
    let own = card.function(2).expect("free");
    let region = shared[0].dma_space().map(request(4096)).expect("room");
    assert_eq!(shared[1].dma_space().mapped_bytes(), 4096);
    assert_eq!(own.dma_space().mapped_bytes(), 0);
    drop(region);
    card.assert_no_violations();
}

#[test]
fn a_ring_unmapped_under_a_live_queue_is_told() {
    let (card, vf) = one_vf(Model::X540);
    let space = vf.function.dma_space();
    let ring = space.map(request(4096)).expect("room");
    let other = space.map(request(4096)).expect("room");
    vf.write(0x1000, u32::try_from(ring.iova().0).expect("low"));
    vf.write(0x1008, 1024);
    vf.write(0x1028, 1 << 25);
    drop(other);
    card.assert_no_violations();
    let iova = ring.iova();
    drop(ring);
    let kinds: Vec<_> = card.take_violations().into_iter().map(|v| v.kind).collect();
    assert_eq!(
        kinds,
        [ViolationKind::UnmapWhileEnabled { iova, len: 4096 }]
    );
}

#[test]
fn memory_stays_until_the_last_region_goes() {
    let space = SimSpace::new();
    let region = space.map(request(4096)).expect("room");
    let clone = region.clone();
    drop(region);
    assert_eq!(space.mapped_bytes(), 4096);
    clone.words()[0].store(7, std::sync::atomic::Ordering::Relaxed);
    drop(clone);
    assert_eq!(space.mapped_bytes(), 0);
    let _: Arc<dyn DmaSpace> = Arc::new(space);
}

#[test]
fn the_end_of_the_address_space_is_only_an_end() {
    let space = SimSpace::with_aperture(Aperture {
        start: u64::MAX - 0x2fff,
        end: u64::MAX,
        reserved: vec![IovaRange {
            start: u64::MAX - 0xfff,
            end: u64::MAX,
        }],
    });
    assert!(matches!(
        space.map(request(8192)),
        Err(DmaError::NoIova { .. })
    ));
    let last = u64::MAX - 0xfff;
    let memory = |iova| Arc::new(HeapDma::new(4096, Iova(iova)).expect("a page"));
    assert!(space.insert(Mapping::new(last, memory(last))));
    assert!(
        !space.insert(Mapping::new(last - 0x800, memory(last))),
        "they overlap"
    );
    assert!(
        space.map(request(4096)).is_ok(),
        "a page and its guard fit below"
    );
    assert_eq!(space.remove(0, u64::MAX), 1);
    assert_eq!(space.mapped_bytes(), 0);
}

/// The first address that `len` bytes get in a space whose addresses are 0x1000 to 0xffff.
fn first_room(reserved: &[(u64, u64)], len: usize) -> Option<u64> {
    let reserved = reserved
        .iter()
        .map(|&(start, end)| IovaRange { start, end });
    let space = SimSpace::with_aperture(Aperture {
        start: 0x1000,
        end: 0xffff,
        reserved: reserved.collect(),
    });
    space.map(request(len)).ok().map(|region| region.iova().0)
}

#[test]
fn memory_and_its_guard_page_keep_clear_of_what_is_reserved_to_the_byte() {
    // Two pages and a guard from 0x1000 on end at 0x3fff.
    assert_eq!(first_room(&[(0x4000, 0x4fff)], 0x2000), Some(0x1000));
    assert_eq!(first_room(&[(0x3fff, 0x4fff)], 0x2000), Some(0x5000));
    assert_eq!(first_room(&[(0, 0xfff)], 0x2000), Some(0x1000));
    assert_eq!(first_room(&[(0, 0x1000)], 0x2000), Some(0x2000));
    // All there is, less the guard.
    assert_eq!(first_room(&[], 0xe000), Some(0x1000));
    assert_eq!(first_room(&[], 0xf000), None);
}

#[test]
fn ranges_are_what_is_left_between_the_holes_even_one_address() {
    let ranges = |reserved: &[(u64, u64)]| {
        let reserved = reserved
            .iter()
            .map(|&(start, end)| IovaRange { start, end });
        let space = SimSpace::with_aperture(Aperture {
            start: 0x1000,
            end: 0x8000,
            reserved: reserved.collect(),
        });
        let ranges = space.ranges();
        let pairs = ranges.iter().map(|range| (range.start, range.end));
        pairs.collect::<Vec<_>>()
    };
    assert_eq!(ranges(&[]), [(0x1000, 0x8000)]);
    assert_eq!(ranges(&[(0x1000, 0x1fff)]), [(0x2000, 0x8000)]);
    assert_eq!(
        ranges(&[(0x1001, 0x7fff)]),
        [(0x1000, 0x1000), (0x8000, 0x8000)]
    );
    assert_eq!(ranges(&[(0x4000, 0x8000)]), [(0x1000, 0x3fff)]);
    assert_eq!(ranges(&[(0, u64::MAX)]), []);
}

#[test]
fn locked_memory_may_reach_its_limit() {
    let space = SimSpace::new();
    space.limit_locked(Some(8192));
    let _all = space.map(request(8192)).expect("exactly the limit");
    assert!(matches!(
        space.map(request(1)),
        Err(DmaError::Memlock { need: 4096, .. })
    ));
}

#[test]
fn mappings_may_touch_and_not_overlap() {
    let space = SimSpace::new();
    let mapping = |iova| {
        let memory = HeapDma::new(8192, Iova(iova)).expect("two pages");
        Mapping::new(iova, Arc::new(memory))
    };
    assert!(space.insert(mapping(0x10_4000)));
    for iova in [0x10_2001, 0x10_3000, 0x10_4000, 0x10_5000, 0x10_5fff] {
        assert!(!space.insert(mapping(iova)), "{iova:#x} overlaps");
    }
    assert!(space.insert(mapping(0x10_2000)), "in front");
    assert!(space.insert(mapping(0x10_6000)), "behind");
    assert_eq!(space.mapped_bytes(), 3 * 8192);
    // What is mapped here has its guard as well: these are in the way up to 0x107fff.
    let low = space.map(request(0x1000)).expect("room");
    assert_eq!(low.iova().0, 0x10_0000);
    drop(low);
    let next = space.map(request(0x1000)).expect("room");
    assert_eq!(next.iova().0, 0x10_9000);
    assert_eq!(space.remove(0x10_4000, 0x10_5fff), 1);
    assert_eq!(space.remove(0x10_2000, 0x10_6000), 2);
}
