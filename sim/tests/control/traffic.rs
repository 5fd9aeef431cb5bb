//! Control side and data path together: frames move when they should, interrupts tell of them, an unmap is final.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vfnic_hw::{DmaRegion, DmaRequest, Iova, Model};
use vfnic_ring::HeapDma;
use vfnic_sim::data::{Fault, Point as DataPoint};
use vfnic_sim::uplink::Port;
use vfnic_sim::{Action, AutoStep, Card, Mapping, Point, Rule, SimSpace, ViolationKind};

use super::raw::{RawVf, mac_words};
use super::station::{BUFFER, Station, pair};

#[test]
fn frames_move_at_a_step_and_interrupts_tell() {
    for model in Model::ALL {
        let (card, mut left, mut right) = pair(Card::builder(model));
        left.send(right.mac, 7);
        left.send(right.mac, 8);
        assert_eq!(right.receive(), None, "{model}: nothing by itself");
        assert_eq!(card.step(), 2, "{model}");
        assert_eq!(right.events[0].take(), 1, "{model}: RX, once for both");
        assert_eq!(left.events[1].take(), 1, "{model}: TX");
        assert_eq!((left.events[0].take(), right.events[1].take()), (0, 0));
        assert_eq!(right.receive(), Some(7), "{model}");
        assert_eq!(right.receive(), Some(8), "{model}");
        assert_eq!(right.receive(), None);
        let (rdh, tdh) = if left.igb {
            (0x2810, 0x3810)
        } else {
            (0x1010, 0x2010)
        };
        assert_eq!(right.vf.read(rdh), 2, "{model}: RDH");
        assert_eq!(left.vf.read(tdh), 3, "{model}: TDH, the context counted");
        assert_eq!(right.counter(0x101c, 0xf10), 2, "{model}: GPRC");
        assert_eq!(left.counter(0x201c, 0xf14), 2, "{model}: GPTC");
        card.assert_no_violations();
    }
}

#[test]
fn a_doorbell_can_step_the_card() {
    let builder = Card::builder(Model::X540).auto_step(AutoStep::OnDoorbell);
    let (card, mut left, mut right) = pair(builder);
    left.send(right.mac, 9);
    assert_eq!(right.receive(), Some(9));
    card.assert_no_violations();
}

#[test]
fn moving_the_clock_moves_traffic() {
    let (card, mut left, mut right) = pair(Card::builder(Model::X540));
    left.send(right.mac, 9);
    left.vf.sleep(Duration::from_nanos(1));
    assert_eq!(right.receive(), Some(9));
    card.assert_no_violations();
}

#[test]
fn a_vf_without_the_handshake_or_disabled_gets_nothing() {
    let (card, mut left, mut right) = pair(Card::builder(Model::X540));
    card.pf()
        .set_vf_state(1, vfnic_sim::VfLink::Disable)
        .expect("VF 1");
    left.send(right.mac, 1);
    card.step();
    assert_eq!(right.receive(), None);
    card.pf()
        .set_vf_state(0, vfnic_sim::VfLink::Disable)
        .expect("VF 0");
    left.send(right.mac, 2);
    card.step();
    assert_eq!(left.vf.read(0x2010), 2, "TDH stays: VFTE is 0");
    card.assert_no_violations();
}

#[test]
fn a_vf_that_reset_itself_neither_sends_nor_receives_until_the_handshake() {
    let (card, mut left, mut right) = pair(Card::builder(Model::X540));
    let enable = |vf: &RawVf| {
        vf.write(0x1028, 1 << 25);
        vf.write(0x2028, 1 << 25);
    };
    for vf in [&left.vf, &right.vf] {
        vf.write(0x1028, 0);
        vf.write(0x2028, 0);
        vf.write(0, 1 << 26);
        enable(vf);
    }
    left.send(right.mac, 1);
    card.step();
    assert_eq!(left.vf.read(0x2010), 0, "VFTE is 0");
    assert_eq!(left.vf.ask::<1>(&[1]), [0x4000_0001]);
    card.step();
    assert_eq!(left.vf.read(0x2010), 2, "sent now");
    assert_eq!(right.receive(), None, "VFRE is 0");
    assert_eq!(right.vf.ask::<1>(&[1]), [0x4000_0001]);
    let [low, high] = mac_words(right.mac);
    right.vf.ask::<1>(&[2, low, high]);
    let [low, high] = mac_words(left.mac);
    left.vf.ask::<1>(&[2, low, high]);
    left.send(right.mac, 2);
    card.step();
    assert_eq!(right.receive(), Some(2));
    card.assert_no_violations();
}

