//! One member's link, with the delays before it counts as changed.

use std::time::Duration;

use super::{BondConfig, BondEvent, Member};

/// Where a link is, in the words of Linux's bonding driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Up,
    /// Down since a while shorter than `downdelay`: still used.
    Fail {
        since: Duration,
    },
    Down,
    /// Up since a while shorter than `updelay`: not used yet.
    Back {
        since: Duration,
    },
}

/// A member and the state of its link.
#[derive(Debug)]
pub(super) struct Slave {
    pub(super) member: Box<dyn Member>,
    link: Link,
}

impl Slave {
    pub(super) const fn new(member: Box<dyn Member>) -> Self {
        Self {
            member,
            link: Link::Down,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.member.name()
    }

    /// Whether it may carry traffic.
    pub(super) const fn is_usable(&self) -> bool {
        matches!(self.link, Link::Up | Link::Fail { .. })
    }

    /// Ends the wait for `updelay`. Whether there was one.
    pub(super) fn hurry(&mut self) -> bool {
        let waits = matches!(self.link, Link::Back { .. });
        if waits {
            self.link = Link::Up;
        }
        waits
    }

    /// Takes note of the carrier at `now`. While no other member works (`alone`), an `updelay` is not waited for.
    pub(super) fn look(
        &mut self,
        carrier: bool,
        now: Duration,
        alone: bool,
        config: &BondConfig,
    ) -> Option<BondEvent> {
        let was = self.is_usable();
        self.link = match (self.link, carrier) {
            (Link::Up | Link::Fail { .. }, true) => Link::Up,
            (Link::Up, false) if config.downdelay.is_zero() => Link::Down,
            (Link::Up, false) => Link::Fail { since: now },
            (Link::Fail { since }, false) if now.saturating_sub(since) < config.downdelay => {
                Link::Fail { since }
            }
            (Link::Down, true) if alone || config.updelay.is_zero() => Link::Up,
            (Link::Down, true) => Link::Back { since: now },
            (Link::Back { since }, true)
                if !alone && now.saturating_sub(since) < config.updelay =>
            {
                Link::Back { since }
            }
            (Link::Back { .. }, true) => Link::Up,
            (_, false) => Link::Down,
        };
        let name = || self.member.name().to_owned();
        match (was, self.is_usable()) {
            (true, false) => Some(BondEvent::Down { name: name() }),
            (false, true) => Some(BondEvent::Up { name: name() }),
            _ => None,
        }
    }
}
