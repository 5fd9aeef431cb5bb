//! The regions of a VF as VFIO numbers them, and access to them by bytes.
//!
//! BAR 0 is forwarded register by register. BAR 3 holds the MSI-X table and pending bits; clients route vectors with
//! SET_IRQS and emulate the table themselves, so here it is memory that remembers. Nothing is offered for mapping: a
//! mapped tail would have to be polled, and QEMU gives up posted writes for the whole device.

use rustix::io::Errno;

use super::backend::VfBackend;
use super::wire::{MAX_DATA, Span};

/// Regions: six BARs, ROM, configuration space, VGA (`VFIO_PCI_*_REGION_INDEX`).
pub(crate) const COUNT: u32 = 9;
const BAR0: u32 = 0;
const BAR3: u32 = 3;
const CONFIG: u32 = 7;

/// `VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE`.
pub(crate) const READ_WRITE: u32 = 0b11;

/// Length of BAR 0 and of BAR 3 (ixgbevf.md §2.1, igbvf.md §1.2).
pub(crate) const BAR_LEN: u64 = 0x4000;
const CONFIG_LEN: u64 = 4096;
/// Where the pending bits are in BAR 3.
const PBA: usize = 0x2000;
/// Bytes of a table entry: address, address, data, control.
const ENTRY: usize = 16;

/// A region's length; 0 for one that is absent, `None` past the last.
pub(crate) const fn len(index: u32) -> Option<u64> {
    match index {
        BAR0 | BAR3 => Some(BAR_LEN),
        CONFIG => Some(CONFIG_LEN),
        0..COUNT => Some(0),
        _ => None,
    }
}

/// Checks that a span lies in its region; gives its first offset.
///
/// # Errors
///
/// `EINVAL` when it does not, or is empty or longer than a message may carry.
pub(crate) fn check(span: Span) -> Result<usize, Errno> {
    let len = len(span.region).ok_or(Errno::INVAL)?;
    let end = span.offset.checked_add(u64::from(span.count));
    if span.count == 0 || span.count as usize > MAX_DATA || end.is_none_or(|end| end > len) {
        return Err(Errno::INVAL);
    }
    usize::try_from(span.offset).map_err(|_| Errno::INVAL)
}

/// The MSI-X table, as a client that does not emulate it finds it.
#[derive(Debug)]
pub(crate) struct Table(Vec<u8>);

impl Table {
    /// Power-on state: every vector masked.
    pub(crate) fn new(vectors: u32) -> Self {
        let mut entry = [0; ENTRY];
        entry[12] = 1;
        Self(vec![entry; vectors as usize].into_flattened())
    }

    fn read(&self, offset: usize, data: &mut [u8], pending: u64) {
        let pending = pending.to_le_bytes();
        for (at, byte) in (offset..).zip(data) {
            let bits = at.checked_sub(PBA).and_then(|at| pending.get(at));
            *byte = self.0.get(at).or(bits).copied().unwrap_or(0);
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        for (at, &byte) in (offset..).zip(data) {
            let writable = match at % ENTRY {
                0 => 0xfc,
                1..12 => 0xff,
                12 => 0x01,
                _ => 0,
            };
            if let Some(old) = self.0.get_mut(at) {
                *old = (*old & !writable) | (byte & writable);
            }
        }
    }
}

/// Reads a checked span.
pub(crate) fn read(
    backend: &mut dyn VfBackend,
    table: &Table,
    pending: u64,
    span: Span,
    data: &mut [u8],
) {
    let Ok(offset) = check(span) else { return };
    match span.region {
        BAR0 => read_registers(backend, offset, data),
        BAR3 => table.read(offset, data, pending),
        CONFIG => backend.config_read(u16::try_from(offset).unwrap_or(0), data),
        _ => {}
    }
}

/// Writes a checked span.
pub(crate) fn write(backend: &mut dyn VfBackend, table: &mut Table, span: Span, data: &[u8]) {
    let Ok(offset) = check(span) else { return };
    match span.region {
        BAR0 => write_registers(backend, offset, data),
        BAR3 => table.write(offset, data),
        CONFIG => backend.config_write(u16::try_from(offset).unwrap_or(0), data),
        _ => {}
    }
}

/// Registers are 32 bits wide. A read of fewer bytes reads the whole register and gives those asked for, as the bus
/// does; a longer one reads one register after another, lowest first.
fn read_registers(backend: &mut dyn VfBackend, offset: usize, data: &mut [u8]) {
    let mut data = data;
    let mut at = offset;
    while !data.is_empty() {
        let value = backend.bar_read(register(at)).to_le_bytes();
        let asked = value.get(at % 4..).unwrap_or_default();
        let (piece, rest) = data.split_at_mut(asked.len().min(data.len()));
        for (place, &byte) in piece.iter_mut().zip(asked) {
            *place = byte;
        }
        data = rest;
        at = at.saturating_add(asked.len());
    }
}

/// Whole registers are written in order. The device has no byte enables: what covers only part of a register is dropped.
fn write_registers(backend: &mut dyn VfBackend, offset: usize, data: &[u8]) {
    // What stands before the first whole register.
    let head = offset.wrapping_neg() & 3;
    let Some(data) = data.get(head..) else { return };
    let registers = (offset..).skip(head).step_by(4);
    for (piece, at) in data.as_chunks::<4>().0.iter().zip(registers) {
        backend.bar_write(register(at), u32::from_le_bytes(*piece));
    }
}

/// The offset of the register that contains byte `at` of BAR 0.
fn register(at: usize) -> u32 {
    u32::try_from(at & !3).unwrap_or(0)
}
