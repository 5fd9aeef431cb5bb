//! The device below a port: what never changes while it is open, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vfnic_hw::{Event, Model, PciFunction};

use crate::Error;
use crate::family::{Family, Io, VectorPlan};
use crate::registers::Registers;
use crate::wait::{Ticker, block_on};

/// An opened VF.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) model: Model,
    pub(crate) family: Family,
    pub(crate) regs: Registers,
    pub(crate) plan: VectorPlan,
    /// What each message vector signals, in order.
    pub(crate) vectors: Vec<Event>,
    pub(crate) function: Arc<dyn PciFunction>,
    /// Vectors were to be had and could not be turned on.
    pub(crate) vectors_refused: bool,
    closed: AtomicBool,
}

/// BAR 0 of every VF (ixgbevf.md §2.2, igbvf.md §1.2).
const BAR_LEN: u32 = 0x4000;

impl Device {
    /// Looks at what `function` is, turns bus mastering and message vectors on, and touches nothing else. From here on
    /// dropping the device puts it to rest.
    pub(crate) fn open(
        function: Arc<dyn PciFunction>,
        interrupts: bool,
        pairs: impl FnOnce(u32) -> u16,
    ) -> Result<Self, Error> {
        let name = function.name().to_owned();
        let ids = function.ids();
        let Some(model) = Model::from_vf_ids(ids.vendor, ids.device) else {
            return Err(not_ours(name, ids.vendor, ids.device));
        };
        let family = Family::of(model);
        let mmio = function.bar(0)?;
        if mmio.len() < BAR_LEN {
            return Err(Error::Pci(vfnic_hw::PciError::Bar {
                device: name,
                bar: 0,
                want: u64::from(BAR_LEN),
                have: u64::from(mmio.len()),
            }));
        }
        let (status, second) = family.witnesses();
        let vector_count = if interrupts {
            function.vector_count().min(3)
        } else {
            0
        };
        let mut device = Self {
            name,
            model,
            family,
            regs: Registers::new(mmio, status, second),
            plan: family.plan(vector_count, pairs(vector_count)),
            vectors: Vec::new(),
            function,
            vectors_refused: false,
            closed: AtomicBool::new(false),
        };
        // From here on an error drops `device`, which undoes what was done.
        device.function.set_bus_master(true)?;
        for _ in 0..device.plan.count {
            device
                .vectors
                .push(Event::new().map_err(|source| Error::Sys {
                    call: "eventfd for a message vector",
                    source,
                })?);
        }
        if device.plan.count > 0
            && let Err(error) = device.function.enable_vectors(&device.vectors)
        {
            // Polling needs none of them.
            log::warn!("{}: no interrupts, polling only: {error}", device.name);
            device.plan = VectorPlan::NONE;
            device.vectors.clear();
            device.vectors_refused = true;
        }
        Ok(device)
    }

    /// Turns on again what an FLR by somebody else turned off.
    pub(crate) fn rewire(&self) -> Result<(), Error> {
        let result = self.function.set_bus_master(true).and_then(|()| {
            if self.vectors.is_empty() {
                return Ok(());
            }
            self.function.enable_vectors(&self.vectors)
        });
        match result {
            Ok(()) => Ok(()),
            Err(vfnic_hw::PciError::Gone { .. }) => Err(self.gone()),
            Err(error) => {
                // The reset goes on: polling may still work.
                log::warn!("{}: {error}", self.name);
                Ok(())
            }
        }
    }

    /// Whether the function may do DMA: somebody else's reset takes that away. When it cannot be told, nothing is wrong.
    pub(crate) fn is_bus_master(&self) -> bool {
        const COMMAND: u16 = 4;
        const BUS_MASTER: u16 = 1 << 2;
        let mut command = [0; 2];
        self.function.read_config(COMMAND, &mut command).is_err()
            || u16::from_le_bytes(command) & BUS_MASTER != 0
    }

