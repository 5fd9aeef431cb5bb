//! The mailbox between a VF and the PF: 16 words of memory, two views of a few bits (ixgbevf.md §6.1-6.3, igbvf.md §5).
//!
//! Hardware only: who writes what when is the PF side's and the driver's business. Both families have the same bits.

/// Words of mailbox memory.
pub(crate) const WORDS: usize = 16;

/// VF side: request, "I wrote a message".
const REQ: u32 = 1 << 0;
/// VF side: acknowledge, "I read your message".
const ACK: u32 = 1 << 1;
/// The VF owns the memory.
const VFU: u32 = 1 << 2;
/// The PF owns the memory.
const PFU: u32 = 1 << 3;
/// The PF wrote a message; cleared by reading.
const PFSTS: u32 = 1 << 4;
/// The PF read the VF's message; cleared by reading.
const PFACK: u32 = 1 << 5;
/// The PF is being reset, or nobody has set it up yet.
const RSTI: u32 = 1 << 6;
/// The PF's reset is over; cleared by reading.
const RSTD: u32 = 1 << 7;

/// What a VF's write of its mailbox register set off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    /// REQ was written.
    pub(crate) request: bool,
    /// ACK was written.
    pub(crate) ack: bool,
    /// The VF let go of the memory.
    pub(crate) released: bool,
}

/// One VF's mailbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mailbox {
    /// VFMBMEM: plain memory, kept until overwritten, through every kind of reset.
    pub(crate) memory: [u32; WORDS],
    vfu: bool,
    pfu: bool,
    sts: bool,
    ack: bool,
    rsti: bool,
    rstd: bool,
    /// PFMBICR.VFREQ: a request the PF has not taken yet.
    pub(crate) request: bool,
    /// PFMBICR.VFACK.
    pub(crate) vf_ack: bool,
    /// VFLRE: the VF was reset.
    pub(crate) vf_reset: bool,
    /// The VF has owned the memory since its last request: what it wrote was its to write.
    owned: bool,
    /// A reset of the PF has taken the memory from the VF, which cannot know before it reads its register.
    taken: bool,
}

impl Mailbox {
    /// As after power-on: the PF has yet to say that it is there.
    pub(crate) fn new() -> Self {
        Self {
            rsti: true,
            ..Self::default()
        }
    }

    /// The VF reads its register; PFSTS, PFACK and RSTD go together.
    pub(crate) fn vf_read(&mut self) -> u32 {
        let value = self.vf_peek();
        self.sts = false;
        self.ack = false;
        self.rstd = false;
        self.taken = false;
        value
    }

    /// What the VF would read, nothing cleared.
    pub(crate) fn vf_peek(&self) -> u32 {
        let bit = |on: bool, mask: u32| if on { mask } else { 0 };
        bit(self.vfu, VFU)
            | bit(self.pfu, PFU)
            | bit(self.sts, PFSTS)
            | bit(self.ack, PFACK)
            | bit(self.rsti, RSTI)
            | bit(self.rstd, RSTD)
    }

    /// The VF writes its register: the whole of it, so VFU = 0 gives the memory back whatever else is asked.
    /// `grant` is false when a fault keeps the memory from it.
    pub(crate) fn vf_write(&mut self, value: u32, grant: bool) -> Signals {
        let had = self.vfu;
        if value & VFU == 0 {
            self.vfu = false;
        } else if !self.pfu && grant {
            self.vfu = true;
            self.owned = true;
            self.taken = false;
        }
        if value & REQ != 0 {
            self.request = true;
        }
        if value & ACK != 0 {
            self.vf_ack = true;
        }
        Signals {
            request: value & REQ != 0,
            ack: value & ACK != 0,
            released: had && !self.vfu,
        }
    }

    /// Whether the VF may write the memory now, as far as it can know.
    pub(crate) const fn vf_owns(&self) -> bool {
        self.vfu || self.taken
    }

