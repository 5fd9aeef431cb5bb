//! Queue registers (§3.3, §3.4, §7.3, §7.4).

use vfnic_hw::regs::igbvf as r;

use super::{Igbvf, QUEUE_ENABLE};
use crate::Error;
use crate::family::{Io, RxSetup, TxSetup, halves};
use crate::registers::Gone;

/// Relaxed ordering for descriptor and data reads. Bit 11, write-backs, is *set* after reset and must not be:
/// completions would overtake each other (§3.4, §15.4).
pub(super) const TX_ORDERING: u32 = 1 << 9 | 1 << 13;

impl Igbvf {
    pub(in crate::family) fn start_rx(
        self,
        io: Io<'_>,
        queue: u16,
        setup: &RxSetup,
    ) -> Result<(), Error> {
        /// SRRCTL (§3.3): drop when out of descriptors instead of blocking the port; one buffer a descriptor.
        const DROP_EN: u32 = 1 << 31;
        const ONE_BUFFER: u32 = 1 << 25;
        /// RXDCTL: fetch 16 ahead in eights. Write-back threshold 1, because with any other an 82576 may keep
        /// completions to itself (§15.3).
        const THRESHOLDS: u32 = 1 << 16 | 8 << 8 | 16;

        let (regs, n) = (io.regs, u32::from(queue));
        let control = r::RXDCTL.at(n);
        let before = regs.read(control).map_err(|Gone| io.gone())?;
        regs.write(control, before & !QUEUE_ENABLE);
        io.settle_queue("RXDCTL", "disabled", control, (QUEUE_ENABLE, 0))?;

        let (low, high) = halves(setup.ring);
        regs.write(r::RDBAL.at(n), low);
        regs.write(r::RDBAH.at(n), high);
        regs.write(r::RDLEN.at(n), u32::from(setup.size) * 16);
        regs.write(r::RDH.at(n), 0);
        regs.write(r::RDT.at(n), 0);
        regs.write(r::RXCTL.at(n), 0);
        regs.write(
            r::SRRCTL.at(n),
            DROP_EN | ONE_BUFFER | (setup.buffer_size / 1024),
        );
        regs.write(control, QUEUE_ENABLE | THRESHOLDS);
        io.settle_queue("RXDCTL", "enabled", control, (QUEUE_ENABLE, QUEUE_ENABLE))
            .map(drop)
    }

    pub(in crate::family) fn start_tx(
        self,
        io: Io<'_>,
        queue: u16,
        setup: &TxSetup,
    ) -> Result<(), Error> {
        /// TXDCTL (§3.4): fetch ahead, and write back at once: completions are asked for only now and then.
        const THRESHOLDS: u32 = 1 << 8 | 8;

        let (regs, n) = (io.regs, u32::from(queue));
        let control = r::TXDCTL.at(n);
        regs.write(control, 0);
        regs.flush().map_err(|Gone| io.gone())?;
        io.settle_queue("TXDCTL", "disabled", control, (QUEUE_ENABLE, 0))?;

        let (low, high) = halves(setup.ring);
        regs.write(r::TDBAL.at(n), low);
        regs.write(r::TDBAH.at(n), high);
        regs.write(r::TDLEN.at(n), u32::from(setup.size) * 16);
        regs.write(r::TDH.at(n), 0);
        regs.write(r::TDT.at(n), 0);
        regs.write(r::TDWBAL.at(n), 0);
        regs.write(r::TDWBAH.at(n), 0);
        regs.write(r::TXCTL.at(n), TX_ORDERING);
        regs.write(control, QUEUE_ENABLE | THRESHOLDS);
        io.settle_queue("TXDCTL", "enabled", control, (QUEUE_ENABLE, QUEUE_ENABLE))
            .map(drop)
    }
}
