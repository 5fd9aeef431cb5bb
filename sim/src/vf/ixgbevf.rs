//! Registers of the 82599, X540 and X550 VFs: one match for reads, one for writes (ixgbevf.md §3, §4).

use vfnic_hw::Model;
use vfnic_hw::regs::Reg;
use vfnic_hw::regs::ixgbevf as r;

use super::tails::Direction::{Rx, Tx};
use super::{set_word_of, word_of};
use crate::data::{RssTable, VfStats};
use crate::per_vf::VfId;
use crate::state::CardState;

/// VFCTRL.RST.
const RST: u32 = 1 << 26;

/// Bits that a ring's base and length registers have: both are multiples of 128 (ixgbevf.md §4.6, igbvf.md §3.3). The
/// others read as 0; what was written to them is remembered, to be held against the driver when it enables the queue.
pub(super) const BASE_BITS: u32 = !0x7f;
pub(super) const LEN_BITS: u32 = 0x000f_ff80;

impl CardState {
    pub(super) fn read_ixgbevf(&mut self, vf: VfId, reg: &'static Reg, index: u32) -> u32 {
        let at = index as usize;
        let link = self.path.filters().link();
        let this = &mut self.control.vfs[vf];
        match *reg {
            // LU, VFs enabled, IOV active, master enable (§4.2).
            r::VFSTATUS => {
                let vfs = u32::from(self.control.vf_count) & 0xff;
                0x0004_0000
                    | (vfs << 10)
                    | if this.config.bus_master() {
                        0x0008_0000
                    } else {
                        0
                    }
                    | if link.up { 0x80 } else { 0 }
            }
            r::VFLINKS => self.control.pf.vflinks(link),
            r::VFFRTIMER => self.free_running_timer(),
            r::VTEICR => this.irq.take_cause(),
            r::VTEICS => this.irq.cause(),
            r::VTEIMS => this.irq.mask(),
            r::VTEIAC => this.irq.auto_clear,
            r::VTEIAM => this.irq.auto_mask,
            r::VTIVAR => word_of(&this.irq.ivar, at),
            r::VTIVAR_MISC => this.irq.ivar_misc,
            r::VFPBACL => this.irq.pending(),
            r::VTRSCINT => word_of(&this.regs.rscint, at),
            r::VFMBMEM => word_of(&this.mailbox.memory, at),
            r::VFMAILBOX => this.mailbox.vf_read(),
            r::VFPSRTYPE => this.regs.psrtype,
            r::VTEITR => this.irq.itr(at),
            r::VFRDBAL => low(this.regs.rx[at].ring.base) & BASE_BITS,
            r::VFRDBAH => high(this.regs.rx[at].ring.base),
            r::VFRDLEN => this.regs.rx[at].ring.len & LEN_BITS,
            r::VFDCA_RXCTRL => this.regs.rx[at].dca,
            r::VFRDH => this.tails.head(Rx, at),
            r::VFSRRCTL => this.regs.rx[at].srrctl,
            r::VFRDT => this.tails.get(Rx, at),
            r::VFRXDCTL => self.read_dctl(vf, Rx, index),
            r::VFRSCCTL => this.regs.rx[at].rscctl,
            r::VFTDBAL => low(this.regs.tx[at].ring.base) & BASE_BITS,
            r::VFTDBAH => high(this.regs.tx[at].ring.base),
            r::VFTDLEN => this.regs.tx[at].ring.len & LEN_BITS,
            r::VFDCA_TXCTRL => this.regs.tx[at].dca,
            r::VFTDH => this.tails.head(Tx, at),
            r::VFTDT => this.tails.get(Tx, at),
            r::VFTXDCTL => self.read_dctl(vf, Tx, index),
            r::VFTDWBAL => this.regs.tx[at].wbal,
            r::VFTDWBAH => this.regs.tx[at].wbah,
            r::VFGPRC => VfStats::low(self.counters(vf).gprc),
            r::VFGORC_LSB => VfStats::low(self.counters(vf).gorc),
            r::VFGORC_MSB => VfStats::high(self.counters(vf).gorc),
            r::VFMPRC => VfStats::low(self.counters(vf).mprc),
            r::VFGPTC => VfStats::low(self.counters(vf).gptc),
            r::VFGOTC_LSB => VfStats::low(self.counters(vf).gotc),
            r::VFGOTC_MSB => VfStats::high(self.counters(vf).gotc),
            r::VFMRQC => this.regs.mrqc,
            r::VFRSSRK => word_of(&this.regs.rssrk, at),
            r::VFRETA => word_of(&this.regs.reta, at),
            // Every packet buffer empty, no wraps (§4.9).
            r::VFRXMEMWRAP => 0x8888_8888,
            _ => 0,
        }
    }

