//! A queue pair as a device of smoltcp, the small IP stack.

use std::collections::VecDeque;

use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::{Batch, Port, QueueError, QueuePair};

/// Bytes of the smallest frame, CRC not included; shorter ones are filled up with zeros.
const MIN_FRAME: usize = 60;
/// Descriptors of a batch.
const BATCH: usize = 64;
/// Ethernet header.
const HEADER: usize = 14;

/// The buffers between a queue pair and the stack. [`on`](Self::on) makes it a device for as long as one poll takes, so
/// that the queues can stay with whoever waits on them.
///
/// Frames are copied once, out of the pool: the stack may keep them for as long as it likes.
#[derive(Debug)]
pub struct PortDevice {
    inbox: VecDeque<Vec<u8>>,
    received: Batch,
    sending: Batch,
    frame: Vec<u8>,
    /// Bytes of the longest frame.
    longest: usize,
    not_sent: u64,
}

impl PortDevice {
    /// A device on `port`.
    #[must_use]
    pub fn new(port: &Port) -> Self {
        let longest = usize::from(port.mtu()) + HEADER;
        Self {
            inbox: VecDeque::new(),
            received: port.batch(BATCH),
            sending: port.batch(BATCH),
            frame: vec![0; longest.max(MIN_FRAME)],
            longest,
            not_sent: 0,
        }
    }

    /// Fetches what has come.
    ///
    /// # Errors
    ///
    /// When the queue is over.
    pub fn fetch(&mut self, pair: &mut QueuePair) -> Result<usize, QueueError> {
        let count = pair.rx.receive(&mut self.received)?;
        for frame in self.received.frames() {
            let mut copy = Vec::with_capacity(frame.len());
            for segment in frame.segments() {
                copy.extend_from_slice(segment);
            }
            self.inbox.push_back(copy);
        }
        self.received.clear();
        Ok(count)
    }

    /// Frames fetched and not yet taken by the stack.
    pub fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        self.inbox.iter().map(Vec::as_slice)
    }

    /// Frames that the queue did not take.
    #[must_use]
    pub const fn not_sent(&self) -> u64 {
        self.not_sent
    }

    /// The device.
    pub const fn on<'a>(&'a mut self, pair: &'a mut QueuePair) -> Attached<'a> {
        Attached { device: self, pair }
    }

    fn send(&mut self, pair: &mut QueuePair, len: usize) {
        let padded = len.max(MIN_FRAME);
        self.frame[len..padded].fill(0);
        let queued = self.sending.push_bytes(&self.frame[..padded]).is_ok();
        // A queue that is full or over drops the frame: that is what networks do, and the stack copes.
        let sent = queued && pair.tx.send(&mut self.sending).is_ok() && self.sending.is_empty();
        if !sent {
            self.sending.clear();
            self.not_sent = self.not_sent.saturating_add(1);
        }
    }
}

/// A [`PortDevice`] with its queues.
#[derive(Debug)]
pub struct Attached<'a> {
    device: &'a mut PortDevice,
    pair: &'a mut QueuePair,
}

/// A received frame.
#[derive(Debug)]
pub struct RxToken(Vec<u8>);

/// Room for a frame.
#[derive(Debug)]
pub struct TxToken<'a> {
    device: &'a mut PortDevice,
    pair: &'a mut QueuePair,
}

impl phy::Device for Attached<'_> {
    type RxToken<'b>
        = RxToken
    where
        Self: 'b;
    type TxToken<'b>
        = TxToken<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let frame = self.device.inbox.pop_front()?;
        let room = TxToken {
            device: self.device,
            pair: self.pair,
        };
        Some((RxToken(frame), room))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Self::TxToken<'_>> {
        Some(TxToken {
            device: self.device,
            pair: self.pair,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.device.longest;
        capabilities
    }
}

impl phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        if self.device.frame.len() < len {
            self.device.frame.resize(len, 0);
        }
        let result = write(&mut self.device.frame[..len]);
        self.device.send(self.pair, len);
        result
    }
}
