//! The PF's side: what its driver keeps of each VF, how it answers mailbox messages, and its administrator's knobs.
//!
//! Linux's PF drivers (ixgbe and igb) are the model, with DPDK's as a variant (ixgbevf.md §6.8, igbvf.md §6.2-6.7).

mod knobs;

use std::time::Duration;

use vfnic_hw::Model;

use crate::builder::CardBuilder;
use crate::data::LinkState;
use crate::state::CardState;

pub use knobs::{Pf, PfError, VfInfo, VfLink};

/// Whose PF driver the card has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PfPersonality {
    /// ixgbe or igb.
    #[default]
    Linux,
    /// net_ixgbe or net_e1000_igb: no clear-to-send rule for requests, a MAC address for every VF, short replies.
    Dpdk,
}

/// Which part of the X550 family the VFs show; other models have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// X550: 1565.
    #[default]
    Plain,
    /// X550EM_x (Xeon D): 15a8.
    EmX,
    /// X550EM_a (Atom C3000): 15c5.
    EmA,
}

impl Variant {
    /// The VF's device id.
    pub(crate) const fn device_id(self, model: Model) -> u16 {
        match (model, self) {
            (Model::X550, Self::EmX) => 0x15a8,
            (Model::X550, Self::EmA) => 0x15c5,
            _ => model.vf_device_id(),
        }
    }
}

/// What the PF driver keeps.
#[derive(Debug)]
pub(crate) struct PfState {
    #[expect(dead_code, reason = "the message handlers follow")]
    personality: PfPersonality,
}

impl PfState {
    pub(crate) const fn new(builder: &CardBuilder) -> Self {
        Self {
            personality: builder.personality,
        }
    }

    /// VFLINKS.
    pub(crate) const fn vflinks(&self, link: LinkState) -> u32 {
        if link.up { 0x7000_0080 } else { 0 }
    }

    /// A VF's frame was dropped by the spoof check.
    pub(crate) const fn spoofed(&mut self, _vf: usize) {}
}

impl CardState {
    /// What the PF driver does when it is loaded and SR-IOV is enabled.
    pub(crate) fn power_on(&mut self) {
        for vf in &mut self.control.vfs {
            vf.mailbox.pf_reset_done();
        }
    }

    /// The PF's mailbox interrupt: a VF wrote, acknowledged, let go of the memory, or was reset.
    pub(crate) const fn notify_pf(&mut self, _vf: usize) {}

    /// What the PF has to do at the present time.
    pub(crate) const fn pf_timers(&mut self) {}

    /// When the PF has something to do next.
    pub(crate) const fn pf_deadline(&self) -> Option<Duration> {
        None
    }

    /// Malicious-driver detection struck these VFs.
    pub(crate) const fn pf_malicious(&mut self, _vfs: u64) {}
}
