//! Linux's ixgbe as the PF: what it does on each message of a VF (ixgbevf.md §6.7, §6.8).

use vfnic_hw::Model;

use super::task::Reply;
use super::{
    CTS, FAILURE, MOST_HASHES, RESET, SUCCESS, hashes, info, is_unicast, mac_of, mac_words,
};
use crate::data::{Accept, SpoofChecks};
use crate::per_vf::VfId;
use crate::state::CardState;

/// Versions that know GET_QUEUES: 1.1 and on, without the abandoned 2.0 (ixgbevf.md §6.6).
const API_11: [u32; 6] = [2, 3, 4, 5, 7, 8];
/// Versions that know link state, RETA and the casting mode: 1.2 and on.
const API_12: [u32; 5] = [3, 4, 5, 7, 8];

/// A message was refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused;

impl CardState {
    /// What ixgbe does when a VF was reset: everything the VF had asked for goes, but for the casting mode.
    pub(super) fn ixgbe_reset_event(&mut self, vf: VfId) {
        let pool = vf.pool();
        self.clear_vlans(vf);
        self.apply_port_vlan(vf);
        let this = &self.control.pf.vfs[vf];
        if (this.vlan != 0 || this.qos != 0) && this.spoofchk {
            self.ixgbe_spoof(vf, true);
        }
        let this = &mut self.control.pf.vfs[vf];
        this.hashes.clear();
        this.api = 0;
        let mac = this.mac;
        self.rebuild_multicast();
        self.remove_mac_filter(mac, pool);
        self.clear_more_macs(vf);
    }

    /// PFVFSPOOF: address, VLAN, and on an X550 the ethertypes of control frames.
    pub(super) fn ixgbe_spoof(&mut self, vf: VfId, on: bool) {
        let checks = SpoofChecks {
            mac: on,
            vlan: on,
            ethertype: on && self.control.model == Model::X550,
        };
        self.path.filters_mut().set_spoof(vf.pool(), checks);
    }

    /// VFTE and VFRE as the VF's link state says. An 82599 whose PF runs jumbo frames leaves VFRE off until the VF says
    /// that it can take them.
    pub(super) fn ixgbe_set_rx_tx(&mut self, vf: VfId) {
        let on = self.control.pf.vfs[vf].link_enable;
        let jumbo = self.control.model == Model::I82599 && self.control.pf.mtu > 1500;
        let filters = self.path.filters_mut();
        filters.set_transmit(vf.pool(), on);
        filters.set_receive(vf.pool(), on && !jumbo);
    }

    /// RESET: the handshake that makes a VF known.
    fn ixgbe_reset(&mut self, vf: VfId) -> Reply {
        let pool = vf.pool();
        self.ixgbe_reset_event(vf);
        self.control.vfs[vf].mailbox.memory = [0; 16];
        let this = &self.control.pf.vfs[vf];
        let (mac, administered, port_vlan) = (this.mac, this.mac_administered, this.vlan != 0);
        if mac != [0; 6] {
            self.add_mac_filter(mac, pool);
        }
        let hide = port_vlan && self.control.model == Model::X550;
        let filters = self.path.filters_mut();
        filters.set_queue_drop(pool, true);
        filters.set_hide_vlan(pool, hide);
        self.ixgbe_set_rx_tx(vf);
        self.control.pf.vfs[vf].clear_to_send = true;
        self.clear_head_write_back(vf);
        if administered && mac != [0; 6] {
            let [low, high] = mac_words(mac);
            vec![RESET | SUCCESS, low, high, 0]
        } else {
            vec![RESET | FAILURE, 0, 0, 0]
        }
    }

    pub(super) fn ixgbe_answer(&mut self, vf: VfId, mut words: [u32; 16]) -> Option<Reply> {
        if Self::is_reset(words[0]) {
            return Some(self.ixgbe_reset(vf));
        }
        if !self.control.pf.vfs[vf].clear_to_send {
            return Some(vec![words[0] | FAILURE]);
        }
        let result = match words[0] & 0xffff {
            0x02 => self.ixgbe_set_mac(vf, &words),
            0x03 => self.ixgbe_set_multicast(vf, &words),
            0x04 => self.ixgbe_set_vlan(vf, &words),
            0x05 => self.ixgbe_set_lpe(vf, words[1]),
            0x06 => self.ixgbe_set_macvlan(vf, &words),
            0x08 => self.ixgbe_negotiate(vf, words[1]),
            0x09 => self.ixgbe_get_queues(vf, &mut words),
            0x0a => self.ixgbe_get_reta(vf, &mut words),
            0x0b => self.ixgbe_get_rss_key(vf, &mut words),
            0x0c => self.ixgbe_xcast(vf, &mut words),
            0x10 => self.ixgbe_link_state(vf, &mut words),
            0x12 => self.ixgbe_features(vf, &mut words),
            // IPsec (0x0d, 0x0e), the E610's link state (0x11) and whatever nobody knows.
            _ => Err(Refused),
        };
        words[0] |= CTS | if result.is_ok() { SUCCESS } else { FAILURE };
        Some(words.to_vec())
    }

