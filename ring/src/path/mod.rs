//! The inner loops: descriptors to entries and back, for one stretch of a ring that does not wrap.
//!
//! A loop takes plain frames only (whole, in one buffer, nothing asked, nothing wrong) and stops at the first that is
//! not; what to do with that one is decided elsewhere, slowly. The portable loops are the specification: property
//! tests hold the others to them.
//!
//! Loops work on slices cut to one length beforehand, so that nothing is checked inside them.

use std::ops::Add;
use std::sync::OnceLock;

use crate::SendError;
use crate::batch::Batch;
use crate::rx::RxRing;
#[cfg(target_arch = "x86_64")]
use crate::tx::REPORT;
use crate::tx::TxRing;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
mod vector;

/// Which instructions the inner loops use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Simd {
    /// None in particular: every architecture.
    Portable,
    /// AVX2 (and BMI, which comes with it): four descriptors a step.
    Avx2,
    /// AVX-512 (F, BW, VL): eight descriptors a step, partial groups by mask.
    Avx512,
}

impl Simd {
    /// All of them, slowest first, whether this machine has them or not.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Name as in `VFNIC_SIMD`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this machine can.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2")
            }
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// What new queues use: what the environment variable `VFNIC_SIMD` says (`portable`, `avx2`, `avx512`) where this
    /// machine has it, else the widest it has. Looked up once a process; [`RxRing::simd`](crate::RxRing::simd) tells
    /// what came of it.
    #[must_use]
    pub fn chosen() -> Self {
        static CHOSEN: OnceLock<Simd> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let asked = std::env::var_os("VFNIC_SIMD").unwrap_or_default();
            let mut usable = Self::ALL.into_iter().filter(|simd| simd.is_available());
            let named = usable.clone().find(|simd| asked == simd.name());
            named
                .or_else(|| usable.next_back())
                .unwrap_or(Self::Portable)
        })
    }

    /// This one, or the portable one where this machine cannot.
    #[must_use]
    pub fn or_portable(self) -> Self {
        if self.is_available() {
            self
        } else {
            Self::Portable
        }
    }
}

/// The whole of a queue's call, compiled around one inner loop.
#[derive(Clone, Copy)]
pub(crate) struct Path<F> {
    simd: Simd,
    /// Only ever one that this machine can run: [`RxPath::new`] and [`TxPath::new`] see to it.
    call: F,
}

impl<F: Copy> Path<F> {
    pub(crate) const fn simd(&self) -> Simd {
        self.simd
    }
}

/// How a queue receives.
pub(crate) type RxPath = Path<unsafe fn(&mut RxRing, &mut Batch, usize) -> usize>;
/// How a queue sends.
pub(crate) type TxPath = Path<unsafe fn(&mut TxRing, &mut Batch) -> Result<usize, SendError>>;

impl RxPath {
    pub(crate) fn new(simd: Simd) -> Self {
        let simd = simd.or_portable();
        match simd {
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => Self {
                simd,
                call: avx2::receive,
            },
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => Self {
                simd,
                call: avx512::receive,
            },
            _ => Self {
                simd,
                call: portable::receive,
            },
        }
    }

    /// Receives up to so many descriptors.
    #[inline]
    pub(crate) fn receive(self, rx: &mut RxRing, batch: &mut Batch, most: usize) -> usize {
        // SAFETY: `new`, the only maker, looked whether this machine has the loop's instructions.
        unsafe { (self.call)(rx, batch, most) }
    }
}

impl TxPath {
    pub(crate) fn new(simd: Simd) -> Self {
        let simd = simd.or_portable();
        match simd {
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => Self {
                simd,
                call: avx2::send,
            },
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => Self {
                simd,
                call: avx512::send,
            },
            _ => Self {
                simd,
                call: portable::send,
            },
        }
    }

    /// Sends what the batch holds.
    #[inline]
    pub(crate) fn send(self, tx: &mut TxRing, batch: &mut Batch) -> Result<usize, SendError> {
        // SAFETY: as in `receive`.
        unsafe { (self.call)(tx, batch) }
    }
}

/// What a loop did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Frames, each in one descriptor.
    pub(crate) frames: usize,
    /// Bytes of them.
    pub(crate) bytes: u64,
}

impl Add for Taken {
    type Output = Self;

    #[inline]
    fn add(self, more: Self) -> Self {
        Self {
            frames: self.frames + more.frames,
            bytes: self.bytes + more.bytes,
        }
    }
}

/// Below this the vector loops cost more than they save: for one frame there are calls of their own.
pub(crate) const FEW: usize = 2;
/// Entries past the end of arrays that a vector may read and write, so that partial groups need no loop.
pub(crate) const SLACK: usize = 8;

/// A bit for each of the slots from `next` on that ends a block and reports; every 32 slots the same again.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "below 32")]
const fn ends(next: usize) -> u32 {
    const { assert!(REPORT == 32, "a bit a slot") };
    (1u32 << 31).rotate_right((next % REPORT) as u32)
}

/// What makes a word 1 that of a plain frame: certain bits set, others clear, a length between two bounds.
///
/// All three in one comparison: masked and with the wanted bits and the least length taken away, the low half is 0
/// and the high half at most the difference of the bounds exactly for plain frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain {
    mask: u64,
    base: u64,
    /// Largest length less the smallest.
    spread: u64,
    /// The same in 16-bit lanes: the most that each may be. The mask leaves nothing of a VLAN tag.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "for vectors"))]
    lanes: u64,
}

impl Plain {
    /// Bits of `set` set, bits of `clear` clear (all below bit 32), and a length in bits 47:32 from `min` to `max`.
    pub(crate) fn new(set: u64, clear: u64, min: usize, max: usize) -> Self {
        // A length has 16 bits.
        let (min, max) = (min.min(0xffff), max.clamp(min, 0xffff));
        let spread = (max - min) as u64;
        Self {
            mask: set | clear | 0xffff << 32,
            base: set | (min as u64) << 32,
            spread,
            lanes: spread << 32,
        }
    }

    #[inline]
    pub(crate) const fn is(&self, word1: u64) -> bool {
        (word1 & self.mask).wrapping_sub(self.base).rotate_left(32) <= self.spread
    }
}