    /// Whether the VF has owned the memory since this was asked last, as far as it can know.
    pub(crate) fn take_owned(&mut self) -> bool {
        std::mem::replace(&mut self.owned, self.vfu) || self.taken
    }

    /// The PF asks for the memory; false while the VF has it.
    pub(crate) const fn pf_lock(&mut self) -> bool {
        if !self.vfu {
            self.pfu = true;
        }
        self.pfu
    }

    /// The PF gives the memory back.
    pub(crate) const fn pf_unlock(&mut self) {
        self.pfu = false;
    }

    /// PFMAILBOX.ACK: the PF has read the message. The caller raises the VF's mailbox cause.
    pub(crate) const fn pf_ack(&mut self) {
        self.ack = true;
    }

    /// PFMAILBOX.STS: the PF has written a message. The caller raises the VF's mailbox cause.
    pub(crate) const fn pf_status(&mut self) {
        self.sts = true;
    }

    /// A reset of the PF begins: signals and locks are lost, RSTI is set.
    pub(crate) const fn pf_reset(&mut self) {
        self.taken |= self.vfu;
        self.vfu = false;
        self.pfu = false;
        self.sts = false;
        self.ack = false;
        self.request = false;
        self.vf_ack = false;
        self.vf_reset = false;
        self.owned = false;
        self.rsti = true;
        self.rstd = false;
    }

    /// CTRL_EXT.PFRSTD: the PF is up again.
    pub(crate) const fn pf_reset_done(&mut self) {
        self.rsti = false;
        self.rstd = true;
    }

    /// A VF reset of either kind: its ownership goes, VFLRE is set. RSTI, the memory and pending PF signals stay.
    pub(crate) const fn vf_reset(&mut self) {
        self.vfu = false;
        self.owned = false;
        self.vf_reset = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_read_clears_status_ack_and_reset_done_together() {
        let mut mailbox = Mailbox::new();
        assert_eq!(mailbox.vf_read(), 0x40, "RSTI until the PF is there");
        mailbox.pf_reset_done();
        mailbox.pf_ack();
        mailbox.pf_status();
        assert_eq!(mailbox.vf_read(), 0xb0);
        assert_eq!(mailbox.vf_read(), 0);
    }

    #[test]
    fn every_write_is_a_write_of_the_whole_register() {
        let mut mailbox = Mailbox::default();
        mailbox.vf_write(0x4, true);
        assert_eq!(mailbox.vf_read(), 0x4);
        let signals = mailbox.vf_write(0x1, true);
        assert!(signals.request && signals.released, "{signals:?}");
        assert_eq!(mailbox.vf_read(), 0, "REQ reads 0 and VFU is gone");
        mailbox.vf_write(0xb0 | 0x8 | 0x40, true);
        assert_eq!(mailbox.vf_read(), 0, "bits 3 to 7 cannot be written");
    }

    #[test]
    fn what_a_reset_takes_is_the_vfs_until_it_looks() {
        let mut mailbox = Mailbox::default();
        assert!(!mailbox.vf_owns());
        mailbox.pf_reset();
        assert!(!mailbox.vf_owns(), "it had nothing");
        mailbox.vf_write(0x4, true);
        assert_eq!(mailbox.vf_read() & 0x4, 0x4);
        mailbox.pf_reset();
        assert!(mailbox.vf_owns() && mailbox.pf_lock());
        mailbox.vf_write(0x1, true);
        assert!(mailbox.take_owned());
        assert_eq!(mailbox.vf_read() & 0x4, 0);
        assert!(!mailbox.vf_owns() && !mailbox.take_owned());
    }

    #[test]
    fn neither_side_gets_what_the_other_holds() {
        let mut mailbox = Mailbox::default();
        assert!(mailbox.pf_lock());
        mailbox.vf_write(0x4, true);
        assert_eq!(mailbox.vf_read(), 0x8, "PFU keeps VFU out");
        mailbox.pf_unlock();
        mailbox.vf_write(0x4, true);
        assert!(!mailbox.pf_lock());
        assert_eq!(mailbox.vf_read(), 0x4);
    }
}