    pub(super) fn write_ixgbevf(&mut self, vf: VfId, reg: &'static Reg, index: u32, value: u32) {
        let at = index as usize;
        let this = &mut self.control.vfs[vf];
        match *reg {
            r::VFCTRL if value & RST != 0 => self.vf_software_reset(vf),
            r::VTEICR => this.irq.clear_cause(value),
            r::VTEICS => this.irq.set_cause(value),
            r::VTEIMS => this.irq.set_mask(value),
            r::VTEIMC => this.irq.clear_mask(value),
            r::VTEIAC => this.irq.auto_clear = value & 7,
            r::VTEIAM => this.irq.auto_mask = value & 7,
            // Valid and two vector bits in each byte (§4.4).
            r::VTIVAR => set_word_of(&mut this.irq.ivar, at, value & 0x8383_8383),
            r::VTIVAR_MISC => this.irq.ivar_misc = value & 0x83,
            r::VFPBACL => this.irq.clear_pending(value),
            r::VTRSCINT => set_word_of(&mut this.regs.rscint, at, value),
            r::VFMBMEM => self.write_mailbox_memory(vf, index, value),
            r::VFMAILBOX => self.write_mailbox(vf, value),
            r::VFPSRTYPE => {
                this.regs.psrtype = value;
                self.path.set_psrtype(vf.pool(), value);
            }
            r::VTEITR => this.irq.set_itr(at, value),
            r::VFRDBAL => self.write_ring(vf, Rx, reg, index, value, |ring| {
                set_low(&mut ring.base, value)
            }),
            r::VFRDBAH => self.write_ring(vf, Rx, reg, index, value, |ring| {
                set_high(&mut ring.base, value)
            }),
            r::VFRDLEN => self.write_ring(vf, Rx, reg, index, value, |ring| ring.len = value),
            r::VFDCA_RXCTRL => this.regs.rx[at].dca = value,
            r::VFRDH => self.write_head(vf, Rx, reg, index, value),
            r::VFSRRCTL => self.write_srrctl(vf, index, value),
            r::VFRDT => self.write_tail(vf, Rx, index, value),
            r::VFRXDCTL => self.write_dctl(vf, Rx, index, value),
            r::VFRSCCTL => this.regs.rx[at].rscctl = value,
            r::VFTDBAL => self.write_ring(vf, Tx, reg, index, value, |ring| {
                set_low(&mut ring.base, value)
            }),
            r::VFTDBAH => self.write_ring(vf, Tx, reg, index, value, |ring| {
                set_high(&mut ring.base, value)
            }),
            r::VFTDLEN => self.write_ring(vf, Tx, reg, index, value, |ring| ring.len = value),
            r::VFDCA_TXCTRL => this.regs.tx[at].dca = value,
            r::VFTDH => self.write_head(vf, Tx, reg, index, value),
            r::VFTDT => self.write_tail(vf, Tx, index, value),
            r::VFTXDCTL => self.write_dctl(vf, Tx, index, value),
            r::VFTDWBAL => self.write_head_write_back(vf, index, Some(value), None),
            r::VFTDWBAH => self.write_head_write_back(vf, index, None, Some(value)),
            r::VFMRQC => {
                this.regs.mrqc = value;
                self.push_vf_rss(vf);
            }
            r::VFRSSRK => {
                set_word_of(&mut this.regs.rssrk, at, value);
                self.push_vf_rss(vf);
            }
            r::VFRETA => {
                set_word_of(&mut this.regs.reta, at, value);
                self.push_vf_rss(vf);
            }
            _ => {}
        }
    }

    /// An X550 VF's own RSS registers, as the data path wants them (§4.8).
    pub(crate) fn push_vf_rss(&mut self, vf: VfId) {
        if self.control.model != Model::X550 {
            return;
        }
        let regs = &self.control.vfs[vf].regs;
        let mut table = RssTable::default();
        for (bytes, word) in table.key.chunks_exact_mut(4).zip(regs.rssrk) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        for (bytes, word) in table.reta.chunks_exact_mut(4).zip(regs.reta) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        // Bit 0 turns RSS on, 31:16 are the hash types.
        if regs.mrqc & 1 != 0 {
            table.types = regs.mrqc & 0xffff_0000;
        }
        self.path.set_vf_rss(vf.pool(), table);
    }
}

/// Bits 31:0 of an address.
#[expect(clippy::cast_possible_truncation, reason = "the other half is `high`")]
pub(super) const fn low(value: u64) -> u32 {
    value as u32
}

/// Bits 63:32 of an address.
pub(super) const fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

pub(super) const fn set_low(address: &mut u64, value: u32) {
    *address = (*address & !0xffff_ffff) | value as u64;
}

pub(super) const fn set_high(address: &mut u64, value: u32) {
    *address = (*address & 0xffff_ffff) | ((value as u64) << 32);
}
