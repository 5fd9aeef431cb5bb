//! A simulated VF as a PCI function.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use vfnic_hw::{
    Clock, DmaError, DmaRegion, DmaRequest, DmaSpace, Event, IovaRange, Mmio, PciError,
    PciFunction, PciIds,
};

use crate::bar::Bar;
use crate::fault::{Action, Point};
use crate::iommu::SimSpace;
use crate::irq::VECTORS;
use crate::per_vf::VfId;
use crate::shared::Shared;

/// How long a function takes to settle after FLR (PCIe). The simulated one is ready at once, so the wait is only made
/// where it costs nothing: on a virtual clock.
const FLR_TIME: Duration = Duration::from_millis(100);

/// What the driver asks the host for: the selector of [`Point::HostCall`].
#[derive(Clone, Copy, Debug)]
enum HostCall {
    MapRegisters,
    MapMemory,
    RouteVectors,
    VectorsOff,
    Reset,
    ReadConfig,
    WriteConfig,
}

impl HostCall {
    const fn name(self) -> &'static str {
        match self {
            Self::MapRegisters => "mapping registers",
            Self::MapMemory => "mapping memory",
            Self::RouteVectors => "routing vectors",
            Self::VectorsOff => "switching vectors off",
            Self::Reset => "a reset",
            Self::ReadConfig => "reading config space",
            Self::WriteConfig => "writing config space",
        }
    }
}

/// The plan's word on a call of VF `vf`'s driver.
fn host_call(card: &Shared, vf: VfId, call: HostCall) -> io::Result<()> {
    card.with(|state| {
        let now = state.control.now;
        match state
            .control
            .faults
            .at(Point::HostCall, now, vf.number(), call as u32)
        {
            Some(Action::Fail(errno)) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    })
}

/// A function's space, where mapping can be made to fail for this function alone.
#[derive(Clone, Debug)]
struct Space {
    card: Arc<Shared>,
    vf: VfId,
    space: SimSpace,
}

impl DmaSpace for Space {
    fn map(&self, request: DmaRequest) -> Result<DmaRegion, DmaError> {
        host_call(&self.card, self.vf, HostCall::MapMemory).map_err(|source| DmaError::Map {
            need: request.len as u64,
            iova: 0,
            source,
        })?;
        self.space.map(request)
    }

    fn ranges(&self) -> Vec<IovaRange> {
        self.space.ranges()
    }

    fn mapped_bytes(&self) -> u64 {
        self.space.mapped_bytes()
    }

    fn page_size(&self) -> usize {
        self.space.page_size()
    }
}

/// One VF, held by whoever opened it. Opening and dropping it reset it, as VFIO does.
pub(crate) struct SimFunction {
    card: Arc<Shared>,
    vf: VfId,
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
        let name = card.vf_name(vf);
        let (index, request, error) = card.with(|state| {
            let vfs = &mut state.control.vfs;
            let there = vfs.find(usize::from(vf));
            let Some(index) = there.filter(|&index| !vfs[index].removed) else {
                return Err(PciError::NotFound {
                    device: name.clone(),
                    path: format!("VF {vf}"),
                });
            };
            let this = &mut vfs[index];
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
            let (request, error) = (event("request")?, event("error")?);
            this.open = true;
            this.request = Some(request.clone());
            this.error = Some(error.clone());
            this.space = Some(space.clone());
            state.vf_flr(index);
            Ok((index, request, error))
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

    fn host(&self, call: HostCall) -> Result<(), PciError> {
        host_call(&self.card, self.vf, call).map_err(|source| PciError::Sys {
            device: self.name.clone(),
            call: call.name().to_owned(),
            source,
        })
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
        self.host(HostCall::ReadConfig)?;
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
        self.host(HostCall::WriteConfig)?;
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
        self.host(HostCall::MapRegisters)?;
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
        Arc::new(Space {
            card: self.card.clone(),
            vf: self.vf,
            space: self.space.clone(),
        })
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
        self.host(HostCall::RouteVectors)?;
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
        self.host(HostCall::VectorsOff)?;
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
        self.host(HostCall::Reset)?;
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
