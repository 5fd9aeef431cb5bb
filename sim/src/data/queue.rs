//! The state of one descriptor queue, as its registers describe it (ixgbevf.md §4.6-4.7, §5.3; igbvf.md §3.3-3.4).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vfnic_hw::{Family, Model};

use super::hooks::RingViolation;

/// A head or tail register on a cache line of its own: the driver writes one while the card reads it, and the reverse.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Line(pub(crate) AtomicU32);

impl Line {
    /// The register's value. Acquires: what the driver stored before ringing is visible after it.
    #[must_use]
    pub fn load(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the register.
    pub fn store(&self, value: u32) {
        self.0.store(value, Ordering::Release);
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

    /// What is wrong with it, if anything: 128-byte alignment, a length of whole 128 bytes in bits 19:7.
    pub(crate) fn check(self) -> Result<(), RingViolation> {
        if self.len == 0 || self.len & 0x7f != 0 || self.len > 0x000f_ff80 {
            Err(RingViolation::BadLength)
        } else if self.base & 0x7f != 0 || self.base.checked_add(u64::from(self.len)).is_none() {
            Err(RingViolation::BaseMisaligned)
        } else {
            Ok(())
        }
    }
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
    /// 6, 7: reserved.
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
            buffer_size: if kib == 0 && igb { 2048 } else { kib * 1024 },
            header_size: ((srrctl >> 8) & 0x3f) * 64,
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

/// One RX queue.
#[derive(Debug)]
pub struct RxQueue {
    pub(crate) ring: Ring,
    pub(crate) settings: RxSettings,
    pub(crate) enabled: bool,
    pub(crate) head: u32,
    pub(crate) tail: Arc<Line>,
    pub(crate) head_word: Arc<Line>,
    pub(crate) dropped: u32,
}

/// One TX queue.
#[derive(Debug)]
pub struct TxQueue {
    pub(crate) ring: Ring,
    pub(crate) enabled: bool,
    pub(crate) head: u32,
    pub(crate) tail: Arc<Line>,
    pub(crate) head_word: Arc<Line>,
    pub(crate) head_write_back: Option<u64>,
    pub(crate) blocked: Option<RingViolation>,
}

macro_rules! common {
    ($queue:ty) => {
        impl $queue {
            /// Base and length registers; the ring is looked at when the queue is enabled.
            pub fn set_ring(&mut self, ring: Ring) {
                self.ring = ring;
            }

            /// Writes the head register. Ignored while the queue is enabled, when only hardware moves it.
            pub fn set_head(&mut self, head: u32) {
                if !self.enabled {
                    self.head = head & 0xffff;
                    self.head_word.store(self.head);
                }
            }

            /// The head register, readable without the card's lock.
            #[must_use]
            pub fn head_word(&self) -> Arc<Line> {
                Arc::clone(&self.head_word)
            }

            /// The tail register, writable without the card's lock.
            #[must_use]
            pub fn tail_word(&self) -> Arc<Line> {
                Arc::clone(&self.tail)
            }

            /// Whether it is enabled.
            #[must_use]
            pub const fn is_enabled(&self) -> bool {
                self.enabled
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
            ring: Ring::default(),
            settings: RxSettings::decode(model, 0, 0),
            enabled: false,
            head: 0,
            tail: Arc::default(),
            head_word: Arc::default(),
            dropped: 0,
        }
    }

    /// SRRCTL and RXDCTL but for its enable bit; may change while enabled.
    pub fn set_settings(&mut self, settings: RxSettings) {
        self.settings = settings;
    }

    /// RXDCTL.ENABLE goes to 1: live at once. A ring it cannot use is told of and gets no frames.
    ///
    /// # Errors
    ///
    /// What is wrong with base, length or buffer size.
    pub fn enable(&mut self) -> Result<(), RingViolation> {
        self.enabled = true;
        self.ring.check()
    }

    /// RXDCTL.ENABLE goes to 0. Head and tail stay.
    pub fn disable(&mut self) {
        self.enabled = false;
    }

    /// What a VF reset does: off, half-finished work forgotten, registers kept.
    pub fn reset(&mut self) {
        self.enabled = false;
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
            ring: Ring::default(),
            enabled: false,
            head: 0,
            tail: Arc::default(),
            head_word: Arc::default(),
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
    /// What is wrong with base or length; such a ring is never fetched from.
    pub fn enable(&mut self) -> Result<(), RingViolation> {
        self.enabled = true;
        self.ring.check()
    }

    /// TXDCTL.ENABLE goes to 0, or SWFLSH is written alone: held-back write-backs go out, a half frame is forgotten.
    pub fn disable(&mut self) {
        self.enabled = false;
    }

    /// What a VF reset does: off, contexts and half frames forgotten, unblocked; registers kept, head write-back included.
    pub fn reset(&mut self) {
        self.enabled = false;
        self.blocked = None;
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
