//! Register addresses of the two VF families, once for the driver, the simulator and the dump tool.
//!
//! Names are the vendor's. A table says where a register is, how often it repeats and how it may be accessed; what its
//! bits mean is written in the driver and again, from the reference, in the simulator.

pub mod igbvf;
pub mod ixgbevf;

/// How a register may be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only; a write is a driver's mistake.
    Ro,
    /// Read and write.
    Rw,
    /// Write only; reads give 0.
    Wo,
    /// Cleared by reading it, or bits of it are.
    Rc,
    /// Reads clear it and writing 1 clears a bit.
    RcW1c,
    /// Writing 1 clears a bit.
    W1c,
    /// Writing 1 sets a bit, 0 is ignored.
    W1s,
}

/// One register, or an array of equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg {
    /// The vendor's name, without its prefix.
    pub name: &'static str,
    /// Offset of the first in BAR 0, in bytes.
    pub offset: u32,
    /// How many there are.
    pub count: u32,
    /// Bytes from one to the next.
    pub stride: u32,
    /// How it may be accessed.
    pub access: Access,
}

impl Reg {
    /// Offset of the only or first one.
    #[must_use]
    pub const fn addr(&self) -> u32 {
        self.offset
    }

    /// Offset of number `index`; an index past the last one gives the last one, and fails in debug builds, because
    /// indices are the driver's own constants and queue numbers it has already checked.
    #[must_use]
    pub const fn at(&self, index: u32) -> u32 {
        debug_assert!(index < self.count);
        let index = if index < self.count {
            index
        } else {
            self.count.saturating_sub(1)
        };
        self.offset
            .saturating_add(index.saturating_mul(self.stride))
    }

    /// Which number of this register is at `offset`, if any.
    #[must_use]
    pub const fn index_of(&self, offset: u32) -> Option<u32> {
        let Some(distance) = offset.checked_sub(self.offset) else {
            return None;
        };
        if self.count == 1 {
            return if distance == 0 { Some(0) } else { None };
        }
        match distance.checked_div(self.stride) {
            Some(index) if distance.is_multiple_of(self.stride) && index < self.count => {
                Some(index)
            }
            _ => None,
        }
    }
}

/// The register at `offset` in `table`, with its number.
#[must_use]
pub fn find(table: &'static [Reg], offset: u32) -> Option<(&'static Reg, u32)> {
    table
        .iter()
        .find_map(|reg| reg.index_of(offset).map(|index| (reg, index)))
}

macro_rules! registers {
    ($($(#[$doc:meta])+ $name:ident $([$count:literal; $stride:literal])? @ $offset:literal $access:ident;)*) => {
        $(
            $(#[$doc])+
            pub const $name: $crate::regs::Reg = $crate::regs::Reg {
                name: stringify!($name),
                offset: $offset,
                count: registers!(@or 1 $(, $count)?),
                stride: registers!(@or 4 $(, $stride)?),
                access: $crate::regs::Access::$access,
            };
        )*
        /// Every register of the table, in the order declared.
        pub const ALL: &[$crate::regs::Reg] = &[$($name),*];
    };
    (@or $default:literal) => { $default };
    (@or $default:literal, $given:literal) => { $given };
}
pub(crate) use registers;

#[cfg(test)]
mod tests {
    use super::*;

    fn no_two_registers_share_an_offset(table: &[Reg]) {
        let mut seen = std::collections::BTreeMap::new();
        for reg in table {
            for index in 0..reg.count {
                let at = reg.at(index);
                assert_eq!(at % 4, 0, "{} is not 32-bit aligned", reg.name);
                assert!(
                    at < 0x4000,
                    "{}[{index}] is outside the 16 KiB BAR",
                    reg.name
                );
                if let Some(other) = seen.insert(at, reg.name) {
                    panic!("{} and {other} are both at {at:#x}", reg.name);
                }
            }
        }
    }

    #[test]
    fn igbvf_registers_do_not_overlap() {
        no_two_registers_share_an_offset(igbvf::ALL);
    }

    #[test]
    fn ixgbevf_registers_do_not_overlap() {
        no_two_registers_share_an_offset(ixgbevf::ALL);
    }

    #[test]
    fn an_offset_finds_its_register_and_number() {
        let (reg, index) =
            find(ixgbevf::ALL, 0x1000 + 3 * 0x40 + 0x18).expect("VFRDT(3) is in the table");
        assert_eq!((reg.name, index), ("VFRDT", 3));
        assert_eq!(
            find(ixgbevf::ALL, 0x1000 + 8 * 0x40 + 0x18),
            None,
            "there is no ninth queue"
        );
        assert_eq!(
            find(igbvf::ALL, 0x2818 + 0x80),
            None,
            "igbvf queues are 0x100 apart"
        );
    }
}
