//! The simulator's VFs behind the server's seam.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use vfnic_hw::regs::{igbvf, ixgbevf};
use vfnic_hw::{Doorbell, Event, Family, IovaRange, Mmio, PciError, PciFunction};

use super::backend::{VfBackend, VfSource};
use crate::card::Card;
use crate::dma::Mapping;
use crate::iommu::{Aperture, SimSpace};

/// Device control of the PCI Express capability, high byte: bit 7 starts a function-level reset (igbvf.md §1.2).
const DEVICE_CONTROL_HIGH: u16 = 0xa9;
const START_FLR: u8 = 1 << 7;

/// One VF of a card, for whoever connects.
#[derive(Clone, Debug)]
pub struct CardVf {
    card: Arc<Card>,
    vf: u16,
}

impl CardVf {
    /// VF `vf` of a card. Whether it exists shows when a client comes.
    #[must_use]
    pub const fn new(card: Arc<Card>, vf: u16) -> Self {
        Self { card, vf }
    }

    /// All VFs of a card, in order.
    #[must_use]
    pub fn all(card: &Arc<Card>) -> Vec<Arc<dyn VfSource>> {
        (0..card.vf_count())
            .map(|vf| Arc::new(Self::new(card.clone(), vf)) as Arc<dyn VfSource>)
            .collect()
    }
}

impl VfSource for CardVf {
    fn open(&self) -> Result<Box<dyn VfBackend>, PciError> {
        // The client's own IOMMU, or its lack of one, decides which addresses there are.
        let space = SimSpace::with_aperture(Aperture {
            start: 0,
            end: u64::MAX,
            reserved: Vec::<IovaRange>::new(),
        });
        let function = self.card.function_in(self.vf, &space)?;
        let bar = function.bar(0)?;
        let tails = match self.card.model().family() {
            Family::Igbvf => [igbvf::RDT, igbvf::TDT],
            Family::Ixgbevf => [ixgbevf::VFRDT, ixgbevf::VFTDT],
        };
        let mut doorbells = BTreeMap::new();
        for tail in tails {
            for queue in 0..tail.count {
                doorbells.insert(tail.at(queue), bar.doorbell(tail.at(queue))?);
            }
        }
        Ok(Box::new(OpenVf {
            bar,
            doorbells,
            space,
            routed: Vec::new(),
            function,
        }))
    }
}

/// A VF that a session holds.
struct OpenVf {
    bar: Arc<dyn Mmio>,
    /// Tails, which need no lock.
    doorbells: BTreeMap<u32, Doorbell>,
    space: SimSpace,
    routed: Vec<Event>,
    function: Arc<dyn PciFunction>,
}

impl fmt::Debug for OpenVf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenVf").field(&self.function).finish()
    }
}

impl VfBackend for OpenVf {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        if self.function.read_config(offset, data).is_err() {
            data.fill(0xff);
        }
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        if let Err(error) = self.function.write_config(offset, data) {
            log::debug!("{error}");
        }
        let place = DEVICE_CONTROL_HIGH.checked_sub(offset).map(usize::from);
        let control = place.and_then(|place| data.get(place));
        if control.is_some_and(|byte| byte & START_FLR != 0)
            && let Err(error) = self.restore()
        {
            log::debug!("{error}");
        }
    }

    fn bar_read(&mut self, offset: u32) -> u32 {
        self.bar.read32(offset)
    }

    fn bar_write(&mut self, offset: u32, value: u32) {
        match self.doorbells.get(&offset) {
            Some(doorbell) => doorbell.ring(value),
            None => self.bar.write32(offset, value),
        }
    }

    fn vectors(&self) -> u32 {
        self.function.vector_count()
    }

    fn route_vectors(&mut self, events: &[Event]) -> Result<(), PciError> {
        if events.is_empty() {
            self.function.disable_vectors()?;
        } else {
            self.function.enable_vectors(events)?;
        }
        self.routed = events.to_vec();
        Ok(())
    }

    fn map(&mut self, mapping: Mapping) {
        let (iova, len) = (mapping.iova(), mapping.len());
        if !self.space.insert(mapping) {
            log::warn!("window of {len} bytes at {iova:#x} overlaps another; it cannot be reached");
        }
    }

    fn unmap(&mut self, first: u64, last: u64) {
        self.space.remove(first, last);
    }

    fn reset(&mut self) -> Result<(), PciError> {
        self.function.reset()?;
        self.restore()
    }

    fn error_event(&self) -> Option<Event> {
        self.function.error_event()
    }

    fn request_event(&self) -> Option<Event> {
        self.function.request_event()
    }
}

impl OpenVf {
    /// A reset turned MSI-X off; the kernel's VFIO turns it on again as it was.
    fn restore(&self) -> Result<(), PciError> {
        if self.routed.is_empty() {
            return Ok(());
        }
        self.function.enable_vectors(&self.routed)
    }
}
