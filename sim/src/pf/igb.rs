//! Linux's igb as the PF: what it does on each message of a VF (igbvf.md §6.2-6.4).

use std::time::Duration;

use super::ixgbe::Refused;
use super::task::Reply;
use super::{
    CTS, FAILURE, MOST_HASHES, RESET, SUCCESS, hashes, info, is_unicast, mac_of, mac_words,
};
use crate::data::Mac;
use crate::per_vf::VfId;
use crate::state::CardState;

/// igb says no at most once in this time, and keeps silent in between (igbvf.md §6.2).
pub(super) const NACK_PAUSE: Duration = Duration::from_secs(2);

/// Word 0, info bit 1 of SET_PROMISC: multicast.
const PROMISC_MULTICAST: u32 = 1 << 17;

impl CardState {
    /// VFLRE: as inside RESET, and an address the VF chose itself is forgotten (its filter stays until RESET).
    pub(super) fn igb_vf_reset(&mut self, vf: VfId) {
        if !self.control.pf.vfs[vf].mac_administered {
            self.control.pf.vfs[vf].mac = [0; 6];
        }
        self.igb_reset_event(vf);
    }

    fn igb_reset_event(&mut self, vf: VfId) {
        let now = self.control.now;
        let this = &mut self.control.pf.vfs[vf];
        this.clear_to_send = false;
        this.multicast_promiscuous = false;
        this.hashes.clear();
        this.hash_overflow = false;
        this.last_nack = now;
        let port_vlan = this.vlan != 0;
        self.clear_vlans(vf);
        self.apply_port_vlan(vf);
        self.path.filters_mut().set_strip(vf.pool(), port_vlan);
        self.rebuild_multicast();
    }

    pub(super) fn igb_set_rar(&mut self, vf: VfId, mac: Mac) {
        let index = self.last_rar(vf);
        let filters = self.path.filters_mut();
        if mac == [0; 6] {
            filters.clear_rar(index);
        } else {
            filters.set_rar(index, mac, 1 << vf.pool());
        }
    }

    fn igb_reset(&mut self, vf: VfId) -> Reply {
        let pool = vf.pool();
        self.igb_reset_event(vf);
        let mac = self.control.pf.vfs[vf].mac;
        self.igb_set_rar(vf, mac);
        let filters = self.path.filters_mut();
        filters.set_transmit(pool, true);
        filters.set_receive(pool, true);
        filters.set_queue_drop(pool, true);
        self.control.pf.vfs[vf].clear_to_send = true;
        if mac == [0; 6] {
            vec![RESET | FAILURE, 0, 0]
        } else {
            let [low, high] = mac_words(mac);
            vec![RESET | SUCCESS, low, high]
        }
    }

    pub(super) fn igb_answer(&mut self, vf: VfId, words: [u32; 16]) -> Option<Reply> {
        let now = self.control.now;
        if Self::is_reset(words[0]) {
            return Some(self.igb_reset(vf));
        }
        let this = &mut self.control.pf.vfs[vf];
        if !this.clear_to_send {
            if now <= this.last_nack.saturating_add(NACK_PAUSE) {
                return None;
            }
            this.last_nack = now;
            return Some(vec![words[0] | FAILURE]);
        }
        let mut word = words[0];
        let result = match word & 0xffff {
            0x02 => self.igb_set_mac(vf, &words),
            0x03 => self.igb_set_multicast(vf, &words),
            0x04 => self.igb_set_vlan(vf, &words),
            0x05 => self.igb_set_lpe(vf, words[1]),
            0x06 => self.igb_set_promisc(vf, &mut word),
            _ => Err(Refused),
        };
        Some(vec![
            word | CTS | if result.is_ok() { SUCCESS } else { FAILURE },
        ])
    }

    /// SET_MAC_ADDR: info 0 the address, 1 clear the further ones, 2 add one. An administered address makes all of it the
    /// administrator's, even setting the same again.
    fn igb_set_mac(&mut self, vf: VfId, words: &[u32; 16]) -> Result<(), Refused> {
        let mac = mac_of(words);
        let this = &self.control.pf.vfs[vf];
        if (this.mac_administered && !this.trusted) || !is_unicast(mac) {
            return Err(Refused);
        }
        match info(words[0]) {
            0 => {
                self.control.pf.vfs[vf].mac = mac;
                self.igb_set_rar(vf, mac);
                Ok(())
            }
            1 => {
                self.clear_more_macs(vf);
                Ok(())
            }
            2 if self.more_macs_left() > 0 && self.add_mac_filter(mac, vf.pool()) => {
                self.control.pf.vfs[vf].more_macs.push(mac);
                Ok(())
            }
            _ => Err(Refused),
        }
    }

    fn igb_set_multicast(&mut self, vf: VfId, words: &[u32; 16]) -> Result<(), Refused> {
        let count = info(words[0]) as usize;
        let this = &mut self.control.pf.vfs[vf];
        this.hashes = hashes(words, count.min(MOST_HASHES));
        this.hash_overflow = count > MOST_HASHES;
        self.rebuild_multicast();
        Ok(())
    }

    /// SET_VLAN, and its side effect: tags are stripped from now on unless the VLAN was 0 (igbvf.md §6.3).
    fn igb_set_vlan(&mut self, vf: VfId, words: &[u32; 16]) -> Result<(), Refused> {
        let add = info(words[0]) != 0;
        let Ok(vid) = u16::try_from(words[1] & 0xfff) else {
            return Err(Refused);
        };
        if self.control.pf.vfs[vf].vlan != 0 {
            return Err(Refused);
        }
        if vid == 0 && !add {
            return Ok(());
        }
        let filters = self.path.filters_mut();
        if add {
            if !filters.add_vlan(vid, vf.pool()) {
                return Err(Refused);
            }
        } else {
            filters.remove_vlan(vid, vf.pool());
        }
        filters.set_strip(vf.pool(), vid != 0);
        Ok(())
    }

    fn igb_set_lpe(&mut self, vf: VfId, max_frame: u32) -> Result<(), Refused> {
        self.path
            .filters_mut()
            .set_max_len(vf.pool(), Some(max_frame.min(0x2600)));
        Ok(())
    }

    /// SET_PROMISC: the multicast part is done whatever becomes of the rest, and its flag goes from the echo.
    fn igb_set_promisc(&mut self, vf: VfId, word: &mut u32) -> Result<(), Refused> {
        self.control.pf.vfs[vf].multicast_promiscuous = *word & PROMISC_MULTICAST != 0;
        self.rebuild_multicast();
        *word &= !PROMISC_MULTICAST;
        if info(*word) == 0 {
            Ok(())
        } else {
            Err(Refused)
        }
    }
}
