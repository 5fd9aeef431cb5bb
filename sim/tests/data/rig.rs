//! VFs driven by hand: raw descriptors in raw memory, no register file and no driver between test and data path.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use vfnic_hw::Model;
use vfnic_sim::DmaFault;
use vfnic_sim::data::{
    Accept, At, Causes, DataPath, Fault, Hooks, Mac, Malicious, Point, RingViolation, RxSettings,
    Tick,
};
use vfnic_sim::uplink::Port;

use crate::vf::{Got, MEMORY, QUEUES, SIZE, Space, Vf};

/// Everything the data path told.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) faults: Vec<DmaFault>,
    pub(crate) violations: Vec<(u8, u8, RingViolation)>,
    pub(crate) malicious: Vec<(u8, u8, Malicious)>,
    pub(crate) spoofed: u32,
    /// Faults to put in: each is used once, at the n-th passing of its point.
    pub(crate) plan: Vec<(Point, u32, Fault)>,
    pub(crate) passed: Vec<At>,
    pub(crate) armed: bool,
}

impl Hooks for Log {
    fn armed(&self) -> bool {
        self.armed
    }
    fn at(&mut self, at: At) -> Option<Fault> {
        self.passed.push(at);
        let number = self
            .passed
            .iter()
            .filter(|old| old.point == at.point)
            .count();
        let hit = self
            .plan
            .iter()
            .position(|&(point, n, _)| point == at.point && n as usize == number)?;
        Some(self.plan.remove(hit).2)
    }
    fn dma_fault(&mut self, fault: DmaFault) {
        self.faults.push(fault);
    }
    fn violation(&mut self, pool: u8, queue: u8, violation: RingViolation) {
        self.violations.push((pool, queue, violation));
    }
    fn malicious(&mut self, pool: u8, queue: u8, cause: Malicious) {
        self.malicious.push((pool, queue, cause));
    }
    fn spoofed(&mut self, _pool: u8, _queue: u8) {
        self.spoofed += 1;
    }
}

pub(crate) const EOP: u64 = 1 << 24;
pub(crate) const IFCS: u64 = 1 << 25;
pub(crate) const RS: u64 = 1 << 27;
pub(crate) const DEXT: u64 = 1 << 29;
pub(crate) const VLE: u64 = 1 << 30;
pub(crate) const TSE: u64 = 1 << 31;
pub(crate) const DATA: u64 = 3 << 20 | DEXT | IFCS;
pub(crate) const CONTEXT: u64 = 2 << 20 | DEXT;
pub(crate) const CC: u64 = 1 << 39;
pub(crate) const IXSM: u64 = 1 << 40;
pub(crate) const TXSM: u64 = 1 << 41;

/// Second word of a data descriptor for a whole frame of `len` bytes in one piece.
pub(crate) const fn plain(len: usize) -> u64 {
    DATA | EOP | RS | CC | len as u64 | (len as u64) << 46
}

/// A context: lengths, tag, L4 type, slot.
#[derive(Clone, Copy, Default)]
pub(crate) struct Context {
    pub(crate) mac: u64,
    pub(crate) ip: u64,
    pub(crate) l4: u64,
    pub(crate) mss: u64,
    pub(crate) vlan: u64,
    pub(crate) ipv4: bool,
    pub(crate) l4t: u64,
    pub(crate) slot: u64,
}

impl Context {
    pub(crate) fn words(self) -> [u64; 2] {
        [
            self.ip | self.mac << 9 | self.vlan << 16,
            CONTEXT
                | u64::from(self.ipv4) << 10
                | self.l4t << 11
                | self.slot << 36
                | self.l4 << 40
                | self.mss << 48,
        ]
    }
}

/// A card's data path with VFs ready to send and receive.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) path: DataPath,
    pub(crate) vfs: Vec<Vf>,
    pub(crate) log: Log,
    pub(crate) now: u64,
}

pub(crate) fn mac(pool: u8) -> Mac {
    [0x02, 0, 0, 0, 0, pool]
}

impl Rig {
    /// `vfs` VFs as Linux's PF provisions them: a MAC each (02:00:00:00:00:NN), VLAN 0, broadcast; spoof checks off.
    pub(crate) fn new(model: Model, vfs: u8) -> Self {
        let mut path = DataPath::new(model, vfs, QUEUES);
        let filters = path.filters_mut();
        for pool in 0..vfs {
            assert!(filters.add_mac(mac(pool), pool));
            assert!(filters.add_vlan(0, pool));
            filters.set_accept(pool, Accept::AUPE | Accept::BAM | Accept::ROMPE);
            filters.set_receive(pool, true);
            filters.set_transmit(pool, true);
            filters.set_queue_drop(pool, true);
        }
        let pf = filters.pf_pool();
        assert!(filters.add_mac(mac(pf), pf));
        filters.set_accept(pf, Accept::AUPE | Accept::BAM);
        let mut rig = Self {
            path,
            vfs: Vec::new(),
            log: Log::default(),
            now: 0,
        };
        for pool in 0..vfs {
            let space = Arc::new(Space::default());
            let base = 0x7_0000_0000 + u64::from(pool) * 0x1000_0000;
            let region = space.map(base, MEMORY);
            rig.path.set_space(pool, Some(space.clone()));
            rig.vfs.push(Vf {
                base,
                region,
                space,
                tx_next: [0; 2],
                rx_next: [0; 2],
            });
            // 2 KiB buffers, one-buffer format, drop as the PF says.
            rig.start(pool, RxSettings::decode(model, 0x0200_0002, 0));
        }
        rig
    }

