//! The IOMMU against a model of a page table: an access is allowed exactly where every page of it is mapped with the right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use vfnic_hw::{Iova, Model};
use vfnic_ring::HeapDma;
use vfnic_sim::{Card, Mapping, SimSpace, ViolationKind};

use super::station::Station;

const PAGE: u64 = 4096;
/// Where the model's pages are: nowhere near what the station itself has mapped.
const BASE: u64 = 0x4000_0000;
const PAGES: u64 = 12;

#[derive(Clone, Debug)]
enum Op {
    Map {
        page: u64,
        pages: u64,
        read: bool,
        write: bool,
    },
    /// Every mapping that starts in these pages.
    Unmap { first: u64, last: u64 },
    /// The card fetches a frame of so many bytes from here.
    Read { at: u64, len: u64 },
    /// The card writes a frame of 60 bytes here.
    Write { at: u64 },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Near a page's end more often than not.
    let place = || (0..PAGES, prop_oneof![0..PAGE / 2, PAGE - 80..PAGE]);
    let map = (0..PAGES, 1u64..4, any::<bool>(), any::<bool>());
    proptest::collection::vec(
        prop_oneof![
            4 => map.prop_map(|(page, pages, read, write)| Op::Map { page, pages, read, write }),
            1 => (0..PAGES, 0u64..3).prop_map(|(first, more)| Op::Unmap { first, last: first + more }),
            4 => (place(), 60u64..1500)
                .prop_map(|((page, offset), len)| Op::Read { at: page * PAGE + offset, len }),
            // Buffers of odd addresses are no matter of the IOMMU's.
            3 => place().prop_map(|(page, offset)| Op::Write { at: page * PAGE + (offset & !1) }),
        ],
        1..40,
    )
}

/// One entry a mapped page: where its mapping starts, and its rights.
type Table = BTreeMap<u64, (u64, bool, bool)>;

/// Whether all of it is in pages with the right.
fn allowed(table: &Table, at: u64, len: u64, write: bool) -> bool {
    (at / PAGE..=(at + len - 1) / PAGE).all(|page| {
        table
            .get(&page)
            .is_some_and(|(_, readable, writable)| if write { *writable } else { *readable })
    })
}

/// Has the card read or write, and says whether it could. Both VFs start anew: a fault may have stopped a queue.
fn access(card: &Card, space: &SimSpace, at: u64, len: u64, write: bool) -> bool {
    let (mut left, mut right) = (Station::within(card, 0, space), Station::new(card, 1));
    if write {
        left.rx_ring.words()[0].store(BASE + at, Ordering::Relaxed);
        right.send(left.mac, 7);
        card.step();
        // What is written back says nothing about the data.
    } else {
        // Data is all zeroes there, so it goes by its address: to nobody, on the wire.
        left.put_tx([
            BASE + at,
            1 << 24 | 1 << 25 | 1 << 27 | 1 << 29 | 3 << 20 | 1 << 39 | len | len << 46,
        ]);
        left.tx_bell.ring(left.tx_next);
        card.step();
    }
    let mut refused = false;
    for violation in card.take_violations() {
        match violation.kind {
            ViolationKind::DmaFault {
                iova, write: was, ..
            } => {
                assert_eq!((violation.vf, was), (0, write), "{iova}");
                assert!(
                    (BASE..BASE + (PAGES + 4) * PAGE).contains(&iova.0),
                    "{iova}"
                );
                refused = true;
            }
            // These stations go without a word.
            ViolationKind::UnmapWhileEnabled { .. }
            | ViolationKind::ResetWithQueuesEnabled { .. } => {}
            other => panic!("{other}"),
        }
    }
    drop((left, right));
    card.take_violations();
    !refused
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn an_access_is_allowed_where_its_pages_are(model in 0usize..5, ops in ops()) {
        let card = Card::builder(Model::ALL[model]).vfs(2).build().expect("a card");
        // Its frames are from nobody.
        card.pf().set_vf_spoofchk(0, false).expect("there");
        let space = SimSpace::new();
        let mut table = Table::new();
        for op in ops {
            match op {
                Op::Map { page, pages, read, write } => {
                    let at = BASE + page * PAGE;
                    let len = usize::try_from(pages * PAGE).expect("small");
                    let memory = Arc::new(HeapDma::new(len, Iova(at)).expect("memory"));
                    let mapping = Mapping::new(at, memory).with_access(read, write);
                    let clear = (page..page + pages).all(|page| !table.contains_key(&page));
                    prop_assert_eq!(space.insert(mapping), clear, "a mapping at page {}", page);
                    if clear {
                        table.extend((page..page + pages).map(|each| (each, (page, read, write))));
                    }
                }
                Op::Unmap { first, last } => {
                    let mut gone: Vec<u64> = table.values().map(|(start, ..)| *start).collect();
                    gone.retain(|start| (first..=last).contains(start));
                    gone.dedup();
                    let count = space.remove(BASE + first * PAGE, BASE + last * PAGE);
                    prop_assert_eq!(count, gone.len());
                    table.retain(|_, (start, ..)| !gone.contains(start));
                }
                Op::Read { at, len } => {
                    let could = access(&card, &space, at, len, false);
                    prop_assert_eq!(could, allowed(&table, at, len, false), "{} bytes read at {:#x}", len, at);
                }
                Op::Write { at } => {
                    let could = access(&card, &space, at, 60, true);
                    prop_assert_eq!(could, allowed(&table, at, 60, true), "60 bytes written at {:#x}", at);
                }
            }
        }
    }
}
