//! Two devices as one: an active-backup bond, in the words of Linux's bonding driver.

mod announce;
mod member;
mod state;

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vfnic_hw::Clock;

use crate::{Batch, MacAddr, QueueError};
use announce::announcement;
pub use member::{Carrier, Member, PortMember};
use state::Slave;

/// How a bond behaves. The names are those of Linux's options (`ip link add type bond mode active-backup …`); the address is
/// handled as by `fail_over_mac=active`, the only way that does not ask a PF for an address twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BondConfig {
    primary: Option<String>,
    miimon: Duration,
    updelay: Duration,
    downdelay: Duration,
    num_peer_notif: u8,
}

impl Default for BondConfig {
    fn default() -> Self {
        Self {
            primary: None,
            miimon: Duration::from_millis(100),
            updelay: Duration::ZERO,
            downdelay: Duration::ZERO,
            num_peer_notif: 1,
        }
    }
}

impl BondConfig {
    /// `primary`: the member that is active whenever it can be, by name; otherwise one that works stays active.
    #[must_use]
    pub fn primary(mut self, name: &str) -> Self {
        self.primary = Some(name.to_owned());
        self
    }

    /// `miimon`: how often links are looked at; 100 ms by default. A device that is gone is noticed at once.
    #[must_use]
    pub const fn miimon(mut self, every: Duration) -> Self {
        self.miimon = every;
        self
    }

    /// `updelay`: how long a link must have been up before it is used, while another one works. None by default.
    #[must_use]
    pub const fn updelay(mut self, time: Duration) -> Self {
        self.updelay = time;
        self
    }

    /// `downdelay`: how long a link must have been down before it is left. None by default.
    #[must_use]
    pub const fn downdelay(mut self, time: Duration) -> Self {
        self.downdelay = time;
        self
    }

    /// `num_peer_notif`: how often addresses are announced after a change, one `miimon` apart; once by default.
    #[must_use]
    pub const fn num_peer_notif(mut self, times: u8) -> Self {
        self.num_peer_notif = times;
        self
    }
}

/// Something happened to a bond.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BondEvent {
    /// Another member is active; the bond's address is `mac` now.
    Active {
        /// Its name.
        name: String,
        /// Its address: where frames must come from now.
        mac: MacAddr,
        /// From the last moment the one before was known to work. Zero for the first, and when the primary came back.
        gap: Duration,
    },
    /// No member works.
    NoneLeft,
    /// A member's link is down, `downdelay` included.
    Down {
        /// Its name.
        name: String,
    },
    /// A member can be used, `updelay` included.
    Up {
        /// Its name.
        name: String,
    },
    /// A member's device is gone; its place is free.
    Gone {
        /// Its name.
        name: String,
    },
}

/// Counts since the bond was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BondStats {
    /// Changes of the active member, the first one not counted.
    pub failovers: u64,
    /// Frames dropped because they came by a member that was not active: what arrives by both arrives once.
    pub inactive_dropped: u64,
    /// Announcements sent.
    pub announced: u64,
    /// Longest gap that [`BondEvent::Active`] told of.
    pub longest_gap: Duration,
}

/// Most events kept for somebody who does not fetch them; the oldest go first.
const MOST_EVENTS: usize = 64;

/// An active-backup bond: one member carries the traffic, the others stand by.
///
/// One thread moves frames and calls [`poll_control`](Self::poll_control) in between. Frames that wait in the batch when the
/// active member fails go out by the next one, none of them twice. Their source address is then the old one, and a PF
/// whose `spoofchk` is on drops them: after [`BondEvent::Active`] send from [`mac`](Self::mac).
#[derive(Debug)]
pub struct Bond {
    config: BondConfig,
    clock: Time,
    slaves: Vec<Slave>,
    active: Option<usize>,
    /// There has been an active member.
    in_service: bool,
    /// There was one, and nobody was told yet that there is none.
    had_one: bool,
    /// When the active member was last known to work.
    last_good: Duration,
    next_look: Duration,
    addresses: Vec<IpAddr>,
    /// Rounds of announcements still to go.
    notify: u8,
    /// Announcements, and frames of members that are not active.
    own: Batch,
    events: VecDeque<BondEvent>,
    stats: BondStats,
}