    /// (Re)starts a VF's queues with all but one RX descriptor posted.
    pub(crate) fn start(&mut self, pool: u8, settings: RxSettings) {
        let vf = &mut self.vfs[usize::from(pool)];
        vf.tx_next = [0; 2];
        vf.rx_next = [0; 2];
        for queue in 0..QUEUES {
            for index in 0..SIZE {
                let words = [vf.rx_buffer(queue, index), vf.header_buffer(queue, index)];
                vf.set_rx_descriptor(queue, index, words);
            }
            let tx = self.path.tx(pool, queue).expect("a queue");
            tx.disable();
            tx.set_ring(vf.tx_ring(queue));
            tx.set_head(0);
            tx.tail_word().store(0);
            tx.enable().expect("a good ring");
            let rx = self.path.rx(pool, queue).expect("a queue");
            rx.disable();
            rx.set_ring(vf.rx_ring(queue));
            rx.set_head(0);
            rx.set_settings(settings);
            rx.enable().expect("a good ring");
            rx.tail_word().store(SIZE - 1);
        }
    }

    pub(crate) fn ring(&mut self, pool: u8, queue: u8) {
        let tail = self.vfs[usize::from(pool)].tx_next[usize::from(queue)];
        self.path
            .tx(pool, queue)
            .expect("a queue")
            .tail_word()
            .store(tail);
    }

    pub(crate) fn tick(&mut self) -> Tick {
        self.path.tick(self.now, 1000, &mut self.log)
    }

    /// Sends one plain frame on queue 0 and runs the card.
    pub(crate) fn send(&mut self, pool: u8, frame: &[u8]) -> u32 {
        let index = self.post(pool, frame);
        self.ring(pool, 0);
        self.tick();
        index
    }

    /// Puts one plain frame on queue 0, without ringing.
    pub(crate) fn post(&mut self, pool: u8, frame: &[u8]) -> u32 {
        let vf = &mut self.vfs[usize::from(pool)];
        vf.put(
            0,
            Context {
                mac: 14,
                l4t: 3,
                ..Context::default()
            }
            .words(),
        );
        let address = vf.stage(0, frame);
        vf.put(0, [address, plain(frame.len())])
    }

    /// Takes everything received on a queue and posts the descriptors again.
    pub(crate) fn got(&mut self, pool: u8, queue: u8) -> Vec<Got> {
        let vf = &mut self.vfs[usize::from(pool)];
        let mut got = Vec::new();
        loop {
            let index = vf.rx_next[usize::from(queue)];
            let words = vf.rx_descriptor(queue, index);
            let posted = [vf.rx_buffer(queue, index), vf.header_buffer(queue, index)];
            if words == posted || words[1] & 1 == 0 {
                break;
            }
            let len = (words[1] >> 32 & 0xffff) as usize;
            let data = vf.read(Vf::rx_offset(queue, index), len.min(4096));
            got.push(Got { index, words, data });
            vf.set_rx_descriptor(queue, index, posted);
            vf.rx_next[usize::from(queue)] = (index + 1) % SIZE;
        }
        let tail = (vf.rx_next[usize::from(queue)] + SIZE - 1) % SIZE;
        self.path
            .rx(pool, queue)
            .expect("a queue")
            .tail_word()
            .store(tail);
        got
    }

    /// The frames received on queue 0, descriptors put together.
    pub(crate) fn frames(&mut self, pool: u8) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut frame = Vec::new();
        for got in self.got(pool, 0) {
            frame.extend_from_slice(&got.data);
            if got.status() & 2 != 0 {
                frames.push(std::mem::take(&mut frame));
            }
        }
        assert!(frame.is_empty(), "a frame without an end");
        frames
    }

    pub(crate) fn causes(&mut self) -> Vec<(u8, Causes)> {
        let mut all = Vec::new();
        self.path
            .take_causes(|pool, causes| all.push((pool, causes)));
        all
    }

    /// Nothing but what was expected was told.
    pub(crate) fn assert_quiet(&self) {
        assert!(self.log.faults.is_empty(), "{:?}", self.log.faults);
        assert!(self.log.violations.is_empty(), "{:?}", self.log.violations);
        assert!(self.log.malicious.is_empty(), "{:?}", self.log.malicious);
    }
}

/// A frame of `len` bytes with a payload that tells frames apart.
pub(crate) fn frame(to: Mac, from: Mac, len: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(len);
    frame.extend(to);
    frame.extend(from);
    frame.extend([0x88, 0xb5]);
    for index in frame.len()..len {
        frame.push((index * 7 + len) as u8);
    }
    frame
}

/// An outer port a test holds the other end of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tap {
    pub(crate) towards_card: Arc<Mutex<VecDeque<Vec<u8>>>>,
    pub(crate) from_card: Arc<Mutex<Vec<Vec<u8>>>>,
    pub(crate) full: Arc<AtomicBool>,
}

impl Tap {
    pub(crate) fn inject(&self, frame: &[u8]) {
        self.towards_card
            .lock()
            .expect("not poisoned")
            .push_back(frame.to_vec());
    }
    pub(crate) fn left(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.from_card.lock().expect("not poisoned"))
    }
}

impl Port for Tap {
    fn send(&mut self, frame: &[u8]) -> bool {
        let full = self.full.load(Ordering::Relaxed);
        if !full {
            self.from_card
                .lock()
                .expect("not poisoned")
                .push(frame.to_vec());
        }
        !full
    }
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        match self.towards_card.lock().expect("not poisoned").pop_front() {
            Some(next) => {
                *frame = next;
                true
            }
            None => false,
        }
    }
    fn has_frames(&mut self) -> bool {
        !self.towards_card.lock().expect("not poisoned").is_empty()
    }
}
