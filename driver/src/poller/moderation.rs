//! How often interrupts may come, by how much each of them brings.

use std::time::Duration;

/// Three rates are enough; registers are written only when the class changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Class {
    /// Single frames: each is told at once.
    #[default]
    Latency,
    /// Small bursts: up to some ten thousand interrupts a second.
    Mixed,
    /// Bulk: frames are waited for, so that one wake-up brings many.
    Bulk,
}

impl Class {
    /// Shortest time between two messages. 20 µs and 50 µs are 50,000 and 20,000 a second; what drivers of these
    /// families use for small and for large bursts (ixgbevf.md §12.2, igbvf.md §10).
    pub(crate) const fn interval(self) -> Duration {
        match self {
            Self::Latency => Duration::ZERO,
            Self::Mixed => Duration::from_micros(20),
            Self::Bulk => Duration::from_micros(50),
        }
    }
}

/// What wake-ups bring, averaged.
#[derive(Debug, Default)]
pub(crate) struct Moderation {
    /// Frames a wake-up, times eight.
    average: usize,
    class: Class,
}

impl Moderation {
    /// A wake-up brought `frames` until the queues were empty. Gives a class when it has changed.
    pub(crate) fn woken(&mut self, frames: usize) -> Option<Class> {
        let kept = self.average.saturating_sub(self.average / 8);
        self.average = kept.saturating_add(frames.min(4096));
        let frames = self.average / 8;
        // The gaps between the limits keep it from going back and forth.
        let class = match self.class {
            Class::Latency if frames >= 12 => Class::Mixed,
            Class::Mixed if frames <= 4 => Class::Latency,
            Class::Mixed if frames >= 64 => Class::Bulk,
            Class::Bulk if frames <= 32 => Class::Mixed,
            class => class,
        };
        (class != std::mem::replace(&mut self.class, class)).then_some(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_follows_the_load_and_does_not_flutter() {
        let mut moderation = Moderation::default();
        let changes: Vec<_> = (0..100).filter_map(|_| moderation.woken(200)).collect();
        assert_eq!(changes, [Class::Mixed, Class::Bulk]);
        for _ in 0..100 {
            assert_eq!(moderation.woken(48), None, "between the limits");
        }
        let changes: Vec<_> = (0..100).filter_map(|_| moderation.woken(1)).collect();
        assert_eq!(changes, [Class::Mixed, Class::Latency]);
    }
}