/// A clock, as far as a bond needs it.
struct Time(Arc<dyn Clock>);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Time").field(&self.0.now()).finish()
    }
}

impl Bond {
    /// A bond without members. `own` is a batch of the pool that all members share, for what the bond itself sends and
    /// drops; times are those of `clock`, which is the members' ([`PciFunction::clock`](vfnic_hw::PciFunction::clock)).
    #[must_use]
    pub fn new(config: BondConfig, clock: Arc<dyn Clock>, own: Batch) -> Self {
        let now = clock.now();
        Self {
            config,
            clock: Time(clock),
            slaves: Vec::new(),
            active: None,
            in_service: false,
            had_one: false,
            last_good: now,
            next_look: now,
            addresses: Vec::new(),
            notify: 0,
            own,
            events: VecDeque::new(),
            stats: BondStats::default(),
        }
    }

    /// Adds a member. It is looked at, and perhaps used, at once.
    pub fn add(&mut self, member: Box<dyn Member>) {
        self.slaves.push(Slave::new(member));
        self.next_look = self.clock.0.now();
        self.poll_control();
    }

    /// Takes a member out and gives it back; another becomes active if it was.
    pub fn remove(&mut self, name: &str) -> Option<Box<dyn Member>> {
        let index = self.slaves.iter().position(|slave| slave.name() == name)?;
        let slave = self.take_out(index);
        self.choose();
        Some(slave.member)
    }

    /// The addresses to announce whenever another member becomes active.
    pub fn set_addresses(&mut self, addresses: &[IpAddr]) {
        self.addresses = addresses.to_vec();
    }

    /// Name of the active member.
    #[must_use]
    pub fn active(&self) -> Option<&str> {
        Some(self.slaves.get(self.active?)?.name())
    }

    /// The bond's address: that of the active member.
    #[must_use]
    pub fn mac(&self) -> Option<MacAddr> {
        Some(self.slaves.get(self.active?)?.member.mac())
    }

