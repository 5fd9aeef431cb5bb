//! The registers of one descriptor queue and what the engines keep with them (ixgbevf.md §4.6-4.7, §5.3; igbvf.md §3.3-3.4).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vfnic_hw::{DoorbellSink, Family, Model};

use super::desc::{TxContext, Words};
use super::hooks::RingViolation;
use super::limit::Limit;
use super::tx::Assembly;
use super::write_back::Held;
use crate::dma::{Translate, Windows};

/// A head or tail register on a cache line of its own: the driver writes one while the card reads it, and the reverse.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Line(AtomicU32);

impl Line {
    /// The register's value. Acquires: what the driver stored before ringing is visible after it.
    #[must_use]
    pub fn load(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the register. Releases: what was stored before is visible to whoever loads the value.
    pub fn store(&self, value: u32) {
        self.0.store(value, Ordering::Release);
    }
}

/// A tail register is a doorbell as it stands where nobody has to be woken.
impl DoorbellSink for Line {
    fn ring(&self, tail: u32) {
        self.store(tail);
    }
}

/// Where a ring lies: what base and length registers hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Base address, as written.
    pub base: u64,
    /// Length in bytes, as written.
    pub len: u32,
}

impl Ring {
    /// Number of 16-byte descriptors.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.len / 16
    }

    /// Address of descriptor `index`, which is below the count of a ring that passed the check.
    #[inline]
    pub(crate) const fn at(self, index: u32) -> u64 {
        places_after(self.base, index as usize)
    }

    /// What is wrong with it, if anything: 128-byte alignment, a length of whole 128 bytes in bits 19:7.
    fn check(self) -> Result<(), RingViolation> {
        if self.len == 0 || self.len & 0x7f != 0 || self.len > 0x000f_ff80 {
            Err(RingViolation::BadLength)
        } else if self.base & 0x7f != 0 || self.base.checked_add(u64::from(self.len)).is_none() {
            Err(RingViolation::BaseMisaligned)
        } else {
            Ok(())
        }
    }
}

/// Address of the descriptor `places` after the one at `address`; the last address of all is followed by the first.
#[inline]
pub(crate) const fn places_after(address: u64, places: usize) -> u64 {
    address.wrapping_add((places as u64) << 4)
}

/// How an RX queue writes descriptors: SRRCTL bits 27:25.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxFormat {
    /// 0: legacy.
    Legacy,
    /// 1: advanced, one buffer.
    OneBuffer,
    /// 2: advanced, header split where a header is recognised.
    Split,
    /// 5: advanced, header buffer always used.
    SplitAlways,
    /// 3, 4: replication. The header goes to the header buffer and the whole frame to the packet buffers.
    Replicate,
    /// 6, 7: reserved; worked as one buffer.
    Reserved,
}

/// An RX queue's settings, decoded from SRRCTL and RXDCTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxSettings {
    /// Bytes the card may write to one packet buffer; a multiple of 1024.
    pub buffer_size: u32,
    /// Bytes it may write to a header buffer.
    pub header_size: u32,
    /// Descriptor type.
    pub format: RxFormat,
    /// Frames are dropped, not held back, while the queue has no descriptors.
    pub drop_en: bool,
    /// The VLAN tag moves from the frame to the descriptor (ixgbevf only: RXDCTL.VME).
    pub strip: bool,
    /// Longest frame, CRC included, if limited here (X540 and X550: RXDCTL.RLPML).
    pub max_len: Option<u32>,
}

impl RxSettings {
    /// Decodes the registers as `model` would.
    #[must_use]
    pub const fn decode(model: Model, srrctl: u32, rxdctl: u32) -> Self {
        let igb = matches!(model.family(), Family::Igbvf);
        let kib = srrctl & if igb { 0x7f } else { 0x1f };
        let limited = matches!(model, Model::X540 | Model::X550) && rxdctl & (1 << 15) != 0;
        Self {
            // Size zero means RCTL.BSIZE to an igb, 2048 by default; it is illegal on the others.
            buffer_size: if kib == 0 && igb { 2048 } else { kib << 10 },
            header_size: ((srrctl >> 8) & 0x3f) << 6,
            format: match (srrctl >> 25) & 7 {
                0 => RxFormat::Legacy,
                1 => RxFormat::OneBuffer,
                2 => RxFormat::Split,
                3 | 4 => RxFormat::Replicate,
                5 => RxFormat::SplitAlways,
                _ => RxFormat::Reserved,
            },
            drop_en: srrctl & (1 << if igb { 31 } else { 28 }) != 0,
            strip: !igb && rxdctl & (1 << 30) != 0,
            max_len: if limited { Some(rxdctl & 0x3fff) } else { None },
        }
    }
}

