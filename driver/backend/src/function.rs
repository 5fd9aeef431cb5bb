//! A PCI function behind the kernel's VFIO.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memmap2::{Advice, MmapOptions, MmapRaw};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX,
    VFIO_REGION_INFO_FLAG_MMAP,
};
use vfnic_hw::{Clock, DmaSpace, Event, Mmio, PciError, PciFunction, PciIds, RealClock};

use crate::handed::Nodes;
use crate::iommu::refused;
use crate::space::Lease;
use crate::sys::{self, Failed, Region};
use crate::window::{Area, Calls, Window};
use crate::{PciAddress, Registers, VfioSpace, config};

/// How often a reset is asked for again while the kernel has the function locked for something else.
const RESET_TRIES: u32 = 10;

/// The device's file where config space is concerned: what is interrupted or comes in pieces goes on, by `FileExt`.
struct Config<'a>(&'a File);

impl FileExt for Config<'_> {
    fn read_at(&self, data: &mut [u8], at: u64) -> io::Result<usize> {
        let most = allowed(data.len())?;
        self.0.read_at(&mut data[..most], at)
    }

    fn write_at(&self, data: &[u8], at: u64) -> io::Result<usize> {
        let most = allowed(data.len())?;
        self.0.write_at(&data[..most], at)
    }
}

/// How many of `len` bytes a call may do: all of them, but where a test has planned otherwise.
#[cfg_attr(
    not(test),
    expect(clippy::unnecessary_wraps, reason = "tests have it fail")
)]
fn allowed(len: usize) -> io::Result<usize> {
    #[cfg(test)]
    if let Some(error) = crate::testing::calls::next() {
        return match error.raw_os_error() {
            // No error: a short call.
            Some(0) => Ok(len.min(1)),
            _ => Err(error),
        };
    }
    Ok(len)
}

#[derive(Debug)]
pub(crate) struct VfioFunction {
    device: Arc<Device>,
    config: Region,
    ids: PciIds,
    vectors: u32,
    can_reset: bool,
    error: Option<Event>,
    request: Option<Event>,
    bars: Mutex<BTreeMap<u8, Window>>,
    control: Mutex<Control>,
    clock: Arc<RealClock>,
}

/// Held by whatever changes interrupts, bus mastering or the reset state.
#[derive(Debug, Default)]
struct Control {
    /// MSI-X vectors routed to events at present.
    routed: u32,
}

/// An open function: the descriptor, then its place in the space.
#[derive(Debug)]
struct Device {
    file: File,
    lease: Lease,
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.lease.space().is_ours() {
            self.lease.detach(&self.file);
        }
    }
}

impl VfioFunction {
    pub(crate) fn open(
        address: PciAddress,
        space: &VfioSpace,
        handed: Option<Nodes>,
    ) -> Result<Self, PciError> {
        let (file, lease) = space.open(address, handed)?;
        Self::new(Device { file, lease })
    }

    /// Each step is undone by what it was made of going out of scope.
    fn new(device: Device) -> Result<Self, PciError> {
        let name = device.lease.device().to_owned();
        let refuse = |failed| refused(&name, failed);
        let flags = sys::device_flags(&device.file).map_err(refuse)?;
        if flags & VFIO_DEVICE_FLAGS_PCI == 0 {
            return Err(PciError::Unsupported {
                device: name.clone(),
                what: "anything but a PCI function".to_owned(),
            });
        }
        let config = sys::region(&device.file, VFIO_PCI_CONFIG_REGION_INDEX).map_err(refuse)?;
        let vectors = sys::irq_count(&device.file, VFIO_PCI_MSIX_IRQ_INDEX).map_err(refuse)?;
        let mut function = Self {
            device: Arc::new(device),
            config,
            ids: PciIds::default(),
            vectors,
            can_reset: flags & VFIO_DEVICE_FLAGS_RESET != 0,
            error: None,
            request: None,
            bars: Mutex::default(),
            control: Mutex::default(),
            clock: Arc::new(RealClock::new()),
        };
        // The kernel resets a function when it is opened and switches bus mastering off; that it did is not promised.
        function.set_bus_master(false)?;
        let mut header = [0; config::HEADER];
        function.read_config(0, &mut header)?;
        function.ids = config::ids(&header);
        function.error = function.notification(VFIO_PCI_ERR_IRQ_INDEX);
        function.request = function.notification(VFIO_PCI_REQ_IRQ_INDEX);
        Ok(function)
    }

    fn file(&self) -> &File {
        &self.device.file
    }

    fn refused(&self, failed: Failed) -> PciError {
        refused(self.name(), failed)
    }

