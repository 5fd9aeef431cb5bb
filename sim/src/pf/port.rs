//! The port as a whole: brought up, taken down, reset, its link (ixgbevf.md §5.2, §6.8, §7.1; igbvf.md §7.6).

use std::time::Duration;

use vfnic_hw::{Family, Model};

use super::{CTS, PF_CONTROL, PfPersonality, VfLink};
use crate::data::{Accept, LinkState, RssTable};
use crate::per_vf::VfId;
use crate::state::CardState;

impl CardState {
    /// What the PF driver does when it is loaded and SR-IOV is enabled.
    pub(crate) fn power_on(&mut self) {
        self.program_port();
        for vf in self.control.vfs.ids() {
            self.push_queues(vf);
            self.control.vfs[vf].mailbox.pf_reset_done();
            // Nobody has been there to see RSTD; by the time a driver comes it was read away long ago.
            self.control.vfs[vf].mailbox.vf_read();
        }
    }

    /// Programs the port as after a reset of it: what the PF keeps itself, and what it restores for the VFs. A VF's own
    /// wishes come back with its next reset handshake.
    fn program_port(&mut self) {
        let model = self.control.model;
        let linux = self.control.pf.personality == PfPersonality::Linux;
        let pf = &self.control.pf;
        // Addresses, type and CRC; an igb has room for a tag besides.
        let longest = u32::from(pf.mtu) + 18;
        let (mac, fdb) = (pf.mac, pf.fdb.clone());
        let filters = self.path.filters_mut();
        let pf_pool = filters.pf_pool();
        filters.set_rar(0, mac, 1 << pf_pool);
        filters.add_vlan(0, pf_pool);
        filters.set_queue_drop(pf_pool, true);
        match model.family() {
            Family::Igbvf => {
                filters.set_max_frame(9728);
                filters.set_max_len(pf_pool, Some(longest.saturating_add(4)));
            }
            Family::Ixgbevf => filters.set_max_frame(1518.max(longest)),
        }
        self.control.pf.max_frame = 1518.max(longest);
        self.apply_promiscuous();
        for mac in fdb {
            self.add_mac_filter(mac, pf_pool);
        }
        self.program_rss();
        for vf in self.control.vfs.ids() {
            let this = &self.control.pf.vfs[vf];
            let (spoof, mac, rate) = (this.spoofchk, this.mac, this.max_tx_rate);
            if model.family() == Family::Ixgbevf && linux {
                self.ixgbe_spoof(vf, spoof);
                if mac != [0; 6] {
                    self.add_mac_filter(mac, vf.pool());
                }
            } else if linux {
                self.igb_spoof(vf, spoof);
                self.igb_set_rar(vf, mac);
            }
            self.apply_port_vlan(vf);
            self.path.set_rate(vf.pool(), (rate > 0).then_some(rate));
        }
        self.rebuild_multicast();
        self.apply_link();
    }

    /// The PF's RSS: key and table for all pools of an 82599 or X540 (ixgbevf.md §11.2). Its queues go round.
    fn program_rss(&mut self) {
        let mut table = RssTable::default();
        let mut random = crate::fault::Random::new(0x5253_534b);
        for bytes in table.key.chunks_exact_mut(8) {
            bytes.copy_from_slice(&random.next().to_le_bytes());
        }
        let queues = 0..self.control.queues.max(1);
        for (entry, queue) in table.reta.iter_mut().zip(queues.cycle()) {
            *entry = queue;
        }
        // TCP and plain IP of both versions, what Linux's PF turns on.
        table.types = 0x0033_0000;
        self.path.filters_mut().set_rss(table);
    }

    /// FCTRL of the PF, and who gets what nobody else wants from the wire.
    pub(super) fn apply_promiscuous(&mut self) {
        let family = self.control.model.family();
        let (on, multicast) = (self.control.pf.promiscuous, self.control.pf.all_multicast);
        let filters = self.path.filters_mut();
        let pf_pool = filters.pf_pool();
        let mut accept = Accept::BAM | Accept::AUPE;
        if multicast {
            accept |= Accept::MPE;
        }
        if on {
            accept |= Accept::MPE | Accept::UPE | Accept::VPE;
        }
        filters.set_accept(pf_pool, accept);
        filters.set_pf_promiscuous(on, on || multicast);
        let default = on || family == Family::Igbvf;
        filters.set_default_pool(default.then_some(pf_pool));
    }

    /// The link as the cable and the port's own state make it; says whether that changed something.
    pub(super) fn apply_link(&mut self) -> bool {
        let pf = &self.control.pf;
        let link = LinkState {
            up: pf.cable.up && pf.running(),
            mbps: pf.cable.mbps,
        };
        let before = self.path.filters().link();
        if !link.up {
            self.control.pf.link_latch = false;
        }
        self.path.filters_mut().set_link(link);
        self.control.rung = true;
        before != link
    }

    /// MAXFRS, which VFs can raise and nobody lowers.
    pub(super) fn raise_max_frame(&mut self, max_frame: u32) {
        if max_frame > self.control.pf.max_frame {
            self.control.pf.max_frame = max_frame;
            self.path.filters_mut().set_max_frame(max_frame);
        }
    }

