//! The one way to a register: it knows when the device is gone.
//!
//! A bus answers a read that nobody takes with all ones. No register of these devices is all ones for good, but a
//! counter may pass through it, so the value is confirmed on a second register before the device counts as silent
//! (ixgbevf.md §2.3, igbvf.md §7.7). From then on nothing is read or written any more, until the control side has found
//! out which of two things it is: a function whose bus no longer answers for it is gone for good, one that is still
//! there is being reset by somebody else and may be back in a moment ([`Registers::revive`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use vfnic_hw::regs::Reg;
use vfnic_hw::{Doorbell, Mmio, PciError};

use crate::Error;
use crate::wait::{Patience, Ticker, block_on};

const ALL_ONES: u32 = u32::MAX;

/// What is known about the device: it answers, it did not the last time, it never will again.
const PRESENT: u8 = 0;
const SILENT: u8 = 1;
const GONE: u8 = 2;

/// The device does not answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// BAR 0 of a VF.
#[derive(Debug)]
pub(crate) struct Registers {
    mmio: Arc<dyn Mmio>,
    /// Reading it flushes posted writes and confirms a removal.
    status: u32,
    /// Confirms a removal when it is the status register that read all ones.
    second: u32,
    life: AtomicU8,
}

impl Registers {
    /// `status` and `second` are registers that can never read all ones.
    pub(crate) fn new(mmio: Arc<dyn Mmio>, status: Reg, second: Reg) -> Self {
        Self {
            mmio,
            status: status.addr(),
            second: second.addr(),
            life: AtomicU8::new(PRESENT),
        }
    }

    /// Reads the register at `offset`.
    pub(crate) fn read(&self, offset: u32) -> Result<u32, Gone> {
        if self.is_silent() {
            return Err(Gone);
        }
        let value = self.mmio.read32(offset);
        if value == ALL_ONES {
            let witness = if offset == self.status {
                self.second
            } else {
                self.status
            };
            if self.mmio.read32(witness) == ALL_ONES {
                self.turn(PRESENT, SILENT);
                return Err(Gone);
            }
        }
        Ok(value)
    }

    /// Writes the register at `offset`. Posted: the next read makes sure it has arrived.
    pub(crate) fn write(&self, offset: u32, value: u32) {
        if !self.is_silent() {
            self.mmio.write32(offset, value);
        }
    }

    /// Makes sure that everything written has arrived.
    pub(crate) fn flush(&self) -> Result<(), Gone> {
        self.read(self.status).map(drop)
    }

    /// Whether the device was found to answer no more, for now or for good.
    pub(crate) fn is_silent(&self) -> bool {
        self.life.load(Ordering::Relaxed) != PRESENT
    }

    /// Whether the device is gone for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.life.load(Ordering::Relaxed) == GONE
    }

    /// The device is gone for good.
    pub(crate) fn bury(&self) {
        self.life.store(GONE, Ordering::Relaxed);
    }

    /// Looks whether a silent device answers again. Its state is that after a reset then, whatever it was before.
    pub(crate) fn revive(&self) -> bool {
        let answers = [self.status, self.second]
            .iter()
            .any(|witness| self.mmio.read32(*witness) != ALL_ONES);
        if answers {
            self.turn(SILENT, PRESENT);
        }
        answers && !self.is_silent()
    }

    fn turn(&self, from: u8, to: u8) {
        // Whoever was faster has said the same, or that it is gone for good.
        let _ = self
            .life
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The tail register at `offset`, for the data path.
    pub(crate) fn doorbell(&self, offset: u32) -> Result<Doorbell, PciError> {
        self.mmio.doorbell(offset)
    }

    /// Waits, sleeping, until `mask` of the register at `offset` reads `wanted`; gives the value that did.
    pub(crate) async fn settle(
        &self,
        ticker: &Ticker,
        wait: Settle<'_>,
        patience: Patience,
    ) -> Result<u32, Error> {
        let mut seen = 0;
        let found = ticker
            .poll_until(patience, || {
                seen = self.read(wait.offset)?;
                Ok::<_, Gone>((seen & wait.mask == wait.wanted).then_some(seen))
            })
            .await;
        match found {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(expired)) => Err(Error::Register {
                device: wait.device.to_owned(),
                register: wait.register,
                wanted: wait.meaning,
                seen,
                waited: expired.waited,
            }),
            Err(Gone) => Err(Error::Gone {
                device: wait.device.to_owned(),
            }),
        }
    }

    /// As [`settle`](Self::settle), for a thread of the data path, which waits on the spot.
    pub(crate) fn settle_now(
        &self,
        ticker: &Ticker,
        wait: Settle<'_>,
        limit: Duration,
    ) -> Result<u32, Error> {
        let patience = Patience::new(Duration::from_micros(100), limit);
        block_on(ticker, self.settle(ticker, wait, patience))
    }
}

/// What to wait for on a register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settle<'a> {
    /// The device's name, for the error.
    pub(crate) device: &'a str,
    /// The register's name, for the error.
    pub(crate) register: &'static str,
    /// What is waited for in words, for the error.
    pub(crate) meaning: &'static str,
    /// Where the register is.
    pub(crate) offset: u32,
    /// The bits that matter.
    pub(crate) mask: u32,
    /// Their value.
    pub(crate) wanted: u32,
}
