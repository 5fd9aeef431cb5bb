//! The administrator's side of the PF: `ip link set PF …`, `ip link set PF vf N …`, `bridge fdb …`, pulling the cable.

use std::sync::Arc;
use std::time::Duration;

use vfnic_hw::{Family, Model};

use super::error::refused;
use super::{PfError, is_unicast};
use crate::data::{LinkState, Mac};
use crate::per_vf::VfId;
use crate::shared::Shared;
use crate::state::CardState;

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
        self.on_vf(vf, |state, vf| {
            if mac != [0; 6] && !is_unicast(mac) {
                return Err(refused(
                    "mac",
                    format!("{mac:02x?}"),
                    "a VF's address is unicast",
                ));
            }
            state.knob_mac(vf, mac)
        })
    }

    /// `ip link set PF vf N vlan V qos Q`: port VLAN; 0 and 0 end it. Takes effect at once.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`], or [`PfError::Refused`] for a VLAN above 4095 or a priority above 7.
    pub fn set_vf_vlan(&self, vf: u16, vlan: u16, qos: u8) -> Result<(), PfError> {
        self.on_vf(vf, |state, vf| {
            if vlan > 4095 || qos > 7 {
                let value = format!("vlan {vlan} qos {qos}");
                return Err(refused("vlan", value, "VLANs go to 4095, priorities to 7"));
            }
            state.knob_vlan(vf, vlan, qos)
        })
    }

    /// `ip link set PF vf N spoofchk on|off`.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn set_vf_spoofchk(&self, vf: u16, on: bool) -> Result<(), PfError> {
        self.on_vf(vf, |state, vf| {
            state.control.pf.vfs[vf].spoofchk = on;
            match state.control.model.family() {
                Family::Ixgbevf => state.ixgbe_spoof(vf, on),
                Family::Igbvf => state.igb_spoof(vf, on),
            }
            Ok(())
        })
    }

    /// `ip link set PF vf N trust on|off`. On ixgbe the VF loses clear-to-send and is pinged, so that it resets itself.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn set_vf_trust(&self, vf: u16, on: bool) -> Result<(), PfError> {
        self.on_vf(vf, |state, vf| {
            let this = &mut state.control.pf.vfs[vf];
            if this.trusted != on {
                this.trusted = on;
                if state.control.model.family() == Family::Ixgbevf {
                    state.restart_vf(vf);
                }
            }
            Ok(())
        })
    }

    /// `ip link set PF vf N state auto|enable|disable` (ixgbe only).
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`], or [`PfError::Unsupported`] on igb.
    pub fn set_vf_state(&self, vf: u16, link: VfLink) -> Result<(), PfError> {
        self.on_vf(vf, |state, vf| {
            if state.control.model.family() == Family::Igbvf {
                return Err(PfError::Unsupported {
                    what: "state",
                    why: "igb has no such knob",
                });
            }
            state.control.pf.vfs[vf].link = link;
            // Linux's PF takes `enable` without doing anything.
            if link != VfLink::Enable {
                let up = state.control.pf.up;
                state.control.pf.vfs[vf].link_enable = link == VfLink::Auto && up;
                state.ixgbe_set_rx_tx(vf);
                state.restart_vf(vf);
            }
            Ok(())
        })
    }

    /// `ip link set PF vf N max_tx_rate R`: megabits a second for each TX queue of the VF, 0 for no limit.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`]; [`PfError::Refused`] outside 11 to the link's speed, or while the link is down;
    /// [`PfError::Unsupported`] on the I350.
    pub fn set_vf_max_tx_rate(&self, vf: u16, mbps: u32) -> Result<(), PfError> {
        self.on_vf(vf, |state, vf| {
            let link = state.path.filters().link();
            let (model, least) = (state.control.model, match state.control.model.family() {
                Family::Ixgbevf => 11,
                Family::Igbvf => 1,
            });
            if model == Model::I350 {
                return Err(PfError::Unsupported {
                    what: "max_tx_rate",
                    why: "the I350 has no rate limiter for VFs",
                });
            }
            let possible = link.up && (model.family() == Family::Igbvf || link.mbps == 10_000);
            if !possible || (mbps != 0 && !(least..=link.mbps).contains(&mbps)) {
                let why = "it is 0, or more than 10 Mb/s and at most the speed of a link that is up (on ixgbe at 10G)";
                return Err(refused("max_tx_rate", mbps.to_string(), why));
            }
            state.control.pf.vfs[vf].max_tx_rate = mbps;
            state.path.set_rate(vf.pool(), (mbps > 0).then_some(mbps));
            Ok(())
        })
    }

    /// `ip link set PF mtu N`: the PF resets itself.
    ///
    /// # Errors
    ///
    /// [`PfError::Refused`] outside 68 to 9710 (igb: 9216).
    pub fn set_mtu(&self, mtu: u16) -> Result<(), PfError> {
        self.card.with(|state| {
            let most = match state.control.model.family() {
                Family::Ixgbevf => 9710,
                Family::Igbvf => 9216,
            };
            if !(68..=most).contains(&mtu) {
                return Err(refused(
                    "mtu",
                    mtu.to_string(),
                    "it is 68 to 9710 (igb: 9216)",
                ));
            }
            if state.control.pf.mtu != mtu {
                state.control.pf.mtu = mtu;
                // With nobody there to see it the reset takes no time.
                let seen = state.control.vfs.iter().any(|vf| vf.open);
                state.reset_port_for(if seen { None } else { Some(Duration::ZERO) });
            }
            Ok(())
        })
    }

    /// `ip link set PF up`.
    pub fn up(&self) {
        self.card.with(|state| state.set_port_up(true));
    }

    /// `ip link set PF down`: VFs are pinged without clear-to-send, then the port is reset; RSTI stays until [`up`](Self::up).
    pub fn down(&self) {
        self.card.with(|state| state.set_port_up(false));
    }

    /// A reset of the whole port, as after a TX hang of the PF: RSTI for `time` of the card's clock, every VF's queues
    /// and interrupt registers lost, then RSTD and a ping.
    pub fn reset(&self, time: Duration) {
        self.card.with(|state| state.reset_port_for(Some(time)));
    }

    /// Pings one VF as the PF does on a link change.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn ping(&self, vf: u16) -> Result<(), PfError> {
        self.on_vf(vf, |state, vf| {
            state.ping(vf);
            Ok(())
        })
    }

    /// Plugs the cable in or pulls it. The PF pings every VF.
    pub fn set_link(&self, up: bool) {
        self.card.with(|state| {
            let cable = LinkState {
                up,
                ..state.control.pf.cable
            };
            state.set_cable(cable);
        });
    }

    /// Changes the speed of the link, in Mb/s.
    ///
    /// # Errors
    ///
    /// [`PfError::Refused`] for a speed the model does not have.
    pub fn set_speed(&self, mbps: u32) -> Result<(), PfError> {
        self.card.with(|state| {
            let speeds: &[u32] = match state.control.model {
                Model::I82576 | Model::I350 => &[10, 100, 1_000],
                Model::I82599 | Model::X540 => &[100, 1_000, 10_000],
                Model::X550 => &[10, 100, 1_000, 2_500, 5_000, 10_000],
            };
            if !speeds.contains(&mbps) {
                return Err(refused(
                    "speed",
                    mbps.to_string(),
                    "the model does not have it",
                ));
            }
            let cable = LinkState {
                mbps,
                ..state.control.pf.cable
            };
            state.set_cable(cable);
            Ok(())
        })
    }

    /// `ip link set PF promisc on|off`.
    pub fn set_promiscuous(&self, on: bool) {
        self.card.with(|state| {
            state.control.pf.promiscuous = on;
            state.apply_promiscuous();
        });
    }

    /// `ip link set PF allmulticast on|off`: what a host behind the PF's port needs to be found by IPv6.
    pub fn set_all_multicast(&self, on: bool) {
        self.card.with(|state| {
            state.control.pf.all_multicast = on;
            state.apply_promiscuous();
        });
    }

    /// `bridge fdb add M dev PF`: frames to `mac` from a VF go to the PF's own port instead of the wire.
    ///
    /// # Errors
    ///
    /// [`PfError::Refused`] when the address table is full.
    pub fn fdb_add(&self, mac: Mac) -> Result<(), PfError> {
        self.card.with(|state| {
            let pool = state.path.filters().pf_pool();
            if !state.add_mac_filter(mac, pool) {
                return Err(refused(
                    "fdb",
                    format!("{mac:02x?}"),
                    "the address table is full",
                ));
            }
            state.control.pf.fdb.push(mac);
            Ok(())
        })
    }

    /// `bridge fdb del M dev PF`.
    pub fn fdb_remove(&self, mac: Mac) {
        self.card.with(|state| {
            let pool = state.path.filters().pf_pool();
            if let Some(place) = state.control.pf.fdb.iter().position(|own| *own == mac) {
                state.control.pf.fdb.remove(place);
                state.remove_mac_filter(mac, pool);
            }
        });
    }

    /// Lets VFs ask for the PF's RSS table and key (82599 and X540: `query_rss on`).
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`], or [`PfError::Unsupported`] on other models.
    pub fn set_vf_rss_query(&self, vf: u16, on: bool) -> Result<(), PfError> {
        self.on_vf(vf, |state, vf| {
            if !matches!(state.control.model, Model::I82599 | Model::X540) {
                return Err(PfError::Unsupported {
                    what: "query_rss",
                    why: "only VFs of the 82599 and X540 share the PF's table",
                });
            }
            state.control.pf.vfs[vf].rss_query = on;
            Ok(())
        })
    }

    /// The PF forgets a VF without a word: clear-to-send is gone, and only a refusal will tell.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn forget_vf(&self, vf: u16) -> Result<(), PfError> {
        self.on_vf(vf, |state, vf| {
            state.control.pf.vfs[vf].clear_to_send = false;
            Ok(())
        })
    }

    /// Queue pairs a VF of the 82599 family is told of from now on, as after a PF reset with another pool layout.
    ///
    /// # Errors
    ///
    /// [`PfError::Refused`] for other numbers than 2, 4 and 8, [`PfError::Unsupported`] on igb.
    pub fn set_queues(&self, queues: u8) -> Result<(), PfError> {
        self.card.with(|state| {
            if state.control.model.family() == Family::Igbvf {
                return Err(PfError::Unsupported {
                    what: "queues",
                    why: "igb's VFs have what they have",
                });
            }
            if !matches!(queues, 2 | 4 | 8) {
                return Err(refused(
                    "queues",
                    queues.to_string(),
                    "pools have 2, 4 or 8",
                ));
            }
            state.control.queues = queues;
            Ok(())
        })
    }

    /// Asks whoever holds the VF to let go of it, as `sriov_numvfs=0` does first.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn request_vf(&self, vf: u16) -> Result<(), PfError> {
        self.on_vf(vf, |state, vf| {
            if let Some(request) = &state.control.vfs[vf].request {
                request.signal();
            }
            Ok(())
        })
    }

    /// Takes a VF off the bus: every read is all-ones from now on.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn remove_vf(&self, vf: u16) -> Result<(), PfError> {
        self.on_vf(vf, |state, vf| {
            state.set_removed(vf, true);
            Ok(())
        })
    }

    /// Puts a removed VF back, as new.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn return_vf(&self, vf: u16) -> Result<(), PfError> {
        self.on_vf(vf, |state, vf| {
            state.set_removed(vf, false);
            Ok(())
        })
    }

    /// What the PF knows of a VF.
    ///
    /// # Errors
    ///
    /// [`PfError::NoVf`].
    pub fn vf(&self, vf: u16) -> Result<VfInfo, PfError> {
        self.on_vf(vf, |state, vf| {
            let this = &state.control.pf.vfs[vf];
            Ok(VfInfo {
                mac: this.mac,
                mac_administered: this.mac_administered,
                vlan: this.vlan,
                qos: this.qos,
                spoofchk: this.spoofchk,
                trust: this.trusted,
                state: this.link,
                max_tx_rate: this.max_tx_rate,
                clear_to_send: this.clear_to_send,
                api: this.api,
                spoofed: this.spoofed,
            })
        })
    }

    /// The PF's own address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.card.with(|state| state.control.pf.mac)
    }

    fn on_vf<R>(
        &self,
        vf: u16,
        what: impl FnOnce(&mut CardState, VfId) -> Result<R, PfError>,
    ) -> Result<R, PfError> {
        self.card
            .with(|state| match state.control.vfs.find(usize::from(vf)) {
                Some(vf) => what(state, vf),
                None => Err(PfError::NoVf {
                    vf,
                    have: state.control.vf_count,
                }),
            })
    }
}