    fn ixgbe_set_mac(&mut self, vf: VfId, words: &[u32; 16]) -> Result<(), Refused> {
        let mac = mac_of(words);
        let this = &self.control.pf.vfs[vf];
        if !is_unicast(mac) || (this.mac_administered && !this.trusted && this.mac != mac) {
            return Err(Refused);
        }
        self.ixgbe_change_mac(vf, mac)
    }

    /// Replaces a VF's address filter. When the table is full the VF has none.
    pub(super) fn ixgbe_change_mac(&mut self, vf: VfId, mac: [u8; 6]) -> Result<(), Refused> {
        let old = self.control.pf.vfs[vf].mac;
        self.remove_mac_filter(old, vf.pool());
        let added = self.add_mac_filter(mac, vf.pool());
        self.control.pf.vfs[vf].mac = if added { mac } else { [0; 6] };
        if added { Ok(()) } else { Err(Refused) }
    }

    fn ixgbe_set_multicast(&mut self, vf: VfId, words: &[u32; 16]) -> Result<(), Refused> {
        let count = (info(words[0]) as usize).min(MOST_HASHES);
        let list = hashes(words, count);
        for &hash in &list {
            self.path.filters_mut().set_mta(hash, true);
        }
        self.control.pf.vfs[vf].hashes = list;
        self.change_accept(vf.pool(), Accept::ROMPE, Accept::empty());
        Ok(())
    }

    fn ixgbe_set_vlan(&mut self, vf: VfId, words: &[u32; 16]) -> Result<(), Refused> {
        let add = info(words[0]) != 0;
        let Ok(vid) = u16::try_from(words[1] & 0xfff) else {
            return Err(Refused);
        };
        if self.control.pf.vfs[vf].vlan != 0 {
            return Err(Refused);
        }
        let filters = self.path.filters_mut();
        match (add, vid) {
            // Membership of VLAN 0 is what lets untagged frames through.
            (false, 0) => Ok(()),
            (false, _) => {
                filters.remove_vlan(vid, vf.pool());
                Ok(())
            }
            (true, _) if filters.add_vlan(vid, vf.pool()) => Ok(()),
            (true, _) => Err(Refused),
        }
    }

    fn ixgbe_set_lpe(&mut self, vf: VfId, max_frame: u32) -> Result<(), Refused> {
        if !(68..=9728).contains(&max_frame) {
            return Err(Refused);
        }
        if self.control.model == Model::I82599 {
            // PF and all VFs share one limit: either all can take jumbo frames or none has them (ixgbevf.md §9.7).
            let pf_jumbo = self.control.pf.mtu > 1500;
            let knows_jumbo = API_11.contains(&self.control.pf.vfs[vf].api);
            let fits = (knows_jumbo && pf_jumbo) || (!pf_jumbo && max_frame <= 1518);
            self.path.filters_mut().set_receive(vf.pool(), fits);
            if !fits {
                return Err(Refused);
            }
        }
        self.raise_max_frame(max_frame);
        Ok(())
    }

    fn ixgbe_set_macvlan(&mut self, vf: VfId, words: &[u32; 16]) -> Result<(), Refused> {
        let index = info(words[0]);
        let mac = mac_of(words);
        let this = &self.control.pf.vfs[vf];
        if index > 0 && ((this.mac_administered && !this.trusted) || !is_unicast(mac)) {
            return Err(Refused);
        }
        if index > 0 && this.spoofchk {
            // A VF with several addresses would trip over the check; it stays off until something sets it again.
            self.path
                .filters_mut()
                .set_spoof(vf.pool(), SpoofChecks::default());
        }
        if index <= 1 {
            self.clear_more_macs(vf);
        }
        if index == 0 {
            return Ok(());
        }
        if self.more_macs_left() == 0 || !self.add_mac_filter(mac, vf.pool()) {
            return Err(Refused);
        }
        self.control.pf.vfs[vf].more_macs.push(mac);
        Ok(())
    }