#[test]
fn g17_spoofed_frames_vanish_and_the_pf_counts_them() {
    let (card, mut left, mut right) = pair(Card::builder(Model::I82599));
    left.mac = [0x02, 9, 9, 9, 9, 9];
    left.send(right.mac, 1);
    card.step();
    assert_eq!(right.receive(), None);
    assert_eq!(card.pf().vf(0).expect("VF 0").spoofed, 1);
    card.pf().set_vf_spoofchk(0, false).expect("VF 0");
    left.send(right.mac, 2);
    card.step();
    assert_eq!(right.receive(), Some(2));
    card.assert_no_violations();
}

#[test]
fn a_rate_limit_is_kept_by_the_clock() {
    let (card, mut left, mut right) = pair(Card::builder(Model::I82599));
    card.pf().set_vf_max_tx_rate(0, 11).expect("the least");
    // 84 bytes of wire time a frame at 11 Mb/s are 61 us.
    let mut arrived = 0;
    for number in 0..50 {
        left.send(right.mac, number);
    }
    card.run_for(Duration::from_millis(1));
    while right.receive().is_some() {
        arrived += 1;
    }
    assert!((1..40).contains(&arrived), "{arrived} in a millisecond");
    card.run_for(Duration::from_millis(10));
    while right.receive().is_some() {
        arrived += 1;
    }
    assert_eq!(arrived, 50);
    card.assert_no_violations();
}

#[test]
fn h13_dma_outside_a_mapping_is_told_and_goes_nowhere() {
    let (card, mut left, right) = pair(Card::builder(Model::X540));
    let iova = left.tx_buffers.iova();
    let other = left.tx_ring.clone();
    left.tx_buffers = other;
    // The buffers' mapping has ended; the descriptor still names it.
    let place = u64::from(left.tx_next) * BUFFER;
    let command = 1 << 24 | 1 << 25 | 1 << 27 | 1 << 29 | 3 << 20 | 60;
    left.put_tx([iova.0 + place, command | 1 << 39 | 60 << 46]);
    left.tx_bell.ring(left.tx_next);
    card.step();
    let kinds: Vec<_> = card.take_violations().into_iter().map(|v| v.kind).collect();
    let fault = |kind: &ViolationKind| matches!(kind, ViolationKind::DmaFault { write: false, .. });
    assert!(!kinds.is_empty() && kinds.iter().all(fault), "{kinds:?}");
    drop(right);
}

#[test]
fn nothing_is_reached_after_an_unmap_returns() {
    let card = Card::builder(Model::X540)
        .vfs(2)
        .threaded()
        .build()
        .expect("a fine card");
    let space = SimSpace::new();
    let mut left = Station::new(&card, 0);
    let right = Station::within(&card, 1, &space);
    let (mut written, mut refused) = (0, 0);
    for round in 0..300u64 {
        // Two buffers, in memory that stays ours when its mapping goes. The first frame makes the card know the mapping,
        // the second races with the end of it.
        let iova = 0x4000_0000 + round * 0x1_0000;
        let memory = Arc::new(HeapDma::new(4096, Iova(iova)).expect("a page"));
        let seen = DmaRegion::new(memory.clone());
        let second = || seen.words()[256].load(Ordering::Relaxed);
        assert!(space.insert(Mapping::new(iova, memory)));
        right.vf.write(0x1028, 0);
        right.vf.write(0x1010, 0);
        right.vf.write(0x1018, 0);
        right.vf.write(0x1028, 1 << 25);
        for (at, buffer) in [(0, iova), (2, iova + BUFFER)] {
            right.rx_ring.words()[at].store(buffer, Ordering::Relaxed);
            right.rx_ring.words()[at + 1].store(0, Ordering::Relaxed);
        }
        right.rx_bell.ring(2);
        left.send(right.mac, 0xee);
        while right.rx_ring.words()[1].load(Ordering::Acquire) & 1 == 0 {
            std::thread::yield_now();
        }
        left.send(right.mac, 0xee);
        for _ in 0..(round % 50) * 20 {
            std::hint::spin_loop();
        }
        assert_eq!(space.remove(iova, iova), 1);
        let after = second();
        if after == 0 {
            refused += 1;
        } else {
            written += 1;
        }
        while left.vf.read(0x2010) != left.tx_next {
            std::thread::yield_now();
        }
        assert_eq!(second(), after, "round {round}: written after the unmap");
    }
    println!("{written} frames before their unmap, {refused} after");
    // Addresses that were taken away may fault, nothing else may have happened.
    let fault = |kind: &ViolationKind| matches!(kind, ViolationKind::DmaFault { write: true, .. });
    let kinds: Vec<_> = card.take_violations().into_iter().map(|v| v.kind).collect();
    assert!(kinds.iter().all(fault), "{kinds:?}");
}

