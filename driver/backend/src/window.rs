//! A BAR: mapped where it can be, through calls where it cannot.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use memmap2::MmapRaw;
use vfnic_hw::{Mmio, PciError};
use vfnic_ring::{Doorbell, DoorbellSink};

/// Register access by a call for each: a socket, `pread`.
pub(crate) trait Calls: Send + Sync + fmt::Debug {
    /// `None` when it could not be done.
    fn read(&self, offset: u32) -> Option<u32>;
    /// Whether it could be done is nobody's business: writes are posted.
    fn write(&self, offset: u32, value: u32);
}

/// A mapped part of a BAR.
#[derive(Debug)]
pub(crate) struct Area {
    /// Offset in the BAR, a multiple of 4.
    pub(crate) start: u32,
    pub(crate) map: MmapRaw,
}

/// A BAR. Handles share one mapping, which lives as long as any of them or any doorbell.
#[derive(Clone, Debug)]
pub(crate) struct Window(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    device: String,
    bar: u8,
    len: u32,
    areas: Vec<Area>,
    calls: Arc<dyn Calls>,
}

impl Window {
    pub(crate) fn new(
        device: &str,
        bar: u8,
        len: u32,
        areas: Vec<Area>,
        calls: Arc<dyn Calls>,
    ) -> Self {
        Self(Arc::new(Inner {
            device: device.to_owned(),
            bar,
            len,
            areas,
            calls,
        }))
    }
}

impl Inner {
    /// Whether there is a register at `offset`.
    fn has(&self, offset: u32) -> bool {
        offset.is_multiple_of(4) && offset.checked_add(4).is_some_and(|end| end <= self.len)
    }

    /// The word at `offset`, where that is mapped: aligned, inside the area, for as long as `self` lives.
    fn word(&self, offset: u32) -> Option<NonNull<u32>> {
        if !self.has(offset) {
            return None;
        }
        self.areas.iter().find_map(|area| {
            let at = usize::try_from(offset.checked_sub(area.start)?).ok()?;
            let inside = at.checked_add(4)? <= area.map.len();
            inside
                .then(|| NonNull::new(area.map.as_mut_ptr().wrapping_add(at).cast()))
                .flatten()
        })
    }
}

impl Mmio for Window {
    fn len(&self) -> u32 {
        self.0.len
    }

    fn read32(&self, offset: u32) -> u32 {
        let Some(word) = self.0.word(offset) else {
            let readable = self.0.has(offset);
            return readable
                .then(|| self.0.calls.read(offset))
                .flatten()
                .unwrap_or(u32::MAX);
        };
        // SAFETY: `word`'s result is aligned and mapped while `self` lives. Volatile: each read is one access, with
        // whatever effects the register has. (A mapping that the kernel has taken back raises SIGBUS, see the crate's
        // documentation; that is no undefined behaviour.)
        let value = u32::from_le(unsafe { word.as_ptr().read_volatile() });
        order_with_memory();
        value
    }

    fn write32(&self, offset: u32, value: u32) {
        let Some(word) = self.0.word(offset) else {
            if self.0.has(offset) {
                self.0.calls.write(offset, value);
            }
            return;
        };
        order_with_memory();
        // SAFETY: as in `read32`.
        unsafe { word.as_ptr().write_volatile(value.to_le()) };
    }

    fn doorbell(&self, offset: u32) -> Result<Doorbell, PciError> {
        if let Some(word) = self.0.word(offset) {
            // SAFETY: aligned and mapped while the `Arc` lives, which the doorbell keeps.
            return Ok(unsafe { Doorbell::mapped(word, self.0.clone()) });
        }
        if !self.0.has(offset) {
            return Err(PciError::Bar {
                device: self.0.device.clone(),
                bar: self.0.bar,
                want: u64::from(offset) + 4,
                have: u64::from(self.0.len),
            });
        }
        Ok(Doorbell::sink(Arc::new(Tail {
            window: self.0.clone(),
            offset,
        })))
    }
}

