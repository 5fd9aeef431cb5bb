//! Rings that are none: misplaced, of impossible length, out of memory. The card refuses or stops them, and goes on.

use vfnic_hw::Model;
use vfnic_sim::data::{Ring, RingViolation, RxSettings};

use crate::rig::{Rig, frame, mac};
use crate::vf::SIZE;

#[test]
fn g1_a_tail_beyond_the_ring_is_empty_and_told_once() {
    let mut rig = Rig::new(Model::I82599, 2);
    for tail in [SIZE, SIZE + 1, 0xffff, u32::MAX] {
        rig.path.tx(0, 0).expect("a queue").tail_word().store(tail);
        rig.tick();
        rig.tick();
        assert!(!rig.path.has_work());
    }
    rig.path
        .rx(1, 0)
        .expect("a queue")
        .tail_word()
        .store(70_000);
    rig.send(0, &frame(mac(1), mac(0), 60));
    let told = rig
        .log
        .violations
        .iter()
        .filter(|told| told.2 == RingViolation::TailBeyondRing);
    assert_eq!(told.count(), 5);
    assert!(rig.frames(1).is_empty());
}

/// A queue pair given a ring that cannot be: refused at enabling, with the bit reading back all the same.
fn refused_at_enabling(rig: &mut Rig, ring: Ring, head: u32, wanted: RingViolation) {
    let tx = rig.path.tx(0, 0).expect("a queue");
    tx.disable();
    tx.set_ring(ring);
    tx.set_head(head);
    tx.tail_word().store(1);
    assert_eq!(tx.enable(), Err(wanted));
    assert!(tx.is_enabled(), "the bit reads back all the same");
    rig.tick();
    let rx = rig.path.rx(0, 0).expect("a queue");
    rx.disable();
    rx.set_ring(ring);
    rx.set_head(head);
    assert_eq!(rx.enable(), Err(wanted));
}

#[test]
fn g2_rings_of_impossible_length_are_refused_at_enabling() {
    let mut rig = Rig::new(Model::X540, 1);
    let base = rig.vfs[0].base;
    for len in [0, 100, 127, 1 << 20, !127] {
        refused_at_enabling(&mut rig, Ring { base, len }, 0, RingViolation::BadLength);
    }
    let ring = Ring { base, len: 128 };
    refused_at_enabling(&mut rig, ring, 8, RingViolation::HeadBeyondRing);
    let rx = rig.path.rx(0, 0).expect("a queue");
    rx.disable();
    rx.set_head(0);
    rx.set_ring(ring);
    rx.set_settings(RxSettings::decode(Model::X540, 0x0200_0000, 0));
    assert_eq!(rx.enable(), Err(RingViolation::NoBufferSize));
}

#[test]
fn g3_a_misaligned_ring_base_is_refused_at_enabling() {
    let mut rig = Rig::new(Model::X540, 1);
    let base = rig.vfs[0].base;
    for (base, len) in [(base + 64, 128), (base + 1, 256), (u64::MAX - 127, 256)] {
        refused_at_enabling(
            &mut rig,
            Ring { base, len },
            0,
            RingViolation::BaseMisaligned,
        );
    }
}

#[test]
fn g3_a_ring_that_is_half_mapped_faults_where_it_ends() {
    let mut rig = Rig::new(Model::I82599, 2);
    // One page of ring where the registers say two; another at the very end of the addresses.
    let page = rig.vfs[0].space.map(0x6000_0000, 4096);
    for words in page.words().chunks_exact(2) {
        words[0].store(0, std::sync::atomic::Ordering::Relaxed);
        words[1].store(0, std::sync::atomic::Ordering::Relaxed);
    }
    for (base, len, tail) in [(0x6000_0000, 8192, 511), (u64::MAX - 8191, 4096, 255)] {
        rig.log.faults.clear();
        let tx = rig.path.tx(0, 0).expect("a queue");
        tx.disable();
        tx.set_ring(Ring { base, len });
        tx.set_head(0);
        tx.tail_word().store(tail);
        tx.enable().expect("nothing is wrong with the numbers");
        for _ in 0..50 {
            rig.tick();
        }
        assert_eq!(rig.log.faults.len(), 1, "{base:#x}: {:?}", rig.log.faults);
        assert!(!rig.path.has_work(), "{base:#x}: the queue has stopped");
    }
    rig.send(1, &frame(mac(1), mac(1), 60));
    rig.start(0, RxSettings::decode(Model::I82599, 0x0200_0002, 0));
    rig.send(1, &frame(mac(0), mac(1), 60));
    assert_eq!(rig.frames(0).len(), 1, "and can be started again");
}

#[test]
fn g3_a_ring_that_is_not_mapped_stops_its_queue() {
    let mut rig = Rig::new(Model::I82599, 2);
    let tx = rig.path.tx(0, 0).expect("a queue");
    tx.disable();
    tx.set_ring(Ring {
        base: 0x1234_0000,
        len: 4096,
    });
    tx.tail_word().store(5);
    tx.enable().expect("nothing is wrong with the numbers");
    rig.tick();
    rig.tick();
    assert_eq!(rig.log.faults.len(), 1);
    assert_eq!(
        (rig.log.faults[0].iova, rig.log.faults[0].write),
        (0x1234_0000, false)
    );
    assert!(!rig.path.has_work());
}