#[test]
fn a_sleeping_card_is_woken_by_a_doorbell() {
    let (card, mut left, mut right) = pair(Card::builder(Model::X540).threaded());
    for number in 0..20 {
        // Long enough for the card to be asleep. With nothing due it sleeps for ever unless it is woken.
        std::thread::sleep(Duration::from_millis(5));
        let start = Instant::now();
        left.send(right.mac, number);
        loop {
            if let Some(seen) = right.receive() {
                assert_eq!(seen, number);
                break;
            }
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "frame {number} never came"
            );
            std::hint::spin_loop();
        }
    }
    card.assert_no_violations();
}

/// A wire that always has another frame, for nobody.
#[derive(Debug)]
struct Flood;

impl Port for Flood {
    fn send(&mut self, _frame: &[u8]) -> bool {
        true
    }
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        frame.clear();
        frame.resize(60, 0x02);
        true
    }
    fn has_frames(&mut self) -> bool {
        true
    }
}

#[test]
fn registers_answer_while_the_card_is_busy() {
    let builder = Card::builder(Model::X540).uplink(Box::new(Flood));
    let (card, _left, right) = pair(builder.threaded());
    let start = Instant::now();
    let mut reads = 0u32;
    let mut slowest = Duration::ZERO;
    while start.elapsed() < Duration::from_millis(300) {
        let before = Instant::now();
        right.vf.read(0x8);
        slowest = slowest.max(before.elapsed());
        reads += 1;
    }
    println!("{reads} reads, the slowest took {slowest:?}");
    assert!(reads > 300, "{reads} reads, the slowest took {slowest:?}");
    assert!(
        card.stats().wire.received > 10_000,
        "the engine gets its turn, too"
    );
    card.assert_no_violations();
}

#[test]
fn an_82599_with_a_jumbo_pf_waits_for_the_vf_to_say_it_can() {
    let card = Card::builder(Model::I82599)
        .vfs(2)
        .build()
        .expect("a fine card");
    card.pf().set_mtu(9000).expect("within limits");
    let mut left = Station::new(&card, 0);
    let mut right = Station::new(&card, 1);
    left.send(right.mac, 1);
    card.step();
    assert_eq!(right.receive(), None, "VFRE is 0");
    right.vf.ask::<1>(&[8, 4, 0]);
    assert_eq!(right.vf.ask::<1>(&[5, 9018]), [0xa000_0005]);
    left.send(right.mac, 2);
    card.step();
    assert_eq!(right.receive(), Some(2));
    card.assert_no_violations();
}

#[test]
fn an_x550_stops_a_malicious_driver_and_the_pf_forgets_it() {
    let (card, mut left, mut right) = pair(Card::builder(Model::X550));
    left.vf.read(left.vf.mailbox);
    // No CC: the chip takes it for an attack.
    left.send_with(right.mac, 1, 0);
    card.step();
    assert_eq!(right.receive(), None);
    assert_eq!(left.vf.read(left.vf.mailbox), 0x10);
    assert_eq!(left.vf.take(), [0x2000_0100], "a ping as if nothing were");
    assert_eq!(
        left.vf.word0(),
        0x4000_0000,
        "and the acknowledgement tells"
    );
    left.send(right.mac, 2);
    card.step();
    assert_eq!(right.receive(), None, "the queue is blocked");
    assert!(!card.take_violations().is_empty());
    left.vf.write(0x2028, 0);
    left.vf.write(0x1028, 0);
    left.vf.handshake();
    let [low, high] = mac_words(left.mac);
    left.vf.ask::<1>(&[2, low, high]);
    left.vf.write(0x2010, 0);
    left.vf.write(0x2018, 0);
    left.vf.write(0x2028, 1 << 25);
    left.restart_tx();
    left.send(right.mac, 3);
    card.step();
    assert_eq!(right.receive(), Some(3), "a reset of the VF ends it");
    card.assert_no_violations();
}

