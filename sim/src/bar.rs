//! BAR 0 of a simulated VF: registers behind the card's lock, tails beside it.

use std::fmt;
use std::sync::Arc;

use vfnic_hw::regs::{igbvf, ixgbevf};
use vfnic_hw::{Doorbell, DoorbellSink, Family, Mmio, PciError};

use crate::per_vf::VfId;
use crate::shared::Shared;
use crate::vf::{BAR_LEN, Direction, Tails};

/// BAR 0 of one VF.
pub(crate) struct Bar {
    card: Arc<Shared>,
    vf: VfId,
}

impl Bar {
    pub(crate) const fn new(card: Arc<Shared>, vf: VfId) -> Self {
        Self { card, vf }
    }

    /// Which queue's tail is at `offset`, if any.
    fn tail_at(&self, offset: u32) -> Option<(Direction, u32)> {
        let (rx, tx) = match self.card.model.family() {
            Family::Igbvf => (igbvf::RDT, igbvf::TDT),
            Family::Ixgbevf => (ixgbevf::VFRDT, ixgbevf::VFTDT),
        };
        let rx = rx.index_of(offset).map(|queue| (Direction::Rx, queue));
        rx.or_else(|| tx.index_of(offset).map(|queue| (Direction::Tx, queue)))
    }
}

impl fmt::Debug for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bar(VF {})", self.vf)
    }
}

impl Mmio for Bar {
    fn len(&self) -> u32 {
        BAR_LEN
    }

    fn read32(&self, offset: u32) -> u32 {
        self.card.with(|state| state.read32(self.vf, offset))
    }

    fn write32(&self, offset: u32, value: u32) {
        self.card
            .with(|state| state.write32(self.vf, offset, value));
    }

    fn doorbell(&self, offset: u32) -> Result<Doorbell, PciError> {
        if !offset.is_multiple_of(4) || offset >= BAR_LEN {
            return Err(PciError::Bar {
                device: self.card.vf_name(self.vf),
                bar: 0,
                want: u64::from(offset) + 4,
                have: u64::from(BAR_LEN),
            });
        }
        let sink: Arc<dyn DoorbellSink> = match self.tail_at(offset) {
            Some((direction, queue)) => Arc::new(Bell {
                tails: self.card.tails(self.vf),
                card: self.card.clone(),
                vf: self.vf,
                direction,
                queue: queue as usize,
            }),
            None => Arc::new(Plain {
                card: self.card.clone(),
                vf: self.vf,
                offset,
            }),
        };
        Ok(Doorbell::sink(sink))
    }
}

/// A queue's tail: one store, no lock, and a wake-up if the card sleeps.
struct Bell {
    card: Arc<Shared>,
    tails: Arc<Tails>,
    vf: VfId,
    direction: Direction,
    queue: usize,
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Bell(VF {}, {:?} {})",
            self.vf, self.direction, self.queue
        )
    }
}

impl DoorbellSink for Bell {
    fn ring(&self, tail: u32) {
        if !self.tails.set(self.direction, self.queue, tail) {
            self.card
                .with(|state| state.bad_tail(self.vf, self.direction, self.queue, tail));
        }
        self.card.rung();
    }
}

/// A register that is no tail, rung all the same: an ordinary write.
struct Plain {
    card: Arc<Shared>,
    vf: VfId,
    offset: u32,
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plain(VF {}, {:#x})", self.vf, self.offset)
    }
}

impl DoorbellSink for Plain {
    fn ring(&self, tail: u32) {
        self.card
            .with(|state| state.write32(self.vf, self.offset, tail));
    }
}
