//! The one register the data path touches: a queue's tail.

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::DmaRegion;

/// Where a tail write goes when the tail is not a mapped word: a socket, `pwrite`, the simulator.
pub trait DoorbellSink: Send + Sync + fmt::Debug {
    /// Publishes `tail`. Everything stored to the ring before this call must be visible to the device after it.
    fn ring(&self, tail: u32);
}

/// A queue's tail register.
///
/// [`ring`](Self::ring) owns the barrier between descriptor stores and the tail write, so no caller has to remember
/// it. One predictable branch tells a mapped word from a [`DoorbellSink`]; it is paid once a batch, never per packet.
pub struct Doorbell(Kind);

enum Kind {
    Mapped {
        word: NonNull<AtomicU32>,
        _keep: Arc<dyn Any + Send + Sync>,
    },
    Sink(Arc<dyn DoorbellSink>),
}

// SAFETY: the mapped word is accessed atomically and kept alive by `_keep`; the sink is `Send + Sync` itself.
unsafe impl Send for Doorbell {}
// SAFETY: as for `Send`.
unsafe impl Sync for Doorbell {}

impl Doorbell {
    /// A tail register in mapped memory.
    ///
    /// # Safety
    ///
    /// `word` must be 4-byte aligned and stay mapped and writable for as long as `keep` lives.
    #[must_use]
    pub unsafe fn mapped(word: NonNull<u32>, keep: Arc<dyn Any + Send + Sync>) -> Self {
        Self(Kind::Mapped {
            word: word.cast(),
            _keep: keep,
        })
    }

    /// A tail "register" in ordinary memory, for devices that are other software: a 32-bit word of `region` at
    /// `offset`. None when the word is misaligned or outside the region.
    #[must_use]
    pub fn in_region(region: &DmaRegion, offset: usize) -> Option<Self> {
        if !offset.is_multiple_of(4) || offset.checked_add(4)? > region.len() {
            return None;
        }
        let word = NonNull::from(region.dwords().get(offset / 4)?).cast();
        // SAFETY: the word is aligned, inside the region, and the clone kept here keeps it mapped.
        Some(unsafe { Self::mapped(word, Arc::new(region.clone())) })
    }

    /// A tail register behind a sink.
    #[must_use]
    pub fn sink(sink: Arc<dyn DoorbellSink>) -> Self {
        Self(Kind::Sink(sink))
    }

    /// Hands everything stored to the ring so far to the device, up to `tail` (an index, exclusive).
    #[inline]
    pub fn ring(&self, tail: u32) {
        match &self.0 {
            Kind::Mapped { word, .. } => {
                // ORDERING: descriptors are normal memory and the tail is device memory; on aarch64 only an outer
                // store barrier orders the two, on x86 the compiler fence inside `fence` is enough.
                #[cfg(target_arch = "aarch64")]
                // SAFETY: a barrier has no operands.
                unsafe {
                    core::arch::asm!("dmb oshst", options(nostack, preserves_flags));
                }
                fence(Ordering::Release);
                // SAFETY: the constructor's contract: aligned and mapped for as long as `_keep` lives. The store is
                // volatile because a device reads it.
                unsafe { word.cast::<u32>().as_ptr().write_volatile(tail.to_le()) };
            }
            Kind::Sink(sink) => sink.ring(tail),
        }
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Mapped { word, .. } => f.debug_tuple("Doorbell").field(word).finish(),
            Kind::Sink(sink) => f.debug_tuple("Doorbell").field(sink).finish(),
        }
    }
}
