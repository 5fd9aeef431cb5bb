//! Drivers that break every rule: the card neither panics nor loops nor touches what is not mapped, and goes on.

use proptest::prelude::*;
use vfnic_hw::Model;
use vfnic_sim::Mapping;
use vfnic_sim::data::{DropReason, Fault, Point, RingViolation, RxSettings};

use crate::rig::{self, CC, Context, DATA, EOP, RS, Rig, frame, mac, plain};
use crate::vf::{Got, SIZE};

#[test]
fn g4_buffers_that_cannot_be_reached_cost_their_frame() {
    let mut rig = Rig::new(Model::I82599, 2);
    // TX from nowhere.
    rig.vfs[0].put(0, [0xdead_0000, plain(60) & !CC]);
    rig.ring(0, 0);
    rig.tick();
    assert_eq!(rig.log.faults.len(), 1);
    assert_eq!(
        rig.path
            .stats(0)
            .expect("a function")
            .drops
            .get(DropReason::TxFault),
        1
    );
    // RX to nowhere, to NULL, and to memory the card may only read.
    let read_only = {
        let space = &rig.vfs[1].space;
        let memory = std::sync::Arc::new(
            vfnic_ring::HeapDma::new(4096, vfnic_hw::Iova(0x5000_0000)).expect("memory"),
        );
        space.add(Mapping::new(0x5000_0000, memory).with_access(true, false));
        0x5000_0000
    };
    for (index, buffer) in [(0, 0xdead_0000), (1, 0), (2, read_only)] {
        rig.vfs[1].set_rx_descriptor(0, index, [buffer, 0]);
    }
    for _ in 0..4 {
        rig.send(0, &frame(mac(1), mac(0), 60));
    }
    for index in 0..3 {
        // Done, last, and with the error that makes every driver drop it.
        let status = rig.vfs[1].rx_descriptor(0, index)[1];
        assert_eq!(status & 0x2000_0003, 0x2000_0003);
    }
    let stats = rig.path.stats(1).expect("a function");
    assert_eq!(
        (stats.drops.get(DropReason::RxFault), stats.delivered),
        (3, 1)
    );
    assert_eq!(rig.log.faults.len(), 3);
}

#[test]
fn g5_buffers_that_are_registers_rings_or_descriptors_reach_memory_only() {
    for model in Model::ALL {
        let mut rig = Rig::new(model, 3);
        // No address of the BARs is memory: a buffer there is a buffer nowhere.
        let context = Context {
            mac: 14,
            l4t: 3,
            ..Default::default()
        };
        rig.vfs[0].put(0, context.words());
        rig.vfs[0].put(0, [0xfe00_3818, plain(60)]);
        rig.ring(0, 0);
        rig.tick();
        assert_eq!(rig.log.faults.len(), 1, "{model}");
        // Received frames over the receiver's own ring, its sending ring and the descriptor itself; and frames sent from there.
        let (rx, tx) = (rig.vfs[1].rx_ring(0).base, rig.vfs[1].tx_ring(0).base);
        for (index, buffer) in [(0, rx), (1, tx), (2, rx + 2 * 16)] {
            rig.vfs[1].set_rx_descriptor(0, index, [buffer, 0]);
        }
        for _ in 0..4 {
            rig.send(0, &frame(mac(1), mac(0), 1500));
        }
        rig.vfs[1].put(0, context.words());
        for buffer in [rx, tx, tx + 8] {
            rig.vfs[1].put(0, [buffer, plain(1000)]);
        }
        rig.ring(1, 0);
        for _ in 0..20 {
            rig.now += 1_000_000;
            rig.tick();
        }
        assert!(!rig.path.has_work(), "{model}: it comes to an end");
        // Everybody else's memory is as it was, and their traffic goes.
        rig.send(2, &frame(mac(2), mac(2), 60));
        rig.send(0, &frame(mac(2), mac(0), 60));
        let heard = rig.frames(2);
        assert!(heard.iter().all(|frame| frame[..6] == mac(2)), "{model}");
        assert!(!heard.is_empty(), "{model}");
    }
}

#[test]
fn g6_a_ring_of_buffers_that_are_none_drops_and_ends() {
    for model in Model::ALL {
        let mut rig = Rig::new(model, 2);
        for index in 0..SIZE {
            rig.vfs[1].set_rx_descriptor(0, index, [0, 0]);
        }
        for _ in 0..SIZE / 4 {
            for _ in 0..8 {
                rig.post(0, &frame(mac(1), mac(0), 1500));
            }
            rig.ring(0, 0);
            rig.tick();
        }
        let stats = rig.path.stats(1).expect("a function");
        assert_eq!(stats.delivered, 0, "{model}");
        assert_eq!(stats.drops.total(), 2 * u64::from(SIZE), "{model}");
        assert!(!rig.path.has_work(), "{model}");
        // A buffer of no size at all is refused before a frame comes.
        let rx = rig.path.rx(1, 0).expect("a queue");
        rx.disable();
        rx.set_settings(RxSettings::decode(model, 0x0200_0000, 0));
        if model.family() == vfnic_hw::Family::Ixgbevf {
            assert_eq!(rx.enable(), Err(RingViolation::NoBufferSize), "{model}");
        }
        rig.send(0, &frame(mac(1), mac(0), 60));
        assert!(!rig.path.has_work(), "{model}");
    }
}

