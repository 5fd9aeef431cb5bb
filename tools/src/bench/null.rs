//! The null device: the smallest thing that completes descriptors, so that a bench measures the driver alone.
//!
//! It stores exactly what a card would (16 bytes a received frame, one word a requested TX write-back) and nothing
//! else, outside the timed region. It is not the simulator: it checks nothing, forwards nothing and
//! knows no registers but two tails, which are words of ordinary memory.

use std::sync::atomic::{AtomicU64, Ordering};

use vfnic_ring::{DmaRegion, measure};

/// Word 0 of a received frame's write-back: an RSS hash over IPv4 and UDP (RSS type 7), packet type IPv4 and UDP.
const RX_WORD0: u64 = 0x5eed_1234_0000_0217;
/// Word 1: 60 bytes, no VLAN, DD, EOP, checksums seen and good.
const RX_WORD1: u64 = 0x0000_003c_0000_0063;
/// RS, the request for a write-back, in word 1 of a TX descriptor.
const TX_RS: u64 = 1 << 27;
/// The write-back of a TX descriptor: DD in its status dword.
const TX_DONE: u64 = 1 << 32;

/// Where the device's writes leave the cache lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Caches {
    /// In the measuring core's own caches.
    Hot,
    /// In memory: everything the device wrote is flushed, payload included.
    Cold,
    /// In another core's caches, where the device runs; payload is written, nothing flushed.
    Remote,
}

impl Caches {
    /// The word for it in options and results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Cold => "cold",
            Self::Remote => "remote",
        }
    }
}

/// One RX and one TX ring, completed on demand.
#[derive(Debug)]
pub struct NullDevice {
    rx: DmaRegion,
    tx: DmaRegion,
    /// Dword 0 is RDT, dword 16 (a cache line on) is TDT.
    tails: DmaRegion,
    buffers: DmaRegion,
    size: u32,
    rx_head: u32,
    tx_head: u32,
    caches: Caches,
}

/// Byte offset of RDT in the tails region.
pub const RDT: usize = 0;
/// Byte offset of TDT in the tails region.
pub const TDT: usize = 64;

impl NullDevice {
    /// A device on rings of `size` descriptors each; `buffers` is the region of the pool they point into.
    #[must_use]
    pub fn new(
        rx: DmaRegion,
        tx: DmaRegion,
        tails: DmaRegion,
        buffers: DmaRegion,
        size: u16,
        caches: Caches,
    ) -> Self {
        Self {
            rx,
            tx,
            tails,
            buffers,
            size: u32::from(size),
            rx_head: 0,
            tx_head: 0,
            caches,
        }
    }

    fn tail(&self, at: usize) -> u32 {
        self.tails.dwords()[at / 4].load(Ordering::Acquire)
    }

    fn next(&self, head: u32) -> u32 {
        if head + 1 == self.size { 0 } else { head + 1 }
    }

    /// Completes up to `count` posted RX descriptors; returns how many there were.
    pub fn receive(&mut self, count: u32) -> u32 {
        let tail = self.tail(RDT);
        let words = self.rx.words();
        let (first, mut done) = (self.rx_head, 0);
        while done < count && self.rx_head != tail {
            let at = self.rx_head as usize * 2;
            if self.caches != Caches::Hot {
                self.write_payload(words[at].load(Ordering::Relaxed));
            }
            words[at].store(RX_WORD0, Ordering::Relaxed);
            words[at + 1].store(RX_WORD1, Ordering::Release);
            self.rx_head = self.next(self.rx_head);
            done += 1;
        }
        self.flush(&self.rx, first, done);
        done
    }

    /// Walks what was handed over for transmission, writing back where asked to; returns how many descriptors.
    pub fn transmit(&mut self) -> u32 {
        let tail = self.tail(TDT);
        let words = self.tx.words();
        let (first, mut done) = (self.tx_head, 0);
        while self.tx_head != tail {
            let at = self.tx_head as usize * 2 + 1;
            if words[at].load(Ordering::Relaxed) & TX_RS != 0 {
                words[at].store(TX_DONE, Ordering::Release);
            }
            self.tx_head = self.next(self.tx_head);
            done += 1;
        }
        self.flush(&self.tx, first, done);
        done
    }

    /// Evicts the lines of `count` descriptors from `first` on, where that is the mode.
    fn flush(&self, ring: &DmaRegion, first: u32, count: u32) {
        if self.caches != Caches::Cold {
            return;
        }
        let mut slot = first;
        for number in 0..count {
            if number == 0 || slot.is_multiple_of(4) {
                measure::flush_line(ring, slot as usize * 16);
            }
            slot = self.next(slot);
        }
        measure::flush_done();
    }

    /// A line of payload, as the card would write it.
    fn write_payload(&self, iova: u64) {
        let offset = iova.wrapping_sub(self.buffers.iova().0);
        let Ok(offset) = usize::try_from(offset) else {
            return;
        };
        let Some(line) = self.buffers.words().get(offset / 8..offset / 8 + 8) else {
            return;
        };
        for word in line {
            AtomicU64::store(word, iova, Ordering::Relaxed);
        }
        if self.caches == Caches::Cold {
            measure::flush_line(&self.buffers, offset);
        }
    }
}
