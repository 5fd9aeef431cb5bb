//! A VF's register file: what both families have in common.
//!
//! The table in `vfnic_hw::regs` says which registers exist and how they may be accessed; each family has one match for
//! reads and one for writes, with bits from the reference as literals. Queue *state* lives in the data path; here are the
//! registers as written, which is what reads give back.

mod igbvf;
mod ixgbevf;
mod queue;
mod tails;

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use vfnic_hw::regs::{self, Access, Reg};
use vfnic_hw::{Event, Family, Model};

use crate::config::Config;
use crate::fault::{Action, Point};
use crate::iommu::SimSpace;
use crate::irq::Irq;
use crate::mailbox::Mailbox;
use crate::per_vf::VfId;
use crate::state::CardState;
use crate::violation::ViolationKind;

pub(crate) use tails::{Direction, PerQueue, QUEUES, Tails, Words};

/// Bytes of BAR 0.
pub(crate) const BAR_LEN: u32 = 0x4000;

/// One VF, apart from what the data path keeps of it.
#[derive(Debug)]
pub(crate) struct Vf {
    pub(crate) mailbox: Mailbox,
    pub(crate) irq: Irq,
    pub(crate) config: Config,
    pub(crate) regs: Registers,
    /// The IOVA space it is opened in.
    pub(crate) space: Option<SimSpace>,
    /// Somebody holds it.
    pub(crate) open: bool,
    /// Signalled when the administrator wants it back, while somebody holds it.
    pub(crate) request: Option<Event>,
    /// Signalled on a bus error, while somebody holds it.
    pub(crate) error: Option<Event>,
    /// Gone from the bus.
    pub(crate) removed: bool,
    /// The words that are written without the card's lock.
    pub(crate) tails: Arc<Tails>,
}

/// Registers as last written, where reading gives that back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registers {
    pub(crate) rx: PerQueue<queue::Rx>,
    pub(crate) tx: PerQueue<queue::Tx>,
    /// VFPSRTYPE / PSRTYPE.
    psrtype: u32,
    /// VTRSCINT.
    rscint: [u32; 2],
    /// X550: VFMRQC.
    mrqc: u32,
    /// X550: VFRSSRK.
    rssrk: [u32; 10],
    /// X550: VFRETA.
    reta: [u32; 16],
}

impl Vf {
    pub(crate) fn new(model: Model, device: u16, words: Words) -> Self {
        let family = model.family();
        let mut vf = Self {
            mailbox: Mailbox::new(),
            irq: Irq::new(family),
            config: Config::new(model, device),
            regs: Registers::default(),
            space: None,
            open: false,
            request: None,
            error: None,
            removed: false,
            tails: Arc::new(Tails::new(words)),
        };
        vf.regs.power_on(family);
        vf
    }
}

impl Registers {
    /// Reset values other than 0 (ixgbevf.md §3, igbvf.md §2).
    pub(crate) fn power_on(&mut self, family: Family) {
        // VFTDWBAL and VFTDWBAH survive whatever happens to a VF, but not the PF's reset, which is where this is called.
        *self = Self::default();
        for rx in self.rx.iter_mut() {
            match family {
                Family::Igbvf => {
                    rx.srrctl = 0x400;
                    rx.dctl = 0x0001_0000;
                }
                Family::Ixgbevf => {
                    rx.srrctl = 0x402;
                    rx.dca = 0xa200;
                }
            }
        }
        for tx in self.tx.iter_mut() {
            tx.dca = 0x2a00;
        }
    }
}

impl Registers {
    /// Switches every queue off.
    pub(crate) fn disable_queues(&mut self) {
        self.rx.iter_mut().for_each(queue::Rx::disable);
        self.tx.iter_mut().for_each(queue::Tx::disable);
    }

    /// Bases of the rings of enabled queues.
    pub(crate) fn live_rings(&self) -> impl Iterator<Item = u64> + '_ {
        let rx = self
            .rx
            .iter()
            .filter(|rx| rx.enabled)
            .map(|rx| rx.ring.base);
        let tx = self
            .tx
            .iter()
            .filter(|tx| tx.enabled)
            .map(|tx| tx.ring.base);
        rx.chain(tx)
    }
}

