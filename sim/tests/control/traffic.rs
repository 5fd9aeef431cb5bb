//! Control side and data path together: frames move when they should, interrupts tell of them, an unmap is final.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vfnic_hw::{DmaRegion, DmaRequest, Doorbell, Event, Iova, Model};
use vfnic_ring::HeapDma;
use vfnic_sim::uplink::Port;
use vfnic_sim::{AutoStep, Card, CardBuilder, Mapping, SimSpace, ViolationKind};

use super::raw::{RawVf, mac_words};

const RING: u32 = 64;
const BUFFER: u64 = 2048;

/// A VF with one ring each way and a buffer for every descriptor.
struct Station {
    vf: RawVf,
    mac: [u8; 6],
    rx_ring: DmaRegion,
    rx_buffers: DmaRegion,
    tx_ring: DmaRegion,
    tx_buffers: DmaRegion,
    rx_bell: Doorbell,
    tx_bell: Doorbell,
    tx_next: u32,
    rx_next: u32,
    events: Vec<Event>,
    igb: bool,
}

impl Station {
    fn new(card: &Card, number: u16) -> Self {
        Self::within(card, number, &SimSpace::new())
    }

    fn within(card: &Card, number: u16, space: &SimSpace) -> Self {
        let vf = RawVf::open_in(card, number, space);
        let igb = matches!(card.model(), Model::I82576 | Model::I350);
        vf.handshake();
        let low_byte = u8::try_from(number).expect("a small number");
        let mac = [0x02, 0, 0, 0, 0, low_byte];
        let [low, high] = mac_words(mac);
        assert_eq!(vf.ask::<1>(&[2, low, high]), [0xa000_0002]);
        let space = vf.function.dma_space();
        let map = |len: u64| {
            let len = usize::try_from(len).expect("small");
            let prefer_huge = false;
            space
                .map(DmaRequest { len, prefer_huge })
                .expect("there is room")
        };
        let ring = u64::from(RING);
        let (rx_ring, tx_ring) = (map(ring * 16), map(ring * 16));
        let (rx_buffers, tx_buffers) = (map(ring * BUFFER), map(ring * BUFFER));
        let (rx, tx) = if igb {
            (0x2800, 0x3800)
        } else {
            (0x1000, 0x2000)
        };
        for (base, region) in [(rx, &rx_ring), (tx, &tx_ring)] {
            vf.write(base, u32::try_from(region.iova().0).expect("low"));
            vf.write(base + 4, 0);
            vf.write(base + 8, RING * 16);
        }
        vf.write(rx + if igb { 0x0c } else { 0x14 }, 0x0200_0002);
        vf.write(tx + 0x28, 1 << 25);
        vf.write(rx + 0x28, 1 << 25);
        for index in 0..RING {
            let words = rx_ring.words();
            let at = index as usize * 2;
            words[at].store(
                rx_buffers.iova().0 + u64::from(index) * BUFFER,
                Ordering::Relaxed,
            );
            words[at + 1].store(0, Ordering::Relaxed);
        }
        let rx_bell = vf.bar.doorbell(rx + 0x18).expect("RDT");
        let tx_bell = vf.bar.doorbell(tx + 0x18).expect("TDT");
        rx_bell.ring(RING - 1);
        let events: Vec<Event> = (0..3).map(|_| Event::new().expect("an eventfd")).collect();
        vf.function.enable_vectors(&events).expect("three vectors");
        // RX to vector 0, TX to vector 1, both clearing themselves.
        vf.write(if igb { 0x1700 } else { 0x120 }, 0x8180);
        vf.write(if igb { 0x152c } else { 0x110 }, 7);
        vf.write(if igb { 0x1524 } else { 0x108 }, 7);
        let mut station = Self {
            vf,
            mac,
            rx_ring,
            rx_buffers,
            tx_ring,
            tx_buffers,
            rx_bell,
            tx_bell,
            tx_next: 0,
            rx_next: 0,
            events,
            igb,
        };
        // A context with MACLEN 14 and no L4, which data descriptors refer to.
        station.put_tx([14 << 9, 1 << 29 | 2 << 20 | 3 << 11]);
        station
    }

    fn put_tx(&mut self, descriptor: [u64; 2]) {
        let at = self.tx_next as usize * 2;
        self.tx_ring.words()[at].store(descriptor[0], Ordering::Relaxed);
        self.tx_ring.words()[at + 1].store(descriptor[1], Ordering::Relaxed);
        self.tx_next = (self.tx_next + 1) % RING;
    }

    /// Puts a frame of 60 bytes to `to` on the ring, with `number` in it, and rings.
    fn send(&mut self, to: [u8; 6], number: u8) {
        let place = u64::from(self.tx_next) * BUFFER;
        let start = usize::try_from(place).expect("small");
        let bytes = &self.tx_buffers.bytes()[start..start + 60];
        let mut frame = [number; 60];
        frame[..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&self.mac);
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        for (byte, value) in bytes.iter().zip(frame) {
            byte.store(value, Ordering::Relaxed);
        }
        // EOP, IFCS, RS, DEXT, data; CC, payload length.
        let command = 1 << 24 | 1 << 25 | 1 << 27 | 1 << 29 | 3 << 20 | 60;
        self.put_tx([
            self.tx_buffers.iova().0 + place,
            command | 1 << 39 | 60 << 46,
        ]);
        self.tx_bell.ring(self.tx_next);
    }

    /// The frame number in the next received frame, if there is one; its buffer is posted again.
    fn receive(&mut self) -> Option<u8> {
        let at = self.rx_next as usize;
        let status = self.rx_ring.words()[at * 2 + 1].load(Ordering::Acquire);
        if status & 1 == 0 {
            return None;
        }
        assert_eq!(status & 3, 3, "DD and EOP");
        assert_eq!(status >> 32 & 0xffff, 60, "length");
        let buffer = usize::try_from(BUFFER).expect("small");
        let number = self.rx_buffers.bytes()[at * buffer + 59].load(Ordering::Relaxed);
        let iova = self.rx_buffers.iova().0 + u64::from(self.rx_next) * BUFFER;
        self.rx_ring.words()[at * 2].store(iova, Ordering::Relaxed);
        self.rx_ring.words()[at * 2 + 1].store(0, Ordering::Relaxed);
        self.rx_bell.ring(self.rx_next);
        self.rx_next = (self.rx_next + 1) % RING;
        Some(number)
    }

    fn counter(&self, ixgbe: u32, igb: u32) -> u32 {
        self.vf.read(if self.igb { igb } else { ixgbe })
    }
}

fn pair(builder: CardBuilder) -> (Card, Station, Station) {
    let card = builder.vfs(2).build().expect("a fine card");
    let left = Station::new(&card, 0);
    let right = Station::new(&card, 1);
    (card, left, right)
}

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
fn spoofed_frames_vanish_and_the_pf_counts_them() {
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
fn dma_outside_a_mapping_is_told_and_goes_nowhere() {
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
        let second = || seen.words()[BUFFER as usize / 8].load(Ordering::Relaxed);
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
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        std::thread::sleep(Duration::from_millis(5));
        let start = Instant::now();
        left.send(right.mac, number);
        loop {
            if let Some(seen) = right.receive() {
                assert_eq!(seen, number);
                break;
            }
            assert!(
                start.elapsed() < Duration::from_secs(2),
                "frame {number} never came"
            );
            std::hint::spin_loop();
        }
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_millis(50), "{slowest:?}");
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
