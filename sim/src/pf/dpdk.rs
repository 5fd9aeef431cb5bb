//! DPDK's PF drivers (net_ixgbe, net_e1000_igb), where they differ from Linux's (ixgbevf.md §6.8, igbvf.md §6.7).
//!
//! No clear-to-send rule for requests, an address for every VF, replies of one word.

use vfnic_hw::Family;

use super::ixgbe::Refused;
use super::task::Reply;
use super::{
    CTS, FAILURE, MOST_HASHES, RESET, SUCCESS, hashes, info, is_unicast, mac_of, mac_words,
};
use crate::data::{Accept, VlanInsert};
use crate::per_vf::VfId;
use crate::state::CardState;

impl CardState {
    pub(super) fn dpdk_reset_event(&mut self, vf: VfId) {
        let pool = vf.pool();
        let this = &mut self.control.pf.vfs[vf];
        this.hashes.clear();
        this.dpdk_adds = 0;
        let multicast = match self.control.model.family() {
            Family::Ixgbevf => Accept::empty(),
            Family::Igbvf => Accept::ROMPE,
        };
        let accept = Accept::ROPE | Accept::BAM | Accept::AUPE | multicast;
        self.change_accept(pool, accept, Accept::empty());
        let index = self.last_rar(vf);
        let filters = self.path.filters_mut();
        filters.clear_rar(index);
        filters.set_vlan_insert(pool, VlanInsert::Descriptor);
    }

    fn dpdk_reset(&mut self, vf: VfId) -> Reply {
        let pool = vf.pool();
        self.dpdk_reset_event(vf);
        let mac = self.control.pf.vfs[vf].mac;
        let index = self.last_rar(vf);
        let filters = self.path.filters_mut();
        filters.set_rar(index, mac, 1 << pool);
        filters.set_queue_drop(pool, true);
        filters.set_receive(pool, true);
        filters.set_transmit(pool, true);
        self.control.pf.vfs[vf].clear_to_send = true;
        let [low, high] = mac_words(mac);
        let mut reply = vec![RESET | SUCCESS, low, high];
        if self.control.model.family() == Family::Ixgbevf {
            reply.push(0);
        }
        reply
    }

    pub(super) fn dpdk_answer(&mut self, vf: VfId, words: [u32; 16]) -> Option<Reply> {
        if Self::is_reset(words[0]) {
            return Some(self.dpdk_reset(vf));
        }
        let ixgbe = self.control.model.family() == Family::Ixgbevf;
        let mut more = Vec::new();
        let result = match words[0] & 0xffff {
            0x02 => self.dpdk_set_mac(vf, &words),
            0x03 => self.dpdk_set_multicast(vf, &words),
            0x04 => self.dpdk_set_vlan(vf, &words),
            0x05 => self.dpdk_set_lpe(vf, words[1]),
            0x06 if ixgbe => self.dpdk_macvlan(vf, &words),
            0x08 if ixgbe => self.dpdk_negotiate(vf, words[1]),
            0x09 if ixgbe => {
                let queues = u32::from(self.control.queues);
                let first = u32::from(vf.pool()).saturating_mul(queues);
                more = vec![queues, queues, 0, first];
                if self.control.pf.vfs[vf].api >= 2 {
                    Ok(())
                } else {
                    Err(Refused)
                }
            }
            0x0c if ixgbe => self.dpdk_xcast(vf, words[1]),
            _ => Err(Refused),
        };
        let bits = if result.is_ok() { SUCCESS } else { FAILURE };
        let mut reply = vec![words[0] | CTS | bits];
        reply.append(&mut more);
        Some(reply)
    }

    fn dpdk_set_mac(&mut self, vf: VfId, words: &[u32; 16]) -> Result<(), Refused> {
        let mac = mac_of(words);
        let index = self.last_rar(vf);
        let zero = mac == [0; 6] && self.control.model.family() == Family::Igbvf;
        if zero {
            self.path.filters_mut().clear_rar(index);
        } else if is_unicast(mac) {
            self.path.filters_mut().set_rar(index, mac, 1 << vf.pool());
        } else {
            return Err(Refused);
        }
        self.control.pf.vfs[vf].mac = mac;
        Ok(())
    }

    fn dpdk_set_multicast(&mut self, vf: VfId, words: &[u32; 16]) -> Result<(), Refused> {
        let count = (info(words[0]) as usize).min(MOST_HASHES);
        let list = hashes(words, count);
        let on = if list.is_empty() {
            Accept::empty()
        } else {
            Accept::ROMPE
        };
        self.change_accept(vf.pool(), on, Accept::MPE | Accept::ROMPE);
        for &hash in &list {
            self.path.filters_mut().set_mta(hash, true);
        }
        self.control.pf.vfs[vf].hashes = list;
        Ok(())
    }

    fn dpdk_set_vlan(&mut self, vf: VfId, words: &[u32; 16]) -> Result<(), Refused> {
        let Ok(vid) = u16::try_from(words[1] & 0xfff) else {
            return Err(Refused);
        };
        let filters = self.path.filters_mut();
        if info(words[0]) == 0 {
            filters.remove_vlan(vid, vf.pool());
        } else {
            filters.set_vlan_filter(true);
            if !filters.add_vlan(vid, vf.pool()) {
                return Err(Refused);
            }
        }
        Ok(())
    }

    fn dpdk_set_lpe(&mut self, vf: VfId, max_frame: u32) -> Result<(), Refused> {
        match self.control.model.family() {
            Family::Ixgbevf if (64..=9728).contains(&max_frame) => self.raise_max_frame(max_frame),
            Family::Igbvf if (64..=0x3f00).contains(&max_frame) => {
                self.path
                    .filters_mut()
                    .set_max_len(vf.pool(), Some(max_frame));
            }
            _ => return Err(Refused),
        }
        Ok(())
    }

    /// Its further addresses share slots between VFs: the n-th add of any VF goes to slot n.
    fn dpdk_macvlan(&mut self, vf: VfId, words: &[u32; 16]) -> Result<(), Refused> {
        let mac = mac_of(words);
        let adds = self.control.pf.vfs[vf].dpdk_adds;
        if info(words[0]) == 0 {
            self.path.filters_mut().clear_rar(usize::from(adds));
            self.control.pf.vfs[vf].dpdk_adds = 0;
            return Ok(());
        }
        if !is_unicast(mac) {
            return Err(Refused);
        }
        let slot = adds.saturating_add(1);
        self.control.pf.vfs[vf].dpdk_adds = slot;
        self.path
            .filters_mut()
            .set_rar(usize::from(slot), mac, 1 << vf.pool());
        Ok(())
    }

    fn dpdk_negotiate(&mut self, vf: VfId, version: u32) -> Result<(), Refused> {
        if !self.control.pf.api_versions.contains(&version) {
            return Err(Refused);
        }
        self.control.pf.vfs[vf].api = version;
        Ok(())
    }

    fn dpdk_xcast(&mut self, vf: VfId, mode: u32) -> Result<(), Refused> {
        let api = self.control.pf.vfs[vf].api;
        let known = matches!((api, mode), (3, 0..=2) | (4, 0..=3));
        if !known || (mode == 3 && !self.control.pf.promiscuous) {
            return Err(Refused);
        }
        if mode != self.control.pf.vfs[vf].xcast {
            let accept = Self::ixgbe_accept(mode).ok_or(Refused)?;
            let every = Accept::ROMPE | Accept::MPE | Accept::UPE | Accept::VPE;
            self.change_accept(vf.pool(), accept, every);
            self.control.pf.vfs[vf].xcast = mode;
        }
        Ok(())
    }
}
