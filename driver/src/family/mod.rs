//! What the two families do differently, all of it at set-up: a closed set, chosen by the device's ids.
//!
//! The data path is family-free (both write the same 16-byte descriptors); it gets a doorbell and a few constants.
//! What is here is addresses, limits, the order of resets, the mailbox's messages and the interrupt registers.

pub(crate) mod igbvf;
pub(crate) mod ixgbevf;
mod types;

use std::time::Duration;

use crate::config::RssConfig;
use crate::link::RawLink;
use crate::mailbox::{Failure, Mailbox, Place, Reply, Request};
use crate::registers::{Gone, Registers, Settle};
use crate::stats::HwCounter;
use crate::wait::{Patience, Ticker};
use crate::{Error, MacAddr};
use vfnic_hw::regs::Reg;
use vfnic_hw::{Iova, Model};

use igbvf::Igbvf;
use ixgbevf::Ixgbevf;
pub use types::{ApiVersion, Promisc};
pub(crate) use types::{
    Direction, Grant, Handshake, InterruptRegs, Limits, MIN_MTU, MOST_MULTICAST, RING_SIZES,
    RxSetup, TxSetup, VectorPlan,
};

/// Registers, time and a name for errors: what every step needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Io<'a> {
    pub(crate) regs: &'a Registers,
    pub(crate) ticker: &'a Ticker,
    pub(crate) device: &'a str,
}

impl Io<'_> {
    pub(crate) fn gone(&self) -> Error {
        Error::Gone {
            device: self.device.to_owned(),
        }
    }

    /// TIMEOUT: both references bound a queue's change of state by 10 ms (ixgbevf.md §5.3, igbvf.md §3.3).
    pub(crate) const QUEUE_LIMIT: Duration = Duration::from_millis(10);

    async fn settle(
        &self,
        register: &'static str,
        meaning: &'static str,
        offset: u32,
        (mask, wanted): (u32, u32),
        limit: Duration,
    ) -> Result<u32, Error> {
        let wait = Settle {
            device: self.device,
            register,
            meaning,
            offset,
            mask,
            wanted,
        };
        self.regs
            .settle(
                self.ticker,
                wait,
                Patience::new(Duration::from_millis(1), limit),
            )
            .await
    }

    /// A queue's change of state, waited for on the spot.
    fn settle_queue(
        &self,
        register: &'static str,
        meaning: &'static str,
        offset: u32,
        (mask, wanted): (u32, u32),
    ) -> Result<u32, Error> {
        let wait = Settle {
            device: self.device,
            register,
            meaning,
            offset,
            mask,
            wanted,
        };
        self.regs.settle_now(self.ticker, wait, Self::QUEUE_LIMIT)
    }

    pub(crate) fn failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Gone => self.gone(),
            Failure::Mailbox(error) => Error::Mailbox(error),
        }
    }
}

/// The family of a device, with what depends on its model.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Family {
    Igbvf(Igbvf),
    Ixgbevf(Ixgbevf),
}

macro_rules! dispatch {
    ($self:ident, $family:ident => $call:expr) => {
        match $self {
            Family::Igbvf($family) => $call,
            Family::Ixgbevf($family) => $call,
        }
    };
}

impl Family {
    pub(crate) const fn of(model: Model) -> Self {
        match model.family() {
            vfnic_hw::Family::Igbvf => Self::Igbvf(Igbvf::new(model)),
            vfnic_hw::Family::Ixgbevf => Self::Ixgbevf(Ixgbevf::new(model)),
        }
    }

    pub(crate) const fn limits(&self) -> Limits {
        dispatch!(self, f => f.limits())
    }

    pub(crate) const fn mailbox(&self) -> Place {
        match self {
            Self::Igbvf(_) => igbvf::MAILBOX,
            Self::Ixgbevf(_) => ixgbevf::MAILBOX,
        }
    }

    /// The status register, which flushes posted writes, and one more that never reads all ones.
    pub(crate) const fn witnesses(&self) -> (Reg, Reg) {
        match self {
            Self::Igbvf(_) => (vfnic_hw::regs::igbvf::VTSTATUS, igbvf::MAILBOX.control),
            Self::Ixgbevf(_) => (vfnic_hw::regs::ixgbevf::VFSTATUS, ixgbevf::MAILBOX.control),
        }
    }

