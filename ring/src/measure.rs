//! Cycle counting and cache control for benches: the few instructions that need `unsafe`, kept where it is allowed.
//!
//! Not part of the data path. Off x86-64 the counter is the monotonic clock in nanoseconds and flushing does nothing.

use crate::DmaRegion;

/// Ticks of the time-stamp counter, read after every earlier instruction has finished.
#[inline]
#[must_use]
pub fn ticks_start() -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let (low, high): (u64, u64);
        // SAFETY: RDTSC is unprivileged wherever userspace timing works at all, and writes these two registers.
        unsafe {
            std::arch::asm!(
                "lfence", "rdtsc", "lfence",
                out("rax") low, out("rdx") high, options(nostack, preserves_flags),
            );
        }
        low | high << 32
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    monotonic_ns()
}

/// Ticks of the time-stamp counter, read before any later instruction starts.
#[inline]
#[must_use]
pub fn ticks_end() -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let (low, high): (u64, u64);
        // SAFETY: as for RDTSC; RDTSCP also writes the core's number.
        unsafe {
            std::arch::asm!(
                "rdtscp", "lfence",
                out("rax") low, out("rdx") high, out("rcx") _, options(nostack, preserves_flags),
            );
        }
        low | high << 32
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    monotonic_ns()
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn monotonic_ns() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Evicts the cache line at `offset` of `region` from every cache; offsets outside the region are ignored.
#[inline]
pub fn flush_line(region: &DmaRegion, offset: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(byte) = region.bytes().get(offset) {
        // SAFETY: the address is inside a live region; evicting a line changes no memory.
        unsafe { std::arch::x86_64::_mm_clflush(std::ptr::from_ref(byte).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (region, offset);
}

/// Waits until all evictions have taken effect.
#[inline]
pub fn flush_done() {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// Executes `count` dependent additions and returns their sum: one core cycle each, so that ticks can be turned into
/// core cycles whatever the clock does.
#[inline(never)]
#[must_use]
pub fn dependent_adds(count: u64) -> u64 {
    let mut sum = std::hint::black_box(1u64);
    let step = std::hint::black_box(3u64);
    for _ in 0..count / 16 {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: register arithmetic only.
        unsafe {
            std::arch::asm!(
                "add {s}, {d}", "add {s}, {d}", "add {s}, {d}", "add {s}, {d}",
                "add {s}, {d}", "add {s}, {d}", "add {s}, {d}", "add {s}, {d}",
                "add {s}, {d}", "add {s}, {d}", "add {s}, {d}", "add {s}, {d}",
                "add {s}, {d}", "add {s}, {d}", "add {s}, {d}", "add {s}, {d}",
                s = inout(reg) sum, d = in(reg) step, options(nomem, nostack),
            );
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        for _ in 0..16 {
            sum = std::hint::black_box(sum.wrapping_add(step));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dma::{HeapDma, Iova};

    #[test]
    fn ticks_move_forward_and_adds_are_added() {
        let start = ticks_start();
        assert_eq!(dependent_adds(160), 1 + 160 * 3);
        assert!(ticks_end() > start);
    }

    #[test]
    fn lines_outside_the_region_are_nobody_s_to_evict() {
        let memory = HeapDma::new(4096, Iova(0x1_0000)).expect("memory");
        let region = DmaRegion::new(Arc::new(memory));
        flush_line(&region, 0);
        flush_line(&region, 4096);
        flush_done();
    }
}
