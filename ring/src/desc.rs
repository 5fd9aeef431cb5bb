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
    /// Reserved by the hardware, ours inside a batch: the entry has something in the side table.
    pub(crate) const SIDE: u64 = 1 << 12;
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
        if self.is_igb() {
            1 << 24 | 1 << 25 | 1 << 26 | 1 << 28 | 1 << 31
        } else {
            1 << 24 | 1 << 25 | 1 << 27 | 1 << 28 | 1 << 29
        }
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

/// What makes an entry plain, in one comparison of masked dwords: `low <= (word 1 & care) <= high`, status and error
/// dword and length dword each on its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain {
    pub(crate) care: u64,
    pub(crate) low: u64,
    pub(crate) high: u64,
}

impl Plain {
    /// Entries whose status bits under `care` are exactly `status` and whose length lies in the range.
    pub(crate) const fn new(care: u64, status: u64, min: usize, max: usize) -> Self {
        let (min, max) = (min as u64, if max > 0xffff { 0xffff } else { max as u64 });
        Self {
            care: care | 0xffff << 32,
            low: status | min << 32,
            high: status | max << 32,
        }
    }

    #[inline]
    pub(crate) const fn holds(&self, word1: u64) -> bool {
        let x = word1 & self.care;
        (x ^ self.low).trailing_zeros() >= 32
            && self.low >> 32 <= x >> 32
            && x >> 32 <= self.high >> 32
    }
}

/// A descriptor ring in DMA memory.
pub(crate) struct DescRing {
    region: DmaRegion,
    first_word: usize,
    size: u32,
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
        if !offset.is_multiple_of(128)
            || offset
                .checked_add(need)
                .is_none_or(|end| end > region.len())
        {
            return Err(RingError::Region {
                need,
                offset,
                have: region.len(),
            });
        }
        let ring = Self {
            region,
            first_word: offset / 8,
            size: size.into(),
        };
        for slot in 0..ring.size {
            ring.store(slot, 0, 0);
        }
        Ok(ring)
    }

    pub(crate) const fn size(&self) -> u32 {
        self.size
    }

    pub(crate) const fn iova(&self) -> Iova {
        self.region.iova().offset(self.first_word as u64 * 8)
    }

    /// The slot after `slot`, round the end.
    #[inline]
    pub(crate) const fn after(&self, slot: u32) -> u32 {
        let next = slot + 1;
        if next == self.size { 0 } else { next }
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        let words = self.region.words();
        debug_assert!(index < words.len());
        // SAFETY: every caller's slot is below `size`, and the constructor checked that all of the ring's words lie
        // inside the region.
        unsafe { words.get_unchecked(index) }
    }

    /// Eight descriptors from `slot` on, as two vectors' worth; None where the ring ends before.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(crate) fn group(&self, slot: usize) -> Option<(&[AtomicU64; 8], &[AtomicU64; 8])> {
        if slot + 8 > self.size as usize {
            return None;
        }
        let words = self.region.words().get(self.first_word + slot * 2..)?;
        let (first, rest) = words.split_first_chunk::<8>()?;
        Some((first, rest.first_chunk::<8>()?))
    }

    /// Four descriptors from `slot` on, as two vectors' worth; None where the ring ends before.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(crate) fn half_group(&self, slot: usize) -> Option<(&[AtomicU64; 4], &[AtomicU64; 4])> {
        if slot + 4 > self.size as usize {
            return None;
        }
        let words = self.region.words().get(self.first_word + slot * 2..)?;
        let (first, rest) = words.split_first_chunk::<4>()?;
        Some((first, rest.first_chunk::<4>()?))
    }

    /// Word 1 of a descriptor, read once. Acquire: DD stands in it, and what the device wrote before DD follows it.
    #[inline]
    pub(crate) fn done_word(&self, slot: u32) -> u64 {
        debug_assert!(slot < self.size);
        u64::from_le(
            self.word(self.first_word + slot as usize * 2 + 1)
                .load(Ordering::Acquire),
        )
    }

    /// Word 0 of a descriptor, to be read after word 1 said done.
    #[inline]
    pub(crate) fn first_word(&self, slot: u32) -> u64 {
        debug_assert!(slot < self.size);
        u64::from_le(
            self.word(self.first_word + slot as usize * 2)
                .load(Ordering::Relaxed),
        )
    }

    /// Writes a descriptor. Relaxed: the doorbell orders it before the device's look.
    #[inline]
    pub(crate) fn store(&self, slot: u32, word0: u64, word1: u64) {
        debug_assert!(slot < self.size);
        let at = self.first_word + slot as usize * 2;
        self.word(at).store(word0.to_le(), Ordering::Relaxed);
        self.word(at + 1).store(word1.to_le(), Ordering::Relaxed);
    }

    /// Rewrites word 1 alone.
    #[inline]
    pub(crate) fn store_second(&self, slot: u32, word1: u64) {
        self.word(self.first_word + slot as usize * 2 + 1)
            .store(word1.to_le(), Ordering::Relaxed);
    }
}
