//! What turning a knob does.

use std::sync::atomic::Ordering;

use vfnic_hw::{Family, Model};

use super::PfError;
use super::error::refused;
use crate::data::Mac;
use crate::per_vf::VfId;
use crate::state::CardState;

impl CardState {
    /// The administrator sets a VF's address, or takes it away.
    pub(super) fn knob_mac(&mut self, vf: VfId, mac: Mac) -> Result<(), PfError> {
        let full = || refused("mac", format!("{mac:02x?}"), "the address table is full");
        match self.control.model.family() {
            Family::Ixgbevf if mac == [0; 6] => {
                let old = self.control.pf.vfs[vf].mac;
                self.remove_mac_filter(old, vf.pool());
                self.control.pf.vfs[vf].mac = mac;
            }
            Family::Ixgbevf => self.ixgbe_change_mac(vf, mac).map_err(|_| full())?,
            Family::Igbvf => {
                self.control.pf.vfs[vf].mac = mac;
                self.igb_set_rar(vf, mac);
            }
        }
        self.control.pf.vfs[vf].mac_administered = mac != [0; 6];
        Ok(())
    }

    /// The administrator sets a port VLAN, or ends it.
    pub(super) fn knob_vlan(&mut self, vf: VfId, vlan: u16, qos: u8) -> Result<(), PfError> {
        let old = self.control.pf.vfs[vf].vlan;
        let pool = vf.pool();
        let filters = self.path.filters_mut();
        filters.remove_vlan(old, pool);
        if !filters.add_vlan(vlan, pool) {
            filters.add_vlan(old, pool);
            return Err(refused("vlan", vlan.to_string(), "the VLAN table is full"));
        }
        let this = &mut self.control.pf.vfs[vf];
        this.vlan = vlan;
        this.qos = qos;
        self.apply_port_vlan(vf);
        let filters = self.path.filters_mut();
        match self.control.model.family() {
            Family::Ixgbevf => {
                let hide = vlan != 0 && self.control.model == Model::X550;
                filters.set_hide_vlan(pool, hide);
            }
            Family::Igbvf => filters.set_strip(pool, vlan != 0),
        }
        Ok(())
    }

    /// ixgbe makes a VF start over: it loses clear-to-send and is told by a ping without it.
    pub(super) fn restart_vf(&mut self, vf: VfId) {
        self.control.pf.vfs[vf].clear_to_send = false;
        if self.control.pf.running() {
            self.ping(vf);
        }
    }

    /// Takes a VF off the bus, or puts it back as new.
    pub(crate) fn set_removed(&mut self, vf: VfId, removed: bool) {
        let family = self.control.model.family();
        if self.control.vfs[vf].removed == removed {
            return;
        }
        if removed {
            self.vf_flr(vf);
        } else {
            self.control.vfs[vf].regs.power_on(family);
            self.push_queues(vf);
        }
        let this = &mut self.control.vfs[vf];
        this.removed = removed;
        this.tails.removed.store(removed, Ordering::Relaxed);
        self.update_dma(vf);
    }
}