/// In place of DD in every descriptor: the card's head, in one word of the driver's, and nothing else.
#[test]
fn the_head_is_written_back_where_it_was_asked_for() {
    for model in Model::ALL {
        let (card, mut left, mut right) = pair(Card::builder(model));
        let space = left.vf.function.dma_space();
        let request = DmaRequest {
            len: 4096,
            prefer_huge: false,
        };
        let place = space.map(request).expect("there is room");
        let low = if left.igb { 0x3838 } else { 0x2038 };
        let at = |iova: u64| u32::try_from(iova).expect("low");
        left.vf.write(low, at(place.iova().0 + 64) | 1);
        left.vf.write(low + 4, 0);
        let head = || place.dwords()[16].load(Ordering::Acquire);
        for number in 1..4 {
            left.send(right.mac, number);
            let before = left.tx_ring.words()[2 * number as usize + 1].load(Ordering::Acquire);
            card.step();
            assert_eq!(right.receive(), Some(number), "{model}");
            // A context and so many frames.
            assert_eq!(head(), 1 + u32::from(number), "{model}");
            let after = left.tx_ring.words()[2 * number as usize + 1].load(Ordering::Acquire);
            assert_eq!(before, after, "{model}: the descriptor is as it was");
        }
        // What a fault makes of it: any number at all.
        let to = Fault::Rewrite {
            and: [0; 2],
            or: [0xffff_fff0, 0],
        };
        let rule = Rule::new(Point::Data(DataPoint::TxWriteBack), Action::Data(to));
        card.faults().add(rule.times(1));
        left.send(right.mac, 9);
        card.step();
        assert_eq!(head(), 0xffff_fff0, "{model}");
        assert_eq!(right.receive(), Some(9));
        card.assert_no_violations();
        // Somewhere that is not mapped: seen by the IOMMU, and written nowhere.
        left.vf.write(low, at(place.iova().0 + 4096) | 1);
        left.send(right.mac, 10);
        card.step();
        let kinds = card
            .take_violations()
            .into_iter()
            .map(|violation| violation.kind);
        let fault = |kind: ViolationKind| {
            matches!(
                kind,
                ViolationKind::DmaFault {
                    len: 4,
                    write: true,
                    ..
                }
            )
        };
        assert!(kinds.into_iter().any(fault), "{model}");
        assert_eq!(head(), 0xffff_fff0, "{model}");
    }
}

/// Planned faults of write-backs do to the ring what they are named after, and to nothing else.
#[test]
fn d7_d9_a_write_back_is_displaced_or_torn_as_planned() {
    for model in Model::ALL {
        let (card, mut left, right) = pair(Card::builder(model));
        let status = |slot: usize| right.rx_ring.words()[2 * slot + 1].load(Ordering::Acquire);
        let plan = |fault| {
            let rule = Rule::new(Point::Data(DataPoint::RxWriteBack), Action::Data(fault));
            card.faults().add(rule.on_vf(1).times(1));
        };
        plan(Fault::Displace(3));
        left.send(right.mac, 1);
        card.step();
        assert_eq!([status(0) & 1, status(3) & 1], [0, 1], "{model}");
        plan(Fault::Displace(-2));
        left.send(right.mac, 2);
        card.step();
        assert_eq!(
            [status(1) & 1, status(63) & 1],
            [0, 1],
            "{model}: round the end"
        );
        // The half with DD in it comes later.
        plan(Fault::Tear { ns: 1000 });
        left.send(right.mac, 3);
        let address = right.rx_ring.words()[4].load(Ordering::Acquire);
        card.step();
        let word0 = right.rx_ring.words()[4].load(Ordering::Acquire);
        assert!(
            word0 != address || status(2) & 1 == 1,
            "{model}: one half is there"
        );
        let first = status(2);
        left.vf.sleep(Duration::from_micros(2));
        card.step();
        assert_eq!(status(2) & 3, 3, "{model}: and the other, from {first:#x}");
        card.assert_no_violations();
    }
}