    /// Stops the queues and resets the VF, so that no DMA can follow: interrupts masked, queues off, VF reset written
    /// and seen to have arrived, and what survives a reset (a former owner's head write-back address above all)
    /// cleared.
    pub(crate) async fn reset(&self, io: Io<'_>) -> Result<(), Error> {
        dispatch!(self, f => f.reset(io).await)
    }

    /// The reset handshake with the PF: without it the queues move no data.
    pub(crate) async fn handshake(
        &self,
        io: Io<'_>,
        mailbox: &mut Mailbox,
    ) -> Result<Handshake, Error> {
        dispatch!(self, f => f.handshake(io, mailbox).await)
    }

    /// Agrees on an API and asks for what there is.
    pub(crate) async fn negotiate(
        &self,
        io: Io<'_>,
        mailbox: &mut Mailbox,
    ) -> Result<Grant, Error> {
        dispatch!(self, f => f.negotiate(io, mailbox).await)
    }

    pub(crate) fn set_mac(&self, address: MacAddr) -> Request {
        // The two families word it the same (ixgbevf.md §6.7, igbvf.md §6.1).
        Request::new(
            "SET_MAC_ADDR",
            vfnic_hw::mailbox::ixgbevf::SET_MAC_ADDR,
            0,
            &address.to_words(),
            1,
        )
    }

    pub(crate) fn set_vlan(&self, id: u16, add: bool) -> Request {
        Request::new(
            if add {
                "SET_VLAN (add)"
            } else {
                "SET_VLAN (remove)"
            },
            vfnic_hw::mailbox::ixgbevf::SET_VLAN,
            u8::from(add),
            &[u32::from(id)],
            1,
        )
    }

    /// Frames of `mtu` bytes and their headers.
    pub(crate) fn set_lpe(&self, mtu: u16) -> Request {
        Request::new(
            "SET_LPE",
            vfnic_hw::mailbox::ixgbevf::SET_LPE,
            0,
            &[self.limits().lpe(mtu)],
            1,
        )
    }

    /// The multicast list as hashes; at most [`MOST_MULTICAST`] fit, `overflow` says that there are more.
    pub(crate) fn set_multicast(&self, hashes: &[u16], overflow: bool) -> Request {
        let mut body = [0u32; 15];
        for (word, pair) in body.iter_mut().zip(hashes.chunks(2)) {
            let high = pair.get(1).copied().unwrap_or(0);
            *word = u32::from(pair[0]) | u32::from(high) << 16;
        }
        let count = u8::try_from(hashes.len().min(MOST_MULTICAST)).unwrap_or(0);
        // igbvf.md §6.1: bit 7 of the count says "too many, take all"; only igbvf PFs know it.
        let flag = if overflow { 0x80 } else { 0 };
        Request::new(
            "SET_MULTICAST",
            vfnic_hw::mailbox::ixgbevf::SET_MULTICAST,
            count | flag,
            &body,
            1,
        )
    }

    /// Forgets all further unicast addresses; `own` is what the message has to name besides.
    pub(crate) fn clear_macs(&self, own: MacAddr) -> Request {
        dispatch!(self, f => f.clear_macs(own))
    }

    /// Adds a further unicast address; `first` when it is the first since they were cleared.
    pub(crate) fn add_mac(&self, address: MacAddr) -> Request {
        dispatch!(self, f => f.add_mac(address))
    }

    /// The request for a promiscuity, or why there is none.
    pub(crate) fn set_promisc(&self, mode: Promisc, grant: &Grant) -> Result<Request, String> {
        dispatch!(self, f => f.set_promisc(mode, grant))
    }

    /// The request that makes the next [`set_promisc`](Self::set_promisc) a change, where the PF acts on changes only.
    pub(crate) fn forget_promisc(&self, grant: &Grant) -> Option<Request> {
        match self {
            Self::Igbvf(_) => None,
            Self::Ixgbevf(f) => f.forget_promisc(grant),
        }
    }

