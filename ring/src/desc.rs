//! The 16-byte descriptors both families share, and the ring of them in DMA memory.
//!
//! A descriptor is two little-endian 64-bit words. The driver only ever writes rings, but for one copy of a
//! completion: where a buffer is and who owns it stands in private tables, because what stands in the ring may have
//! been scribbled over (faults.md §3.3 rule 1).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{DmaRegion, Iova, RingError};

/// Bits of word 1 of an RX write-back, the same in both families (ixgbevf.md §9.3, igbvf.md §8.2).
pub(crate) mod rx {
    /// Descriptor done.
    pub(crate) const DD: u64 = 1 << 0;
    /// Last descriptor of its frame.
    pub(crate) const EOP: u64 = 1 << 1;
    /// What every whole frame in one buffer has. Inside a batch DD says the same of an entry: a frame that has
    /// something in the side table, or several buffers, has DD cleared, so that one test of these two bits tells
    /// the frames that need no more looking at.
    pub(crate) const PLAIN: u64 = DD | EOP;
    /// VLAN tag was in the frame.
    pub(crate) const VP: u64 = 1 << 3;
    /// L4 checksum was looked at.
    pub(crate) const L4CS: u64 = 1 << 5;
    /// IPv4 header checksum was looked at.
    pub(crate) const IPCS: u64 = 1 << 6;
    /// UDP checksum was looked at.
    pub(crate) const UDPCS: u64 = 1 << 4;
    /// Came from another function of the same card.
    pub(crate) const LB: u64 = 1 << 18;
    /// CRC error.
    pub(crate) const CE: u64 = 1 << 24;
    /// Length error (ixgbe), symbol error (igb).
    pub(crate) const LE_SE: u64 = 1 << 25;
    /// Sequence error (igb).
    pub(crate) const SEQ: u64 = 1 << 26;
    /// PE and OSE (ixgbe), CXE (igb).
    pub(crate) const SECERR: u64 = 3 << 27;
    /// Bits of the length in word 1.
    pub(crate) const LEN_SHIFT: u32 = 32;
}

/// Bits of word 1 of TX descriptors (ixgbevf.md §10.2-10.3, igbvf.md §9.1-9.2).
pub(crate) mod tx {
    /// Advanced context descriptor.
    pub(crate) const DTYP_CTX: u64 = 2 << 20;
    /// Advanced data descriptor.
    pub(crate) const DTYP_DATA: u64 = 3 << 20;
    /// Last of its frame.
    pub(crate) const EOP: u64 = 1 << 24;
    /// Insert the FCS; always.
    pub(crate) const IFCS: u64 = 1 << 25;
    /// Report when done.
    pub(crate) const RS: u64 = 1 << 27;
    /// Advanced descriptor.
    pub(crate) const DEXT: u64 = 1 << 29;
    /// Insert the context's VLAN tag.
    pub(crate) const VLE: u64 = 1 << 30;
    /// Segment (TSO).
    pub(crate) const TSE: u64 = 1 << 31;
    /// Write-back: done.
    pub(crate) const DD: u64 = 1 << 32;
    /// Which of the two contexts.
    pub(crate) const IDX_SHIFT: u32 = 36;
    /// Check against the context.
    pub(crate) const CC: u64 = 1 << 39;
    /// Insert the IPv4 header checksum.
    pub(crate) const IXSM: u64 = 1 << 40;
    /// Insert the L4 checksum.
    pub(crate) const TXSM: u64 = 1 << 41;
    /// Total payload of the frame.
    pub(crate) const PAYLEN_SHIFT: u32 = 46;
    /// What every data descriptor carries.
    pub(crate) const DATA: u64 = DTYP_DATA | IFCS | DEXT;
}

/// What differs between the models on the data path: a handful of constants, resolved when a queue starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Dialect {
    /// 82576.
    I82576,
    /// I350: looped-back VLAN tags arrive big-endian (igbvf.md §13).
    I350,
    /// 82599: UDP without a checksum is reported as bad (ixgbevf.md §17, 7).
    I82599,
    /// X540.
    X540,
    /// X550 family: a frame without a checked context stops the queue (ixgbevf.md §10.4).
    X550,
}

impl Dialect {
    const fn is_igb(self) -> bool {
        matches!(self, Self::I82576 | Self::I350)
    }

    /// Error bits that make a frame unusable: CE, SE, SEQ, CXE, RXE on igb; CE, LE, PE, OSE, RXE on ixgbe.
    pub(crate) const fn rx_errors(self) -> u64 {
        let common = rx::CE | rx::LE_SE | self.mac_error();
        if self.is_igb() {
            common | rx::SEQ | 1 << 28
        } else {
            common | rx::SECERR
        }
    }

    /// Any other error of the MAC (RXE).
    pub(crate) const fn mac_error(self) -> u64 {
        if self.is_igb() { 1 << 31 } else { 1 << 29 }
    }

    /// The IPv4 header checksum was wrong.
    pub(crate) const fn ip_error(self) -> u64 {
        if self.is_igb() { 1 << 30 } else { 1 << 31 }
    }

    /// The L4 checksum was wrong.
    pub(crate) const fn l4_error(self) -> u64 {
        if self.is_igb() { 1 << 29 } else { 1 << 30 }
    }

    /// "Ignore the checksum bits", igb only.
    pub(crate) const fn ignore_checksums(self) -> u64 {
        if self.is_igb() { 1 << 2 } else { 0 }
    }

    /// Whether an L4 error on UDP says nothing (82599 erratum 44).
    pub(crate) const fn udp_errors_lie(self) -> bool {
        matches!(self, Self::I82599)
    }

    /// Whether a looped-back frame's VLAN tag is byte-swapped.
    pub(crate) const fn swaps_looped_vlan(self) -> bool {
        matches!(self, Self::I350)
    }

