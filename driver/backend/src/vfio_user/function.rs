//! A PCI function behind a vfio-user server.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX,
};
use vfnic_hw::{Clock, DmaSpace, Event, Mmio, PciError, PciFunction, PciIds, RealClock};

use super::UserSpace;
use super::connection::{Connection, Failure, Reply};
use super::frame::{Command, Fields, Message};
use super::region::{ByMessage, Region, read_data, read_request, write_request};
use crate::config;
use crate::window::Window;

/// A server may take its time over a reset.
const RESET_TIME: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct UserFunction {
    name: String,
    server: Arc<Connection>,
    space: UserSpace,
    config_len: u64,
    ids: PciIds,
    vectors: u32,
    can_reset: bool,
    error: Option<Event>,
    request: Option<Event>,
    bars: Mutex<BTreeMap<u8, Window>>,
    /// Held by whatever changes interrupts, bus mastering or the reset state: how many vectors are routed.
    control: Mutex<u32>,
    clock: Arc<RealClock>,
}

impl UserFunction {
    /// The function at the other end of a connection; `name` is what errors call it.
    pub(super) fn open(
        name: String,
        server: Result<Connection, Failure>,
        space: &UserSpace,
    ) -> Result<Self, PciError> {
        let server = server.map_err(|failure| explain(&name, "VERSION", failure))?;
        let mut function = Self {
            name,
            server: Arc::new(server),
            space: space.clone(),
            config_len: 0,
            ids: PciIds::default(),
            vectors: 0,
            can_reset: false,
            error: None,
            request: None,
            bars: Mutex::default(),
            control: Mutex::default(),
            clock: Arc::new(RealClock::new()),
        };
        let (flags, kinds) = function.device_info()?;
        function.can_reset = flags & VFIO_DEVICE_FLAGS_RESET != 0;
        function.config_len = function.region(VFIO_PCI_CONFIG_REGION_INDEX)?.len;
        function.vectors = function.irq_count(VFIO_PCI_MSIX_IRQ_INDEX, kinds)?;
        if function.can_reset {
            function.reset()?;
        } else {
            function.set_bus_master(false)?;
        }
        let mut header = [0; config::HEADER];
        function.read_config(0, &mut header)?;
        function.ids = config::ids(&header);
        function.error = function.notification(VFIO_PCI_ERR_IRQ_INDEX, kinds)?;
        function.request = function.notification(VFIO_PCI_REQ_IRQ_INDEX, kinds)?;
        function
            .space
            .join(&function.server)
            .map_err(|failure| explain(&function.name, "DMA_MAP", failure))?;
        Ok(function)
    }

    fn ask(&self, command: Command, message: Message) -> Result<Reply, PciError> {
        self.server
            .ask(command, message, &[])
            .map_err(|failure| explain(&self.name, &format!("{command:?}"), failure))
    }

    /// The reply to `command` makes no sense; nothing the server says can be relied on from here.
    fn nonsense(&self, command: Command, body: &[u8]) -> PciError {
        self.server.close();
        PciError::Protocol {
            device: self.name.clone(),
            what: format!("an impossible {command:?} reply ({} bytes)", body.len()),
        }
    }

    /// Flags of the device and how many kinds of interrupt it has.
    fn device_info(&self) -> Result<(u32, u32), PciError> {
        let message = Message::new(Command::DeviceGetInfo)
            .u32(16)
            .u32(0)
            .u32(0)
            .u32(0);
        let reply = self.ask(Command::DeviceGetInfo, message)?;
        let mut fields = Fields(&reply.body);
        let numbers = (|| {
            fields.u32()?;
            let flags = fields.u32()?;
            fields.u32()?;
            Some((flags, fields.u32()?))
        })();
        match numbers {
            Some((flags, kinds)) if flags & VFIO_DEVICE_FLAGS_PCI != 0 => Ok((flags, kinds)),
            _ => Err(self.nonsense(Command::DeviceGetInfo, &reply.body)),
        }
    }

    fn region(&self, index: u32) -> Result<Region, PciError> {
        let message = Message::new(Command::GetRegionInfo)
            .u32(4096)
            .u32(0)
            .u32(index)
            .u32(0)
            .u64(0)
            .u64(0);
        let Reply { body, fds } = self.ask(Command::GetRegionInfo, message)?;
        Region::of_reply(&body, fds).ok_or_else(|| self.nonsense(Command::GetRegionInfo, &body))
    }

    fn irq_count(&self, index: u32, kinds: u32) -> Result<u32, PciError> {
        if index >= kinds {
            return Ok(0);
        }
        let message = Message::new(Command::GetIrqInfo)
            .u32(16)
            .u32(0)
            .u32(index)
            .u32(0);
        let reply = self.ask(Command::GetIrqInfo, message)?;
        let count = reply.body.get(12..).and_then(|rest| Fields(rest).u32());
        count.ok_or_else(|| self.nonsense(Command::GetIrqInfo, &reply.body))
    }

    /// As for the kernel's functions: an event if it can be had.
    fn notification(&self, index: u32, kinds: u32) -> Result<Option<Event>, PciError> {
        if self.irq_count(index, kinds)? == 0 {
            return Ok(None);
        }
        let Ok(event) = Event::new() else {
            return Ok(None);
        };
        match self.route(index, std::slice::from_ref(&event)) {
            Ok(()) => Ok(Some(event)),
            Err(error) if self.server.is_broken() => Err(error),
            Err(error) => {
                log::warn!("{error}; no such notices then");
                Ok(None)
            }
        }
    }

