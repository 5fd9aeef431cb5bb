//! Queue registers and receive-side scaling (§4.6-4.8, §5.3, §14.2).

use vfnic_hw::regs::ixgbevf as r;

use super::{Ixgbevf, QUEUE_ENABLE, SWFLSH};
use crate::Error;
use crate::config::RssConfig;
use crate::family::{Io, RxSetup, TxSetup, halves};
use crate::registers::{Gone, Registers};

/// Relaxed ordering for descriptor reads only; for write-backs it would let completions overtake data (§4.6, §17.5).
pub(super) const RX_ORDERING: u32 = 1 << 9;
/// Relaxed ordering for descriptor and data reads. Bit 11, write-backs, is *set* after reset and must not be (§4.7).
pub(super) const TX_ORDERING: u32 = 1 << 9 | 1 << 13;

impl Ixgbevf {
    pub(in crate::family) fn start_rx(
        self,
        io: Io<'_>,
        queue: u16,
        setup: &RxSetup,
    ) -> Result<(), Error> {
        /// SRRCTL (§4.6): drop when out of descriptors instead of blocking the port; one buffer a descriptor.
        const DROP_EN: u32 = 1 << 28;
        const ONE_BUFFER: u32 = 1 << 25;
        /// RXDCTL (§4.6): strip VLAN tags; check the length against bits 13:0.
        const VME: u32 = 1 << 30;
        const RLPML_EN: u32 = 1 << 15;
        const RLPML_MASK: u32 = 0x3fff;

        let (regs, n) = (io.regs, u32::from(queue));
        let control = r::VFRXDCTL.at(n);
        let before = regs.read(control).map_err(|Gone| io.gone())?;
        regs.write(control, before & !QUEUE_ENABLE);
        io.settle_queue("VFRXDCTL", "disabled", control, (QUEUE_ENABLE, 0))?;

        let (low, high) = halves(setup.ring);
        regs.write(r::VFRDBAL.at(n), low);
        regs.write(r::VFRDBAH.at(n), high);
        regs.write(r::VFRDLEN.at(n), u32::from(setup.size) * 16);
        regs.write(r::VFDCA_RXCTRL.at(n), RX_ORDERING);
        regs.write(r::VFRDH.at(n), 0);
        regs.write(r::VFRDT.at(n), 0);
        regs.write(
            r::VFSRRCTL.at(n),
            DROP_EN | ONE_BUFFER | (setup.buffer_size / 1024),
        );
        let mut value = QUEUE_ENABLE;
        if setup.strip_vlan {
            value |= VME;
        }
        if !self.is_82599() {
            // §9.7: the port's limit is the largest of all its functions'; this keeps what others asked for away from
            // us. Whether the check counts a VLAN tag is not known: room for two.
            let limit = self.limits().lpe(setup.mtu).saturating_add(8);
            value |= RLPML_EN | limit.min(RLPML_MASK);
        }
        regs.write(control, value);
        io.settle_queue("VFRXDCTL", "enabled", control, (QUEUE_ENABLE, QUEUE_ENABLE))
            .map(drop)
    }

    pub(in crate::family) fn start_tx(
        self,
        io: Io<'_>,
        queue: u16,
        setup: &TxSetup,
    ) -> Result<(), Error> {
        /// TXDCTL (§4.7): fetch 32 ahead, in bursts, and write back at once: completions are asked for only now and
        /// then.
        const THRESHOLDS: u32 = 1 << 8 | 32;

        let (regs, n) = (io.regs, u32::from(queue));
        let control = r::VFTXDCTL.at(n);
        regs.write(control, SWFLSH);
        regs.flush().map_err(|Gone| io.gone())?;
        io.settle_queue("VFTXDCTL", "disabled", control, (QUEUE_ENABLE, 0))?;

        let (low, high) = halves(setup.ring);
        regs.write(r::VFTDBAL.at(n), low);
        regs.write(r::VFTDBAH.at(n), high);
        regs.write(r::VFTDLEN.at(n), u32::from(setup.size) * 16);
        regs.write(r::VFTDWBAH.at(n), 0);
        regs.write(r::VFTDWBAL.at(n), 0);
        regs.write(r::VFDCA_TXCTRL.at(n), TX_ORDERING);
        regs.write(r::VFTDH.at(n), 0);
        regs.write(r::VFTDT.at(n), 0);
        regs.write(control, QUEUE_ENABLE | THRESHOLDS);
        io.settle_queue("VFTXDCTL", "enabled", control, (QUEUE_ENABLE, QUEUE_ENABLE))
            .map(drop)
    }

    pub(in crate::family) fn spread(self, regs: &Registers, rss: &RssConfig, queues: u16) {
        /// Split types that drivers name here (§4.5); they matter with header split only.
        const TYPES: u32 = 0x1330;
        /// VFMRQC (§4.8): RSS on; TCP and IP over IPv4 and IPv6; UDP over both.
        const RSS_ON: u32 = 0x0033_0001;
        const UDP: u32 = 1 << 22 | 1 << 23;

        // §4.5, §17.24: on 82599 and X540 the PF owns key and table, and this field alone says how many queues they
        // reach.
        let index_bits = u32::from(queues).checked_ilog2().unwrap_or(0);
        regs.write(r::VFPSRTYPE.addr(), TYPES | index_bits << 29);
        if !self.is_x550() {
            return;
        }
        if queues < 2 {
            regs.write(r::VFMRQC.addr(), 0);
            return;
        }
        for (index, word) in (0..).zip(rss.key.as_chunks::<4>().0) {
            regs.write(r::VFRSSRK.at(index), u32::from_le_bytes(*word));
        }
        let entries = self.limits().reta_entries;
        let table = rss.entries(entries, queues);
        for (index, word) in (0..).zip(table.as_chunks::<4>().0) {
            regs.write(r::VFRETA.at(index), u32::from_le_bytes(*word));
        }
        let udp = if rss.udp { UDP } else { 0 };
        regs.write(r::VFMRQC.addr(), RSS_ON | udp);
    }
}
