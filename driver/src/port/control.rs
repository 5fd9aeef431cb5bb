//! The control side's own state: what was asked for, what was granted, and how to get from nothing to there.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::{MacChoice, PortConfig};
use crate::error::MailboxError;
use crate::family::{Grant, Handshake, Io, MOST_MULTICAST, Promisc};
use crate::mailbox::{Failure, Mailbox, Reply, Request};
use crate::port::{Device, MacOrigin};
use crate::registers::Gone;
use crate::stats::HwTotals;
use crate::wait::{Patience, Ticker};
use crate::{Error, Link, MacAddr};

/// What the application asked for; replayed after every reset.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) mac: MacChoice,
    pub(crate) vlans: BTreeSet<u16>,
    pub(crate) multicast: Vec<MacAddr>,
    pub(crate) extra_macs: Vec<MacAddr>,
    pub(crate) promisc: Promisc,
    pub(crate) mtu: u16,
}

/// Why the VF has to go through the reset handshake again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The PF is, or was, in reset.
    PfReset,
    /// The PF no longer takes this VF for initialised.
    Forgotten,
    /// It did not answer.
    Silence,
    /// A queue is off that should be on: somebody else reset the function.
    LostQueue,
    /// Frames do not leave although the link is up.
    TxHang,
    /// The bus reported an error.
    BusError,
    /// Its registers read all ones, and yet the bus answers for it: somebody else is resetting it.
    Absent,
}

/// Everything the control side changes.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) mailbox: Mailbox,
    pub(crate) settings: Settings,
    pub(crate) handshake: Handshake,
    pub(crate) grant: Grant,
    /// The address in use.
    pub(crate) mac: MacAddr,
    pub(crate) origin: MacOrigin,
    /// Made up once, so that a VF keeps its address over resets.
    random: MacAddr,
    /// The administrator switched the link off.
    pub(crate) admin_down: bool,
    pub(crate) link: Link,
    pub(crate) totals: HwTotals,
    /// A request failed in a way that only a new handshake mends.
    pub(crate) trouble: Option<Cause>,
    /// Nothing was done to the device since the last handshake.
    pub(crate) fresh: bool,
    /// When the last recovery for a lost queue began.
    pub(crate) lost_queue: Option<Duration>,
    /// When counters were last read, and the queues last looked at.
    pub(crate) looked: Duration,
    /// Frames that had moved at the last look, and when that was more than before.
    pub(crate) frames: u64,
    pub(crate) frames_at: Option<Duration>,
    pub(crate) hang: crate::port::watch::HangWatch,
}

impl Control {
    pub(crate) fn new(device: &Device, config: &PortConfig) -> Self {
        Self {
            mailbox: Mailbox::new(device.family.mailbox(), config.mailbox_timeout),
            settings: Settings {
                mac: config.mac,
                vlans: BTreeSet::new(),
                multicast: Vec::new(),
                extra_macs: Vec::new(),
                promisc: config.promisc,
                mtu: config.mtu,
            },
            handshake: Handshake::default(),
            grant: Grant {
                api: None,
                pairs: 1,
                pairs_why: "",
                port_vlan: false,
            },
            mac: MacAddr::ZERO,
            origin: MacOrigin::Random,
            random: MacAddr::random(),
            admin_down: false,
            link: Link::Down,
            totals: HwTotals::new(device.family.counters()),
            trouble: None,
            fresh: false,
            lost_queue: None,
            looked: Duration::ZERO,
            frames: 0,
            frames_at: None,
            hang: crate::port::watch::HangWatch::default(),
        }
    }

    /// From whatever state the device is in to "the PF knows us": VF reset, handshake, API, queues, address. Waits at
    /// most `patience` for a PF that is in reset.
    pub(crate) async fn bring_up(
        &mut self,
        device: &Device,
        ticker: &Ticker,
        patience: Duration,
    ) -> Result<(), Error> {
        let io = device.io(ticker);
        self.fresh = false;
        device.family.reset(io).await?;
        if self.wait_for_pf(device, io, patience).await? {
            // The PF came out of its reset only now, and with it all registers have changed.
            device.family.reset(io).await?;
        }
        // Counters may have gone to zero with the PF.
        self.totals.resync(io.regs).map_err(|Gone| io.gone())?;
        self.mailbox.begin_life();
        self.handshake = device.family.handshake(io, &mut self.mailbox).await?;
        self.grant = device.family.negotiate(io, &mut self.mailbox).await?;
        log::debug!(
            "{}: handshake {}: {:?}, {:?}",
            device.name,
            self.mailbox.life(),
            self.handshake,
            self.grant
        );
        self.settle_mac(device, io).await?;
        self.fresh = true;
        self.trouble = None;
        Ok(())
    }