    /// A member, by name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&dyn Member> {
        let slave = self.slaves.iter().find(|slave| slave.name() == name)?;
        Some(&*slave.member)
    }

    /// Counts so far.
    #[must_use]
    pub const fn stats(&self) -> BondStats {
        self.stats
    }

    /// What happened and was not fetched yet, oldest first.
    pub fn events(&mut self) -> impl Iterator<Item = BondEvent> + '_ {
        self.events.drain(..)
    }

    /// Looks after the members, and at their links when it is time. Never blocks. Gives the time after which it wants to be
    /// called again.
    pub fn poll_control(&mut self) -> Duration {
        let now = self.clock.0.now();
        let due = now >= self.next_look;
        let mut again = self.config.miimon;
        let alone = self.active.is_none();
        let mut index = 0usize;
        while let Some(slave) = self.slaves.get_mut(index) {
            let (carrier, wish) = slave.member.look_after();
            again = again.min(wish);
            if carrier == Carrier::Gone {
                self.take_out(index);
                continue;
            }
            let up = carrier == Carrier::Up;
            if up && self.active == Some(index) {
                self.last_good = now;
            }
            if due && let Some(event) = slave.look(up, now, alone, &self.config) {
                self.tell(event);
            }
            index = index.saturating_add(1);
        }
        self.choose();
        if due {
            self.next_look = now.saturating_add(self.config.miimon);
            self.announce();
        }
        again.min(self.next_look.saturating_sub(now))
    }

    /// Sends frames from the front of `batch` by the active member; those that found no room, or no member, stay in it.
    /// When the active member turns out to be gone, the next one takes over at once.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the frame now at the front can never be sent, or the batch is another pool's.
    pub fn send(&mut self, batch: &mut Batch) -> Result<usize, QueueError> {
        while let Some(index) = self.active {
            let Some(slave) = self.slaves.get_mut(index) else {
                break;
            };
            match slave.member.send(batch) {
                Err(QueueError::Gone | QueueError::Stopped) => {
                    self.take_out(index);
                    self.choose();
                }
                result => return result,
            }
        }
        Ok(0)
    }

    /// Appends what the active member has received to `batch`, and drops what came by others.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub fn receive(&mut self, batch: &mut Batch) -> Result<usize, QueueError> {
        let mut came = 0usize;
        let mut index = 0usize;
        while let Some(slave) = self.slaves.get_mut(index) {
            let active = self.active == Some(index);
            let into = if active { &mut *batch } else { &mut self.own };
            match slave.member.receive(into) {
                Ok(count) if active => came = came.saturating_add(count),
                Ok(count) => {
                    let dropped = &mut self.stats.inactive_dropped;
                    *dropped = dropped.saturating_add(count as u64);
                    self.own.clear();
                }
                Err(QueueError::Gone | QueueError::Stopped) => {
                    self.take_out(index);
                    self.choose();
                    continue;
                }
                Err(error) => return Err(error),
            }
            index = index.saturating_add(1);
        }
        Ok(came)
    }

    /// Takes a member out whose device is gone, or that somebody wants back.
    fn take_out(&mut self, index: usize) -> Slave {
        let slave = self.slaves.remove(index);
        self.active = match self.active {
            Some(active) if active == index => None,
            Some(active) if active > index => active.checked_sub(1),
            other => other,
        };
        self.tell(BondEvent::Gone {
            name: slave.name().to_owned(),
        });
        slave
    }

    /// Makes the best member the active one: the primary if it can be, else the present one, else any.
    fn choose(&mut self) {
        let primary = self.slaves.iter().position(|slave| {
            slave.is_usable() && self.config.primary.as_deref() == Some(slave.name())
        });
        let present = self
            .active
            .filter(|index| self.slaves.get(*index).is_some_and(Slave::is_usable));
        let best = primary
            .or(present)
            .or_else(|| self.slaves.iter().position(Slave::is_usable))
            // With nothing better, one that has only just come back.
            .or_else(|| self.slaves.iter_mut().position(Slave::hurry));
        if best == self.active && best.is_some() {
            return;
        }
        let Some(index) = best else {
            if self.active.take().is_some() || self.had_one {
                self.had_one = false;
                self.tell(BondEvent::NoneLeft);
            }
            return;
        };
        let now = self.clock.0.now();
        let gap = if present.is_some() || !self.in_service {
            Duration::ZERO
        } else {
            now.saturating_sub(self.last_good)
        };
        if self.in_service {
            self.stats.failovers = self.stats.failovers.saturating_add(1);
            self.stats.longest_gap = self.stats.longest_gap.max(gap);
        }
        self.in_service = true;
        self.had_one = true;
        self.active = Some(index);
        self.last_good = now;
        let slave = &self.slaves[index];
        let event = BondEvent::Active {
            name: slave.name().to_owned(),
            mac: slave.member.mac(),
            gap,
        };
        self.tell(event);
        self.notify = self.config.num_peer_notif;
        self.announce();
    }

    /// Sends a round of announcements, if one is due.
    fn announce(&mut self) {
        let Some(slave) = self.active.and_then(|index| self.slaves.get_mut(index)) else {
            return;
        };
        let Some(left) = self.notify.checked_sub(1) else {
            return;
        };
        self.notify = left;
        let mac = slave.member.mac();
        for address in &self.addresses {
            // Without a buffer there is no announcement; traffic teaches the network as well.
            let _ = self.own.push_bytes(&announcement(mac, *address));
        }
        if let Ok(count) = slave.member.send(&mut self.own) {
            self.stats.announced = self.stats.announced.saturating_add(count as u64);
        }
        self.own.clear();
    }

    fn tell(&mut self, event: BondEvent) {
        log::debug!("bond: {event:?}");
        if self.events.len() == MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
