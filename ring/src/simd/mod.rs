//! Vector versions of the plain case: whole groups of single-buffer frames without errors or requests.
//!
//! The portable code in `rx.rs` and `tx.rs` is the specification. A vector path does the same for as many leading
//! descriptors as it can and hands everything else (errors, longer frames, requests, ring ends) back to it.
//! Property tests hold each path to the portable one.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "counts here are at most a ring's 4096"
)]

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod lanes;

use crate::batch::Batch;
use crate::rx::RxRing;
use crate::tx::TxRing;

/// Descriptors a vector step looks at.
pub(crate) const GROUP: usize = 8;
/// Below this many descriptors a vector step costs more than it saves.
const WORTH_IT: usize = 4;

/// Which code moves descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Simd {
    /// One at a time; runs everywhere and is the specification of the others.
    Portable,
    /// 256-bit vectors, four descriptors a step.
    Avx2,
    /// 512-bit vectors, eight descriptors a step, the last ones by mask.
    Avx512,
}

impl Simd {
    /// All of them, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this CPU can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx2 => std::is_x86_feature_detected!("avx2"),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx512 => {
                std::is_x86_feature_detected!("avx512f")
                    && std::is_x86_feature_detected!("avx512vl")
                    && std::is_x86_feature_detected!("avx512bw")
                    && std::is_x86_feature_detected!("avx512dq")
            }
            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            _ => false,
        }
    }

    /// The best this CPU can run, or what `VFNIC_SIMD` (portable, avx2, avx512) asks for where it can. Looked up
    /// once per process.
    #[must_use]
    pub fn chosen() -> Self {
        static CHOSEN: OnceLock<Simd> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let asked = std::env::var("VFNIC_SIMD").unwrap_or_default();
            let usable = |simd: &Self| simd.is_available();
            Self::ALL
                .into_iter()
                .filter(usable)
                .find(|simd| simd.name() == asked)
                .or_else(|| Self::ALL.into_iter().rev().find(usable))
                .unwrap_or(Self::Portable)
        })
    }

    /// Its word in options and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// `self` where the CPU can run it, else the portable code.
    pub(crate) fn or_portable(self) -> Self {
        if self.is_available() {
            self
        } else {
            Self::Portable
        }
    }
}

/// Receives plain frames from the front of the ring, at most `limit` descriptors; returns the descriptors taken and
/// the bytes in them. The caller has seen to it that no longer frame is half received.
#[inline]
pub(crate) fn receive(rx: &mut RxRing, batch: &mut Batch, limit: usize) -> (usize, u64) {
    #[cfg(target_arch = "x86_64")]
    if limit >= WORTH_IT {
        match rx.simd {
            // SAFETY: the ring's `simd` was checked against the CPU when it was set.
            Simd::Avx512 => return unsafe { avx512::receive(rx, batch, limit) },
            // SAFETY: as above.
            Simd::Avx2 => return unsafe { avx2::receive(rx, batch, limit) },
            Simd::Portable => {}
        }
    }
    let _ = (rx, batch, limit, WORTH_IT);
    (0, 0)
}

/// Sends plain frames starting at `entry` of the batch, at most `limit` descriptors; returns the frames sent and the
/// bytes in them.
#[inline]
pub(crate) fn send(tx: &mut TxRing, batch: &Batch, entry: usize, limit: usize) -> (usize, u64) {
    #[cfg(target_arch = "x86_64")]
    if limit >= WORTH_IT {
        match tx.simd {
            // SAFETY: the ring's `simd` was checked against the CPU when it was set.
            Simd::Avx512 => return unsafe { avx512::send(tx, batch, entry, limit) },
            // SAFETY: as above.
            Simd::Avx2 => return unsafe { avx2::send(tx, batch, entry, limit) },
            Simd::Portable => {}
        }
    }
    let _ = (tx, batch, entry, limit);
    (0, 0)
}
