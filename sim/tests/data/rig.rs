//! VFs driven by hand: raw descriptors in raw memory, no register file and no driver between test and data path.
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use vfnic_hw::{DmaRegion, Iova, Model};
use vfnic_ring::HeapDma;
use vfnic_sim::data::{
    Accept, At, Causes, DataPath, Fault, Hooks, Mac, Malicious, Point, Ring, RingViolation,
    RxSettings, Tick,
};
use vfnic_sim::uplink::Port;
use vfnic_sim::{DmaFault, Mapping, Translate};

/// An IOVA space with whatever a test maps.
#[derive(Debug, Default)]
pub(crate) struct Space {
    mappings: Mutex<Vec<Mapping>>,
    generation: AtomicU64,
}

impl Space {
    pub(crate) fn map(&self, iova: u64, len: usize) -> DmaRegion {
        let memory = Arc::new(HeapDma::new(len, Iova(iova)).expect("memory"));
        self.add(Mapping::new(iova, memory.clone()));
        DmaRegion::new(memory)
    }

    pub(crate) fn add(&self, mapping: Mapping) {
        self.mappings.lock().expect("not poisoned").push(mapping);
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn unmap(&self, iova: u64) {
        let mut mappings = self.mappings.lock().expect("not poisoned");
        mappings.retain(|mapping| mapping.iova() != iova);
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

impl Translate for Space {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst) + 1
    }
    fn lookup(&self, iova: u64) -> Option<Mapping> {
        let mappings = self.mappings.lock().expect("not poisoned");
        mappings
            .iter()
            .find(|mapping| iova >= mapping.iova() && iova - mapping.iova() < mapping.len() as u64)
            .cloned()
    }
}

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

/// Descriptors of every ring.
pub(crate) const SIZE: u32 = 256;
const TX_RING: u64 = 0;
const RX_RING: u64 = 0x1_0000;
const TX_BUFFERS: u64 = 0x2_0000;
const RX_BUFFERS: u64 = 0x20_0000;
const STRIDE: u64 = 4096;
const MEMORY: usize = 0x40_0000;
const QUEUES: u8 = 2;

/// One VF's rings and memory; queue 0 unless said otherwise.
#[derive(Debug)]
pub(crate) struct Vf {
    pub(crate) base: u64,
    pub(crate) region: DmaRegion,
    pub(crate) space: Arc<Space>,
    pub(crate) tx_next: [u32; QUEUES as usize],
    pub(crate) rx_next: [u32; QUEUES as usize],
}

/// A received descriptor: index, the two words, and what is in its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) index: u32,
    pub(crate) words: [u64; 2],
    pub(crate) data: Vec<u8>,
}

impl Got {
    pub(crate) fn status(&self) -> u32 {
        self.words[1] as u32
    }
    pub(crate) fn len(&self) -> usize {
        (self.words[1] >> 32 & 0xffff) as usize
    }
    pub(crate) fn vlan(&self) -> u16 {
        (self.words[1] >> 48) as u16
    }
    pub(crate) fn rss(&self) -> (u32, u32) {
        (self.words[0] as u32 & 0xf, (self.words[0] >> 32) as u32)
    }
    pub(crate) fn packet_type(&self) -> u32 {
        self.words[0] as u32 & 0x1_fff0
    }
}

impl Vf {
    pub(crate) fn write(&self, offset: u64, data: &[u8]) {
        let bytes = &self.region.bytes()[offset as usize..];
        for (byte, &value) in bytes.iter().zip(data) {
            byte.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let bytes = &self.region.bytes()[offset as usize..offset as usize + len];
        bytes
            .iter()
            .map(|byte| byte.load(Ordering::Relaxed))
            .collect()
    }

    pub(crate) fn words(&self, offset: u64) -> [u64; 2] {
        let words = &self.region.words()[offset as usize / 8..];
        [
            words[0].load(Ordering::Acquire),
            words[1].load(Ordering::Acquire),
        ]
    }

    pub(crate) fn set_words(&self, offset: u64, value: [u64; 2]) {
        let words = &self.region.words()[offset as usize / 8..];
        words[0].store(value[0], Ordering::Relaxed);
        words[1].store(value[1], Ordering::Release);
    }

    pub(crate) fn tx_ring(&self, queue: u8) -> Ring {
        Ring {
            base: self.base + TX_RING + u64::from(queue) * 0x4000,
            len: SIZE * 16,
        }
    }

    pub(crate) fn rx_ring(&self, queue: u8) -> Ring {
        Ring {
            base: self.base + RX_RING + u64::from(queue) * 0x4000,
            len: SIZE * 16,
        }
    }

    pub(crate) fn tx_descriptor(&self, queue: u8, index: u32) -> [u64; 2] {
        self.words(TX_RING + u64::from(queue) * 0x4000 + u64::from(index) * 16)
    }

    pub(crate) fn rx_descriptor(&self, queue: u8, index: u32) -> [u64; 2] {
        self.words(RX_RING + u64::from(queue) * 0x4000 + u64::from(index) * 16)
    }

    pub(crate) fn set_rx_descriptor(&self, queue: u8, index: u32, words: [u64; 2]) {
        self.set_words(
            RX_RING + u64::from(queue) * 0x4000 + u64::from(index) * 16,
            words,
        );
    }

    fn rx_offset(queue: u8, index: u32) -> u64 {
        RX_BUFFERS + (u64::from(queue) * u64::from(SIZE) + u64::from(index)) * STRIDE
    }

    pub(crate) fn rx_buffer(&self, queue: u8, index: u32) -> u64 {
        self.base + Self::rx_offset(queue, index)
    }

    /// Header buffer of a descriptor, for split formats: the last 1 KiB of its space.
    pub(crate) fn header_buffer(&self, queue: u8, index: u32) -> u64 {
        self.rx_buffer(queue, index) + STRIDE - 1024
    }

    pub(crate) fn header(&self, queue: u8, index: u32, len: usize) -> Vec<u8> {
        self.read(Self::rx_offset(queue, index) + STRIDE - 1024, len)
    }

    /// Puts any two words on a TX ring, without ringing.
    pub(crate) fn put(&mut self, queue: u8, words: [u64; 2]) -> u32 {
        let index = self.tx_next[usize::from(queue)];
        self.set_words(
            TX_RING + u64::from(queue) * 0x4000 + u64::from(index) * 16,
            words,
        );
        self.tx_next[usize::from(queue)] = (index + 1) % SIZE;
        index
    }

    /// Puts bytes where the next descriptor's buffer is, and gives its address.
    pub(crate) fn stage(&self, queue: u8, data: &[u8]) -> u64 {
        // 0x1c_0000 bytes of TX buffers; a long piece takes several places, so it is staged at the start.
        let index = self.tx_next[usize::from(queue)];
        let offset = TX_BUFFERS + u64::from(queue) * 0xe_0000 + u64::from(index) * 2048;
        assert!(data.len() <= 0x4_0000);
        self.write(offset, data);
        self.base + offset
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
    pub(crate) towards_card: Arc<Mutex<std::collections::VecDeque<Vec<u8>>>>,
    pub(crate) from_card: Arc<Mutex<Vec<Vec<u8>>>>,
    pub(crate) full: Arc<std::sync::atomic::AtomicBool>,
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