/// What both kinds of queue have.
#[derive(Debug, Default)]
pub(crate) struct Base {
    pub(crate) ring: Ring,
    /// Descriptors of the ring; 0 while the queue is off or its ring is unusable, so that it has no work.
    pub(crate) count: u32,
    pub(crate) enabled: bool,
    /// The next descriptor to be completed.
    pub(crate) head: u32,
    pub(crate) tail: Arc<Line>,
    pub(crate) head_word: Arc<Line>,
    pub(crate) windows: Windows,
    pub(crate) data_windows: Windows,
    pub(crate) held: Held,
    /// The last tail found beyond the ring, so that it is told of once.
    pub(crate) bad_tail: Option<u32>,
}

impl Base {
    fn enable(&mut self) -> Result<(), RingViolation> {
        self.enabled = true;
        self.bad_tail = None;
        self.ring.check()?;
        if self.head >= self.ring.count() {
            return Err(RingViolation::HeadBeyondRing);
        }
        self.count = self.ring.count();
        Ok(())
    }

    fn disable(&mut self) {
        self.enabled = false;
        self.count = 0;
        self.windows.clear();
        self.data_windows.clear();
    }

    /// Index `by` places after `index`, both at most the count, which has 16 bits.
    #[inline]
    pub(crate) const fn after(&self, index: u32, by: u32) -> u32 {
        let sum = index.wrapping_add(by);
        if sum >= self.count {
            sum.wrapping_sub(self.count)
        } else {
            sum
        }
    }

    /// Descriptors from `from` up to `tail`, both below the count.
    #[inline]
    const fn between(&self, from: u32, tail: u32) -> u32 {
        let ahead = tail.wrapping_sub(from);
        if tail >= from {
            ahead
        } else {
            ahead.wrapping_add(self.count)
        }
    }

    /// Descriptors from `from` up to the tail; none and a complaint when the tail is beyond the ring.
    #[inline]
    pub(crate) fn available(&mut self, from: u32) -> Result<u32, RingViolation> {
        let tail = self.tail.load();
        if tail >= self.count {
            if self.count == 0 || self.bad_tail == Some(tail) {
                return Ok(0);
            }
            self.bad_tail = Some(tail);
            return Err(RingViolation::TailBeyondRing);
        }
        Ok(self.between(from, tail))
    }

    /// Forgets translations if the IOMMU's table changed.
    #[inline]
    pub(crate) fn refresh(&mut self, space: &dyn Translate) {
        self.windows.refresh(space);
        self.data_windows.refresh(space);
    }

    /// Registers as after power-on; the words shared with the register file stay the same words.
    fn power_on(&mut self) {
        *self = Self {
            tail: Arc::clone(&self.tail),
            head_word: Arc::clone(&self.head_word),
            ..Self::default()
        };
        self.tail.store(0);
        self.head_word.store(0);
    }

    /// The same without telling: none as well when the tail is beyond the ring.
    #[inline]
    pub(crate) fn peek(&self, from: u32) -> u32 {
        let tail = self.tail.load();
        if tail >= self.count {
            0
        } else {
            self.between(from, tail)
        }
    }

    /// Takes the queue out of work until it is enabled anew: its ring cannot be reached.
    pub(crate) fn stop(&mut self) {
        self.count = 0;
    }
}

/// RX descriptors fetched ahead, as the chip does.
pub(crate) const FETCH: usize = 32;

/// One RX queue.
#[derive(Debug)]
pub struct RxQueue {
    pub(crate) base: Base,
    pub(crate) settings: RxSettings,
    /// Descriptors fetched and not used; `fetched[at..filled]`, the first of them at `base.head`.
    pub(crate) fetched: [Words; FETCH],
    pub(crate) at: usize,
    pub(crate) filled: usize,
    pub(crate) dropped: u32,
}

/// One TX queue.
#[derive(Debug)]
pub struct TxQueue {
    pub(crate) base: Base,
    pub(crate) contexts: [Option<TxContext>; 2],
    pub(crate) assembly: Assembly,
    pub(crate) limit: Option<Limit>,
    pub(crate) head_write_back: Option<u64>,
    pub(crate) blocked: Option<RingViolation>,
}

