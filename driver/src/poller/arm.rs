//! The step that must not lose a wake-up, apart from everything else, so that it can be examined alone.
//!
//! A frame may arrive after the last look at the ring and before the vector is armed. Then either its cause is still
//! pending when the vector is armed, and fires at once, or arming cleared the cause; but then the frame was in memory
//! before, and the look that follows sees it. There is no third case as long as arming has *arrived* at the device
//! before that look.

use std::sync::atomic::Ordering;

#[cfg(vfnic_loom)]
use loom::sync::atomic::fence;
#[cfg(not(vfnic_loom))]
use std::sync::atomic::fence;

/// The device's side of waiting.
pub(crate) trait Vectors {
    /// Clears pending causes and unmasks; returns when that has arrived.
    fn arm(&self);
    /// Masks again.
    fn mask(&self);
}

/// What is waited for.
pub(crate) trait Work {
    /// Whether there is something to do.
    fn has_work(&self) -> bool;
}

/// What came of arming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Armed {
    /// Nothing to do, and whatever comes will wake: sleep.
    Sleep,
    /// Something came in between: the vectors are masked again.
    Work,
}

/// Arms and looks once more.
pub(crate) fn arm_and_look(vectors: &impl Vectors, work: &impl Work) -> Armed {
    vectors.arm();
    // ORDERING: the loads of the look must not move before the stores of arming.
    fence(Ordering::SeqCst);
    if work.has_work() {
        vectors.mask();
        Armed::Work
    } else {
        Armed::Sleep
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A device where a frame arrives at a chosen step of arming.
    #[derive(Default)]
    struct Device {
        frame: Cell<bool>,
        cause: Cell<bool>,
        unmasked: Cell<bool>,
        fired: Cell<bool>,
        step: Cell<u32>,
        arrives_at: u32,
    }

    impl Device {
        fn step(&self) {
            let step = self.step.get();
            self.step.set(step + 1);
            if step == self.arrives_at {
                self.frame.set(true);
                self.cause.set(true);
                self.fire();
            }
        }

        fn fire(&self) {
            if self.unmasked.get() && self.cause.get() {
                self.fired.set(true);
                self.cause.set(false);
            }
        }
    }

    impl Vectors for Device {
        fn arm(&self) {
            self.step();
            self.cause.set(false);
            self.step();
            self.unmasked.set(true);
            self.fire();
            self.step();
        }
        fn mask(&self) {
            self.unmasked.set(false);
        }
    }

    impl Work for Device {
        fn has_work(&self) -> bool {
            let seen = self.frame.get();
            self.step();
            seen
        }
    }

    #[test]
    fn n4_a_frame_that_comes_at_any_step_is_seen_or_wakes() {
        for arrives_at in 0..4 {
            let device = Device {
                arrives_at,
                ..Device::default()
            };
            match arm_and_look(&device, &device) {
                Armed::Work => assert!(!device.unmasked.get(), "step {arrives_at}"),
                Armed::Sleep => assert!(device.fired.get(), "lost at step {arrives_at}"),
            }
        }
    }
}

/// Every interleaving, and every order that the memory model lets the two sides see each other's stores in:
/// `RUSTFLAGS='--cfg vfnic_loom' cargo test -p vfnic --lib loom`.
#[cfg(all(test, vfnic_loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};

    use super::*;

    const CAUSE: u8 = 1;
    const UNMASKED: u8 = 2;

    /// A device whose registers are one word that only the bus orders: nothing that happens on it says anything about
    /// memory, so that all the order there is comes from the fences.
    struct Device {
        frame: AtomicBool,
        registers: AtomicU8,
        fired: AtomicBool,
    }

    impl Device {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                frame: AtomicBool::new(false),
                registers: AtomicU8::new(0),
                fired: AtomicBool::new(false),
            })
        }

        /// The card's side: the frame, then its cause, which PCI's rules for posted writes keep in order.
        fn deliver(&self) {
            self.frame.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let before = self.registers.fetch_or(CAUSE, Ordering::Relaxed);
            if before & UNMASKED != 0 {
                self.fired.store(true, Ordering::Relaxed);
            }
        }
    }

    impl Vectors for Device {
        fn arm(&self) {
            // What was pending is lost, as where the cause is cleared by the write that unmasks.
            self.registers.swap(UNMASKED, Ordering::Relaxed);
        }

        fn mask(&self) {
            self.registers.fetch_and(!UNMASKED, Ordering::Relaxed);
        }
    }

    impl Work for Device {
        fn has_work(&self) -> bool {
            self.frame.load(Ordering::Relaxed)
        }
    }

    /// A frame comes while the other side gets ready to sleep as `step` says: it is seen, or it wakes.
    fn nobody_sleeps_through_a_frame(step: fn(&Device) -> Armed) {
        loom::model(move || {
            let device = Device::new();
            let card = {
                let device = Arc::clone(&device);
                loom::thread::spawn(move || device.deliver())
            };
            let armed = step(&device);
            card.join().expect("the card's thread ends");
            assert!(
                armed == Armed::Work || device.fired.load(Ordering::Relaxed),
                "asleep, with a frame in memory and no message on its way"
            );
        });
    }

    #[test]
    fn n4_no_wake_up_is_missed() {
        nobody_sleeps_through_a_frame(|device| arm_and_look(device, device));
    }

    #[test]
    #[should_panic(expected = "asleep")]
    fn n4_without_the_fence_one_is_missed() {
        nobody_sleeps_through_a_frame(|device| {
            device.arm();
            if device.has_work() {
                Armed::Work
            } else {
                Armed::Sleep
            }
        });
    }

    #[test]
    #[should_panic(expected = "asleep")]
    fn n4_looking_before_arming_misses_one() {
        nobody_sleeps_through_a_frame(|device| {
            let seen = device.has_work();
            fence(Ordering::SeqCst);
            device.arm();
            if seen { Armed::Work } else { Armed::Sleep }
        });
    }
}
