//! Statistics: the hardware's narrow counters made wide, and the queues' own next to them.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

use vfnic_hw::regs::Reg;

use crate::registers::{Gone, Registers};

/// A counter the hardware keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HwCounter {
    name: &'static str,
    low: Reg,
    high: Option<Reg>,
    clears: bool,
}

impl HwCounter {
    /// 32 bits wide.
    pub(crate) const fn narrow(name: &'static str, low: Reg) -> Self {
        Self {
            name,
            low,
            high: None,
            clears: false,
        }
    }

    /// 36 bits wide: the low 32, and four more in the low bits of `high` (ixgbevf.md §13).
    pub(crate) const fn wide(name: &'static str, low: Reg, high: Reg) -> Self {
        Self {
            name,
            low,
            high: Some(high),
            clears: false,
        }
    }

    /// 32 bits wide and zero after each read, one a queue; summed up.
    pub(crate) const fn cleared_by_read(name: &'static str, low: Reg) -> Self {
        Self {
            name,
            low,
            high: None,
            clears: true,
        }
    }

    const fn mask(&self) -> u64 {
        if self.high.is_some() {
            (1 << 36) - 1
        } else {
            (1 << 32) - 1
        }
    }

    fn read(&self, regs: &Registers) -> Result<u64, Gone> {
        let Some(high) = self.high else {
            return regs.read(self.low.addr()).map(u64::from);
        };
        // Low half first (ixgbevf.md §13). If it wrapped before the high half was read, the two do not belong
        // together; once is enough, the next wrap is seconds away.
        let mut low = regs.read(self.low.addr())?;
        let mut top = regs.read(high.addr())?;
        let again = regs.read(self.low.addr())?;
        if again < low {
            low = again;
            top = regs.read(high.addr())?;
        }
        Ok(u64::from(top & 0xf) << 32 | u64::from(low))
    }
}

/// Totals that only ever grow, over wraps and over resets that put the hardware's counters back to zero.
#[derive(Debug)]
pub(crate) struct HwTotals {
    counters: &'static [HwCounter],
    last: Vec<u64>,
    total: Vec<u64>,
}

impl HwTotals {
    pub(crate) fn new(counters: &'static [HwCounter]) -> Self {
        Self {
            counters,
            last: vec![0; counters.len()],
            total: vec![0; counters.len()],
        }
    }

    /// Adds what came since the last update. TIMEOUT: must be called before a counter can wrap twice: octets wrap
    /// after 34 s at 1 Gb/s and 55 s at 10 Gb/s (igbvf.md §11, ixgbevf.md §13).
    pub(crate) fn update(&mut self, regs: &Registers) -> Result<(), Gone> {
        for (index, counter) in self.counters.iter().enumerate() {
            let now = counter.read(regs)?;
            let grown = if counter.clears {
                now
            } else {
                now.wrapping_sub(self.last[index]) & counter.mask()
            };
            self.total[index] = self.total[index].saturating_add(grown);
            self.last[index] = now;
        }
        Ok(())
    }

    /// Takes the counters as they are for a new beginning: after a reset they may have gone to zero, which is no wrap.
    pub(crate) fn resync(&mut self, regs: &Registers) -> Result<(), Gone> {
        for (index, counter) in self.counters.iter().enumerate() {
            self.last[index] = counter.read(regs)?;
        }
        Ok(())
    }

    /// Names and totals.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counters
            .iter()
            .zip(&self.total)
            .map(|(counter, total)| (counter.name, *total))
    }
}

/// A port's statistics at one moment: every counter with its name, totals since the port was opened.
///
/// Names that begin with `rx_` or `tx_` and no digit are the hardware's, for the whole VF; they count on while nobody
/// looks. Those with a queue number, `rx0_…`, are the driver's own for that queue, the reasons for drops among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    values: Vec<(String, u64)>,
}

impl PortStats {
    pub(crate) fn push(&mut self, name: impl Into<String>, value: u64) {
        self.values.push((name.into(), value));
    }

    /// Every counter, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
    }

    /// The counter called `name`, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.iter()
            .find_map(|(known, value)| (known == name).then_some(value))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vfnic_hw::regs::ixgbevf as r;

    use super::*;
    use crate::fake::{FakeBar, PfScript};
    use crate::family::Family;

    fn bench() -> (Arc<FakeBar>, Registers, HwTotals) {
        let bar = FakeBar::ixgbevf(PfScript::new());
        let regs = Registers::new(Arc::clone(&bar) as _, r::VFSTATUS, r::VFMAILBOX);
        (
            bar,
            regs,
            HwTotals::new(Family::of(vfnic_hw::Model::X540).counters()),
        )
    }

    fn total(totals: &HwTotals, name: &str) -> u64 {
        totals
            .iter()
            .find_map(|(known, value)| (known == name).then_some(value))
            .expect("a known counter")
    }

    #[test]
    fn r14_counters_grow_over_their_width() {
        let (bar, regs, mut totals) = bench();
        bar.set(0x101C, 0xffff_fff0);
        bar.set(0x1020, 0xffff_ff00);
        bar.set(0x1024, 0xf);
        totals.resync(&regs).expect("there");
        bar.set(0x101C, 0x10);
        bar.set(0x1020, 0x100);
        bar.set(0x1024, 0x0);
        totals.update(&regs).expect("there");
        assert_eq!(total(&totals, "rx_packets"), 0x20);
        assert_eq!(total(&totals, "rx_bytes"), 0x200);
    }

    /// A counter that carries into its upper half between two reads.
    #[derive(Debug)]
    struct Carry(std::sync::atomic::AtomicU32);

    impl vfnic_hw::Mmio for Carry {
        fn len(&self) -> u32 {
            0x4000
        }
        fn read32(&self, offset: u32) -> u32 {
            let reads = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let low_before = reads == 0;
            match offset {
                0x1020 if low_before => 0xffff_fff0,
                0x1020 => 0x10,
                // Read first, it would still be the old one.
                0x1024 if low_before => 2,
                0x1024 => 3,
                _ => 0,
            }
        }
        fn write32(&self, _: u32, _: u32) {}
        fn doorbell(&self, _: u32) -> Result<vfnic_hw::Doorbell, vfnic_hw::PciError> {
            Err(vfnic_hw::PciError::Gone {
                device: String::new(),
            })
        }
    }

    #[test]
    fn d67_halves_of_a_counter_that_do_not_belong_together_are_read_again() {
        let regs = Registers::new(
            Arc::new(Carry(std::sync::atomic::AtomicU32::new(0))),
            r::VFSTATUS,
            r::VFMAILBOX,
        );
        let octets = Family::of(vfnic_hw::Model::X540)
            .counters()
            .iter()
            .find(|counter| counter.low.addr() == 0x1020)
            .expect("octets received");
        assert_eq!(octets.read(&regs), Ok(3 << 32 | 0x10));
    }

    #[test]
    fn a_reset_of_the_hardware_counters_is_no_wrap() {
        let (bar, regs, mut totals) = bench();
        bar.set(0x201C, 1000);
        totals.update(&regs).expect("there");
        bar.set(0x201C, 0);
        totals.resync(&regs).expect("there");
        bar.set(0x201C, 5);
        totals.update(&regs).expect("there");
        assert_eq!(total(&totals, "tx_packets"), 1005);
    }

    #[test]
    fn a_counter_may_pass_through_all_ones() {
        let (bar, regs, mut totals) = bench();
        bar.set(0x101C, u32::MAX);
        totals
            .update(&regs)
            .expect("the status register still reads");
        assert_eq!(total(&totals, "rx_packets"), u64::from(u32::MAX));
    }
}
