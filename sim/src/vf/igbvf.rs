//! Registers of the 82576 and I350 VFs: one match for reads, one for writes (igbvf.md §2, §3).

use vfnic_hw::regs::Reg;
use vfnic_hw::regs::igbvf as r;

use super::ixgbevf::{BASE_BITS, LEN_BITS, high, low, set_high, set_low};
use super::tails::Direction::{Rx, Tx};
use super::{narrow, word_of};
use crate::data::VfStats;
use crate::per_vf::VfId;
use crate::state::CardState;

/// VTCTRL.RST.
const RST: u32 = 1 << 26;

impl CardState {
    pub(super) fn read_igbvf(&mut self, vf: VfId, reg: &'static Reg, index: u32) -> u32 {
        let at = index as usize;
        let this = &mut self.control.vfs[vf];
        match *reg {
            // RST clears itself, the rest means nothing to a VF (§3.1).
            r::VTCTRL => 0,
            r::VTSTATUS => self.vtstatus(),
            r::VMBMEM => word_of(&this.mailbox.memory, at),
            r::V2PMAILBOX => this.mailbox.vf_read(),
            r::PBACL => this.irq.pending(),
            r::PSRTYPE => this.regs.psrtype,
            r::VFGPRC => VfStats::low(self.counters(vf).gprc),
            r::VFGPTC => VfStats::low(self.counters(vf).gptc),
            r::VFGORC => VfStats::low(self.counters(vf).gorc),
            r::VFGOTC => VfStats::low(self.counters(vf).gotc),
            r::VFMPRC => VfStats::low(self.counters(vf).mprc),
            r::VFGPRLBC => VfStats::low(self.counters(vf).gprlbc),
            r::VFGPTLBC => VfStats::low(self.counters(vf).gptlbc),
            r::VFGORLBC => VfStats::low(self.counters(vf).gorlbc),
            r::VFGOTLBC => VfStats::low(self.counters(vf).gotlbc),
            r::VTFRTIMER => self.free_running_timer(),
            r::VTEIMS => this.irq.mask(),
            r::VTEIAC => this.irq.auto_clear,
            r::VTEIAM => this.irq.auto_mask,
            r::VTEICR => this.irq.take_cause(),
            r::VTEITR => this.irq.itr(at),
            r::VTIVAR => this.irq.ivar[0],
            r::VTIVAR_MISC => this.irq.ivar_misc,
            r::RDBAL => low(this.regs.rx[at].ring.base) & BASE_BITS,
            r::RDBAH => high(this.regs.rx[at].ring.base),
            r::RDLEN => this.regs.rx[at].ring.len & LEN_BITS,
            r::SRRCTL => this.regs.rx[at].srrctl,
            r::RDH => this.tails.head(Rx, at),
            r::RXCTL => this.regs.rx[at].dca,
            r::RDT => this.tails.get(Rx, at),
            r::RXDCTL => self.read_dctl(vf, Rx, index),
            r::RQDPC => self
                .path
                .rx(vf.pool(), narrow(at))
                .map_or(0, |rx| rx.take_dropped()),
            r::TDBAL => low(this.regs.tx[at].ring.base) & BASE_BITS,
            r::TDBAH => high(this.regs.tx[at].ring.base),
            r::TDLEN => this.regs.tx[at].ring.len & LEN_BITS,
            r::TDH => this.tails.head(Tx, at),
            r::TXCTL => this.regs.tx[at].dca,
            r::TDT => this.tails.get(Tx, at),
            r::TXDCTL => self.read_dctl(vf, Tx, index),
            r::TDWBAL => this.regs.tx[at].wbal,
            r::TDWBAH => this.regs.tx[at].wbah,
            // PBRWAC, PBTWAC and whatever is write-only.
            _ => 0,
        }
    }

    pub(super) fn write_igbvf(&mut self, vf: VfId, reg: &'static Reg, index: u32, value: u32) {
        let at = index as usize;
        let this = &mut self.control.vfs[vf];
        match *reg {
            r::VTCTRL if value & RST != 0 => self.vf_software_reset(vf),
            r::VMBMEM => self.write_mailbox_memory(vf, index, value),
            r::V2PMAILBOX => self.write_mailbox(vf, value),
            r::PBACL => this.irq.clear_pending(value),
            r::PSRTYPE => {
                this.regs.psrtype = value;
                self.path.set_psrtype(vf.pool(), value);
            }
            r::VTEICS => this.irq.set_cause(value),
            r::VTEIMS => this.irq.set_mask(value),
            r::VTEIMC => this.irq.clear_mask(value),
            r::VTEIAC => this.irq.auto_clear = value & 7,
            r::VTEIAM => this.irq.auto_mask = value & 7,
            r::VTEICR => this.irq.clear_cause(value),
            r::VTEITR => this.irq.set_itr(at, value),
            r::VTIVAR => this.irq.ivar[0] = value & 0x8383_8383,
            r::VTIVAR_MISC => this.irq.ivar_misc = value & 0x83,
            r::RDBAL => self.write_ring(vf, Rx, reg, index, value, |ring| {
                set_low(&mut ring.base, value)
            }),
            r::RDBAH => self.write_ring(vf, Rx, reg, index, value, |ring| {
                set_high(&mut ring.base, value)
            }),
            r::RDLEN => self.write_ring(vf, Rx, reg, index, value, |ring| ring.len = value),
            r::SRRCTL => self.write_srrctl(vf, index, value),
            r::RDH => self.write_head(vf, Rx, reg, index, value),
            r::RXCTL => this.regs.rx[at].dca = value,
            r::RDT => self.write_tail(vf, Rx, index, value),
            r::RXDCTL => self.write_dctl(vf, Rx, index, value),
            r::TDBAL => self.write_ring(vf, Tx, reg, index, value, |ring| {
                set_low(&mut ring.base, value)
            }),
            r::TDBAH => self.write_ring(vf, Tx, reg, index, value, |ring| {
                set_high(&mut ring.base, value)
            }),
            r::TDLEN => self.write_ring(vf, Tx, reg, index, value, |ring| ring.len = value),
            r::TDH => self.write_head(vf, Tx, reg, index, value),
            r::TXCTL => this.regs.tx[at].dca = value,
            r::TDT => self.write_tail(vf, Tx, index, value),
            r::TXDCTL => self.write_dctl(vf, Tx, index, value),
            r::TDWBAL => self.write_head_write_back(vf, index, Some(value), None),
            r::TDWBAH => self.write_head_write_back(vf, index, None, Some(value)),
            _ => {}
        }
    }

    /// The PF's STATUS as a VF sees it (§3.2): bit 31, IOV mode and bus mastering set, the VFs in 17:14, and duplex,
    /// link and speed while there is a link.
    fn vtstatus(&self) -> u32 {
        let link = self.path.filters().link();
        let vfs = (u32::from(self.control.vf_count) & 0xf) << 14;
        let base = 0x800c_0400 | vfs;
        if !link.up {
            return base;
        }
        let speed = match link.mbps {
            1000.. => 0x80,
            100.. => 0x40,
            _ => 0,
        };
        base | 0x3 | speed
    }
}
