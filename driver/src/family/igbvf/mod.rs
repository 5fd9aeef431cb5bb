//! 82576 and I350 VFs, on silicon and on QEMU's model. Sections named here are those of igbvf.md.

mod messages;
mod queues;

use std::time::Duration;

use vfnic_hw::Model;
use vfnic_hw::regs::igbvf as r;

use super::{InterruptRegs, Io, Limits, QUEUE_ENABLE, VectorPlan};
use crate::Error;
use crate::link::{RawLink, Speed};
use crate::mailbox::Place;
use crate::registers::{Gone, Registers};
use crate::stats::HwCounter;

/// Where the mailbox is (§5.1).
pub(super) const MAILBOX: Place = Place {
    control: r::V2PMAILBOX,
    memory: r::VMBMEM,
};

/// QUIRK: QEMU does not mask a vector by itself, and a cause stays until it is cleared by hand (§16.1, §16.3). So
/// vectors are masked by hand on waking, and causes cleared by hand before arming; silicon takes that as well.
pub(super) const INTERRUPTS: InterruptRegs = InterruptRegs {
    set: r::VTEIMS,
    clear: r::VTEIMC,
    cause: r::VTEICR,
};

/// §11. Octets count the CRC; "loopback" is what other functions of the same card sent or were sent.
pub(super) const COUNTERS: &[HwCounter] = &[
    HwCounter::narrow("rx_packets", r::VFGPRC),
    HwCounter::narrow("rx_bytes", r::VFGORC),
    HwCounter::narrow("rx_multicast", r::VFMPRC),
    HwCounter::narrow("tx_packets", r::VFGPTC),
    HwCounter::narrow("tx_bytes", r::VFGOTC),
    HwCounter::narrow("rx_loopback_packets", r::VFGPRLBC),
    HwCounter::narrow("rx_loopback_bytes", r::VFGORLBC),
    HwCounter::narrow("tx_loopback_packets", r::VFGPTLBC),
    HwCounter::narrow("tx_loopback_bytes", r::VFGOTLBC),
    HwCounter::cleared_by_read("rx_missed", r::RQDPC),
];

/// VTCTRL: reset (§3.1).
const RST: u32 = 1 << 26;
/// All three vectors.
const ALL_VECTORS: u32 = 0x7;

/// One of the two models.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Igbvf {
    model: Model,
}

impl Igbvf {
    pub(super) const fn new(model: Model) -> Self {
        Self { model }
    }

    const fn is_i350(self) -> bool {
        matches!(self.model, Model::I350)
    }

    /// Queues whose registers exist (§13).
    const fn queues(self) -> u32 {
        if self.is_i350() { 1 } else { 2 }
    }

    pub(super) const fn limits(self) -> Limits {
        Limits {
            // §8.4: 9728 bytes with header, CRC and a VLAN tag.
            max_mtu: 9706,
            mtu_why: "frames of at most 9728 bytes with header, VLAN tag and CRC",
            lpe_overhead: 22,
            reta_entries: 0,
        }
    }

    pub(super) async fn reset(self, io: Io<'_>) -> Result<(), Error> {
        let regs = io.regs;
        let gone = |Gone| io.gone();
        // §7.1.
        regs.write(r::VTEIMC.addr(), ALL_VECTORS);
        regs.write(r::VTEIAC.addr(), 0);
        regs.read(r::VTEICR.addr()).map_err(gone)?;
        for queue in 0..self.queues() {
            regs.write(r::RXDCTL.at(queue), 0);
            regs.write(r::TXDCTL.at(queue), 0);
        }
        let control = regs.read(r::VTCTRL.addr()).map_err(gone)?;
        regs.write(r::VTCTRL.addr(), control | RST);
        regs.flush().map_err(gone)?;
        // §7.2: nothing may be rewritten under a queue that still runs.
        for queue in 0..self.queues() {
            for (reg, name) in [(r::RXDCTL, "RXDCTL"), (r::TXDCTL, "TXDCTL")] {
                io.settle(
                    name,
                    "disabled after a VF reset",
                    reg.at(queue),
                    (QUEUE_ENABLE, 0),
                    Duration::from_millis(50),
                )
                .await?;
            }
        }
        self.sanitise(regs);
        regs.flush().map_err(gone)
    }

