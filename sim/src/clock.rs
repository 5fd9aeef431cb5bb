//! The virtual clock: time that moves when somebody sleeps on it, and takes its cards along.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use vfnic_hw::Clock;

use crate::counting::Count;

/// What hangs on a virtual clock: a stepped card.
pub(crate) trait Stepped: Send + Sync {
    /// Does everything that is due at the present time, traffic included. Says how many frames moved.
    fn step_now(&self) -> u64;
    /// When something is due next, if anything is scheduled.
    fn next_deadline(&self) -> Option<Duration>;
}

/// A clock that stands still until [`advance`](Self::advance) or [`Clock::sleep`] moves it.
///
/// Moving it steps every card that hangs on it, at each moment one of them has something scheduled on the way. Several
/// cards may share one; clones are the same clock. Sleeping on it takes no real time.
#[derive(Clone)]
pub struct VirtualClock(Arc<Inner>);

struct Inner {
    nanos: AtomicU64,
    /// Held while time moves, so that two sleepers move it one after the other.
    moving: Mutex<()>,
    members: Mutex<Vec<Weak<dyn Stepped>>>,
}

impl VirtualClock {
    /// A clock at zero with nothing on it.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            nanos: AtomicU64::new(0),
            moving: Mutex::new(()),
            members: Mutex::new(Vec::new()),
        }))
    }

    pub(crate) fn attach(&self, member: Weak<dyn Stepped>) {
        let mut members = self
            .0
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        members.retain(|old| old.strong_count() > 0);
        members.push(member);
    }

    fn members(&self) -> Vec<Arc<dyn Stepped>> {
        self.0
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn set(&self, to: Duration) {
        let nanos = u64::try_from(to.as_nanos()).unwrap_or(u64::MAX);
        self.0.nanos.store(nanos, Ordering::Release);
    }

    /// Moves time forward by `time`, stepping the cards at every moment something is due and once more at the end.
    pub fn advance(&self, time: Duration) {
        let _moving = self.0.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let members = self.members();
        let end = self.now().saturating_add(time);
        let mut pause = LEAST_PAUSE;
        loop {
            let next = members
                .iter()
                .filter_map(|member| member.next_deadline())
                .min()
                .filter(|&next| next < end);
            let Some(next) = next else { break };
            // What was due and is due still waits for something other than time. It is looked at again, less and less
            // often: time must move on.
            if next > self.now() {
                pause = LEAST_PAUSE;
                self.set(next);
            } else {
                let again = self.now().saturating_add(pause);
                if again >= end {
                    break;
                }
                pause = pause.saturating_mul(2).min(MOST_PAUSE);
                self.set(again);
            }
            settle(&members);
        }
        self.set(end.max(self.now()));
        settle(&members);
    }

    /// Steps every card on it, without moving time, until nothing moves. Returns how many frames moved.
    pub fn step(&self) -> u64 {
        settle(&self.members())
    }
}

/// Time after which something overdue is looked at again, at first and at most.
const LEAST_PAUSE: Duration = Duration::from_nanos(1);
const MOST_PAUSE: Duration = Duration::from_millis(1);

/// Rounds after which cards that send each other frames for ever are left alone.
const ROUNDS: u32 = 64;

/// Steps cards until none has moved a frame: what one sends another by wire arrives in the same moment.
fn settle(members: &[Arc<dyn Stepped>]) -> u64 {
    let mut total = 0u64;
    for _ in 0..ROUNDS {
        let moved: u64 = members.iter().map(|member| member.step_now()).sum();
        total.count(moved);
        if moved == 0 || members.len() < 2 {
            break;
        }
    }
    total
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VirtualClock").field(&self.now()).finish()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.nanos.load(Ordering::Acquire))
    }

    fn sleep(&self, time: Duration) {
        self.advance(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says that something is due at a fixed time, for ever.
    #[derive(Default)]
    struct Stuck {
        at: Duration,
        steps: AtomicU64,
    }

    impl Stepped for Stuck {
        fn step_now(&self) -> u64 {
            self.steps.fetch_add(1, Ordering::Relaxed);
            0
        }
        fn next_deadline(&self) -> Option<Duration> {
            Some(self.at)
        }
    }

    #[test]
    fn an_overdue_card_does_not_stop_time() {
        let clock = VirtualClock::new();
        let stuck = Arc::new(Stuck {
            at: Duration::from_millis(5),
            ..Stuck::default()
        });
        let member: Weak<Stuck> = Arc::downgrade(&stuck);
        clock.attach(member);
        clock.advance(Duration::from_millis(5));
        assert_eq!(
            stuck.steps.load(Ordering::Relaxed),
            1,
            "only the end itself"
        );
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), Duration::from_millis(1005));
        let steps = stuck.steps.load(Ordering::Relaxed);
        assert!((900..1200).contains(&steps), "{steps} looks in a second");
    }
}
