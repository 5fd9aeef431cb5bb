//! The PF's mailbox task: which event of a VF it serves first, how it reads, how it writes.

use std::time::Duration;

use vfnic_hw::Family;

use super::{FAILURE, Message, PF_CONTROL, PfPersonality, RESET, SUCCESS};
use crate::fault::{Action, Point};
use crate::per_vf::VfId;
use crate::state::CardState;

/// How long a PF driver tries to get the mailbox memory before it gives a message up (2000 times 500 us).
const PATIENCE: Duration = Duration::from_secs(1);

/// A PF's reply: the words it writes.
pub(super) type Reply = Vec<u32>;

impl CardState {
    /// The PF's mailbox interrupt: a VF wrote, acknowledged, let go of the memory, or was reset.
    pub(crate) fn notify_pf(&mut self, vf: VfId) {
        let now = self.control.now;
        let pf = &mut self.control.pf;
        if !pf.running() {
            return;
        }
        let at = now.saturating_add(pf.delay);
        let due = pf.vfs[vf].due.get_or_insert(at);
        let due = *due;
        if due <= now {
            self.pf_task(vf);
        } else {
            self.control.due_at(due);
            self.flush_outbox(vf);
        }
    }

    /// One VF's turn: its reset before its message before its acknowledgement (ixgbevf.md §5.2).
    pub(super) fn pf_task(&mut self, vf: VfId) {
        self.control.pf.vfs[vf].due = None;
        self.flush_outbox(vf);
        if std::mem::take(&mut self.control.vfs[vf].mailbox.vf_reset) {
            match (self.control.pf.personality, self.control.model.family()) {
                (PfPersonality::Linux, Family::Ixgbevf) => self.ixgbe_reset_event(vf),
                (PfPersonality::Linux, Family::Igbvf) => self.igb_vf_reset(vf),
                (PfPersonality::Dpdk, _) => self.dpdk_reset_event(vf),
            }
        }
        if self.control.vfs[vf].mailbox.request && self.control.pf.vfs[vf].outbox.is_empty() {
            self.take_request(vf);
        }
        if std::mem::take(&mut self.control.vfs[vf].mailbox.vf_ack) {
            self.take_ack(vf);
        }
    }

    /// A request: read it, acknowledge it, act on it, reply.
    fn take_request(&mut self, vf: VfId) {
        let now = self.control.now;
        let words = self.control.vfs[vf].mailbox.memory;
        let kind = words[0] & 0xffff;
        let fault = if std::mem::take(&mut self.control.pf.vfs[vf].delayed) {
            None
        } else {
            self.control
                .faults
                .at(Point::MailboxRequest, now, vf.number(), kind)
        };
        match fault {
            Some(Action::Drop) => {
                self.control.vfs[vf].mailbox.request = false;
                return;
            }
            Some(Action::Delay(time)) => {
                self.control.pf.vfs[vf].delayed = true;
                let at = now.saturating_add(time);
                self.control.pf.vfs[vf].due = Some(at);
                self.control.due_at(at);
                return;
            }
            _ if self.befall(vf, fault) => return,
            _ => {}
        }
        self.control.vfs[vf].mailbox.request = false;
        self.control.vfs[vf].mailbox.pf_ack();
        self.raise_mailbox(vf);
        // A message that was answered already (ixgbevf.md §6.8).
        if words[0] & (SUCCESS | FAILURE) != 0 {
            return;
        }
        let reply = if fault == Some(Action::Nack) {
            let cts = self.clear_to_send_bit(vf);
            Some(vec![words[0] | FAILURE | cts])
        } else {
            self.answer(vf, words)
        };
        if let Some(reply) = reply {
            self.send_reply(vf, kind, reply);
        }
    }

    fn answer(&mut self, vf: VfId, words: [u32; 16]) -> Option<Reply> {
        match (self.control.pf.personality, self.control.model.family()) {
            (PfPersonality::Dpdk, _) => self.dpdk_answer(vf, words),
            (PfPersonality::Linux, Family::Ixgbevf) => self.ixgbe_answer(vf, words),
            (PfPersonality::Linux, Family::Igbvf) => self.igb_answer(vf, words),
        }
    }

    /// Sends a reply, or what a fault makes of it.
    fn send_reply(&mut self, vf: VfId, kind: u32, mut words: Reply) {
        let now = self.control.now;
        let mut at = now.saturating_add(self.control.pf.delay);
        match self
            .control
            .faults
            .at(Point::MailboxReply, now, vf.number(), kind)
        {
            Some(Action::Drop) => return,
            Some(Action::Delay(time)) => at = at.saturating_add(time),
            Some(Action::Nack) => {
                if let Some(word) = words.first_mut() {
                    *word = (*word & !SUCCESS) | FAILURE;
                }
            }
            fault @ Some(Action::Force(_) | Action::Mask { .. }) => {
                if let Some(word) = words.first_mut() {
                    *word = self.control.faults.bend(fault, *word);
                }
            }
            fault @ Some(Action::Random) => {
                for word in words.iter_mut().skip(1) {
                    *word = self.control.faults.bend(fault, *word);
                }
            }
            Some(Action::Word { index, value }) => {
                if let Some(word) = words.get_mut(usize::from(index)) {
                    *word = value;
                }
            }
            Some(Action::Before(word)) => self.send(vf, at, vec![word]),
            _ => {}
        }
        if self.control.model.family() == Family::Igbvf {
            // igb keeps the memory from reading the request to writing the reply (igbvf.md §5.3).
            self.control.vfs[vf].mailbox.pf_lock();
        }
        self.send(vf, at, words);
    }

