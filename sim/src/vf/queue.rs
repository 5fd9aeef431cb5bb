//! Queue registers as written, and what writing them does.

use std::time::Duration;

use vfnic_hw::regs::Reg;
use vfnic_hw::{Family, Model};

use super::tails::{Direction, QUEUES};
use super::{name, narrow};
use crate::data::{Ring, RingViolation, RxSettings};
use crate::fault::{Action, Point};
use crate::per_vf::VfId;
use crate::state::CardState;
use crate::violation::ViolationKind;

/// RXDCTL and TXDCTL: the queue is live.
pub(crate) const ENABLE: u32 = 1 << 25;
/// RXDCTL and TXDCTL: flush write-backs; clears itself.
const SWFLSH: u32 = 1 << 26;

/// An RX queue's registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rx {
    pub(crate) ring: Ring,
    pub(crate) srrctl: u32,
    pub(crate) dca: u32,
    /// RXDCTL without ENABLE.
    pub(crate) dctl: u32,
    pub(crate) rscctl: u32,
    /// RXDCTL.ENABLE as it reads.
    pub(crate) enabled: bool,
    /// ENABLE changes to this, then (a fault makes it late).
    pub(crate) later: Option<(Duration, bool)>,
}

/// A TX queue's registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tx {
    pub(crate) ring: Ring,
    pub(crate) dca: u32,
    /// TXDCTL without ENABLE.
    pub(crate) dctl: u32,
    pub(crate) wbal: u32,
    pub(crate) wbah: u32,
    /// TXDCTL.ENABLE as it reads.
    pub(crate) enabled: bool,
    /// ENABLE changes to this, then.
    pub(crate) later: Option<(Duration, bool)>,
}

impl Rx {
    pub(crate) const fn disable(&mut self) {
        self.enabled = false;
        self.later = None;
    }
}

impl Tx {
    pub(crate) const fn disable(&mut self) {
        self.enabled = false;
        self.later = None;
    }
}

impl CardState {
    /// Which registers of an RX queue changed is for the data path to know at once.
    fn push_rx(&mut self, vf: VfId, queue: usize) {
        let model = self.control.model;
        let rx = &self.control.vfs[vf].regs.rx[queue];
        let settings = RxSettings::decode(model, rx.srrctl, rx.dctl);
        let ring = rx.ring;
        if let Some(path) = self.path.rx(vf.pool(), narrow(queue)) {
            path.set_ring(ring);
            path.set_settings(settings);
        }
    }

    fn push_tx(&mut self, vf: VfId, queue: usize) {
        let tx = &self.control.vfs[vf].regs.tx[queue];
        let (ring, wbal, wbah) = (tx.ring, tx.wbal, tx.wbah);
        if let Some(path) = self.path.tx(vf.pool(), narrow(queue)) {
            path.set_ring(ring);
            path.set_head_write_back(wbal, wbah);
        }
    }

    /// Pushes everything a reset of the port has changed.
    pub(crate) fn push_queues(&mut self, vf: VfId) {
        for queue in 0..QUEUES {
            self.push_rx(vf, queue);
            self.push_tx(vf, queue);
        }
        self.update_tail_limits(vf);
    }

    /// RDBAL, RDBAH, RDLEN, TDBAL, TDBAH, TDLEN: `change` edits the ring.
    pub(crate) fn write_ring(
        &mut self,
        vf: VfId,
        direction: Direction,
        reg: &'static Reg,
        index: u32,
        value: u32,
        change: impl FnOnce(&mut Ring),
    ) {
        let queue = index as usize;
        let regs = &mut self.control.vfs[vf].regs;
        let (ring, enabled) = match direction {
            Direction::Rx => {
                let rx = &mut regs.rx[queue];
                (&mut rx.ring, rx.enabled)
            }
            Direction::Tx => {
                let tx = &mut regs.tx[queue];
                (&mut tx.ring, tx.enabled)
            }
        };
        let before = *ring;
        change(ring);
        let changed = *ring != before;
        match direction {
            Direction::Rx => self.push_rx(vf, queue),
            Direction::Tx => self.push_tx(vf, queue),
        }
        if enabled && changed {
            let register = name(reg, index);
            self.violation(vf, ViolationKind::ChangedWhileEnabled { register, value });
            self.update_tail_limits(vf);
        }
    }

    /// SRRCTL.
    pub(crate) fn write_srrctl(&mut self, vf: VfId, index: u32, value: u32) {
        self.control.vfs[vf].regs.rx[index as usize].srrctl = value;
        self.push_rx(vf, index as usize);
    }

    /// TDWBAL and TDWBAH.
    pub(crate) fn write_head_write_back(
        &mut self,
        vf: VfId,
        index: u32,
        low: Option<u32>,
        high: Option<u32>,
    ) {
        let tx = &mut self.control.vfs[vf].regs.tx[index as usize];
        tx.wbal = low.unwrap_or(tx.wbal);
        tx.wbah = high.unwrap_or(tx.wbah);
        self.push_tx(vf, index as usize);
    }