    /// Waits until the PF is out of reset. True when it had been in it.
    async fn wait_for_pf(
        &mut self,
        device: &Device,
        io: Io<'_>,
        limit: Duration,
    ) -> Result<bool, Error> {
        let mut was = false;
        let waited = io
            .ticker
            .poll_until(Patience::new(Duration::from_millis(10), limit), || {
                let state = self.mailbox.pf_state(io.regs)?;
                was |= state.in_reset;
                // Neither bit in one read (ixgbevf.md §14.1 step 4). The mark of a finished reset may be from long
                // ago, or of our own VF reset; reading it uses it up.
                Ok::<_, Gone>((!state.in_reset && !state.was_reset).then_some(()))
            })
            .await
            .map_err(|Gone| io.gone())?;
        match waited {
            Ok(()) => Ok(was),
            Err(expired) => Err(Error::PfNotReady {
                device: device.name.clone(),
                waited: expired.waited,
            }),
        }
    }

    /// Tells the PF the address to use, and takes the PF's word for it.
    async fn settle_mac(&mut self, device: &Device, io: Io<'_>) -> Result<(), Error> {
        let assigned = self.handshake.assigned;
        let (wanted, origin) = match (self.settings.mac, assigned) {
            (MacChoice::Set(address), _) => (address, MacOrigin::Requested),
            (MacChoice::Assigned, Some(address)) => (address, MacOrigin::Administered),
            (MacChoice::Assigned, None) => (self.random, MacOrigin::Random),
        };
        let reply = self
            .mailbox
            .ask(io.regs, io.ticker, &device.family.set_mac(wanted))
            .await
            .map_err(|failure| io.failed(failure))?;
        (self.mac, self.origin) = match assigned {
            _ if reply.word0().is_ack() => (wanted, origin),
            // Linux's igb refuses even the address it assigned itself (igbvf.md §6.3).
            Some(address) if address == wanted => (address, origin),
            Some(address) => {
                log::warn!(
                    "{}: the PF refused the address {wanted}; using {address}, which the administrator assigned",
                    device.name
                );
                (address, MacOrigin::Refused { requested: wanted })
            }
            None => {
                return Err(Error::Refused {
                    device: device.name.clone(),
                    what: format!("the address {wanted}"),
                    hint: "assign one with `ip link set <pf> vf <n> mac …`, or ask for another",
                });
            }
        };
        Ok(())
    }

    /// Sends a request; a mailbox that failed needs a new handshake, which is noted.
    pub(crate) async fn ask(&mut self, io: Io<'_>, request: &Request) -> Result<Reply, Error> {
        let result = self.mailbox.ask(io.regs, io.ticker, request).await;
        if let Err(Failure::Mailbox(error)) = &result {
            self.trouble = Some(match error {
                MailboxError::PfReset { .. } => Cause::PfReset,
                MailboxError::Forgotten { .. } => Cause::Forgotten,
                _ => Cause::Silence,
            });
        }
        result.map_err(|failure| io.failed(failure))
    }

    /// Tells the PF everything the application asked for. Gives what it refused; the rest applies.
    pub(crate) async fn replay(
        &mut self,
        device: &Device,
        io: Io<'_>,
    ) -> Result<Vec<Error>, Error> {
        let mut refused = Vec::new();
        // First of all, because an 82599 whose PF runs jumbo frames receives nothing before it (ixgbevf.md §17.6).
        self.replay_mtu(device, io, &mut refused).await?;
        if let Some(request) = device.family.forget_promisc(&self.grant) {
            self.ask(io, &request).await?;
        }
        let promisc = self.settings.promisc;
        if let Err(error) = self.apply_promisc(device, io, promisc).await {
            keep(error, &mut refused)?;
        }
        if !self.settings.multicast.is_empty() {
            let list = self.settings.multicast.clone();
            if let Err(error) = self.apply_multicast(device, io, &list).await {
                keep(error, &mut refused)?;
            }
        }
        for address in self.settings.extra_macs.clone() {
            if let Err(error) = self.apply_extra_mac(device, io, address).await {
                keep(error, &mut refused)?;
            }
        }
        for id in self.settings.vlans.clone() {
            if let Err(error) = self.apply_vlan(device, io, id, true).await {
                keep(error, &mut refused)?;
            }
        }
        self.admin_down = false;
        if let Some(request) = device.family.link_state(&self.grant) {
            let reply = self.ask(io, &request).await?;
            // A PF that cannot tell has nothing switched off.
            self.admin_down = reply.word0().is_ack() && reply.words[1] == 0;
        }
        Ok(refused)
    }

    async fn replay_mtu(
        &mut self,
        device: &Device,
        io: Io<'_>,
        refused: &mut Vec<Error>,
    ) -> Result<(), Error> {
        let mtu = self.settings.mtu;
        if let Err(error) = self.apply_mtu(device, io, mtu).await {
            keep(error, refused)?;
            // A refusal turned receiving off on an 82599 (ixgbevf.md §6.8): better small frames than none.
            if mtu > 1500
                && let Err(error) = self.apply_mtu(device, io, 1500).await
            {
                keep(error, refused)?;
            }
        }
        Ok(())
    }

