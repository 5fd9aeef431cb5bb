//! The PF driver's bookkeeping of filters: MAC slots, VLAN memberships, multicast hashes.

use vfnic_hw::Family;

use crate::data::{Accept, Mac, VlanInsert};
use crate::per_vf::VfId;
use crate::state::CardState;

impl CardState {
    /// Takes the first free RAR but number 0, which is the PF's own; false when there is none. Linux's ixgbe does not
    /// look for duplicates.
    pub(super) fn add_mac_filter(&mut self, mac: Mac, pool: u8) -> bool {
        let filters = self.path.filters_mut();
        let free = (1..filters.rar_count()).find(|&index| filters.rar(index).is_none());
        if let Some(index) = free {
            filters.set_rar(index, mac, 1 << pool);
        }
        free.is_some()
    }

    /// A VF's RAR where they are counted from the end, as Linux's igb and DPDK's PF do.
    pub(super) fn last_rar(&self, vf: VfId) -> usize {
        let rars = self.path.filters().rar_count();
        rars.saturating_sub(1).saturating_sub(vf.number())
    }

    /// Frees the first RAR with this address for this pool.
    pub(super) fn remove_mac_filter(&mut self, mac: Mac, pool: u8) {
        let filters = self.path.filters_mut();
        let place =
            (1..filters.rar_count()).find(|&index| filters.rar(index) == Some((mac, 1 << pool)));
        if let Some(index) = place {
            filters.clear_rar(index);
        }
    }

    /// Sets and clears bits of a pool's VMOLR.
    pub(super) fn change_accept(&mut self, pool: u8, set: Accept, clear: Accept) {
        let filters = self.path.filters_mut();
        let accept = filters.accept(pool).difference(clear) | set;
        filters.set_accept(pool, accept);
    }

    /// Takes a VF out of every VLAN.
    pub(super) fn clear_vlans(&mut self, vf: VfId) {
        let pool = vf.pool();
        let filters = self.path.filters_mut();
        let vids: Vec<u16> = filters
            .vlvf
            .iter()
            .filter(|entry| entry.valid && entry.pools & (1 << pool) != 0)
            .map(|entry| entry.vid)
            .collect();
        for vid in vids {
            filters.remove_vlan(vid, pool);
        }
    }

    /// VMVIR and AUPE as the port VLAN says; the VF becomes a member of it, or of VLAN 0.
    pub(super) fn apply_port_vlan(&mut self, vf: VfId) {
        let this = &self.control.pf.vfs[vf];
        let (vlan, qos) = (this.vlan, this.qos);
        let pool = vf.pool();
        let filters = self.path.filters_mut();
        filters.add_vlan(vlan, pool);
        let insert = if vlan == 0 && qos == 0 {
            VlanInsert::Descriptor
        } else {
            VlanInsert::Always((u16::from(qos) << 13) | vlan)
        };
        filters.set_vlan_insert(pool, insert);
        let (set, clear) = if vlan == 0 {
            (Accept::BAM | Accept::AUPE, Accept::empty())
        } else {
            (Accept::BAM, Accept::AUPE)
        };
        self.change_accept(pool, set, clear);
    }

    /// Writes the multicast table anew from what every VF has asked for. It touches all of them (as `set_rx_mode` of
    /// both PF drivers does): one without hashes loses ROMPE.
    pub(super) fn rebuild_multicast(&mut self) {
        self.path.filters_mut().clear_mta();
        for vf in self.control.vfs.ids() {
            let this = &self.control.pf.vfs[vf];
            let hashes = this.hashes.clone();
            let all = this.multicast_promiscuous || this.hash_overflow;
            let (mut set, mut clear) = (Accept::empty(), Accept::empty());
            match self.control.model.family() {
                Family::Ixgbevf if hashes.is_empty() => clear = Accept::ROMPE,
                Family::Ixgbevf => set = Accept::ROMPE,
                Family::Igbvf => {
                    clear = Accept::ROMPE | Accept::MPE;
                    if all {
                        set = Accept::MPE;
                    } else if !hashes.is_empty() {
                        set = Accept::ROMPE;
                    }
                }
            }
            self.change_accept(vf.pool(), set, clear);
            for hash in hashes {
                self.path.filters_mut().set_mta(hash, true);
            }
        }
    }

    /// Frees every further address of a VF.
    pub(super) fn clear_more_macs(&mut self, vf: VfId) {
        for mac in std::mem::take(&mut self.control.pf.vfs[vf].more_macs) {
            self.remove_mac_filter(mac, vf.pool());
        }
    }

    /// Further addresses that all VFs together may have (ixgbevf.md §6.8, igbvf.md §6.3).
    pub(super) fn more_macs_left(&self) -> usize {
        let rars = self.path.filters().rar_count();
        let kept = match self.control.model.family() {
            Family::Ixgbevf => 15 + 1,
            Family::Igbvf => 3 + 1,
        };
        let used: usize = self
            .control
            .pf
            .vfs
            .iter()
            .map(|vf| vf.more_macs.len())
            .sum();
        rars.saturating_sub(kept)
            .saturating_sub(self.control.vfs.len())
            .saturating_sub(used)
    }
}