macro_rules! common {
    ($queue:ty) => {
        impl $queue {
            /// Base and length registers; the ring is looked at when the queue is enabled.
            pub fn set_ring(&mut self, ring: Ring) {
                self.base.ring = ring;
            }

            /// Writes the head register. Ignored while the queue is enabled, when only hardware moves it.
            pub fn set_head(&mut self, head: u32) {
                if !self.base.enabled {
                    self.base.head = head & 0xffff;
                    self.base.head_word.store(self.base.head);
                }
            }

            /// The head register, readable without the card's lock.
            #[must_use]
            pub fn head_word(&self) -> Arc<Line> {
                Arc::clone(&self.base.head_word)
            }

            /// The tail register, writable without the card's lock.
            #[must_use]
            pub fn tail_word(&self) -> Arc<Line> {
                Arc::clone(&self.base.tail)
            }

            /// Whether it is enabled, usable or not.
            #[must_use]
            pub const fn is_enabled(&self) -> bool {
                self.base.enabled
            }
        }
    };
}
common!(RxQueue);
common!(TxQueue);

impl RxQueue {
    /// A queue as it is after power-on.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self {
            base: Base::default(),
            settings: RxSettings::decode(model, 0, 0),
            fetched: [[0; 2]; FETCH],
            at: 0,
            filled: 0,
            dropped: 0,
        }
    }

    /// SRRCTL and RXDCTL but for its enable bit; may change while enabled.
    pub fn set_settings(&mut self, settings: RxSettings) {
        self.settings = settings;
    }

    /// RXDCTL.ENABLE goes to 1: live at once. A queue it cannot use gets no frames until it is enabled anew.
    ///
    /// # Errors
    ///
    /// What is wrong with base, length, head, buffer size or descriptor type. A reserved type works as one buffer.
    pub fn enable(&mut self) -> Result<(), RingViolation> {
        self.base.enable()?;
        if self.settings.buffer_size == 0 {
            self.base.stop();
            return Err(RingViolation::NoBufferSize);
        }
        if self.settings.format == RxFormat::Reserved {
            return Err(RingViolation::BadDescriptorType);
        }
        Ok(())
    }

    /// RXDCTL.ENABLE goes to 0. Head and tail stay; descriptors fetched ahead are forgotten.
    pub fn disable(&mut self) {
        self.base.disable();
        self.at = 0;
        self.filled = 0;
    }

    /// What a VF reset does: off, half-finished work forgotten, registers kept.
    pub fn reset(&mut self) {
        self.disable();
        self.base.held.clear();
    }

    /// What a reset of the whole port does: as new.
    pub(crate) fn power_on(&mut self, model: Model) {
        self.reset();
        self.base.power_on();
        self.settings = RxSettings::decode(model, 0, 0);
        self.dropped = 0;
    }

    /// Frames dropped for lack of descriptors since the last call (RQDPC, clear on read).
    pub fn take_dropped(&mut self) -> u32 {
        std::mem::take(&mut self.dropped)
    }
}

impl TxQueue {
    /// A queue as it is after power-on.
    #[must_use]
    pub fn new() -> Self {
        Self {
            base: Base::default(),
            contexts: [None; 2],
            assembly: Assembly::default(),
            limit: None,
            head_write_back: None,
            blocked: None,
        }
    }

    /// TDWBAL and TDWBAH: bit 0 of the low half enables, the address is 4-byte aligned. Survives every reset but the PF's.
    pub fn set_head_write_back(&mut self, low: u32, high: u32) {
        let address = (u64::from(high) << 32) | u64::from(low & !3);
        self.head_write_back = (low & 1 != 0).then_some(address);
    }

    /// TXDCTL.ENABLE goes to 1.
    ///
    /// # Errors
    ///
    /// What is wrong with base, length or head; such a ring is never fetched from.
    pub fn enable(&mut self) -> Result<(), RingViolation> {
        self.contexts = [None; 2];
        self.assembly.clear();
        self.base.enable()
    }

    /// TXDCTL.ENABLE goes to 0, or SWFLSH is written alone. A half frame is forgotten; write-backs held back go out at the
    /// next tick.
    pub fn disable(&mut self) {
        self.base.disable();
        self.base.held.hasten();
        self.assembly.clear();
    }

    /// What a VF reset does: off, contexts and half frames forgotten, unblocked; registers kept, head write-back included.
    pub fn reset(&mut self) {
        self.disable();
        self.base.held.clear();
        self.contexts = [None; 2];
        self.blocked = None;
    }

    /// What a reset of the whole port does: as new.
    pub(crate) fn power_on(&mut self) {
        self.reset();
        self.base.power_on();
        self.head_write_back = None;
        self.limit = None;
    }

    /// Why malicious-driver detection blocked it, if it did.
    #[must_use]
    pub const fn blocked(&self) -> Option<RingViolation> {
        self.blocked
    }
}

