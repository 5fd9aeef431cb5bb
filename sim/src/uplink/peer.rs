//! Wires inside the process: between two cards, from a card to a test, and back to where they came from.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crossbeam_queue::ArrayQueue;

use super::Port;

/// What wakes a receiver.
type Waker = Box<dyn Fn() + Send + Sync>;

/// Frames on their way in one direction, bounded. Buffers go round, so that nothing is allocated once it has warmed up.
pub(crate) struct Pipe {
    frames: ArrayQueue<Vec<u8>>,
    spare: ArrayQueue<Vec<u8>>,
    waker: OnceLock<Waker>,
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("frames", &self.frames.len())
            .finish_non_exhaustive()
    }
}

impl Pipe {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let capacity = capacity.max(1);
        Arc::new(Self {
            frames: ArrayQueue::new(capacity),
            spare: ArrayQueue::new(capacity),
            waker: OnceLock::new(),
        })
    }

    pub(crate) fn set_waker(&self, waker: Waker) {
        // The first one stays: a pipe has one receiver for life.
        let _ = self.waker.set(waker);
    }

    pub(crate) fn push(&self, frame: &[u8]) -> bool {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(frame);
        if let Err(buffer) = self.frames.push(buffer) {
            let _ = self.spare.push(buffer);
            return false;
        }
        if let Some(wake) = self.waker.get() {
            wake();
        }
        true
    }

    pub(crate) fn pop(&self, frame: &mut Vec<u8>) -> bool {
        let Some(next) = self.frames.pop() else {
            return false;
        };
        let old = std::mem::replace(frame, next);
        let _ = self.spare.push(old);
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

/// One end of a wire. As a [`Port`] it is a card's; kept by a test, it injects frames and collects what left.
#[derive(Debug)]
pub struct Peer {
    out: Arc<Pipe>,
    back: Arc<Pipe>,
}

/// A wire that holds `capacity` frames in each direction; what is sent into a full one is lost.
#[must_use]
pub fn pair(capacity: usize) -> (Peer, Peer) {
    let (there, back) = (Pipe::new(capacity), Pipe::new(capacity));
    let one = Peer {
        out: Arc::clone(&there),
        back: Arc::clone(&back),
    };
    let other = Peer {
        out: back,
        back: there,
    };
    (one, other)
}

impl Peer {
    /// Calls `wake` whenever a frame arrives at this end; the first call counts. For a card, its notifier.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.back.set_waker(Box::new(wake));
    }

    /// Sends a frame to the other end. False when the wire is full.
    #[must_use]
    pub fn inject(&self, frame: &[u8]) -> bool {
        self.out.push(frame)
    }

    /// Everything that has arrived at this end.
    #[must_use]
    pub fn collect(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut frame = Vec::new();
        while self.back.pop(&mut frame) {
            all.push(std::mem::take(&mut frame));
        }
        all
    }
}

impl Port for Peer {
    fn send(&mut self, frame: &[u8]) -> bool {
        self.out.push(frame)
    }
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        self.back.pop(frame)
    }
    fn has_frames(&mut self) -> bool {
        !self.back.is_empty()
    }
}

/// A plug that sends everything back: what leaves the card comes in again, as from an adjacent switch that reflects.
#[derive(Debug)]
pub struct Reflector(Arc<Pipe>);

impl Reflector {
    /// Holds up to `capacity` frames.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Pipe::new(capacity))
    }
}

impl Port for Reflector {
    fn send(&mut self, frame: &[u8]) -> bool {
        self.0.push(frame)
    }
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        self.0.pop(frame)
    }
    fn has_frames(&mut self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn frames_keep_order_and_a_full_wire_refuses() {
        let (mut card, test) = pair(3);
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        test.wake_with(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        for number in 0..3u8 {
            assert!(card.send(&[number; 60]));
        }
        assert!(!card.send(&[9; 60]), "the wire holds three");
        assert_eq!(woken.load(Ordering::Relaxed), 3);
        let frames = test.collect();
        assert_eq!(frames, [[0; 60], [1; 60], [2; 60]]);
        assert!(test.inject(&[7; 64]));
        assert!(card.has_frames());
        let mut frame = vec![1, 2, 3];
        assert!(card.receive(&mut frame));
        assert_eq!(frame, [7; 64]);
        assert!(!card.receive(&mut frame) && !card.has_frames());
    }

    #[test]
    fn a_reflector_gives_back_what_it_got() {
        let mut plug = Reflector::new(8);
        assert!(plug.send(&[1; 60]) && plug.send(&[2; 61]));
        let mut frame = Vec::new();
        assert!(plug.receive(&mut frame));
        assert_eq!(frame, [1; 60]);
        assert!(plug.receive(&mut frame));
        assert_eq!(frame, [2; 61]);
        assert!(!plug.receive(&mut frame));
    }
}