    /// Puts a message on its way.
    pub(super) fn send(&mut self, vf: VfId, at: Duration, words: Vec<u32>) {
        self.control.pf.vfs[vf]
            .outbox
            .push_back(Message { at, words });
        self.control.due_at(at);
        self.flush_outbox(vf);
    }

    /// Writes what is due, as soon as the VF lets go of the memory.
    pub(super) fn flush_outbox(&mut self, vf: VfId) {
        let now = self.control.now;
        while let Some(message) = self.control.pf.vfs[vf].outbox.front() {
            if message.at > now {
                return;
            }
            let late = now.saturating_sub(message.at) > PATIENCE;
            let mailbox = &mut self.control.vfs[vf].mailbox;
            if !late && !mailbox.pf_lock() {
                return;
            }
            let Some(message) = self.control.pf.vfs[vf].outbox.pop_front() else {
                return;
            };
            if late {
                log::debug!(
                    "VF {vf} never let go of its mailbox; message {:08x?} dropped",
                    message.words
                );
                continue;
            }
            // Whatever the VF had signalled is gone: its memory is about to be written over (ixgbevf.md §6.3).
            mailbox.request = false;
            mailbox.vf_ack = false;
            for (place, word) in mailbox.memory.iter_mut().zip(&message.words) {
                *place = *word;
            }
            mailbox.pf_status();
            mailbox.pf_unlock();
            self.raise_mailbox(vf);
        }
    }

    /// The VF acknowledged a message. One that the PF does not know is told so: this is how a VF learns that it was
    /// forgotten (ixgbevf.md §6.9 item 7).
    fn take_ack(&mut self, vf: VfId) {
        let now = self.control.now;
        let family = self.control.model.family();
        let pf = &mut self.control.pf;
        let this = &mut pf.vfs[vf];
        let tell = match (pf.personality, family) {
            // DPDK's igb PF answers every acknowledgement so (igbvf.md §6.7).
            (PfPersonality::Dpdk, Family::Igbvf) => true,
            (PfPersonality::Linux, Family::Igbvf) => {
                let tell = !this.clear_to_send
                    && now > this.last_nack.saturating_add(super::igb::NACK_PAUSE);
                if tell {
                    this.last_nack = now;
                }
                tell
            }
            (_, Family::Ixgbevf) => !this.clear_to_send,
        };
        if tell {
            self.send(vf, now, vec![FAILURE]);
        }
    }

    /// CTS if the VF has it.
    pub(super) fn clear_to_send_bit(&self, vf: VfId) -> u32 {
        if self.control.pf.vfs[vf].clear_to_send {
            super::CTS
        } else {
            0
        }
    }

    /// Pings a VF.
    pub(super) fn ping(&mut self, vf: VfId) {
        let now = self.control.now;
        let word = PF_CONTROL | self.clear_to_send_bit(vf);
        self.send(vf, now, vec![word]);
    }

    /// What the PF has to do at the present time.
    pub(crate) fn pf_timers(&mut self) {
        let now = self.control.now;
        if self.control.pf.back_at.is_some_and(|at| at <= now) {
            self.port_back();
        }
        for vf in self.control.vfs.ids() {
            if self.control.pf.vfs[vf].due.is_some_and(|due| due <= now) {
                self.pf_task(vf);
            } else {
                self.flush_outbox(vf);
            }
            // A reply has gone out; what came in meanwhile is next.
            let waiting =
                self.control.vfs[vf].mailbox.request && self.control.pf.vfs[vf].due.is_none();
            if waiting && self.control.pf.vfs[vf].outbox.is_empty() {
                self.notify_pf(vf);
            }
        }
    }

    /// When the PF has something to do next.
    pub(crate) fn pf_deadline(&self) -> Option<Duration> {
        let now = self.control.now;
        let pf = &self.control.pf;
        let vfs = pf.vfs.iter().flat_map(|vf| {
            // A message that is due and still there waits for the VF, not for time.
            let front = vf.outbox.front().map(|message| message.at);
            [vf.due, front.filter(|&at| at > now)]
        });
        vfs.flatten().chain(pf.back_at).min()
    }

    /// Whether the request is the reset handshake, which is compared whole.
    pub(super) const fn is_reset(word: u32) -> bool {
        word == RESET
    }
}
