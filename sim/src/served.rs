//! A card's VF as the vfio-user server wants it: opened by whoever connects, reaching the client's memory.

use std::sync::Arc;

use vfnic_hw::{Event, Mmio, PciError, PciFunction};

use crate::card::{Card, Shared};
use crate::dma::Mapping;
use crate::function::SimFunction;
use crate::iommu::SimSpace;
use crate::serve::{VfBackend, VfSource};

impl Card {
    /// VF `vf` for a server to open, again and again, each time reset and with no memory mapped.
    ///
    /// # Errors
    ///
    /// [`PciError::NotFound`] when the card has no such VF.
    pub fn source(&self, vf: u16) -> Result<Arc<dyn VfSource>, PciError> {
        let card = self.shared().clone();
        if vf >= self.vf_count() {
            return Err(PciError::NotFound {
                device: card.vf_name(usize::from(vf)),
                path: format!("VF {vf}"),
            });
        }
        Ok(Arc::new(Source { card, vf }))
    }
}

#[derive(Debug)]
struct Source {
    card: Arc<Shared>,
    vf: u16,
}

impl VfSource for Source {
    fn open(&self) -> Result<Box<dyn VfBackend>, PciError> {
        let space = SimSpace::new();
        let function = SimFunction::open(&self.card, self.vf, &space)?;
        let bar = function.bar(0)?;
        Ok(Box::new(Served {
            function,
            bar,
            space,
        }))
    }
}

/// A VF in a client's hands. Dropping the function resets it, and only then the mappings go.
#[derive(Debug)]
struct Served {
    function: Arc<SimFunction>,
    bar: Arc<dyn Mmio>,
    space: SimSpace,
}

impl VfBackend for Served {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        if self.function.read_config(offset, data).is_err() {
            data.fill(0xff);
        }
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        // Only a write past the end can fail, and the protocol has checked that.
        let _ = self.function.write_config(offset, data);
    }

    fn bar_read(&mut self, offset: u32) -> u32 {
        self.bar.read32(offset)
    }

    fn bar_write(&mut self, offset: u32, value: u32) {
        self.bar.write32(offset, value);
    }

    fn vectors(&self) -> u32 {
        self.function.vector_count()
    }

    fn route_vectors(&mut self, events: &[Event]) -> Result<(), PciError> {
        if events.is_empty() {
            self.function.disable_vectors()
        } else {
            self.function.enable_vectors(events)
        }
    }

    fn map(&mut self, mapping: Mapping) {
        if !self.space.insert(mapping) {
            log::warn!("{}: overlapping mapping ignored", self.function.name());
        }
    }

    fn unmap(&mut self, first: u64, last: u64) {
        self.space.remove(first, last);
    }

    fn reset(&mut self) -> Result<(), PciError> {
        self.function.reset()
    }

    fn error_event(&self) -> Option<Event> {
        self.function.error_event()
    }

    fn request_event(&self) -> Option<Event> {
        self.function.request_event()
    }
}