    /// An event that the kernel signals, where the function has that kind of notification. Being without one is no
    /// reason not to open.
    fn notification(&self, index: u32) -> Option<Event> {
        // A kernel that does not know the index refuses the question.
        if sys::irq_count(self.file(), index).unwrap_or(0) == 0 {
            return None;
        }
        let event = Event::new().ok()?;
        sys::set_irqs(self.file(), index, &[event.as_fd()])
            .inspect_err(|failed| log::warn!("{}: {failed}; no such notices then", self.name()))
            .ok()?;
        Some(event)
    }

    fn failed(&self, call: &str, source: io::Error) -> PciError {
        self.refused(Failed {
            call: call.to_owned(),
            source,
        })
    }

    /// Where `len` bytes at `offset` of config space are in the file.
    fn config_at(&self, offset: u16, len: usize) -> Result<u64, PciError> {
        let end = u64::from(offset).saturating_add(len as u64);
        // What the kernel says of its file need not fit the numbers that files have.
        let at = self.config.offset.checked_add(u64::from(offset));
        at.filter(|_| end <= self.config.size)
            .ok_or_else(|| PciError::Unsupported {
                device: self.name().to_owned(),
                what: format!(
                    "access to config space {offset:#x}+{len} of {} at {:#x}",
                    self.config.size, self.config.offset
                ),
            })
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bus_master(&self, _control: &Control, on: bool) -> Result<(), PciError> {
        let mut command = [0; 2];
        self.read_config(config::COMMAND, &mut command)?;
        self.write_config(config::COMMAND, &config::with_bus_master(command, on))
    }

    fn vectors_off(&self, control: &mut Control) -> Result<(), PciError> {
        if control.routed != 0 {
            sys::clear_irqs(self.file(), VFIO_PCI_MSIX_IRQ_INDEX)
                .map_err(|failed| self.refused(failed))?;
            control.routed = 0;
        }
        Ok(())
    }

    fn window(&self, index: u8) -> Result<Window, PciError> {
        let none = |have| PciError::Bar {
            device: self.name().to_owned(),
            bar: index,
            want: 4,
            have,
        };
        if index > 5 {
            return Err(none(0));
        }
        let region =
            sys::region(self.file(), u32::from(index)).map_err(|failed| self.refused(failed))?;
        let len = u32::try_from(region.size).unwrap_or(u32::MAX);
        if len < 4 {
            return Err(none(region.size));
        }
        let calls = Arc::new(ByCall {
            device: self.device.clone(),
            offset: region.offset,
        });
        let by_call = self.device.lease.space().options().registers == Registers::ByCall;
        let areas = if by_call {
            Vec::new()
        } else {
            self.areas(index, &region)
        };
        Ok(Window::new(self.name(), index, len, areas, calls))
    }

    /// Maps what can be mapped of a region. What cannot is reached by calls.
    fn areas(&self, index: u8, region: &Region) -> Vec<Area> {
        if region.flags & VFIO_REGION_INFO_FLAG_MMAP == 0 {
            return Vec::new();
        }
        let whole = vec![(0, region.size)];
        let parts = region.sparse.as_ref().unwrap_or(&whole);
        parts
            .iter()
            .filter_map(|&(start, len)| {
                if start.checked_add(len)? > region.size {
                    return None;
                }
                let at = region.offset.checked_add(start)?;
                let map = map(self.file(), at, len).inspect_err(|error| {
                    log::warn!(
                        "{}: mapping BAR {index} {start:#x}+{len:#x}: {error}; its registers cost a call each",
                        self.name()
                    );
                });
                Some(Area {
                    start: u32::try_from(start).ok()?,
                    map: map.ok()?,
                })
            })
            .collect()
    }
}

fn map(file: &File, offset: u64, len: u64) -> io::Result<MmapRaw> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let map = MmapOptions::new().offset(offset).len(len).map_raw(file)?;
    // A child of `fork` has no business with the registers.
    map.advise(Advice::DontFork)?;
    Ok(map)
}

impl PciFunction for VfioFunction {
    fn name(&self) -> &str {
        self.device.lease.device()
    }

    fn ids(&self) -> PciIds {
        self.ids
    }

    fn read_config(&self, offset: u16, data: &mut [u8]) -> Result<(), PciError> {
        let at = self.config_at(offset, data.len())?;
        Config(self.file())
            .read_exact_at(data, at)
            .map_err(|source| self.failed(&format!("reading config space {offset:#x}"), source))
    }

    fn write_config(&self, offset: u16, data: &[u8]) -> Result<(), PciError> {
        let at = self.config_at(offset, data.len())?;
        Config(self.file())
            .write_all_at(data, at)
            .map_err(|source| self.failed(&format!("writing config space {offset:#x}"), source))
    }