#[test]
fn g7_chains_without_an_end_are_bounded() {
    for model in [Model::I82599, Model::I82576] {
        let mut rig = Rig::new(model, 2);
        let address = rig.vfs[0].stage(0, &frame(mac(1), mac(0), 2000));
        for _ in 0..SIZE - 1 {
            rig.vfs[0].put(0, [address, DATA | 2000]);
        }
        rig.ring(0, 0);
        rig.tick();
        assert!(!rig.path.has_work(), "it waits for an end");
        rig.got(0, 0);
        // The end comes, and the next frame is a frame again.
        rig.vfs[0].put(0, [address, DATA | EOP | RS | 2000]);
        rig.vfs[0].put(0, [address, plain(60) & !CC]);
        rig.ring(0, 0);
        rig.tick();
        assert_eq!(rig.frames(1).len(), 1, "{model}");
        assert!(
            rig.log
                .violations
                .contains(&(0, 0, RingViolation::TooManyDescriptors))
        );
    }
}

#[test]
fn g10_a_frame_to_oneself_is_queued_and_not_followed() {
    let mut rig = Rig::new(Model::I82599, 2);
    rig.path
        .set_uplink(Box::new(vfnic_sim::uplink::Reflector::new(64)));
    // To itself: out by the wire, back, and in.
    rig.send(0, &frame(mac(0), mac(0), 60));
    rig.tick();
    assert_eq!(rig.frames(0).len(), 1);
}

#[test]
fn g11_work_is_bounded_a_tick_and_others_get_theirs() {
    let mut rig = Rig::new(Model::I82599, 3);
    for _ in 0..100 {
        rig.post(0, &frame(mac(1), mac(0), 60));
    }
    rig.ring(0, 0);
    let tick = rig.path.tick(0, 10, &mut rig.log);
    assert!(tick.more && (10..=11).contains(&tick.frames), "{tick:?}");
    // A ring that its driver fills again and again, 10^5 descriptors in all: a single frame of another waits for no more
    // than a few ticks at any time.
    let mut sent = 0;
    for round in 0..400 {
        for _ in 0..125 {
            rig.post(0, &frame(mac(1), mac(0), 60));
            sent += 2;
        }
        rig.ring(0, 0);
        rig.send(2, &frame(mac(2), mac(2), 60));
        rig.post(2, &frame(mac(1), mac(2), 60));
        rig.ring(2, 0);
        let mut heard = false;
        for _ in 0..8 {
            rig.path.tick(0, 40, &mut rig.log);
            heard |= rig.frames(1).iter().any(|frame| frame[11] == 2);
        }
        assert!(heard, "round {round}");
    }
    assert!(sent >= 100_000);
}

#[test]
fn g12_doorbells_without_work_are_one_doorbell() {
    let mut rig = Rig::new(Model::I82576, 2);
    rig.post(0, &frame(mac(1), mac(0), 60));
    let tail = rig.vfs[0].tx_next[0];
    for _ in 0..1_000_000 {
        rig.path.tx(0, 0).expect("a queue").tail_word().store(tail);
    }
    let tick = rig.tick();
    assert_eq!((tick.frames, tick.more), (1, false));
    // Rung again where there is nothing new, there is nothing to do.
    for _ in 0..1000 {
        rig.ring(0, 0);
        let tick = rig.tick();
        assert_eq!((tick.frames, tick.more), (0, false));
    }
    assert_eq!(rig.frames(1).len(), 1);
    rig.assert_quiet();
}

#[test]
fn g19_a_flood_leaves_the_others_their_turn() {
    let mut rig = Rig::new(Model::I82599, 4);
    for _ in 0..100 {
        rig.post(0, &frame(mac(3), mac(0), 60));
        rig.post(1, &frame(mac(3), mac(1), 60));
    }
    rig.post(2, &frame(mac(3), mac(2), 60));
    for pool in 0..3 {
        rig.ring(pool, 0);
    }
    rig.path.tick(0, 150, &mut rig.log);
    let sources: Vec<u8> = rig.frames(3).iter().map(|frame| frame[11]).collect();
    let of = |pool: u8| sources.iter().filter(|&&source| source == pool).count();
    assert_eq!(of(2), 1);
    assert!(of(0) >= 40 && of(1) >= 40, "{} and {}", of(0), of(1));
}

