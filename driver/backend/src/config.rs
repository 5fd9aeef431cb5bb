//! The few bytes of config space that every backend reads.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

use vfnic_hw::PciIds;

/// Bytes of the standard header that hold all ids.
pub(crate) const HEADER: usize = 0x30;
/// The command register.
pub(crate) const COMMAND: u16 = 4;
const BUS_MASTER: u16 = 1 << 2;

/// The ids in a config space header.
pub(crate) fn ids(header: &[u8; HEADER]) -> PciIds {
    let words = header.as_chunks::<2>().0;
    let word = |at: usize| words.get(at / 2).copied().map_or(0, u16::from_le_bytes);
    PciIds {
        vendor: word(0),
        device: word(2),
        revision: header[8],
        class: u32::from_le_bytes([header[9], header[10], header[11], 0]),
        subsystem_vendor: word(0x2c),
        subsystem: word(0x2e),
    }
}

/// A command register with bus mastering on or off and all else as it was.
pub(crate) fn with_bus_master(command: [u8; 2], on: bool) -> [u8; 2] {
    let old = u16::from_le_bytes(command);
    let new = if on {
        old | BUS_MASTER
    } else {
        old & !BUS_MASTER
    };
    new.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ids_of_a_82576_vf() {
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&[0x86, 0x80, 0xca, 0x10]);
        header[8..12].copy_from_slice(&[0x01, 0x00, 0x00, 0x02]);
        header[0x2c..].copy_from_slice(&[0xf4, 0x1a, 0x00, 0x11]);
        let ids = ids(&header);
        assert_eq!((ids.vendor, ids.device, ids.revision), (0x8086, 0x10ca, 1));
        assert_eq!(ids.class, 0x02_0000);
        assert_eq!((ids.subsystem_vendor, ids.subsystem), (0x1af4, 0x1100));
    }

    #[test]
    fn bus_mastering_is_one_bit() {
        assert_eq!(with_bus_master([0x03, 0x04], true), [0x07, 0x04]);
        assert_eq!(with_bus_master([0x07, 0x04], false), [0x03, 0x04]);
    }
}
