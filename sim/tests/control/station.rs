//! A VF with rings, buffers and interrupts: enough to move frames.

use std::sync::atomic::Ordering;

use vfnic_hw::{DmaRegion, DmaRequest, Doorbell, Event, Model};
use vfnic_sim::{Card, CardBuilder, SimSpace};

use super::raw::{RawVf, mac_words};

const RING: u32 = 64;
pub(crate) const BUFFER: u64 = 2048;

/// A VF with one ring each way and a buffer for every descriptor.
pub(crate) struct Station {
    pub(crate) vf: RawVf,
    pub(crate) mac: [u8; 6],
    pub(crate) rx_ring: DmaRegion,
    pub(crate) rx_buffers: DmaRegion,
    pub(crate) tx_ring: DmaRegion,
    pub(crate) tx_buffers: DmaRegion,
    pub(crate) rx_bell: Doorbell,
    pub(crate) tx_bell: Doorbell,
    pub(crate) tx_next: u32,
    pub(crate) rx_next: u32,
    pub(crate) events: Vec<Event>,
    pub(crate) igb: bool,
}

impl Station {
    pub(crate) fn new(card: &Card, number: u16) -> Self {
        Self::within(card, number, &SimSpace::new())
    }

    pub(crate) fn within(card: &Card, number: u16, space: &SimSpace) -> Self {
        let vf = RawVf::open_in(card, number, space);
        vf.handshake();
        let mac = Self::address(number);
        let [low, high] = mac_words(mac);
        assert_eq!(vf.ask::<1>(&[2, low, high]), [0xa000_0002]);
        Self::start(card, vf, mac)
    }

    /// With the address that its PF has given it, and a PF that may take its time over messages.
    pub(crate) fn assigned(card: &Card, number: u16) -> Self {
        let vf = RawVf::open(card, number);
        vf.write(vf.control, 1 << 26);
        vf.ask_patiently::<1>(&[1]);
        Self::start(card, vf, Self::address(number))
    }

    /// With a PF that may take its time over messages.
    pub(crate) fn patient(card: &Card, number: u16) -> Self {
        let vf = RawVf::open(card, number);
        vf.write(vf.control, 1 << 26);
        vf.ask_patiently::<1>(&[1]);
        let mac = Self::address(number);
        let [low, high] = mac_words(mac);
        assert_eq!(vf.ask_patiently::<1>(&[2, low, high]), [0xa000_0002]);
        Self::start(card, vf, mac)
    }

    fn address(number: u16) -> [u8; 6] {
        let low_byte = u8::try_from(number).expect("a small number");
        [0x02, 0, 0, 0, 0, low_byte]
    }

    fn start(card: &Card, vf: RawVf, mac: [u8; 6]) -> Self {
        let igb = matches!(card.model(), Model::I82576 | Model::I350);
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
            // Head and tail stay where they were when a queue is disabled.
            vf.write(base + 0x10, 0);
            vf.write(base + 0x18, 0);
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

    pub(crate) fn put_tx(&mut self, descriptor: [u64; 2]) {
        let at = self.tx_next as usize * 2;
        self.tx_ring.words()[at].store(descriptor[0], Ordering::Relaxed);
        self.tx_ring.words()[at + 1].store(descriptor[1], Ordering::Relaxed);
        self.tx_next = (self.tx_next + 1) % RING;
    }

    /// Starts over at descriptor 0, with the default context.
    pub(crate) fn restart_tx(&mut self) {
        self.tx_next = 0;
        self.put_tx([14 << 9, 1 << 29 | 2 << 20 | 3 << 11]);
    }

    /// Puts a frame of 60 bytes to `to` on the ring, with `number` in it, and rings.
    pub(crate) fn send(&mut self, to: [u8; 6], number: u8) {
        self.send_with(to, number, 1 << 39);
    }

    /// The same with these bits in dword 3 besides the length, CC being bit 39.
    pub(crate) fn send_with(&mut self, to: [u8; 6], number: u8, bits: u64) {
        let mut frame = [number; 60];
        frame[..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&self.mac);
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        self.send_frame(&frame, bits);
    }

    /// Puts a frame on the ring and rings.
    pub(crate) fn send_frame(&mut self, frame: &[u8], bits: u64) {
        let place = u64::from(self.tx_next) * BUFFER;
        let start = usize::try_from(place).expect("small");
        for (byte, value) in self.tx_buffers.bytes()[start..].iter().zip(frame) {
            byte.store(*value, Ordering::Relaxed);
        }
        let len = frame.len() as u64;
        // EOP, IFCS, RS, DEXT, data; payload length.
        let command = 1 << 24 | 1 << 25 | 1 << 27 | 1 << 29 | 3 << 20 | len;
        self.put_tx([self.tx_buffers.iova().0 + place, command | bits | len << 46]);
        self.tx_bell.ring(self.tx_next);
    }

    /// The number in the next received frame, if there is one; its buffer is posted again.
    pub(crate) fn receive(&mut self) -> Option<u8> {
        let (frame, _status) = self.receive_frame()?;
        Some(*frame.last().expect("frames are not empty"))
    }

    /// The next received frame and the second half of its write-back.
    pub(crate) fn receive_frame(&mut self) -> Option<(Vec<u8>, u64)> {
        let at = self.rx_next as usize;
        let status = self.rx_ring.words()[at * 2 + 1].load(Ordering::Acquire);
        if status & 1 == 0 {
            return None;
        }
        assert_eq!(status & 3, 3, "DD and EOP");
        let len = usize::try_from(status >> 32 & 0xffff).expect("16 bits");
        let start = at * usize::try_from(BUFFER).expect("small");
        let bytes = &self.rx_buffers.bytes()[start..start + len];
        let frame = bytes
            .iter()
            .map(|byte| byte.load(Ordering::Relaxed))
            .collect();
        let iova = self.rx_buffers.iova().0 + u64::from(self.rx_next) * BUFFER;
        self.rx_ring.words()[at * 2].store(iova, Ordering::Relaxed);
        self.rx_ring.words()[at * 2 + 1].store(0, Ordering::Relaxed);
        self.rx_bell.ring(self.rx_next);
        self.rx_next = (self.rx_next + 1) % RING;
        Some((frame, status))
    }

    pub(crate) fn counter(&self, ixgbe: u32, igb: u32) -> u32 {
        self.vf.read(if self.igb { igb } else { ixgbe })
    }
}

pub(crate) fn pair(builder: CardBuilder) -> (Card, Station, Station) {
    let card = builder.vfs(2).build().expect("a fine card");
    let left = Station::new(&card, 0);
    let right = Station::new(&card, 1);
    (card, left, right)
}