impl Default for TxQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_up_to_the_tail_are_counted_round_the_end() {
        let mut base = Base {
            count: 8,
            ..Base::default()
        };
        for tail in 0..8 {
            base.tail.store(tail);
            for from in 0..8 {
                let expected = (0..8).find(|ahead| (from + ahead) % 8 == tail);
                assert_eq!(base.available(from).ok(), expected, "{from} to {tail}");
                assert_eq!(Some(base.peek(from)), expected, "{from} to {tail}");
            }
        }
        // Beyond the ring there are none, which is told once.
        base.tail.store(8);
        assert_eq!(base.peek(0), 0);
        assert_eq!(base.available(0), Err(RingViolation::TailBeyondRing));
        assert_eq!(base.available(0), Ok(0));
        let index: Vec<_> = (0..9).map(|by| base.after(7, by)).collect();
        assert_eq!(index, [7, 0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_ring_is_whole_lines_of_eight_up_to_20_bits_of_bytes_and_inside_all_addresses() {
        let check = |base, len| Ring { base, len }.check();
        for len in [128, 256, 0x000f_ff80] {
            assert_eq!(check(0x1000, len), Ok(()), "{len:#x}");
        }
        for len in [0, 1, 64, 127, 129, 0x000f_ffc0, 0x0010_0000, 0xffff_ff80] {
            assert_eq!(
                check(0x1000, len),
                Err(RingViolation::BadLength),
                "{len:#x}"
            );
        }
        let last = u64::MAX - 127;
        for (base, len) in [(64, 128), (1, 128), (last, 128), (last - 128, 256)] {
            let got = check(base, len);
            assert_eq!(got, Err(RingViolation::BaseMisaligned), "{base:#x}");
        }
        assert_eq!(check(last - 128, 128), Ok(()));
    }

    #[test]
    fn a_bit_of_its_own_lets_each_family_drop_and_only_some_models_limit_a_queue() {
        for model in Model::ALL {
            let igb = model.family() == Family::Igbvf;
            for bit in 0..32 {
                let drops = RxSettings::decode(model, 1 << bit, 0).drop_en;
                assert_eq!(drops, bit == if igb { 31 } else { 28 }, "{model:?}, {bit}");
                let strips = RxSettings::decode(model, 0, 1 << bit).strip;
                assert_eq!(strips, bit == 30 && !igb, "{model:?}, {bit}");
                let limit = RxSettings::decode(model, 0, 1 << bit | 0x3fff).max_len;
                let limited = bit == 15 && matches!(model, Model::X540 | Model::X550);
                assert_eq!(limit, limited.then_some(0x3fff), "{model:?}, {bit}");
            }
        }
    }

    #[test]
    fn a_head_goes_where_both_halves_of_its_address_say() {
        let mut queue = TxQueue::new();
        queue.set_head_write_back(0x8000_1235, 7);
        assert_eq!(queue.head_write_back, Some(0x7_8000_1234));
        queue.set_head_write_back(0x8000_1234, 7);
        assert_eq!(queue.head_write_back, None);
    }

    #[test]
    fn a_reset_of_the_port_leaves_nothing_but_the_words_that_others_hold() {
        let ring = Ring {
            base: 0x1000,
            len: 256,
        };
        let (mut rx, mut tx) = (RxQueue::new(Model::I350), TxQueue::new());
        rx.settings.drop_en = true;
        rx.dropped = 7;
        tx.set_head_write_back(0x1001, 0);
        tx.blocked = Some(RingViolation::BadLength);
        assert_eq!(rx.take_dropped(), 7);
        assert_eq!(rx.take_dropped(), 0);
        rx.dropped = 7;
        for base in [&mut rx.base, &mut tx.base] {
            base.ring = ring;
            base.head = 3;
            base.enable().expect("a good ring");
            base.tail.ring(9);
            base.head_word.store(3);
        }
        let words = [&rx.base, &tx.base].map(|base| [base.tail.clone(), base.head_word.clone()]);
        assert_eq!(words[0][0].load(), 9);
        assert_eq!(tx.blocked(), Some(RingViolation::BadLength));
        rx.power_on(Model::I350);
        tx.power_on();
        assert_eq!(rx.settings, RxSettings::decode(Model::I350, 0, 0));
        assert_eq!(
            (rx.dropped, tx.head_write_back, tx.blocked()),
            (0, None, None)
        );
        for (base, [tail, head]) in [&rx.base, &tx.base].into_iter().zip(words) {
            assert!(Arc::ptr_eq(&base.tail, &tail) && Arc::ptr_eq(&base.head_word, &head));
            assert_eq!(
                (tail.load(), head.load(), base.head, base.count),
                (0, 0, 0, 0)
            );
            assert!(!base.enabled && base.ring == Ring::default());
        }
    }
}
