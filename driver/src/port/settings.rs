//! What an application may change while the port is open.

use crate::config::MacChoice;
use crate::family::{Family, MOST_MULTICAST, Promisc};
use crate::port::Port;
use crate::{ConfigError, Error, MacAddr};

/// Highest VLAN id; 4095 is reserved.
const LAST_VLAN: u16 = 4094;

fn check_own(address: MacAddr) -> Result<(), Error> {
    let why = if address.is_multicast() {
        "it is a group address"
    } else if !address.is_usable() {
        "it is all zeros"
    } else {
        return Ok(());
    };
    Err(ConfigError::Mac {
        asked: address,
        why,
    }
    .into())
}

impl Port {
    /// Gives the VF another address.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Mac`] for a group address or zeros; [`Error::Refused`] when the PF keeps the VF to the address it
    /// assigned; the old address stays.
    pub fn set_mac(&self, address: MacAddr) -> Result<(), Error> {
        check_own(address)?;
        let shared = &self.shared;
        let device = &shared.device;
        shared.with_control("another address", async |control| {
            let io = device.io(&shared.ticker);
            let reply = control.ask(io, &device.family.set_mac(address)).await?;
            if !reply.word0().is_ack() {
                return Err(Error::Refused {
                    device: device.name.clone(),
                    what: format!("the address {address}"),
                    hint: "the administrator assigned another one; change it there (`ip link set <pf> vf <n> mac …`) or make the VF trusted",
                });
            }
            control.settings.mac = MacChoice::Set(address);
            control.mac = address;
            control.origin = super::MacOrigin::Requested;
            let mut published = shared.published();
            published.mac = address;
            published.origin = control.origin;
            Ok(())
        })
    }

    /// Receives frames to `address` as well. The PF has a limited table for all its VFs together.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Mac`] for a group address or zeros; [`Error::Refused`] when the table is full, or the administrator
    /// assigned the VF's address and does not trust it.
    pub fn add_mac(&self, address: MacAddr) -> Result<(), Error> {
        check_own(address)?;
        let shared = &self.shared;
        shared.with_control("a further address", async |control| {
            if control.settings.extra_macs.contains(&address) {
                return Ok(());
            }
            control
                .apply_extra_mac(&shared.device, shared.device.io(&shared.ticker), address)
                .await?;
            control.settings.extra_macs.push(address);
            Ok(())
        })
    }

    /// Takes back an [`add_mac`](Self::add_mac). There is no message for one address, so all are cleared and the rest
    /// is added again; frames to those may be missed meanwhile.
    ///
    /// # Errors
    ///
    /// As for [`add_mac`](Self::add_mac).
    pub fn remove_mac(&self, address: MacAddr) -> Result<(), Error> {
        let shared = &self.shared;
        let device = &shared.device;
        shared.with_control("one address less", async |control| {
            let io = device.io(&shared.ticker);
            if !control.settings.extra_macs.contains(&address) {
                return Ok(());
            }
            let reply = control.ask(io, &device.family.clear_macs(control.mac)).await?;
            if !reply.word0().is_ack() {
                return Err(Error::Refused {
                    device: device.name.clone(),
                    what: "clearing the further addresses".to_owned(),
                    hint: "the administrator assigned the VF's address and does not trust it with others",
                });
            }
            control.settings.extra_macs.retain(|known| *known != address);
            for rest in control.settings.extra_macs.clone() {
                control.apply_extra_mac(device, io, rest).await?;
            }
            Ok(())
        })
    }