    fn bar(&self, index: u8) -> Result<Arc<dyn Mmio>, PciError> {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(window) = bars.get(&index) {
            return Ok(Arc::new(window.clone()));
        }
        let window = self.window(index)?;
        bars.insert(index, window.clone());
        Ok(Arc::new(window))
    }

    fn dma_space(&self) -> Arc<dyn DmaSpace> {
        Arc::new(self.device.lease.space().clone())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    fn vector_count(&self) -> u32 {
        self.vectors
    }

    fn enable_vectors(&self, events: &[Event]) -> Result<(), PciError> {
        let want = u32::try_from(events.len()).unwrap_or(u32::MAX);
        if want > self.vectors {
            return Err(PciError::Vectors {
                device: self.name().to_owned(),
                want,
                have: self.vectors,
            });
        }
        let mut control = self.control();
        // As many as before are replaced one by one. Any other number takes MSI-X off and on again, and a message that
        // a live device sends in between is the kernel's to wonder about.
        if control.routed != want {
            self.vectors_off(&mut control)?;
        }
        if want == 0 {
            return Ok(());
        }
        let fds: Vec<_> = events.iter().map(AsFd::as_fd).collect();
        sys::set_irqs(self.file(), VFIO_PCI_MSIX_IRQ_INDEX, &fds)
            .map_err(|failed| self.refused(failed))?;
        control.routed = want;
        Ok(())
    }

    fn disable_vectors(&self) -> Result<(), PciError> {
        self.vectors_off(&mut self.control())
    }

    fn error_event(&self) -> Option<Event> {
        self.error.clone()
    }

    fn request_event(&self) -> Option<Event> {
        self.request.clone()
    }

    fn reset(&self) -> Result<(), PciError> {
        if !self.can_reset {
            return Err(PciError::Unsupported {
                device: self.name().to_owned(),
                what: "a reset (no FLR)".to_owned(),
            });
        }
        let mut control = self.control();
        // The kernel puts config space back as it was before the reset, bus mastering and MSI-X included. Off first, so
        // that the function comes back quiet, as the trait says it does. If either fails, a reset is needed all the
        // more.
        let quiet = self
            .bus_master(&control, false)
            .and_then(|()| self.vectors_off(&mut control));
        if let Err(error) = quiet {
            log::warn!("{error} (before a reset)");
        }
        let mut tries = 1u32;
        loop {
            match sys::reset(self.file()) {
                Ok(()) => return Ok(()),
                Err(failed) if failed.errno() == Some(libc::EAGAIN) && tries < RESET_TRIES => {
                    tries = tries.saturating_add(1);
                    self.clock.sleep(Duration::from_millis(10));
                }
                Err(failed) => return Err(self.refused(failed)),
            }
        }
    }

    fn set_bus_master(&self, on: bool) -> Result<(), PciError> {
        self.bus_master(&self.control(), on)
    }
}

impl Drop for VfioFunction {
    /// No DMA and no interrupt can come from the function after this, even while a BAR's handle keeps it open. Closing
    /// it makes the kernel reset it.
    fn drop(&mut self) {
        if !self.device.lease.space().is_ours() {
            return;
        }
        let mut control = self.control();
        let quiet = self
            .bus_master(&control, false)
            .and_then(|()| self.vectors_off(&mut control));
        if let Err(error) = quiet {
            log::info!("{error} (while closing)");
        }
        let notifications = [
            (&self.error, VFIO_PCI_ERR_IRQ_INDEX),
            (&self.request, VFIO_PCI_REQ_IRQ_INDEX),
        ];
        for (event, index) in notifications {
            if event.is_some()
                && let Err(failed) = sys::clear_irqs(self.file(), index)
            {
                log::info!("{}: {failed} (while closing)", self.name());
            }
        }
    }
}

/// Registers through the function's descriptor.
#[derive(Debug)]
struct ByCall {
    device: Arc<Device>,
    offset: u64,
}

impl Calls for ByCall {
    fn read(&self, offset: u32) -> Option<u32> {
        let mut value = [0; 4];
        self.device
            .file
            .read_exact_at(&mut value, self.offset.checked_add(u64::from(offset))?)
            .ok()?;
        Some(u32::from_le_bytes(value))
    }

    fn write(&self, offset: u32, value: u32) {
        let file = &self.device.file;
        let written = match self.offset.checked_add(u64::from(offset)) {
            Some(at) => file.write_all_at(&value.to_le_bytes(), at),
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        if let Err(error) = written {
            log::debug!(
                "{}: writing {offset:#x}: {error}",
                self.device.lease.device()
            );
        }
    }
}

#[cfg(test)]
#[path = "function_tests.rs"]
mod tests;