/// Keeps register accesses and accesses to memory that the device shares in program order, as the kernel's own
/// accessors do: what was stored before a register write is visible to the device at the write, and what is loaded
/// after a register read is not older than the read.
fn order_with_memory() {
    fence(Ordering::SeqCst);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier has no operands. Needed beside the fence because a device is outside the inner domain.
    unsafe {
        core::arch::asm!("dmb osh", options(nostack, preserves_flags));
    }
}

/// A tail register that is not mapped.
#[derive(Debug)]
struct Tail {
    window: Arc<Inner>,
    offset: u32,
}

impl DoorbellSink for Tail {
    fn ring(&self, tail: u32) {
        // A system call is a stronger barrier than any instruction, but the compiler need not know that.
        fence(Ordering::SeqCst);
        self.window.calls.write(self.offset, tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memmap2::MmapOptions;
    use std::sync::Mutex;

    /// Registers that note what is asked of them.
    #[derive(Debug, Default)]
    struct Log(Mutex<Vec<(u32, Option<u32>)>>);

    impl Calls for Log {
        fn read(&self, offset: u32) -> Option<u32> {
            self.0.lock().unwrap().push((offset, None));
            (offset != 8).then_some(0x5000 + offset)
        }
        fn write(&self, offset: u32, value: u32) {
            self.0.lock().unwrap().push((offset, Some(value)));
        }
    }

    fn window(areas: &[(u32, usize)]) -> (Window, Arc<Log>) {
        let log = Arc::new(Log::default());
        let areas = areas
            .iter()
            .map(|&(start, len)| Area {
                start,
                map: MmapOptions::new().len(len).map_anon().unwrap().into(),
            })
            .collect();
        (Window::new("vf", 0, 0x4000, areas, log.clone()), log)
    }

    #[test]
    fn a_mapped_bar_is_memory_and_bounds_checked() {
        let (window, log) = window(&[(0, 0x4000)]);
        window.write32(0x3ffc, 0x1234_5678);
        assert_eq!(window.read32(0x3ffc), 0x1234_5678);
        assert_eq!(window.read32(0), 0);
        for outside in [0x4000, 0x3ffe, 1, u32::MAX - 3, u32::MAX] {
            window.write32(outside, 1);
            assert_eq!(window.read32(outside), u32::MAX, "{outside:#x}");
            let end = u64::from(outside) + 4;
            assert!(matches!(
                window.doorbell(outside),
                Err(PciError::Bar { want, have: 0x4000, .. }) if want == end
            ));
        }
        assert!(log.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_doorbell_keeps_the_mapping() {
        let (window, _) = window(&[(0, 0x4000)]);
        let doorbell = window.doorbell(0x18).unwrap();
        doorbell.ring(31);
        assert_eq!(window.read32(0x18), 31);
        drop(window);
        doorbell.ring(32);
    }

    #[test]
    fn d60_without_a_mapping_each_access_is_a_call() {
        let (window, log) = window(&[]);
        assert_eq!(window.read32(4), 0x5004);
        assert_eq!(window.read32(8), u32::MAX, "a call that fails");
        window.write32(12, 9);
        window.doorbell(0x18).unwrap().ring(31);
        window.write32(0x4000, 1);
        assert_eq!(window.read32(2), u32::MAX);
        assert_eq!(
            *log.0.lock().unwrap(),
            [(4, None), (8, None), (12, Some(9)), (0x18, Some(31))]
        );
    }

    #[test]
    fn a_sparse_mapping_covers_only_its_areas() {
        let (window, log) = window(&[(0x1000, 0x2000)]);
        window.write32(0x1000, 1);
        window.write32(0x2ffc, 2);
        assert_eq!((window.read32(0x1000), window.read32(0x2ffc)), (1, 2));
        assert!(log.0.lock().unwrap().is_empty());
        window.write32(0xffc, 3);
        window.write32(0x3000, 4);
        assert_eq!(
            *log.0.lock().unwrap(),
            [(0xffc, Some(3)), (0x3000, Some(4))]
        );
    }
}