    /// Whether every frame names a context to be checked against: VFs of the ixgbe family do, igb VFs do not.
    pub(crate) const fn checks_context(self) -> bool {
        !self.is_igb()
    }

    /// Largest frame on the wire in bytes, FCS included (ixgbevf.md §9.7, igbvf.md §8.4).
    #[must_use]
    pub const fn max_frame(self) -> u32 {
        9728
    }
}

/// Most descriptors a ring may have here; the hardware takes more, larger rings only add cache misses.
pub const MAX_RING: u16 = 4096;
/// Fewest.
pub const MIN_RING: u16 = 64;

/// One descriptor: two little-endian words. Atomics, because a device or another thread may write it at any time.
pub(crate) type Descriptor = [AtomicU64; 2];

/// Word 1 of a descriptor, read once. DD stands in it, and what the device wrote before DD is seen by every later read.
#[inline(always)]
pub(crate) fn completion(word1: &AtomicU64) -> u64 {
    // ORDERING: pairs with the device's write of the word that holds DD, the last of a completion.
    let value = u64::from_le(word1.load(Ordering::Acquire));
    // A device need not be in the domain that acquire is about.
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier has no operands.
    unsafe {
        core::arch::asm!("dmb oshld", options(nostack, preserves_flags));
    }
    value
}

/// A descriptor ring in DMA memory.
pub(crate) struct DescRing {
    /// Lives as long as `region`, the field that keeps it mapped; never lent for longer.
    all: &'static [Descriptor],
    iova: Iova,
    _region: DmaRegion,
}

impl DescRing {
    pub(crate) fn new(region: DmaRegion, offset: usize, size: u16) -> Result<Self, RingError> {
        if !(MIN_RING..=MAX_RING).contains(&size) || !size.is_multiple_of(8) {
            return Err(RingError::Size {
                asked: size.into(),
                min: MIN_RING.into(),
                max: MAX_RING.into(),
            });
        }
        let need = usize::from(size) * 16;
        let words = match offset.checked_add(need) {
            Some(end) if offset.is_multiple_of(128) => region.words().get(offset / 8..end / 8),
            _ => None,
        };
        let Some(words) = words else {
            return Err(RingError::Region {
                need,
                offset,
                have: region.len(),
            });
        };
        let all = words.as_chunks().0;
        // SAFETY: the memory stays mapped as long as the handle beside it lives, and nothing here gives the slice
        // away for longer than a borrow of both.
        let all = unsafe { std::slice::from_raw_parts(all.as_ptr(), all.len()) };
        let ring = Self {
            all,
            iova: region.iova().offset(offset as u64),
            _region: region,
        };
        ring.clear();
        Ok(ring)
    }

    #[inline]
    pub(crate) const fn size(&self) -> usize {
        self.all.len()
    }

    pub(crate) const fn iova(&self) -> Iova {
        self.iova
    }

    /// All descriptors.
    #[inline]
    pub(crate) const fn all(&self) -> &[Descriptor] {
        self.all
    }

    /// [`completion`] of a slot; 0 outside the ring.
    #[inline]
    pub(crate) fn done_word(&self, slot: usize) -> u64 {
        match self.all().get(slot) {
            Some([_, word1]) => completion(word1),
            None => 0,
        }
    }

    /// Word 0 of a descriptor, to be read after word 1 said done.
    #[inline]
    pub(crate) fn first_word(&self, slot: usize) -> u64 {
        match self.all().get(slot) {
            Some([word0, _]) => u64::from_le(word0.load(Ordering::Relaxed)),
            None => 0,
        }
    }

    /// Writes a descriptor. Relaxed: the doorbell orders it before the device's look.
    #[inline]
    pub(crate) fn store(&self, slot: usize, word0: u64, word1: u64) {
        if let Some(descriptor) = self.all().get(slot) {
            descriptor[0].store(word0.to_le(), Ordering::Relaxed);
            descriptor[1].store(word1.to_le(), Ordering::Relaxed);
        }
    }

    /// Rewrites word 1 alone.
    #[inline]
    pub(crate) fn store_second(&self, slot: usize, word1: u64) {
        if let Some([_, second]) = self.all().get(slot) {
            second.store(word1.to_le(), Ordering::Relaxed);
        }
    }

    /// The slot `distance` after `slot`, round the ring's end; neither is more than the ring has.
    #[inline]
    pub(crate) const fn after(&self, slot: usize, distance: usize) -> usize {
        let next = slot + distance;
        if next < self.size() {
            next
        } else {
            next - self.size()
        }
    }

    /// Zeroes every descriptor, so that no completion of an earlier life is taken for one of this.
    pub(crate) fn clear(&self) {
        for slot in 0..self.size() {
            self.store(slot, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dma::HeapDma;

    #[test]
    fn a_slot_outside_the_ring_reads_as_nothing_and_takes_nothing() {
        let memory = HeapDma::new(4096, Iova(0x1_0000)).expect("memory");
        let region = DmaRegion::new(Arc::new(memory));
        let ring = DescRing::new(region.clone(), 1024, 64).expect("room for 64");
        let before: Vec<_> = words(&region);
        ring.store(64, u64::MAX, u64::MAX);
        ring.store_second(64, u64::MAX);
        assert_eq!(words(&region), before);
        assert_eq!((ring.done_word(64), ring.first_word(64)), (0, 0));
        ring.store(63, 1, 2);
        assert_eq!((ring.first_word(63), ring.done_word(63)), (1, 2));
    }

    fn words(region: &DmaRegion) -> Vec<u64> {
        let words = region.words().iter();
        words.map(|word| word.load(Ordering::Relaxed)).collect()
    }
}