    /// RDH and TDH: written while disabled only. Some drivers write 0 just after enabling, when it is 0 anyway.
    pub(crate) fn write_head(
        &mut self,
        vf: VfId,
        direction: Direction,
        reg: &'static Reg,
        index: u32,
        value: u32,
    ) {
        let (pool, queue) = (vf.pool(), narrow(index as usize));
        let enabled = self.is_enabled(vf, direction, index as usize);
        if enabled {
            if self.control.vfs[vf].tails.head(direction, index as usize) != value {
                let register = name(reg, index);
                self.violation(vf, ViolationKind::ChangedWhileEnabled { register, value });
            }
            return;
        }
        match direction {
            Direction::Rx => {
                if let Some(rx) = self.path.rx(pool, queue) {
                    rx.set_head(value);
                }
            }
            Direction::Tx => {
                if let Some(tx) = self.path.tx(pool, queue) {
                    tx.set_head(value);
                }
            }
        }
    }

    pub(crate) fn is_enabled(&self, vf: VfId, direction: Direction, queue: usize) -> bool {
        let regs = &self.control.vfs[vf].regs;
        match direction {
            Direction::Rx => regs.rx[queue].enabled,
            Direction::Tx => regs.tx[queue].enabled,
        }
    }

    /// RDT and TDT, from a register write.
    pub(crate) fn write_tail(&mut self, vf: VfId, direction: Direction, index: u32, value: u32) {
        if !self.control.vfs[vf]
            .tails
            .set(direction, index as usize, value)
        {
            self.bad_tail(vf, direction, index as usize, value);
        }
        self.control.rung = true;
    }

    /// A tail that its queue cannot take: past the ring, or before the queue was enabled (where only 0 is harmless).
    pub(crate) fn bad_tail(&mut self, vf: VfId, direction: Direction, queue: usize, tail: u32) {
        let regs = &self.control.vfs[vf].regs;
        let (enabled, ring) = match direction {
            Direction::Rx => (regs.rx[queue].enabled, regs.rx[queue].ring),
            Direction::Tx => (regs.tx[queue].enabled, regs.tx[queue].ring),
        };
        let text = format!("{} {queue}", direction.text());
        let kind = if enabled && tail >= ring.count() {
            ViolationKind::TailRange {
                queue: text,
                tail,
                size: ring.count(),
            }
        } else if enabled {
            ViolationKind::NoBusMaster { queue: text }
        } else if tail != 0 {
            ViolationKind::TailWhileDisabled { queue: text, tail }
        } else {
            return;
        };
        self.violation(vf, kind);
    }

    /// What a doorbell may write without anybody looking: anything inside the ring of an enabled queue.
    pub(crate) fn update_tail_limits(&mut self, vf: VfId) {
        let vf = &self.control.vfs[vf];
        let master = vf.config.bus_master();
        for queue in 0..QUEUES {
            let limit =
                |enabled: bool, ring: Ring| if enabled && master { ring.count() } else { 0 };
            let (rx, tx) = (&vf.regs.rx[queue], &vf.regs.tx[queue]);
            vf.tails
                .set_limit(Direction::Rx, queue, limit(rx.enabled, rx.ring));
            vf.tails
                .set_limit(Direction::Tx, queue, limit(tx.enabled, tx.ring));
        }
    }

    /// RXDCTL and TXDCTL as they read.
    pub(crate) fn read_dctl(&self, vf: VfId, direction: Direction, index: u32) -> u32 {
        let regs = &self.control.vfs[vf].regs;
        let (dctl, enabled) = match direction {
            Direction::Rx => (
                regs.rx[index as usize].dctl,
                regs.rx[index as usize].enabled,
            ),
            Direction::Tx => (
                regs.tx[index as usize].dctl,
                regs.tx[index as usize].enabled,
            ),
        };
        dctl | if enabled { ENABLE } else { 0 }
    }