    /// §7.2: neither FLR nor VF reset clears queue registers; a former owner's head write-back address would have the
    /// hardware write into memory that is not ours.
    fn sanitise(self, regs: &Registers) {
        for queue in 0..self.queues() {
            regs.write(r::SRRCTL.at(queue), 0);
            regs.write(r::RXCTL.at(queue), 0);
            regs.write(r::TXCTL.at(queue), queues::TX_ORDERING);
            regs.write(r::TDWBAL.at(queue), 0);
            regs.write(r::TDWBAH.at(queue), 0);
            regs.write(r::RDH.at(queue), 0);
            regs.write(r::RDT.at(queue), 0);
            regs.write(r::TDH.at(queue), 0);
            regs.write(r::TDT.at(queue), 0);
            regs.write(r::RDLEN.at(queue), 0);
            regs.write(r::TDLEN.at(queue), 0);
        }
        regs.write(r::PSRTYPE.addr(), 0);
    }

    pub(super) const fn plan(self, vectors: u32, _pairs: u16) -> VectorPlan {
        match vectors {
            0 => VectorPlan::NONE,
            1 | 2 => VectorPlan {
                count: 1,
                ..VectorPlan::NONE
            },
            // QUIRK: as Linux has it, always. QEMU ORs new entries into old ones and nothing clears them (§16.3), so
            // another mapping would end in a mixture of the two.
            _ => VectorPlan {
                count: 3,
                mailbox: 2,
                rx: [1; 2],
                tx: [0; 2],
            },
        }
    }

    pub(super) fn route(
        self,
        regs: &Registers,
        plan: &VectorPlan,
        _pairs: u16,
    ) -> Result<(), Gone> {
        if plan.count == 0 {
            return Ok(());
        }
        /// A map entry is valid (§10).
        const VALID: u32 = 1 << 7;
        let rx = u32::from(plan.rx(0)) | VALID;
        let tx = u32::from(plan.tx(0)) | VALID;
        regs.write(r::VTIVAR.addr(), rx | tx << 8);
        regs.write(r::VTIVAR_MISC.addr(), u32::from(plan.mailbox) | VALID);
        // Stale causes go by writing ones: what a read shows and clears differs between silicon and QEMU (§10, §16.1).
        regs.write(r::VTEICR.addr(), plan.mask());
        regs.write(r::VTEIAC.addr(), plan.mask());
        regs.write(r::VTEIAM.addr(), plan.mask());
        regs.write(r::VTEIMS.addr(), 1 << plan.mailbox);
        regs.flush()
    }

    pub(super) fn throttle(self, vector: u8, interval: Duration) -> Option<(u32, u32)> {
        /// The write leaves the running counter alone (§10).
        const CNT_IGNR: u32 = 1 << 31;
        if u32::from(vector) >= r::VTEITR.count {
            return None;
        }
        // Microseconds in bits 14:2. QUIRK: on QEMU the unit is four times as long (§16.1).
        let micros = u32::try_from(interval.as_micros())
            .unwrap_or(u32::MAX)
            .min(0x1fff);
        Some((r::VTEITR.at(u32::from(vector)), micros << 2 | CNT_IGNR))
    }

    pub(super) const fn longest_throttle(self) -> Duration {
        Duration::from_micros(0x1fff)
    }

    pub(super) fn link(self, regs: &Registers) -> Result<RawLink, Gone> {
        const FULL_DUPLEX: u32 = 1 << 0;
        const UP: u32 = 1 << 1;
        let status = regs.read(r::VTSTATUS.addr())?;
        // §3.2: bit 7 first; 10 and 11 both mean a gigabit.
        let mbps = match (status >> 6) & 3 {
            0 => 10,
            1 => 100,
            _ => 1_000,
        };
        Ok(RawLink {
            up: status & UP != 0,
            speed: Speed {
                mbps,
                full_duplex: status & FULL_DUPLEX != 0,
            },
        })
    }
}