#[test]
fn the_x550_blocks_a_malicious_queue_until_reset() {
    let good = |rig: &mut Rig| {
        rig.send(0, &frame(mac(1), mac(0), 60));
        rig.frames(1).len()
    };
    for (words, cause) in [
        ([0u64, plain(60) & !CC], RingViolation::NoContext),
        (
            [0, plain(60) & !rig::DEXT],
            RingViolation::BadDescriptorType,
        ),
        (
            [0, 5 << 20 | rig::DEXT | EOP],
            RingViolation::BadDescriptorType,
        ),
        ([0, DATA | CC | EOP], RingViolation::EmptyDescriptor),
        ([0, plain(60) + (1 << 46)], RingViolation::BadPayloadLength),
        ([0, plain(9800)], RingViolation::BadFrameLength),
    ] {
        let mut rig = Rig::new(Model::X550, 2);
        assert_eq!(good(&mut rig), 1);
        let address = rig.vfs[0].stage(0, &frame(mac(1), mac(0), 9800));
        rig.vfs[0].put(0, [address, words[1]]);
        rig.ring(0, 0);
        rig.tick();
        assert_eq!(rig.log.malicious, [(0, 0, cause)]);
        assert_eq!(rig.path.tx(0, 0).expect("a queue").blocked(), Some(cause));
        assert_eq!(good(&mut rig), 0, "nothing more goes");
        rig.path.reset_vf(0);
        rig.start(0, RxSettings::decode(Model::X550, 0x0200_0002, 0));
        assert_eq!(good(&mut rig), 1, "a reset frees it");
    }
}

#[test]
fn planned_faults_happen_where_they_are_planned() {
    let run = |point, fault| {
        let mut rig = Rig::new(Model::I82599, 2);
        rig.log.armed = true;
        rig.log.plan = vec![(point, 2, fault)];
        for _ in 0..3 {
            rig.post(0, &frame(mac(1), mac(0), 60));
        }
        rig.ring(0, 0);
        rig.tick();
        rig
    };
    let lens = |rig: &mut Rig| rig.got(1, 0).iter().map(Got::len).collect::<Vec<_>>();
    let mut rig = run(
        Point::RxWriteBack,
        Fault::Rewrite {
            and: [u64::MAX, 0xffff_0000_ffff_ffff],
            or: [0, 99 << 32],
        },
    );
    assert_eq!(lens(&mut rig), [60, 99, 60]);
    let mut rig = run(Point::RxWriteBack, Fault::Swallow);
    assert_eq!(lens(&mut rig), [60], "the second never comes");
    let mut rig = run(Point::RxWriteBack, Fault::Late { ns: 500 });
    assert_eq!(lens(&mut rig), [60]);
    assert_eq!(rig.path.next_due(), Some(500));
    rig.now = 500;
    rig.tick();
    assert_eq!(
        lens(&mut rig),
        [60, 60],
        "the third was there before the second"
    );
    let mut rig = run(Point::RxWriteBack, Fault::Delay { ns: 500 });
    assert_eq!(lens(&mut rig), [60]);
    rig.now = 500;
    rig.tick();
    assert_eq!(lens(&mut rig), [60, 60]);
    let mut rig = run(Point::Frame, Fault::Duplicate);
    assert_eq!(lens(&mut rig).len(), 4);
    let mut rig = run(Point::Frame, Fault::Swallow);
    assert_eq!(lens(&mut rig).len(), 2);
    assert_eq!(
        rig.path
            .stats(0)
            .expect("a function")
            .drops
            .get(DropReason::Injected),
        1
    );
    let mut rig = run(Point::Frame, Fault::Corrupt(30));
    assert_ne!(rig.got(1, 0)[1].data[30], frame(mac(1), mac(0), 60)[30]);
    let mut rig = run(Point::DmaRead, Fault::Refuse);
    assert_eq!((lens(&mut rig).len(), rig.log.faults.len()), (2, 1));
    // A TX write-back that never comes, and one that comes twice.
    let rig = run(Point::TxWriteBack, Fault::Swallow);
    let done = |rig: &Rig| [1, 3, 5].map(|index| rig.vfs[0].tx_descriptor(0, index)[1] >> 32 & 0xf);
    assert_eq!(done(&rig), [1, 0, 1]);
    let mut rig = run(Point::TxWriteBack, Fault::Again { ns: 9 });
    rig.path.tx(0, 0).expect("a queue").disable();
    for index in 0..8 {
        rig.vfs[0].tx_next[0] = index;
        rig.vfs[0].put(0, [0; 2]);
    }
    rig.now = 9;
    rig.tick();
    assert_eq!(done(&rig), [0, 1, 0], "into the ring's next life");
}