    /// Routes the first interrupts of a kind, as many at a time as the server takes descriptors.
    fn route(&self, index: u32, events: &[Event]) -> Result<(), PciError> {
        let mut start = 0;
        for some in events.chunks(self.server.limits().fds.clamp(1, 16)) {
            let count = u32::try_from(some.len()).unwrap_or(u32::MAX);
            let fds: Vec<_> = some.iter().map(AsFd::as_fd).collect();
            let message = irq_set(
                VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
                index,
                start,
                count,
            );
            self.server
                .ask(Command::SetIrqs, message, &fds)
                .map_err(|failure| explain(&self.name, "SetIrqs", failure))?;
            start = start.saturating_add(count);
        }
        Ok(())
    }

    fn control(&self) -> MutexGuard<'_, u32> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vectors_off(&self, routed: &mut u32) -> Result<(), PciError> {
        if *routed != 0 {
            let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
            let message = irq_set(flags, VFIO_PCI_MSIX_IRQ_INDEX, 0, 0);
            self.ask(Command::SetIrqs, message)?;
            *routed = 0;
        }
        Ok(())
    }

    fn bus_master(&self, _control: &u32, on: bool) -> Result<(), PciError> {
        let mut command = [0; 2];
        self.read_config(config::COMMAND, &mut command)?;
        self.write_config(config::COMMAND, &config::with_bus_master(command, on))
    }

    fn config_range(&self, offset: u16, len: usize) -> Result<(), PciError> {
        let end = u64::from(offset).saturating_add(len as u64);
        if end <= self.config_len && len <= self.server.limits().data {
            return Ok(());
        }
        Err(PciError::Unsupported {
            device: self.name.clone(),
            what: format!(
                "access to config space {offset:#x}+{len} of {}",
                self.config_len
            ),
        })
    }
}

fn irq_set(flags: u32, index: u32, start: u32, count: u32) -> Message {
    Message::new(Command::SetIrqs)
        .u32(20)
        .u32(flags)
        .u32(index)
        .u32(start)
        .u32(count)
}

/// A failure as an error about a device.
fn explain(device: &str, request: &str, failure: Failure) -> PciError {
    let device = device.to_owned();
    match failure {
        Failure::Refused(0) => PciError::Protocol {
            device,
            what: format!("{request} was refused, the server does not say why"),
        },
        Failure::Refused(errno) => PciError::Sys {
            device,
            call: format!("vfio-user {request}"),
            source: std::io::Error::from_raw_os_error(i32::try_from(errno).unwrap_or(libc::EPROTO)),
        },
        Failure::Unconnected(what) => PciError::Protocol { device, what },
        Failure::Broken(what) => PciError::Protocol {
            device,
            what: format!("{request}: {what}"),
        },
    }
}

impl PciFunction for UserFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn ids(&self) -> PciIds {
        self.ids
    }

    fn read_config(&self, offset: u16, data: &mut [u8]) -> Result<(), PciError> {
        self.config_range(offset, data.len())?;
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let at = u64::from(offset);
        let request = read_request(VFIO_PCI_CONFIG_REGION_INDEX, at, len);
        let reply = self.ask(Command::RegionRead, request)?;
        match read_data(&reply.body, VFIO_PCI_CONFIG_REGION_INDEX, at, len) {
            Some(read) => data.copy_from_slice(read),
            None => return Err(self.nonsense(Command::RegionRead, &reply.body)),
        }
        Ok(())
    }

    fn write_config(&self, offset: u16, data: &[u8]) -> Result<(), PciError> {
        self.config_range(offset, data.len())?;
        let message = write_request(VFIO_PCI_CONFIG_REGION_INDEX, u64::from(offset), data);
        self.ask(Command::RegionWrite, message).map(drop)
    }

    fn bar(&self, index: u8) -> Result<Arc<dyn Mmio>, PciError> {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(window) = bars.get(&index) {
            return Ok(Arc::new(window.clone()));
        }
        let none = |have| PciError::Bar {
            device: self.name.clone(),
            bar: index,
            want: 4,
            have,
        };
        if index > 5 {
            return Err(none(0));
        }
        let region = self.region(u32::from(index))?;
        let len = u32::try_from(region.len).unwrap_or(u32::MAX);
        if len < 4 {
            return Err(none(region.len));
        }
        let calls = Arc::new(ByMessage::new(self.server.clone(), u32::from(index)));
        let areas = region.areas(&self.name, index);
        let window = Window::new(&self.name, index, len, areas, calls);
        bars.insert(index, window.clone());
        Ok(Arc::new(window))
    }

    fn dma_space(&self) -> Arc<dyn DmaSpace> {
        Arc::new(self.space.clone())
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
                device: self.name.clone(),
                want,
                have: self.vectors,
            });
        }
        let mut routed = self.control();
        if *routed != want {
            self.vectors_off(&mut routed)?;
        }
        // From the first one on there is something to switch off.
        *routed = want;
        self.route(VFIO_PCI_MSIX_IRQ_INDEX, events)
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
                device: self.name.clone(),
                what: "a reset".to_owned(),
            });
        }
        let mut routed = self.control();
        self.bus_master(&routed, false)?;
        self.vectors_off(&mut routed)?;
        let message = Message::new(Command::DeviceReset);
        self.server
            .ask_within(RESET_TIME, Command::DeviceReset, message, &[])
            .map_err(|failure| explain(&self.name, "DeviceReset", failure))?;
        Ok(())
    }

    fn set_bus_master(&self, on: bool) -> Result<(), PciError> {
        self.bus_master(&self.control(), on)
    }
}

impl Drop for UserFunction {
    /// Bus mastering off while the server still listens, then the connection ends, and with it all that was lent to the
    /// server. Handles on BARs read all-ones from here on.
    fn drop(&mut self) {
        if !self.server.is_ours() || self.server.is_broken() {
            return;
        }
        if let Err(error) = self.set_bus_master(false) {
            log::info!("{error} (while closing)");
        }
        self.server.close();
    }
}
