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
/// `EINVAL` when it does not, or is empty. A message may carry more than any region has.
pub(crate) fn check(span: Span) -> Result<usize, Errno> {
    const { assert!(BAR_LEN <= MAX_DATA as u64 && CONFIG_LEN <= BAR_LEN) };
    let len = len(span.region).ok_or(Errno::INVAL)?;
    let end = span.offset.checked_add(u64::from(span.count));
    if span.count == 0 || end.is_none_or(|end| end > len) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::{Blank, VfSource};

    fn opened() -> Box<dyn VfBackend> {
        Blank::default().open().expect("nobody has it")
    }

    #[test]
    fn whole_registers_are_written_where_they_stand_and_parts_are_dropped() {
        // From an offset on, which of the registers at 0x10, 0x14 and 0x18 twelve bytes or fewer cover.
        for offset in 0x10..0x18usize {
            for len in 0..=12 {
                let mut backend = opened();
                for register in [0x0c, 0x10, 0x14, 0x18, 0x1c, 0x20] {
                    backend.bar_write(register, 0xeeee_eeee);
                }
                let data: Vec<u8> = (1..=12).take(len).collect();
                write_registers(&mut *backend, offset, &data);
                for register in [0x0cusize, 0x10, 0x14, 0x18, 0x1c, 0x20] {
                    let first = register.checked_sub(offset);
                    let covered = first.and_then(|first| data.get(first..first + 4));
                    let expected = covered.map_or(0xeeee_eeee, |bytes| {
                        u32::from_le_bytes(bytes.try_into().expect("four"))
                    });
                    let got = backend.bar_read(u32::try_from(register).expect("small"));
                    assert_eq!(got, expected, "{len} bytes at {offset:#x}: {register:#x}");
                }
                // Reads give every byte, wherever they begin.
                let mut all = [0; 24];
                read_registers(&mut *backend, 0x0c, &mut all);
                let mut some = vec![0; len];
                read_registers(&mut *backend, offset, &mut some);
                assert_eq!(some, all[offset - 0x0c..][..len]);
            }
        }
    }

    #[test]
    fn the_table_takes_addresses_data_and_the_mask_and_nothing_past_its_end() {
        let mut table = Table::new(2);
        let mut bytes = [0xaa; 40];
        table.read(0, &mut bytes, 0);
        let mut expected = [0; 40];
        (expected[12], expected[28]) = (1, 1);
        assert_eq!(bytes, expected, "masked, else zero");
        table.write(0, &[0xff; 40]);
        table.read(0, &mut bytes, 0);
        for entry in expected.chunks_mut(16).take(2) {
            entry.copy_from_slice(&[
                0xfc, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0,
            ]);
        }
        assert_eq!(bytes, expected);
        // What is cleared is cleared, and only that.
        table.write(12, &[0, 0, 0, 0, 3, 0x5a]);
        table.read(0, &mut bytes, 0);
        (expected[12], expected[16], expected[17]) = (0, 0, 0x5a);
        assert_eq!(bytes, expected);
        // The pending bits stand in eight bytes of their own.
        let mut bits = [0xaa; 10];
        table.read(PBA - 1, &mut bits, 0x8000_0000_0000_0002);
        assert_eq!(bits, [0, 2, 0, 0, 0, 0, 0, 0, 0x80, 0]);
    }

    #[test]
    fn v23_a_span_ends_where_its_region_does() {
        let span = |region, offset, count| {
            check(Span {
                offset,
                region,
                count,
            })
        };
        for (region, len) in [(BAR0, 0x4000), (BAR3, 0x4000), (CONFIG, 4096)] {
            let last = usize::try_from(len - 4).expect("small");
            assert_eq!(span(region, len - 4, 4), Ok(last));
            assert_eq!(span(region, len - 4, 5), Err(Errno::INVAL));
            assert_eq!(span(region, len, 1), Err(Errno::INVAL));
            assert_eq!(span(region, u64::MAX, 1), Err(Errno::INVAL));
            assert_eq!(span(region, 0, 0), Err(Errno::INVAL));
        }
        assert_eq!(span(1, 0, 1), Err(Errno::INVAL));
        assert_eq!(span(COUNT, 0, 1), Err(Errno::INVAL));
    }
}