    /// RXDCTL and TXDCTL written: stored, and ENABLE acted upon, at once unless a fault says otherwise.
    pub(crate) fn write_dctl(&mut self, vf: VfId, direction: Direction, index: u32, value: u32) {
        let queue = index as usize;
        let keep = match (direction, self.control.model) {
            // The 82599 has no RLPML: those bits stay 0 (ixgbevf.md §1.2).
            (Direction::Rx, Model::I82599) => !(ENABLE | SWFLSH | 0xffff),
            _ => !(ENABLE | SWFLSH),
        };
        let now = self.control.now;
        let wanted = value & ENABLE != 0;
        let regs = &mut self.control.vfs[vf].regs;
        let (dctl, enabled) = match direction {
            Direction::Rx => {
                let rx = &mut regs.rx[queue];
                (&mut rx.dctl, rx.enabled)
            }
            Direction::Tx => {
                let tx = &mut regs.tx[queue];
                (&mut tx.dctl, tx.enabled)
            }
        };
        *dctl = value & keep;
        if direction == Direction::Rx {
            self.push_rx(vf, queue);
        }
        if wanted == enabled {
            return;
        }
        let point = if wanted {
            Point::QueueEnable
        } else {
            Point::QueueDisable
        };
        let selector = index | if direction == Direction::Tx { 8 } else { 0 };
        match self.control.faults.at(point, now, vf.number(), selector) {
            Some(Action::Drop) => {}
            Some(Action::Delay(time)) => self.set_later(
                vf,
                direction,
                queue,
                Some((now.saturating_add(time), wanted)),
            ),
            _ => self.set_enabled(vf, direction, queue, wanted),
        }
    }

    fn set_later(
        &mut self,
        vf: VfId,
        direction: Direction,
        queue: usize,
        later: Option<(Duration, bool)>,
    ) {
        let regs = &mut self.control.vfs[vf].regs;
        match direction {
            Direction::Rx => regs.rx[queue].later = later,
            Direction::Tx => regs.tx[queue].later = later,
        }
        if let Some((at, _)) = later {
            self.control.due_at(at);
        }
    }

    fn set_enabled(&mut self, vf: VfId, direction: Direction, queue: usize, on: bool) {
        self.set_later(vf, direction, queue, None);
        let limit = self.control.queues;
        let index = narrow(queue);
        // 82576 datasheet, RXDCTL and TXDCTL: setting ENABLE initialises the queue. DPDK's eth_igbvf_rx_init relies on it: a
        // VF reset keeps the head of the queue's last life, and it writes RDH only once the queue is on.
        let afresh = on && self.control.model.family() == Family::Igbvf;
        let result = match direction {
            Direction::Rx => {
                self.control.vfs[vf].regs.rx[queue].enabled = on;
                self.path.rx(vf.pool(), index).map(|rx| {
                    if afresh {
                        rx.set_head(0);
                    }
                    if on {
                        rx.enable()
                    } else {
                        rx.disable();
                        Ok(())
                    }
                })
            }
            Direction::Tx => {
                self.control.vfs[vf].regs.tx[queue].enabled = on;
                self.path.tx(vf.pool(), index).map(|tx| {
                    if afresh {
                        tx.set_head(0);
                    }
                    if on {
                        tx.enable()
                    } else {
                        tx.disable();
                        Ok(())
                    }
                })
            }
        };
        self.update_tail_limits(vf);
        self.control.rung = true;
        let text = || format!("{} {queue}", direction.text());
        let ring = match direction {
            Direction::Rx => self.control.vfs[vf].regs.rx[queue].ring,
            Direction::Tx => self.control.vfs[vf].regs.tx[queue].ring,
        };
        match result {
            Some(Err(RingViolation::BaseMisaligned)) => self.violation(
                vf,
                ViolationKind::RingBase {
                    queue: text(),
                    base: ring.base,
                },
            ),
            Some(Err(RingViolation::BadLength)) => self.violation(
                vf,
                ViolationKind::RingLength {
                    queue: text(),
                    len: ring.len,
                },
            ),
            Some(Err(what)) => self.violation(vf, ViolationKind::Ring { queue: index, what }),
            Some(Ok(())) | None => {}
        }
        if on && index >= limit && self.control.model.family() == Family::Ixgbevf {
            self.violation(
                vf,
                ViolationKind::Other(format!(
                    "{} enabled; the PF gives this VF {limit} queues",
                    text()
                )),
            );
        }
    }

    /// ENABLE bits whose change a fault had put off.
    pub(crate) fn late_enables(&mut self, vf: VfId) {
        let now = self.control.now;
        for queue in 0..QUEUES {
            let regs = &self.control.vfs[vf].regs;
            let due = |later: Option<(Duration, bool)>| {
                later.filter(|&(at, _)| at <= now).map(|(_, on)| on)
            };
            let (rx, tx) = (due(regs.rx[queue].later), due(regs.tx[queue].later));
            if let Some(on) = rx {
                self.set_enabled(vf, Direction::Rx, queue, on);
            }
            if let Some(on) = tx {
                self.set_enabled(vf, Direction::Tx, queue, on);
            }
        }
    }

    /// When the next of them is due.
    pub(crate) fn late_enable_deadline(&self, vf: VfId) -> Option<Duration> {
        let regs = &self.control.vfs[vf].regs;
        let rx = regs.rx.iter().filter_map(|rx| rx.later);
        let tx = regs.tx.iter().filter_map(|tx| tx.later);
        rx.chain(tx).map(|(at, _)| at).min()
    }
}
