//! 82599, X540 and X550 VFs. Sections named here are those of ixgbevf.md.

mod messages;
mod queues;

use std::time::Duration;

use vfnic_hw::Model;
use vfnic_hw::regs::ixgbevf as r;

use super::{InterruptRegs, Io, Limits, QUEUE_ENABLE, VectorPlan};
use crate::Error;
use crate::link::{RawLink, Speed};
use crate::mailbox::Place;
use crate::registers::{Gone, Registers};
use crate::stats::HwCounter;

/// Where the mailbox is (§6.1).
pub(super) const MAILBOX: Place = Place {
    control: r::VFMAILBOX,
    memory: r::VFMBMEM,
};

/// §12.1: a vector masks itself (EIAM) and forgets its cause (EIAC) when its message goes out; a cause that comes
/// while it is masked stays, and fires on unmasking.
pub(super) const INTERRUPTS: InterruptRegs = InterruptRegs {
    set: r::VTEIMS,
    clear: r::VTEIMC,
    cause: r::VTEICR,
};

/// §13.
pub(super) const COUNTERS: &[HwCounter] = &[
    HwCounter::narrow("rx_packets", r::VFGPRC),
    HwCounter::wide("rx_bytes", r::VFGORC_LSB, r::VFGORC_MSB),
    HwCounter::narrow("rx_multicast", r::VFMPRC),
    HwCounter::narrow("tx_packets", r::VFGPTC),
    HwCounter::wide("tx_bytes", r::VFGOTC_LSB, r::VFGOTC_MSB),
];

/// VFCTRL: reset (§4.1).
const RST: u32 = 1 << 26;
/// All three vectors.
const ALL_VECTORS: u32 = 0x7;
/// Write-back flush of a queue's control register, which also clears ENABLE (§5.3).
const SWFLSH: u32 = 1 << 26;
/// Queues whose registers exist, used or not.
const QUEUES: u32 = 8;

/// One of the three models.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ixgbevf {
    model: Model,
}

impl Ixgbevf {
    pub(super) const fn new(model: Model) -> Self {
        Self { model }
    }

    const fn is_x550(self) -> bool {
        matches!(self.model, Model::X550)
    }

    const fn is_82599(self) -> bool {
        matches!(self.model, Model::I82599)
    }

    pub(super) const fn limits(self) -> Limits {
        Limits {
            // §9.7: 9728 bytes with header and CRC.
            max_mtu: 9710,
            mtu_why: "frames of at most 9728 bytes with header and CRC",
            // Header and CRC; a VLAN tag comes on top by itself.
            lpe_overhead: 18,
            reta_entries: if self.is_x550() { 64 } else { 0 },
        }
    }

