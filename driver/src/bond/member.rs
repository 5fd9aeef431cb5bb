//! What a bond runs on.

use std::fmt;
use std::time::Duration;

use crate::{Batch, Error, Event, MacAddr, Port, PortState, QueueError, QueuePair};

/// What a member says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Frames can pass.
    Up,
    /// They cannot, for now.
    Down,
    /// The device is gone for good.
    Gone,
}

/// One of the devices under a [`Bond`](crate::Bond): a VF ([`PortMember`]) or whatever stands by for it, such as the paired virtio
/// NIC of a guest that is to be moved, by a packet socket.
///
/// All members of a bond take frames from, and put them into, batches of one pool; one that has no pool copies.
pub trait Member: fmt::Debug + Send {
    /// What it is called in settings and events.
    fn name(&self) -> &str;
    /// The address that frames sent through it must come from, and that the network finds it by.
    fn mac(&self) -> MacAddr;
    /// Looks after the device, without blocking: whether frames can pass, and when it wants to be called again at the
    /// latest.
    fn look_after(&mut self) -> (Carrier, Duration);
    /// Sends frames from the front of `batch`; those that found no room stay in it. Returns how many went.
    ///
    /// # Errors
    ///
    /// As for [`TxQueue::send`](crate::TxQueue::send).
    fn send(&mut self, batch: &mut Batch) -> Result<usize, QueueError>;
    /// Appends received frames to `batch`. Returns how many came.
    ///
    /// # Errors
    ///
    /// As for [`RxQueue::receive`](crate::RxQueue::receive).
    fn receive(&mut self, batch: &mut Batch) -> Result<usize, QueueError>;
}

/// A port as a member: sends by its first queue, receives from all.
#[derive(Debug)]
pub struct PortMember {
    // Queues before the port, which is quicker put to rest without them.
    pairs: Vec<QueuePair>,
    port: Port,
    name: String,
}

impl PortMember {
    /// Starts `port` and makes it a member called `name`. For two ports in one bond, open both in one space and give the
    /// second the pool of the first ([`PortConfig::shared_pool`](crate::PortConfig::shared_pool)).
    ///
    /// # Errors
    ///
    /// As for [`Port::start`].
    pub fn new(name: &str, port: Port) -> Result<Self, Error> {
        Ok(Self {
            pairs: port.start()?,
            port,
            name: name.to_owned(),
        })
    }

    /// The port, for its settings.
    #[must_use]
    pub const fn port(&self) -> &Port {
        &self.port
    }
}

impl Member for PortMember {
    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> MacAddr {
        self.port.mac().0
    }

    fn look_after(&mut self) -> (Carrier, Duration) {
        match self.port.poll_control() {
            Ok(again) => {
                let removal = self
                    .port
                    .events()
                    .any(|event| matches!(event, Event::RemovalRequested));
                // What will be taken away is left before it is.
                if removal {
                    return (Carrier::Gone, Duration::ZERO);
                }
                match self.port.state() {
                    PortState::Up => (Carrier::Up, again),
                    PortState::Gone | PortState::Closed => (Carrier::Gone, again),
                    _ => (Carrier::Down, again),
                }
            }
            Err(_) => (Carrier::Gone, Duration::ZERO),
        }
    }

    fn send(&mut self, batch: &mut Batch) -> Result<usize, QueueError> {
        self.pairs
            .first_mut()
            .map_or(Err(QueueError::Stopped), |pair| pair.tx.send(batch))
    }

    fn receive(&mut self, batch: &mut Batch) -> Result<usize, QueueError> {
        let mut came = 0usize;
        for pair in &mut self.pairs {
            came = pair.rx.receive(batch)?.saturating_add(came);
        }
        Ok(came)
    }
}