    /// Whether the PF really did what [`set_promisc`](Self::set_promisc) asked for, as `reply` tells.
    pub(crate) fn promisc_granted(&self, mode: Promisc, reply: &Reply) -> bool {
        dispatch!(self, f => f.promisc_granted(mode, reply))
    }

    /// Asks whether the administrator lets the link be up, where the PF can tell.
    pub(crate) fn link_state(&self, grant: &Grant) -> Option<Request> {
        match self {
            Self::Igbvf(_) => None,
            Self::Ixgbevf(f) => f.link_state(grant),
        }
    }

    /// Hash of a multicast address.
    pub(crate) const fn multicast_hash(&self, address: MacAddr, filter_type: u8) -> u16 {
        let b4 = address.0[4] as u16;
        let b5 = address.0[5] as u16;
        // ixgbevf.md §6.7; igbvf PFs only ever use type 0 (igbvf.md §6.1).
        let hash = match filter_type {
            1 => b4 >> 3 | b5 << 5,
            2 => b4 >> 2 | b5 << 6,
            3 => b4 | b5 << 8,
            _ => b4 >> 4 | b5 << 4,
        };
        hash & 0xfff
    }

    /// Brings receive queue `queue` up, empty: buffers are posted once this has returned.
    pub(crate) fn start_rx(&self, io: Io<'_>, queue: u16, setup: &RxSetup) -> Result<(), Error> {
        dispatch!(self, f => f.start_rx(io, queue, setup))
    }

    /// Brings transmit queue `queue` up, empty.
    pub(crate) fn start_tx(&self, io: Io<'_>, queue: u16, setup: &TxSetup) -> Result<(), Error> {
        dispatch!(self, f => f.start_tx(io, queue, setup))
    }

    /// Stops receive queue `queue` and waits until no DMA can follow.
    pub(crate) fn stop_rx(&self, io: Io<'_>, queue: u16) -> Result<(), Error> {
        let reg = self.queue_control(queue, Direction::Rx);
        stop_queue(io, reg.name, reg.at(u32::from(queue)))
    }

    /// Stops transmit queue `queue` and waits until no DMA can follow.
    pub(crate) fn stop_tx(&self, io: Io<'_>, queue: u16) -> Result<(), Error> {
        let reg = self.queue_control(queue, Direction::Tx);
        stop_queue(io, reg.name, reg.at(u32::from(queue)))
    }

    /// Whether the hardware has the queue enabled.
    pub(crate) fn is_running(
        &self,
        regs: &Registers,
        queue: u16,
        direction: Direction,
    ) -> Result<bool, Gone> {
        let reg = self.queue_control(queue, direction);
        Ok(regs.read(reg.at(u32::from(queue)))? & QUEUE_ENABLE != 0)
    }

    const fn queue_control(&self, _queue: u16, direction: Direction) -> Reg {
        use vfnic_hw::regs;
        match (self, direction) {
            (Self::Igbvf(_), Direction::Rx) => regs::igbvf::RXDCTL,
            (Self::Igbvf(_), Direction::Tx) => regs::igbvf::TXDCTL,
            (Self::Ixgbevf(_), Direction::Rx) => regs::ixgbevf::VFRXDCTL,
            (Self::Ixgbevf(_), Direction::Tx) => regs::ixgbevf::VFTXDCTL,
        }
    }

    /// Where the hardware is in a transmit ring, and where it was sent to: equal when all is done (ixgbevf.md §15.4).
    pub(crate) fn progress(&self, regs: &Registers, queue: u16) -> Result<(u32, u32), Gone> {
        use vfnic_hw::regs::{igbvf, ixgbevf};
        let head = match self {
            Self::Igbvf(_) => igbvf::TDH,
            Self::Ixgbevf(_) => ixgbevf::VFTDH,
        };
        let tail = regs.read(self.tail(queue, Direction::Tx))?;
        Ok((regs.read(head.at(u32::from(queue)))?, tail))
    }

    /// A queue's tail register.
    pub(crate) const fn tail(&self, queue: u16, direction: Direction) -> u32 {
        use vfnic_hw::regs;
        let reg = match (self, direction) {
            (Self::Igbvf(_), Direction::Rx) => regs::igbvf::RDT,
            (Self::Igbvf(_), Direction::Tx) => regs::igbvf::TDT,
            (Self::Ixgbevf(_), Direction::Rx) => regs::ixgbevf::VFRDT,
            (Self::Ixgbevf(_), Direction::Tx) => regs::ixgbevf::VFTDT,
        };
        reg.at(queue as u32)
    }