    pub(super) async fn reset(self, io: Io<'_>) -> Result<(), Error> {
        let regs = io.regs;
        let gone = |Gone| io.gone();
        // §14.1 steps 2 and 3: interrupts off, queues off, then the VF reset.
        regs.write(r::VTEIMC.addr(), ALL_VECTORS);
        regs.read(r::VTEICR.addr()).map_err(gone)?;
        for queue in 0..QUEUES {
            let rx = regs.read(r::VFRXDCTL.at(queue)).map_err(gone)?;
            if rx & QUEUE_ENABLE != 0 {
                regs.write(r::VFRXDCTL.at(queue), rx & !QUEUE_ENABLE);
            }
            if regs.read(r::VFTXDCTL.at(queue)).map_err(gone)? & QUEUE_ENABLE != 0 {
                regs.write(r::VFTXDCTL.at(queue), SWFLSH);
            }
        }
        regs.flush().map_err(gone)?;
        regs.write(r::VFCTRL.addr(), RST);
        // §5.2: the reset is complete once a read has flushed the write. That a queue reads disabled is the proof that
        // it no longer does DMA; the 50 ms that others sleep here are this wait's bound instead.
        regs.flush().map_err(gone)?;
        for queue in 0..QUEUES {
            for (reg, name) in [(r::VFRXDCTL, "VFRXDCTL"), (r::VFTXDCTL, "VFTXDCTL")] {
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

    /// §14.1 step 5: a reset does not bring every register back, and the head write-back address of a former owner
    /// survives even an FLR (§17.4), so all of them are written.
    fn sanitise(self, regs: &Registers) {
        for queue in 0..QUEUES {
            regs.write(r::VFRDH.at(queue), 0);
            regs.write(r::VFRDT.at(queue), 0);
            regs.write(r::VFRXDCTL.at(queue), 0);
            regs.write(r::VFSRRCTL.at(queue), 0x402);
            regs.write(r::VFDCA_RXCTRL.at(queue), queues::RX_ORDERING);
            regs.write(r::VFTDH.at(queue), 0);
            regs.write(r::VFTDT.at(queue), 0);
            regs.write(r::VFTXDCTL.at(queue), 0);
            regs.write(r::VFTDWBAH.at(queue), 0);
            regs.write(r::VFTDWBAL.at(queue), 0);
            regs.write(r::VFDCA_TXCTRL.at(queue), queues::TX_ORDERING);
        }
        regs.write(r::VFPSRTYPE.addr(), 0);
        for index in 0..r::VTIVAR.count {
            regs.write(r::VTIVAR.at(index), 0);
        }
        regs.write(r::VTIVAR_MISC.addr(), 0);
        regs.write(r::VTEIAM.addr(), 0);
        regs.write(r::VTEIAC.addr(), 0);
        if self.is_x550() {
            regs.write(r::VFMRQC.addr(), 0);
        }
    }

    pub(super) const fn plan(self, vectors: u32, pairs: u16) -> VectorPlan {
        // §12.3. With one pair, transmit completions get a vector of their own, so that they wake nobody who waits for
        // frames; with more, receive queues come first.
        match (vectors, pairs) {
            (0, _) => VectorPlan::NONE,
            (1, _) => VectorPlan {
                count: 1,
                ..VectorPlan::NONE
            },
            (2, _) => VectorPlan {
                count: 2,
                mailbox: 1,
                rx: [0; 2],
                tx: [0; 2],
            },
            (_, 1) => VectorPlan {
                count: 3,
                mailbox: 2,
                rx: [0; 2],
                tx: [1; 2],
            },
            _ => VectorPlan {
                count: 3,
                mailbox: 2,
                rx: [0, 1],
                tx: [0, 1],
            },
        }
    }

    pub(super) fn route(self, regs: &Registers, plan: &VectorPlan, pairs: u16) -> Result<(), Gone> {
        if plan.count == 0 {
            return Ok(());
        }
        /// A map entry is valid (§4.4).
        const VALID: u32 = 1 << 7;
        // Two queue pairs a register: Rx, Tx, Rx, Tx.
        for index in 0..r::VTIVAR.count {
            let mut value = 0;
            for (queue, half) in [(index << 1, 0), (index << 1 | 1, 16)] {
                let Ok(queue) = u16::try_from(queue) else {
                    continue;
                };
                if queue < pairs {
                    let rx = u32::from(plan.rx(queue)) | VALID;
                    let tx = u32::from(plan.tx(queue)) | VALID;
                    value |= (rx | tx << 8) << half;
                }
            }
            regs.write(r::VTIVAR.at(index), value);
        }
        regs.write(r::VTIVAR_MISC.addr(), u32::from(plan.mailbox) | VALID);
        // §14.2 step 6: stale causes first, then auto-mask and auto-clear.
        regs.read(r::VTEICR.addr())?;
        regs.write(r::VTEIAM.addr(), plan.mask());
        regs.write(r::VTEIAC.addr(), plan.mask());
        regs.write(r::VTEIMS.addr(), 1 << plan.mailbox);
        Ok(())
    }

    pub(super) fn throttle(self, vector: u8, interval: Duration) -> Option<(u32, u32)> {
        /// The write leaves the running counter alone (§4.4).
        const CNT_WDIS: u32 = 1 << 31;
        // §12.2: drivers use two of these registers; vector 2, the mailbox's, is never throttled.
        if vector > 1 {
            return None;
        }
        // Units of 2.048 µs in bits 11:3.
        let units = u32::try_from(interval.as_nanos() / 2048)
            .unwrap_or(u32::MAX)
            .min(0x1ff);
        Some((r::VTEITR.at(u32::from(vector)), units << 3 | CNT_WDIS))
    }

    pub(super) const fn longest_throttle(self) -> Duration {
        Duration::from_nanos(0x1ff * 2048)
    }

    pub(super) fn link(self, regs: &Registers) -> Result<RawLink, Gone> {
        const UP: u32 = 1 << 30;
        const NON_STANDARD: u32 = 1 << 27;
        let links = regs.read(r::VFLINKS.addr())?;
        // §4.3. Bit 27 means a speed on X550 only: at 10 Gb/s an 82599 may have it set for its link mode.
        let odd = self.is_x550() && links & NON_STANDARD != 0;
        let mbps = match ((links >> 28) & 3, odd) {
            (3, false) => 10_000,
            (3, true) => 2_500,
            (2, _) => 1_000,
            (1, false) => 100,
            (1, true) => 5_000,
            (_, _) if self.is_x550() => 10,
            _ => 0,
        };
        Ok(RawLink {
            up: links & UP != 0,
            speed: Speed {
                mbps,
                full_duplex: true,
            },
        })
    }

    pub(super) const fn link_debounce(self) -> Option<(u32, Duration)> {
        // §17.1: after "up" appears, SFP+ links may bounce for 500 µs.
        if self.is_82599() {
            Some((5, Duration::from_micros(100)))
        } else {
            None
        }
    }
}
