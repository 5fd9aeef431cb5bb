//! A VF's PCI configuration space, as the kernel shows it through VFIO (ixgbevf.md §2.2, igbvf.md §1.2).

use vfnic_hw::{Family, Model, PciIds};

/// Bytes of configuration space.
pub(crate) const LEN: usize = 4096;

/// Command register: offset and the bits a VF has (memory space is the kernel's emulation; bus master is real).
const COMMAND: usize = 0x04;
const COMMAND_MEMORY: u8 = 1 << 1;
const COMMAND_BUS_MASTER: u8 = 1 << 2;

/// MSI-X capability.
const MSIX: usize = 0x70;
/// PCI Express capability.
const PCIE: usize = 0xa0;
/// Device control, with the bit that resets the function.
const DEVICE_CONTROL: usize = PCIE + 8;
const START_FLR: u8 = 1 << 7;

/// What a write did besides storing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The function was told to reset itself.
    pub(crate) flr: bool,
    /// The command register was written.
    pub(crate) command: bool,
}

/// Puts `value` at `at`.
fn lay<const N: usize>(space: &mut [u8; LEN], at: usize, value: [u8; N]) {
    debug_assert!(
        at.saturating_add(N) <= LEN,
        "{at:#x} is in configuration space"
    );
    for (place, byte) in space.iter_mut().skip(at).zip(value) {
        *place = byte;
    }
}

/// One VF's configuration space.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    bytes: Box<[u8; LEN]>,
    writable: Box<[u8; LEN]>,
    ids: PciIds,
}

impl Config {
    pub(crate) fn new(model: Model, device: u16) -> Self {
        let ids = PciIds {
            vendor: 0x8086,
            device,
            subsystem_vendor: 0x8086,
            subsystem: match model.family() {
                Family::Igbvf => 0xa03c,
                Family::Ixgbevf => 0x000c,
            },
            revision: 1,
            class: 0x02_0000,
        };
        let mut config = Self {
            bytes: Box::new([0; LEN]),
            writable: Box::new([0; LEN]),
            ids,
        };
        config.lay_out(model);
        config
    }

    pub(crate) const fn ids(&self) -> PciIds {
        self.ids
    }

    fn lay_out(&mut self, model: Model) {
        let ids = self.ids;
        self.put16(0x00, ids.vendor);
        self.put16(0x02, ids.device);
        // Status: capability list.
        self.put16(0x06, 0x0010);
        self.put32(0x08, (ids.class << 8) | u32::from(ids.revision));
        // BAR 0 and BAR 3: 64-bit memory, prefetchable, 16 KiB each; the rest does not exist.
        self.put32(0x10, 0x0000_000c);
        self.put32(0x1c, 0x0000_000c);
        self.allow(0x10, 0xffff_c000);
        self.allow(0x14, u32::MAX);
        self.allow(0x1c, 0xffff_c000);
        self.allow(0x20, u32::MAX);
        self.put16(0x2c, ids.subsystem_vendor);
        self.put16(0x2e, ids.subsystem);
        self.put8(0x34, 0x70);
        self.allow(COMMAND, u32::from(COMMAND_MEMORY | COMMAND_BUS_MASTER));
        // MSI-X: three vectors, table at 0 and PBA at 0x2000 of BAR 3; enable and function mask can be written.
        self.put32(MSIX, 0x0002_a011);
        self.put32(MSIX + 4, 0x0000_0003);
        self.put32(MSIX + 8, 0x0000_2003);
        self.allow(MSIX, 0xc000_0000);
        // PCI Express: endpoint, version 2, able to reset itself.
        self.put32(PCIE, 0x0002_0010);
        self.put32(PCIE + 4, 0x1000_8020);
        self.put32(PCIE + 0xc, 0x0000_0411);
        // Extended: AER at 0x100, ARI at 0x150; the X550 goes on with TPH and ACS.
        self.put32(0x100, (0x150 << 20) | 0x0001_0001);
        if matches!(model, Model::X550) {
            self.put32(0x150, (0x1a0 << 20) | 0x0001_000e);
            self.put32(0x1a0, (0x1b0 << 20) | 0x0001_0017);
            self.put32(0x1b0, 0x0001_000d);
        } else {
            self.put32(0x150, 0x0001_000e);
        }
    }

    fn put8(&mut self, at: usize, value: u8) {
        lay(&mut self.bytes, at, [value]);
    }

    fn put16(&mut self, at: usize, value: u16) {
        lay(&mut self.bytes, at, value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        lay(&mut self.bytes, at, value.to_le_bytes());
    }

    fn allow(&mut self, at: usize, mask: u32) {
        lay(&mut self.writable, at, mask.to_le_bytes());
    }

    /// Whether the function may do DMA and send messages.
    pub(crate) fn bus_master(&self) -> bool {
        let command = self.bytes.get(COMMAND);
        command.is_some_and(|command| command & COMMAND_BUS_MASTER != 0)
    }

    /// What FLR does: command and MSI-X control to 0. BARs are the kernel's to keep.
    pub(crate) fn reset(&mut self) {
        self.put8(COMMAND, 0);
        self.put8(MSIX + 3, 0);
    }

    /// Copies what is at `offset`; false when that is not all inside.
    pub(crate) fn read(&self, offset: u16, data: &mut [u8]) -> bool {
        let start = usize::from(offset);
        match self.bytes.get(start..start.saturating_add(data.len())) {
            Some(bytes) => {
                data.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// Writes the bits that can be written; `None` when that is not all inside.
    pub(crate) fn write(&mut self, offset: u16, data: &[u8]) -> Option<Effect> {
        let start = usize::from(offset);
        let places = start..start.checked_add(data.len())?;
        let bytes = self.bytes.get_mut(places.clone())?;
        let masks = self.writable.get(places.clone())?;
        let mut effect = Effect::default();
        for (((at, place), &mask), &byte) in places.zip(bytes).zip(masks).zip(data) {
            *place = (*place & !mask) | (byte & mask);
            effect.command |= at == COMMAND;
            effect.flr |= at == DEVICE_CONTROL + 1 && byte & START_FLR != 0;
        }
        Some(effect)
    }
}