type Map = [Option<(&'static Reg, u32)>; (BAR_LEN / 4) as usize];

/// The register at an offset, found by index.
fn register(family: Family, offset: u32) -> Option<(&'static Reg, u32)> {
    static IGBVF: OnceLock<Box<Map>> = OnceLock::new();
    static IXGBEVF: OnceLock<Box<Map>> = OnceLock::new();
    let (cell, table) = match family {
        Family::Igbvf => (&IGBVF, regs::igbvf::ALL),
        Family::Ixgbevf => (&IXGBEVF, regs::ixgbevf::ALL),
    };
    let map = cell.get_or_init(|| {
        let mut map: Box<Map> = Box::new([None; (BAR_LEN / 4) as usize]);
        for (slot, offset) in map.iter_mut().zip((0..).step_by(4)) {
            *slot = regs::find(table, offset);
        }
        map
    });
    *map.get(offset as usize / 4)?
}

impl CardState {
    /// A 32-bit read of BAR 0.
    pub(crate) fn read32(&mut self, vf: VfId, offset: u32) -> u32 {
        let now = self.control.now;
        if self.control.vfs[vf].removed {
            return u32::MAX;
        }
        if !offset.is_multiple_of(4) || offset >= BAR_LEN {
            self.violation(vf, ViolationKind::BadAccess { offset });
            return u32::MAX;
        }
        let fault = self
            .control
            .faults
            .at(Point::RegisterRead, now, vf.number(), offset);
        if self.befall(vf, fault) && self.control.vfs[vf].removed {
            return u32::MAX;
        }
        let value = match self.known(vf, offset, false) {
            None => 0,
            Some((reg, _)) if reg.access == Access::Wo => 0,
            Some((reg, index)) => match self.control.model.family() {
                Family::Igbvf => self.read_igbvf(vf, reg, index),
                Family::Ixgbevf => self.read_ixgbevf(vf, reg, index),
            },
        };
        self.control.faults.bend(fault, value)
    }

    /// Does what a fault does to the whole VF or port, if it is such a one.
    pub(crate) fn befall(&mut self, vf: VfId, fault: Option<Action>) -> bool {
        match fault {
            Some(Action::ResetPort(time)) => self.reset_port_for(Some(time)),
            Some(Action::ResetVf) => self.vf_flr(vf),
            Some(Action::Remove) => self.set_removed(vf, true),
            _ => return false,
        }
        true
    }

    /// A 32-bit write of BAR 0.
    pub(crate) fn write32(&mut self, vf: VfId, offset: u32, value: u32) {
        let now = self.control.now;
        if self.control.vfs[vf].removed {
            return;
        }
        if !offset.is_multiple_of(4) || offset >= BAR_LEN {
            self.violation(vf, ViolationKind::BadAccess { offset });
            return;
        }
        let fault = self
            .control
            .faults
            .at(Point::RegisterWrite, now, vf.number(), offset);
        if fault.is_some() {
            self.control.faults.struck_write = Some((offset, value));
        }
        let gone = self.befall(vf, fault) && self.control.vfs[vf].removed;
        if gone || fault == Some(Action::Drop) {
            return;
        }
        let value = self.control.faults.bend(fault, value);
        let Some((reg, index)) = self.known(vf, offset, true) else {
            return;
        };
        if reg.access == Access::Ro {
            let register = name(reg, index);
            self.violation(vf, ViolationKind::ReadOnlyWrite { register, value });
            return;
        }
        match self.control.model.family() {
            Family::Igbvf => self.write_igbvf(vf, reg, index, value),
            Family::Ixgbevf => self.write_ixgbevf(vf, reg, index, value),
        }
        self.deliver_interrupts(vf);
    }

    /// The register at `offset`, if this model has it; the miss is recorded.
    fn known(&mut self, vf: VfId, offset: u32, write: bool) -> Option<(&'static Reg, u32)> {
        let model = self.control.model;
        let found = register(model.family(), offset).filter(|&(reg, index)| match model {
            // One queue pair; the other's offsets are empty (igbvf.md §2).
            Model::I350 => !(index == 1 && reg.stride == 0x100),
            _ => true,
        });
        let hidden = found.is_some_and(|(reg, _)| {
            model != Model::X550
                && [
                    regs::ixgbevf::VFMRQC,
                    regs::ixgbevf::VFRSSRK,
                    regs::ixgbevf::VFRETA,
                ]
                .contains(reg)
        });
        if found.is_none() || (hidden && write) {
            self.violation(vf, ViolationKind::UnknownRegister { offset, write });
        }
        found.filter(|_| !hidden)
    }

    /// VFCTRL.RST or VTCTRL.RST: the VF resets itself (ixgbevf.md §5.2, igbvf.md §3.1).
    pub(crate) fn vf_software_reset(&mut self, vf: VfId) {
        let queues = self.enabled_queues(vf);
        if queues > 0 {
            self.violation(vf, ViolationKind::ResetWithQueuesEnabled { queues });
        }
        self.vf_reset(vf);
    }

    /// FLR: as the VF's own reset, and the PCI side of it.
    pub(crate) fn vf_flr(&mut self, vf: VfId) {
        self.control.vfs[vf].config.reset();
        self.control.vfs[vf].irq.disable();
        self.update_dma(vf);
        self.vf_reset(vf);
    }

    fn vf_reset(&mut self, vf: VfId) {
        let now = self.control.now;
        if self.control.faults.at(Point::VfReset, now, vf.number(), 0) == Some(Action::Drop) {
            return;
        }
        self.control.vfs[vf].regs.disable_queues();
        let pool = vf.pool();
        self.path.reset_vf(pool);
        self.update_tail_limits(vf);
        self.control.vfs[vf].irq.reset();
        self.path.filters_mut().set_receive(pool, false);
        self.path.filters_mut().set_transmit(pool, false);
        self.control.vfs[vf].mailbox.vf_reset();
        self.notify_pf(vf);
    }

    /// A read of configuration space; false past its end.
    pub(crate) fn read_config(&mut self, vf: VfId, offset: u16, data: &mut [u8]) -> bool {
        if self.control.vfs[vf].removed {
            data.fill(0xff);
            return true;
        }
        if !self.control.vfs[vf].config.read(offset, data) {
            return false;
        }
        let now = self.control.now;
        let mut word = [0; 4];
        for (byte, &read) in word.iter_mut().zip(&*data) {
            *byte = read;
        }
        let selector = u32::from(offset);
        let fault = self
            .control
            .faults
            .at(Point::ConfigRead, now, vf.number(), selector);
        let value = self.control.faults.bend(fault, u32::from_le_bytes(word));
        for (read, byte) in data.iter_mut().zip(value.to_le_bytes()) {
            *read = byte;
        }
        true
    }

    /// A write of configuration space; false past its end.
    pub(crate) fn write_config(&mut self, vf: VfId, offset: u16, data: &[u8]) -> bool {
        if self.control.vfs[vf].removed {
            return true;
        }
        let Some(effect) = self.control.vfs[vf].config.write(offset, data) else {
            return false;
        };
        if effect.flr {
            self.vf_flr(vf);
        } else if effect.command {
            self.update_dma(vf);
            self.control.rung = true;
            self.deliver_interrupts(vf);
        }
        true
    }

    /// How many of a VF's queues are enabled.
    pub(crate) fn enabled_queues(&self, vf: VfId) -> u32 {
        let regs = &self.control.vfs[vf].regs;
        let rx = regs.rx.iter().map(|rx| rx.enabled);
        let tx = regs.tx.iter().map(|tx| tx.enabled);
        let enabled = rx.chain(tx).filter(|&enabled| enabled).count();
        u32::try_from(enabled).unwrap_or(0)
    }

    /// VFMBMEM or VMBMEM written.
    fn write_mailbox_memory(&mut self, vf: VfId, word: u32, value: u32) {
        let mailbox = &mut self.control.vfs[vf].mailbox;
        set_word_of(&mut mailbox.memory, word as usize, value);
        if !mailbox.vf_owns() {
            self.violation(vf, ViolationKind::MailboxWithoutLock { word });
        }
    }

    /// VFMAILBOX or V2PMAILBOX written.
    fn write_mailbox(&mut self, vf: VfId, value: u32) {
        let now = self.control.now;
        let wants = value & 0x4 != 0;
        let grant = !wants
            || self
                .control
                .faults
                .at(Point::MailboxLock, now, vf.number(), 0)
                != Some(Action::Drop);
        let mailbox = &mut self.control.vfs[vf].mailbox;
        let signals = mailbox.vf_write(value, grant);
        if signals.request && !mailbox.take_owned() {
            self.violation(vf, ViolationKind::RequestWithoutLock);
        }
        if signals.ack
            && self
                .control
                .faults
                .at(Point::MailboxAck, now, vf.number(), 0)
                == Some(Action::Drop)
        {
            self.control.vfs[vf].mailbox.vf_ack = false;
        }
        if signals.request || signals.ack || signals.released {
            self.notify_pf(vf);
        }
    }

    /// Free-running timer: milliseconds of the card's clock.
    fn free_running_timer(&self) -> u32 {
        milliseconds(self.control.now)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the timer wraps")]
const fn milliseconds(time: Duration) -> u32 {
    time.as_millis() as u32
}

/// The number of a queue or pool as the data path counts them; one that is too large is nobody's there.
pub(crate) fn narrow(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Register `at` of an array of them. Past its end is nothing, which reads as 0.
fn word_of(array: &[u32], at: usize) -> u32 {
    array.get(at).copied().unwrap_or(0)
}

/// Writes register `at` of an array of them; past its end is nothing to write to.
fn set_word_of(array: &mut [u32], at: usize, value: u32) {
    if let Some(word) = array.get_mut(at) {
        *word = value;
    }
}

/// A register's name with its number, where there are several.
pub(crate) fn name(reg: &Reg, index: u32) -> String {
    if reg.count > 1 {
        format!("{}({index})", reg.name)
    } else {
        reg.name.to_owned()
    }
}