    /// Whether the bus still answers for the function. The status register has bits that are always 0 (PCI 3.0 §6.2.3),
    /// so all ones are nobody's. (The command register would not do: VFIO answers for part of it by itself.)
    pub(crate) fn is_on_the_bus(&self) -> bool {
        const STATUS: u16 = 6;
        let mut status = [0xff; 2];
        self.function.read_config(STATUS, &mut status).is_ok() && status != [0xff; 2]
    }

    /// Clears pending causes of `vectors`, a mask, and unmasks them. Returns when that has arrived: a cause cleared on
    /// the way belongs to something that can be seen in memory from then on.
    ///
    /// Causes come and stay while a vector is masked and its queue is polled. Left there, nearly every arming would be
    /// followed by a wake-up for what was handled long ago.
    pub(crate) fn arm(&self, vectors: u32) {
        let interrupts = self.family.interrupts();
        self.regs.write(interrupts.cause.addr(), vectors);
        self.regs.write(interrupts.set.addr(), vectors);
        // A device that is gone wakes nobody; the control side finds that out by itself.
        let _ = self.regs.flush();
    }

    /// Masks `vectors`, a mask.
    pub(crate) fn mask(&self, vectors: u32) {
        self.regs
            .write(self.family.interrupts().clear.addr(), vectors);
    }

    /// For steps of `ticker`'s thread.
    pub(crate) fn io<'a>(&'a self, ticker: &'a Ticker) -> Io<'a> {
        Io {
            regs: &self.regs,
            ticker,
            device: &self.name,
        }
    }

    pub(crate) fn gone(&self) -> Error {
        Error::Gone {
            device: self.name.clone(),
        }
    }

    /// Ends all DMA: by a VF reset, or if that does not work by an FLR.
    pub(crate) fn quiesce(&self, ticker: &Ticker) -> Result<(), Error> {
        match block_on(ticker, self.family.reset(self.io(ticker))) {
            Err(error) if !matches!(error, Error::Gone { .. }) => {
                log::warn!("{}: {error}; resetting the function", self.name);
                self.function.reset()?;
                self.rewire()
            }
            result => result,
        }
    }

    /// Puts the device to rest, in this order: queues and interrupts off by a VF reset, FLR, bus mastering off,
    /// message vectors off. True when at least one of the steps that end DMA is known to have worked. The second time
    /// it does nothing.
    pub(crate) fn close(&self) -> bool {
        if self.closed.swap(true, Ordering::Relaxed) {
            return true;
        }
        let ticker = Ticker::new(self.function.clock());
        // TIMEOUT: a port is closed within 100 ms (the FLR's own settling time aside, which is the backend's).
        ticker.limit_all(Some(Duration::from_millis(60)));
        let mut quiet = match block_on(&ticker, self.family.reset(self.io(&ticker))) {
            Ok(()) => true,
            // A function that is there but does not answer may still do DMA.
            Err(Error::Gone { .. }) => !self.is_on_the_bus(),
            Err(error) => {
                log::warn!("{}: while closing: {error}", self.name);
                false
            }
        };
        for (what, result) in [
            ("function-level reset", self.function.reset()),
            (
                "turning bus mastering off",
                self.function.set_bus_master(false),
            ),
        ] {
            match result {
                Ok(()) => quiet = true,
                // A device that is gone cannot be reset, and need not be.
                Err(vfnic_hw::PciError::Gone { .. }) => quiet = true,
                Err(error) => log::warn!("{}: {what} while closing: {error}", self.name),
            }
        }
        if let Err(error) = self.function.disable_vectors() {
            log::debug!("{}: {error}", self.name);
        }
        quiet
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.close();
    }
}

pub(super) fn not_ours(device: String, vendor: u16, id: u16) -> Error {
    let pf = Model::ALL
        .into_iter()
        .find(|model| vendor == 0x8086 && model.pf_device_id() == id);
    match pf {
        Some(model) => Error::PhysicalFunction {
            device,
            vendor,
            id,
            model,
        },
        None => Error::UnsupportedDevice { device, vendor, id },
    }
}