    /// Receives frames to these groups, and to no others (but filters are hashes: others may pass). More than 30 do
    /// not fit the mailbox; then all multicast frames are asked for.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotMulticast`] for what is no group address; [`Error::NeedsTrust`] when more than 30 were asked for and the PF does not give all multicast frames to this
    /// VF; the former list stays.
    pub fn set_multicast(&self, list: &[MacAddr]) -> Result<(), Error> {
        if let Some(bad) = list.iter().find(|address| !address.is_multicast()) {
            return Err(ConfigError::NotMulticast { asked: *bad }.into());
        }
        let shared = &self.shared;
        let device = &shared.device;
        shared.with_control("another multicast list", async |control| {
            let io = device.io(&shared.ticker);
            control.apply_multicast(device, io, list).await?;
            let was_overflow = control.settings.multicast.len() > MOST_MULTICAST;
            control.settings.multicast = list.to_vec();
            let promisc = control.settings.promisc;
            let is_ixgbevf = matches!(device.family, Family::Ixgbevf(_));
            if was_overflow && list.len() <= MOST_MULTICAST && is_ixgbevf {
                // All multicast frames were asked for only because the list was too long.
                control.apply_promisc(device, io, promisc).await?;
            }
            Ok(())
        })
    }

    /// Joins VLAN `id`, 0 to 4094.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Vlan`] for 4095 and more; [`Error::Refused`] when the administrator set a port VLAN or the card's table
    /// is full.
    pub fn add_vlan(&self, id: u16) -> Result<(), Error> {
        self.change_vlan(id, true)
    }

    /// Leaves VLAN `id`.
    ///
    /// # Errors
    ///
    /// As for [`add_vlan`](Self::add_vlan).
    pub fn remove_vlan(&self, id: u16) -> Result<(), Error> {
        self.change_vlan(id, false)
    }

    fn change_vlan(&self, id: u16, add: bool) -> Result<(), Error> {
        if id > LAST_VLAN {
            return Err(ConfigError::Vlan { asked: id }.into());
        }
        let shared = &self.shared;
        shared.with_control("another set of VLANs", async |control| {
            let io = shared.device.io(&shared.ticker);
            control.apply_vlan(&shared.device, io, id, add).await?;
            if add {
                control.settings.vlans.insert(id);
            } else {
                control.settings.vlans.remove(&id);
            }
            Ok(())
        })
    }

    /// Changes what is received beyond the VF's own frames.
    ///
    /// # Errors
    ///
    /// [`Error::NotAvailable`] when model or PF cannot do it at all, [`Error::NeedsTrust`] when the PF did not grant
    /// it; what was received before is received again.
    pub fn set_promiscuous(&self, mode: Promisc) -> Result<(), Error> {
        let shared = &self.shared;
        let device = &shared.device;
        shared.with_control("another promiscuity", async |control| {
            let io = device.io(&shared.ticker);
            match control.apply_promisc(device, io, mode).await {
                Ok(()) => {
                    control.settings.promisc = mode;
                    Ok(())
                }
                Err(refusal @ Error::NeedsTrust { .. }) => {
                    // A PF may have granted half of it (igbvf.md §6.3).
                    let before = control.settings.promisc;
                    control.apply_promisc(device, io, before).await?;
                    Err(refusal)
                }
                Err(error) => Err(error),
            }
        })
    }

    /// Changes the MTU, in bytes. On a started port the queues are emptied and set up again, and frames in them are
    /// lost.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Mtu`] when the VF cannot have it, [`Error::Refused`] when the PF says no; the old MTU stays.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        let shared = &self.shared;
        let device = &shared.device;
        shared.with_control("another MTU", async |control| {
            super::open::check_mtu(device.family, &control.grant, mtu)?;
            let io = device.io(&shared.ticker);
            let before = control.settings.mtu;
            if let Err(error) = control.apply_mtu(device, io, mtu).await {
                // On an 82599 a refusal turns receiving off (ixgbevf.md §6.8).
                if matches!(error, Error::Refused { .. }) {
                    control.apply_mtu(device, io, before).await?;
                }
                return Err(error);
            }
            control.settings.mtu = mtu;
            shared.published().mtu = mtu;
            if let Some(run) = shared.run().filter(|run| run.is_live()) {
                run.set_mtu(mtu);
                run.suspend();
                run.resume(run.pairs().min(control.grant.pairs));
            }
            Ok(())
        })
    }
}