    /// How causes are spread over `vectors` message vectors.
    pub(crate) const fn plan(&self, vectors: u32, pairs: u16) -> VectorPlan {
        dispatch!(self, f => f.plan(vectors, pairs))
    }

    /// Routes the causes of `pairs` queue pairs and leaves every vector masked but the mailbox's.
    pub(crate) fn route(
        &self,
        regs: &Registers,
        plan: &VectorPlan,
        pairs: u16,
    ) -> Result<(), Gone> {
        dispatch!(self, f => f.route(regs, plan, pairs))
    }

    pub(crate) const fn interrupts(&self) -> InterruptRegs {
        match self {
            Self::Igbvf(_) => igbvf::INTERRUPTS,
            Self::Ixgbevf(_) => ixgbevf::INTERRUPTS,
        }
    }

    /// Register and value that hold `vector` to one message per `interval`; `None` where a vector has no such
    /// register.
    pub(crate) fn throttle(&self, vector: u8, interval: Duration) -> Option<(u32, u32)> {
        dispatch!(self, f => f.throttle(vector, interval))
    }

    /// Longest interval between messages that can be set.
    pub(crate) const fn longest_throttle(&self) -> Duration {
        dispatch!(self, f => f.longest_throttle())
    }

    /// Spreads received frames over `queues` queues, as far as the VF has a say.
    pub(crate) fn spread(&self, regs: &Registers, rss: &RssConfig, queues: u16) {
        match self {
            Self::Igbvf(_) => {}
            Self::Ixgbevf(f) => f.spread(regs, rss, queues),
        }
    }

    /// What the link registers say right now.
    pub(crate) fn link(&self, regs: &Registers) -> Result<RawLink, Gone> {
        dispatch!(self, f => f.link(regs))
    }

    /// How many more times "up" has to be seen, and how far apart, before it is believed.
    pub(crate) const fn link_debounce(&self) -> Option<(u32, Duration)> {
        match self {
            Self::Igbvf(_) => None,
            Self::Ixgbevf(f) => f.link_debounce(),
        }
    }

    /// The counters the hardware keeps.
    pub(crate) const fn counters(&self) -> &'static [HwCounter] {
        match self {
            Self::Igbvf(_) => igbvf::COUNTERS,
            Self::Ixgbevf(_) => ixgbevf::COUNTERS,
        }
    }

    /// How long to leave a PF alone that did not answer, before the next reset handshake.
    pub(crate) const fn retry_after(&self, failures: u32) -> Duration {
        match self {
            // igbvf.md §15.8: the PF sends at most one refusal in 2 s and is silent otherwise.
            Self::Igbvf(_) => Duration::from_millis(2100),
            // ixgbevf.md §14.4: not more often than every 10 s once a reset failed; the first retries come sooner,
            // because a PF that comes back within seconds is the common case.
            Self::Ixgbevf(_) => Duration::from_secs(match failures {
                0 | 1 => 1,
                2 => 2,
                3 => 5,
                _ => 10,
            }),
        }
    }
}

/// Bit 25 of RXDCTL and TXDCTL in both families.
const QUEUE_ENABLE: u32 = 1 << 25;

/// Clears a queue's enable bit and waits until the hardware has let go.
fn stop_queue(io: Io<'_>, name: &'static str, offset: u32) -> Result<(), Error> {
    let value = io.regs.read(offset).map_err(|Gone| io.gone())?;
    io.regs.write(offset, value & !QUEUE_ENABLE);
    io.settle_queue(name, "disabled", offset, (QUEUE_ENABLE, 0))
        .map(drop)
}

/// The halves of a ring's address.
#[expect(
    clippy::cast_possible_truncation,
    reason = "an address goes into two 32-bit registers"
)]
const fn halves(address: Iova) -> (u32, u32) {
    (address.0 as u32, (address.0 >> 32) as u32)
}

#[cfg(test)]
mod tests;