    pub(crate) async fn apply_mtu(
        &mut self,
        device: &Device,
        io: Io<'_>,
        mtu: u16,
    ) -> Result<(), Error> {
        let reply = self.ask(io, &device.family.set_lpe(mtu)).await?;
        if reply.word0().is_ack() {
            return Ok(());
        }
        Err(Error::Refused {
            device: device.name.clone(),
            what: format!("an MTU of {mtu} bytes"),
            hint: "on an 82599 all functions share the PF's frame size: set the PF's own MTU first (`ip link set <pf> mtu …`)",
        })
    }

    pub(crate) async fn apply_promisc(
        &mut self,
        device: &Device,
        io: Io<'_>,
        mode: Promisc,
    ) -> Result<(), Error> {
        let request = match device.family.set_promisc(mode, &self.grant) {
            Ok(request) => request,
            // A PF that cannot be asked has nothing switched on either.
            Err(_) if mode == Promisc::Off => return Ok(()),
            Err(reason) => {
                return Err(Error::NotAvailable {
                    device: device.name.clone(),
                    what: match mode {
                        Promisc::All => "receiving all frames",
                        _ => "receiving all multicast frames",
                    },
                    reason,
                });
            }
        };
        let reply = self.ask(io, &request).await?;
        if device.family.promisc_granted(mode, &reply) || mode == Promisc::Off {
            return Ok(());
        }
        Err(Error::NeedsTrust {
            device: device.name.clone(),
            what: match mode {
                Promisc::All => "receiving all frames".to_owned(),
                _ => "receiving all multicast frames".to_owned(),
            },
            also: match (mode, device.family) {
                (_, crate::family::Family::Igbvf(_)) => {
                    "another PF driver than Linux's igb, which gives it to no VF"
                }
                (Promisc::All, _) => "a promiscuous PF (`ip link set <pf> promisc on`)",
                _ => "nothing else",
            },
        })
    }

    pub(crate) async fn apply_multicast(
        &mut self,
        device: &Device,
        io: Io<'_>,
        list: &[MacAddr],
    ) -> Result<(), Error> {
        let overflow = list.len() > MOST_MULTICAST;
        let is_igbvf = matches!(device.family, crate::family::Family::Igbvf(_));
        if overflow && !is_igbvf && self.settings.promisc == Promisc::Off {
            // There is no flag for "too many" here: what remains is to take all of them, if the PF lets us.
            self.apply_promisc(device, io, Promisc::AllMulticast)
                .await?;
        }
        let hashes: Vec<u16> = list
            .iter()
            .filter(|address| !address.is_link_local())
            .take(MOST_MULTICAST)
            .map(|address| {
                device
                    .family
                    .multicast_hash(*address, self.handshake.filter_type)
            })
            .collect();
        let request = device.family.set_multicast(&hashes, overflow && is_igbvf);
        let reply = self.ask(io, &request).await?;
        if reply.word0().is_ack() {
            return Ok(());
        }
        Err(Error::Refused {
            device: device.name.clone(),
            what: format!("a list of {} multicast addresses", list.len()),
            hint: "a shorter list may do, or receiving all multicast frames",
        })
    }

    pub(crate) async fn apply_vlan(
        &mut self,
        device: &Device,
        io: Io<'_>,
        id: u16,
        add: bool,
    ) -> Result<(), Error> {
        let reply = self.ask(io, &device.family.set_vlan(id, add)).await?;
        if reply.word0().is_ack() {
            return Ok(());
        }
        Err(Error::Refused {
            device: device.name.clone(),
            what: format!("{} VLAN {id}", if add { "joining" } else { "leaving" }),
            hint: if self.grant.port_vlan {
                "the administrator set a port VLAN for this VF, which leaves no choice of its own"
            } else {
                "the administrator may have set a port VLAN, or the card's VLAN table is full"
            },
        })
    }

    pub(crate) async fn apply_extra_mac(
        &mut self,
        device: &Device,
        io: Io<'_>,
        address: MacAddr,
    ) -> Result<(), Error> {
        let reply = self.ask(io, &device.family.add_mac(address)).await?;
        if reply.word0().is_ack() {
            // The PF is spared a storm of requests (ixgbevf.md §17.31).
            io.ticker.pause(Duration::from_micros(200)).await;
            return Ok(());
        }
        Err(Error::Refused {
            device: device.name.clone(),
            what: format!("the further address {address}"),
            hint: "the card's address table may be full, or the administrator assigned the VF's address and does not trust it with others",
        })
    }
}

/// Puts a refusal aside; anything worse is the end of it.
fn keep(error: Error, refused: &mut Vec<Error>) -> Result<(), Error> {
    match error {
        Error::Refused { .. } | Error::NeedsTrust { .. } | Error::NotAvailable { .. } => {
            refused.push(error);
            Ok(())
        }
        error => Err(error),
    }
}