    /// Linux's PF clears TDWBAL and TDWBAH, which FLR does not (ixgbevf.md §5.2).
    pub(super) fn clear_head_write_back(&mut self, vf: VfId) {
        for tx in self.control.vfs[vf].regs.tx.iter_mut() {
            tx.wbal = 0;
            tx.wbah = 0;
        }
        self.push_queues(vf);
    }

    /// DTXSWC: igb checks address and VLAN of a VF that is to be checked.
    pub(super) fn igb_spoof(&mut self, vf: VfId, on: bool) {
        let checks = crate::data::SpoofChecks {
            mac: on,
            vlan: on,
            ethertype: false,
        };
        self.path.filters_mut().set_spoof(vf.pool(), checks);
    }

    /// The port goes down: VFs lose clear-to-send and are pinged so, then everything in hardware is lost.
    pub(super) fn port_down(&mut self) {
        if !self.control.pf.running() {
            return;
        }
        for vf in self.control.vfs.ids() {
            self.control.pf.vfs[vf].clear_to_send = false;
            self.ping(vf);
        }
        self.reset_port();
    }

    fn reset_port(&mut self) {
        let family = self.control.model.family();
        self.path.reset_port();
        for vf in self.control.vfs.ids() {
            let pf = &mut self.control.pf.vfs[vf];
            pf.outbox.clear();
            pf.due = None;
            pf.delayed = false;
            pf.hashes.clear();
            pf.more_macs.clear();
            pf.api = 0;
            pf.multicast_promiscuous = false;
            pf.hash_overflow = false;
            self.control.vfs[vf].mailbox.pf_reset();
            if family == Family::Ixgbevf {
                // RSTI is told by the mailbox vector, if the reset has left anything to tell it with (ixgbevf.md §5.2).
                self.raise_mailbox(vf);
            }
            let this = &mut self.control.vfs[vf];
            this.irq.reset();
            this.regs.power_on(family);
            this.regs.disable_queues();
            self.push_queues(vf);
            self.path.set_psrtype(vf.pool(), 0);
            self.push_vf_rss(vf);
        }
        for vf in self.control.vfs.ids() {
            let filters = self.path.filters_mut();
            filters.set_receive(vf.pool(), false);
            filters.set_transmit(vf.pool(), false);
        }
    }

    /// The interface goes down or comes up by the administrator's hand.
    pub(super) fn set_port_up(&mut self, up: bool) {
        if up == self.control.pf.up {
            return;
        }
        if up {
            self.control.pf.up = true;
            if self.control.pf.back_at.is_none() {
                self.port_back();
            }
        } else {
            self.port_down();
            self.control.pf.up = false;
            self.port_links_down();
            self.apply_link();
        }
    }

    fn port_links_down(&mut self) {
        for vf in self.control.pf.vfs.iter_mut() {
            if vf.link == VfLink::Auto {
                vf.link_enable = false;
            }
        }
    }

    /// A reset that takes `time`; `None` is what the card was built with.
    pub(crate) fn reset_port_for(&mut self, time: Option<Duration>) {
        if !self.control.pf.up {
            return;
        }
        self.port_down();
        let time = time.unwrap_or(self.control.pf.reset_time);
        let at = self.control.now.saturating_add(time);
        self.control.pf.back_at = Some(at);
        self.control.due_at(at);
        self.apply_link();
        if at <= self.control.now {
            self.port_back();
        }
    }

    /// The port is ready again: reprogrammed, PFRSTD, and every VF pinged without clear-to-send.
    pub(super) fn port_back(&mut self) {
        self.control.pf.back_at = None;
        if !self.control.pf.up {
            return;
        }
        self.program_port();
        for vf in self.control.vfs.ids() {
            let this = &mut self.control.pf.vfs[vf];
            this.link_enable = this.link != VfLink::Disable;
            this.clear_to_send = false;
            self.control.vfs[vf].mailbox.pf_reset_done();
            if self.control.vfs[vf].mailbox.vf_reset || self.control.vfs[vf].mailbox.request {
                self.notify_pf(vf);
            }
            self.ping(vf);
        }
    }

    /// The cable is plugged in, pulled, or another speed is agreed upon; VFs are pinged if the link changed.
    pub(super) fn set_cable(&mut self, cable: LinkState) {
        let speed_changed = cable.mbps != self.control.pf.cable.mbps;
        self.control.pf.cable = cable;
        if !self.apply_link() {
            return;
        }
        if speed_changed {
            // Rates were fractions of the old speed (ixgbevf.md §8.5).
            for vf in self.control.vfs.ids() {
                self.control.pf.vfs[vf].max_tx_rate = 0;
                self.path.set_rate(vf.pool(), None);
            }
        }
        for vf in self.control.vfs.ids() {
            self.ping(vf);
        }
    }

    /// Malicious-driver detection struck these VFs. On an X550 the queue is blocked, the VF pinged with CTS and then
    /// forgotten (ixgbevf.md §6.8); an I350 only loses the frame.
    pub(crate) fn pf_malicious(&mut self, vfs: u64) {
        if self.control.model != Model::X550 {
            return;
        }
        for vf in self.control.vfs.ids() {
            if vfs & (1 << vf.pool()) != 0 {
                let now = self.control.now;
                self.control.pf.vfs[vf].clear_to_send = false;
                self.send(vf, now, vec![PF_CONTROL | CTS]);
            }
        }
    }
}