    fn ixgbe_negotiate(&mut self, vf: VfId, version: u32) -> Result<(), Refused> {
        if !self.control.pf.api_versions.contains(&version) {
            return Err(Refused);
        }
        self.control.pf.vfs[vf].api = version;
        Ok(())
    }

    /// Whether the VF negotiated one of these versions.
    fn ixgbe_api(&self, vf: VfId, versions: &[u32]) -> Result<u32, Refused> {
        let api = self.control.pf.vfs[vf].api;
        if versions.contains(&api) {
            Ok(api)
        } else {
            Err(Refused)
        }
    }

    fn ixgbe_get_queues(&self, vf: VfId, words: &mut [u32; 16]) -> Result<(), Refused> {
        self.ixgbe_api(vf, &API_11)?;
        let this = &self.control.pf.vfs[vf];
        words[1] = u32::from(self.control.queues);
        words[2] = u32::from(self.control.queues);
        words[3] = u32::from(this.vlan != 0 || this.qos != 0);
        words[4] = 0;
        Ok(())
    }

    /// GET_RETA and GET_RSS_KEY are for parts whose VFs share the PF's table.
    fn ixgbe_may_query_rss(&self, vf: VfId) -> Result<(), Refused> {
        let shared = matches!(self.control.model, Model::I82599 | Model::X540);
        if !shared || !self.control.pf.vfs[vf].rss_query {
            return Err(Refused);
        }
        self.ixgbe_api(vf, &API_12).map(|_| ())
    }

    fn ixgbe_get_reta(&self, vf: VfId, words: &mut [u32; 16]) -> Result<(), Refused> {
        self.ixgbe_may_query_rss(vf)?;
        let reta = &self.path.filters().rss.reta;
        for (word, entries) in words[1..].iter_mut().zip(reta.chunks_exact(16)) {
            *word = entries
                .iter()
                .rev()
                .fold(0, |word, &queue| (word << 2) | u32::from(queue & 3));
        }
        Ok(())
    }

    fn ixgbe_get_rss_key(&self, vf: VfId, words: &mut [u32; 16]) -> Result<(), Refused> {
        self.ixgbe_may_query_rss(vf)?;
        let key = &self.path.filters().rss.key;
        for (word, bytes) in words[1..].iter_mut().zip(key.chunks_exact(4)) {
            *word = bytes
                .iter()
                .rev()
                .fold(0, |word, &byte| (word << 8) | u32::from(byte));
        }
        Ok(())
    }

    fn ixgbe_xcast(&mut self, vf: VfId, words: &mut [u32; 16]) -> Result<(), Refused> {
        const MULTI: u32 = 1;
        const PROMISC: u32 = 3;
        let api = self.ixgbe_api(vf, &API_12)?;
        let mut mode = words[1];
        if api == 3 && mode == PROMISC {
            return Err(Refused);
        }
        if mode > MULTI && !self.control.pf.vfs[vf].trusted {
            mode = MULTI;
        }
        if mode != self.control.pf.vfs[vf].xcast {
            if mode == PROMISC
                && (self.control.model == Model::I82599 || !self.control.pf.promiscuous)
            {
                return Err(Refused);
            }
            let accept = Self::ixgbe_accept(mode).ok_or(Refused)?;
            let every = Accept::ROMPE | Accept::MPE | Accept::UPE | Accept::VPE;
            self.change_accept(vf.pool(), accept, every);
            self.control.pf.vfs[vf].xcast = mode;
        }
        words[1] = mode;
        Ok(())
    }

    /// The VMOLR bits of a casting mode (ixgbevf.md §8.3).
    pub(super) const fn ixgbe_accept(mode: u32) -> Option<Accept> {
        Some(match mode {
            0 => Accept::BAM,
            1 => Accept::BAM.union(Accept::ROMPE),
            2 => Accept::BAM.union(Accept::ROMPE).union(Accept::MPE),
            3 => Accept::BAM
                .union(Accept::ROMPE)
                .union(Accept::MPE)
                .union(Accept::UPE),
            _ => return None,
        })
    }

    fn ixgbe_link_state(&self, vf: VfId, words: &mut [u32; 16]) -> Result<(), Refused> {
        self.ixgbe_api(vf, &API_12)?;
        words[1] = u32::from(self.control.pf.vfs[vf].link_enable);
        Ok(())
    }

    /// FEATURES_NEGOTIATE, API 1.7: Linux's PF offers IPsec (bit 0), not the ESX mailbox (bit 1).
    fn ixgbe_features(&self, vf: VfId, words: &mut [u32; 16]) -> Result<(), Refused> {
        self.ixgbe_api(vf, &[8])?;
        words[1] &= 1;
        Ok(())
    }
}
