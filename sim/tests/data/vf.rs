//! The memory of a VF driven by hand: its mappings, its rings and buffers, and what it finds in them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use vfnic_hw::{DmaRegion, Iova};
use vfnic_ring::HeapDma;
use vfnic_sim::data::Ring;
use vfnic_sim::{Mapping, Translate};

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

/// Descriptors of every ring.
pub(crate) const SIZE: u32 = 256;
const TX_RING: u64 = 0;
const RX_RING: u64 = 0x1_0000;
const TX_BUFFERS: u64 = 0x2_0000;
const RX_BUFFERS: u64 = 0x20_0000;
const STRIDE: u64 = 4096;
pub(crate) const MEMORY: usize = 0x40_0000;
pub(crate) const QUEUES: u8 = 2;

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

    pub(crate) fn rx_offset(queue: u8, index: u32) -> u64 {
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
