//! A simulated VF as a PCI function.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use vfnic_hw::{Clock, DmaSpace, Event, Mmio, PciError, PciFunction, PciIds};

use crate::bar::Bar;
use crate::iommu::SimSpace;
use crate::irq::VECTORS;
use crate::shared::Shared;

/// How long a function takes to settle after FLR (PCIe). The simulated one is ready at once, so the wait is only made
/// where it costs nothing: on a virtual clock.
const FLR_TIME: Duration = Duration::from_millis(100);

/// One VF, held by whoever opened it. Opening and dropping it reset it, as VFIO does.
pub(crate) struct SimFunction {
    card: Arc<Shared>,
    vf: usize,
    name: String,
    bar: Arc<Bar>,
    space: SimSpace,
    request: Event,
    error: Event,
}

impl SimFunction {
    /// Opens VF `vf` in `space`.
    pub(crate) fn open(
        card: &Arc<Shared>,
        vf: u16,
        space: &SimSpace,
    ) -> Result<Arc<Self>, PciError> {
        let name = card.vf_name(usize::from(vf));
        let index = usize::from(vf);
        let (request, error) = card.with(|state| {
            let Some(this) = state
                .control
                .vfs
                .get_mut(index)
                .filter(|this| !this.removed)
            else {
                return Err(PciError::NotFound {
                    device: name.clone(),
                    path: format!("VF {vf}"),
                });
            };
            if this.open {
                return Err(PciError::Busy {
                    device: name.clone(),
                    path: format!("VF {vf}"),
                    holder: None,
                });
            }
            let event = |what: &'static str| {
                Event::new().map_err(|source| PciError::Sys {
                    device: name.clone(),
                    call: format!("eventfd for the {what} event"),
                    source,
                })
            };
            let events = (event("request")?, event("error")?);
            this.open = true;
            this.request = Some(events.0.clone());
            this.error = Some(events.1.clone());
            this.space = Some(space.clone());
            state.vf_flr(index);
            Ok(events)
        })?;
        space.attach(card.as_master());
        Ok(Arc::new(Self {
            bar: Arc::new(Bar::new(card.clone(), index)),
            card: card.clone(),
            vf: index,
            name,
            space: space.clone(),
            request,
            error,
        }))
    }

    fn past_end(&self, offset: u16, len: usize) -> PciError {
        PciError::Unsupported {
            device: self.name.clone(),
            what: format!("config access of {len} bytes at {offset:#x}, past the end"),
        }
    }

    fn gone(&self) -> PciError {
        PciError::Gone {
            device: self.name.clone(),
        }
    }
}

impl fmt::Debug for SimFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimFunction").field(&self.name).finish()
    }
}

impl Drop for SimFunction {
    fn drop(&mut self) {
        self.card.with(|state| {
            state.vf_flr(self.vf);
            let this = &mut state.control.vfs[self.vf];
            this.open = false;
            this.space = None;
            this.request = None;
            this.error = None;
            state.update_dma(self.vf);
        });
    }
}

impl PciFunction for SimFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn ids(&self) -> PciIds {
        self.card
            .with(|state| state.control.vfs[self.vf].config.ids())
    }

    fn read_config(&self, offset: u16, data: &mut [u8]) -> Result<(), PciError> {
        let done = self
            .card
            .with(|state| state.read_config(self.vf, offset, data));
        if done {
            Ok(())
        } else {
            Err(self.past_end(offset, data.len()))
        }
    }

    fn write_config(&self, offset: u16, data: &[u8]) -> Result<(), PciError> {
        let done = self
            .card
            .with(|state| state.write_config(self.vf, offset, data));
        if done {
            Ok(())
        } else {
            Err(self.past_end(offset, data.len()))
        }
    }

    fn bar(&self, index: u8) -> Result<Arc<dyn Mmio>, PciError> {
        if index == 0 {
            Ok(self.bar.clone())
        } else {
            Err(PciError::Bar {
                device: self.name.clone(),
                bar: index,
                want: 1,
                have: 0,
            })
        }
    }

    fn dma_space(&self) -> Arc<dyn DmaSpace> {
        Arc::new(self.space.clone())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.card.clock.clone()
    }

    fn vector_count(&self) -> u32 {
        u32::try_from(VECTORS).unwrap_or(0)
    }

    fn enable_vectors(&self, events: &[Event]) -> Result<(), PciError> {
        if events.len() > VECTORS {
            return Err(PciError::Vectors {
                device: self.name.clone(),
                want: u32::try_from(events.len()).unwrap_or(u32::MAX),
                have: self.vector_count(),
            });
        }
        self.card.with(|state| {
            if state.control.vfs[self.vf].removed {
                return Err(self.gone());
            }
            state.control.vfs[self.vf].irq.enable(events.to_vec());
            state.deliver_interrupts(self.vf);
            Ok(())
        })
    }

    fn disable_vectors(&self) -> Result<(), PciError> {
        self.card
            .with(|state| state.control.vfs[self.vf].irq.disable());
        Ok(())
    }

    fn error_event(&self) -> Option<Event> {
        Some(self.error.clone())
    }

    fn request_event(&self) -> Option<Event> {
        Some(self.request.clone())
    }

    fn reset(&self) -> Result<(), PciError> {
        let gone = self.card.with(|state| {
            if state.control.vfs[self.vf].removed {
                return true;
            }
            state.vf_flr(self.vf);
            false
        });
        if gone {
            return Err(self.gone());
        }
        if self.card.virtual_clock.is_some() {
            self.card.clock.sleep(FLR_TIME);
        }
        Ok(())
    }
}