#[test]
fn unmapping_ends_dma_at_once() {
    let mut rig = Rig::new(Model::I82599, 2);
    rig.send(0, &frame(mac(1), mac(0), 60));
    assert_eq!(rig.frames(1).len(), 1);
    // VF 1's memory goes, with descriptors fetched ahead.
    let base = rig.vfs[1].base;
    rig.vfs[1].space.unmap(base);
    rig.send(0, &frame(mac(1), mac(0), 60));
    let words = rig.vfs[1].rx_descriptor(0, 1);
    assert_eq!(words[0], rig.vfs[1].rx_buffer(0, 1), "not written back");
    assert!(!rig.log.faults.is_empty());
    assert!(rig.log.faults.iter().all(|fault| fault.pool == 1));
}

fn anything() -> impl Strategy<Value = [u64; 2]> {
    let address = prop_oneof![
        4 => (0u64..0x40_0000).prop_map(|offset| 0x7_0000_0000 + offset),
        1 => any::<u64>(),
        1 => Just(0u64),
        1 => Just(u64::MAX),
    ];
    let word = prop_oneof![
        2 => any::<u64>(),
        3 => (any::<u64>(), 0u64..3000).prop_map(|(bits, len)| bits & 0xffff_c3f0_fbf0_0000 | DATA | len),
        2 => (any::<u64>(), any::<u64>()).prop_map(|(bits, _)| bits & !(0xf << 20) | 2 << 20 | rig::DEXT),
        2 => (14u64..1600).prop_map(|len| plain(len as usize)),
    ];
    (address, word).prop_map(|(address, word)| [address, word])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn whatever_is_on_the_rings_the_card_survives(
        tx in proptest::collection::vec(anything(), 1..250),
        rx in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..40),
        srrctl in any::<u32>(),
        tails in proptest::collection::vec(any::<u32>(), 0..6),
        model in 0usize..5,
        armed in any::<bool>(),
    ) {
        let model = Model::ALL[model];
        let mut rig = Rig::new(model, 3);
        rig.log.armed = armed;
        rig.path.filters_mut().set_max_frame(9728);
        // VF 1 has odd settings and odd buffers, VF 2 is somebody else's and must not notice.
        let rx_queue = rig.path.rx(1, 0).expect("a queue");
        rx_queue.set_settings(RxSettings::decode(model, srrctl, srrctl.rotate_left(9)));
        for (index, (first, second)) in (0..).zip(rx) {
            rig.vfs[1].set_rx_descriptor(0, index, [first, second]);
        }
        rig.vfs[0].stage(0, &frame(mac(1), mac(0), 4000));
        rig.vfs[0].put(0, Context { mac: 14, l4t: 3, ..Default::default() }.words());
        for words in tx {
            rig.vfs[0].put(0, words);
        }
        rig.ring(0, 0);
        for tail in tails {
            rig.now += 1_000;
            rig.tick();
            rig.path.tx(0, 0).expect("a queue").tail_word().store(tail);
            rig.path.rx(1, 0).expect("a queue").tail_word().store(tail.rotate_left(7));
        }
        for _ in 0..20 {
            rig.now += 1_000_000;
            rig.tick();
        }
        let heard: Vec<_> = rig.frames(2);
        prop_assert!(heard.iter().all(|frame| frame[..6] == [0xff; 6] || frame[0] & 1 != 0 || frame[..6] == mac(2)));
        // The accounts of whatever came of it add up.
        let stats = *rig.path.stats(0).expect("a function");
        prop_assert!(stats.taken >= stats.gptc);
        prop_assert_eq!(stats.taken, stats.gptc + stats.drops.total());
        // And VF 2 still reaches everybody who is well.
        rig.log.armed = false;
        rig.start(0, RxSettings::decode(model, 0x0200_0002, 0));
        rig.path.reset_vf(0);
        rig.start(0, RxSettings::decode(model, 0x0200_0002, 0));
        rig.send(2, &frame(mac(0), mac(2), 60));
        prop_assert_eq!(rig.frames(0).len(), 1);
    }
}

#[test]
fn a_frame_that_waits_when_its_vf_is_reset_is_accounted_for() {
    let mut rig = Rig::new(Model::I82599, 2);
    rig.path.filters_mut().set_queue_drop(1, false);
    rig.path.rx(1, 0).expect("a queue").tail_word().store(0);
    rig.send(0, &frame(mac(1), mac(0), 60));
    rig.path.reset_vf(0);
    rig.tick();
    let stats = rig.path.stats(0).expect("a function");
    assert_eq!((stats.taken, stats.drops.get(DropReason::Aborted)), (1, 1));
}
