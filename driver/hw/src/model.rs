//! The cards: five models in two families.

use std::fmt;
use std::str::FromStr;

/// Which driver's programming model a VF follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// 82576, I350.
    Igbvf,
    /// 82599, X540, X550.
    Ixgbevf,
}

/// A card model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Model {
    /// 1 GbE, 8 pools of 2 queue pairs; VF id 10ca (igbvf.md §1.1).
    I82576,
    /// 1 GbE, 8 pools of 1 queue pair; VF id 1520 (igbvf.md §1.1).
    I350,
    /// 10 GbE; VF id 10ed (ixgbevf.md §1.1).
    I82599,
    /// 10GBASE-T; VF id 1515 (ixgbevf.md §1.1).
    X540,
    /// 10GBASE-T with VF-owned RSS; VF ids 1565, 15a8, 15c5 (ixgbevf.md §1.1).
    X550,
}

impl Model {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] = [
        Self::I82576,
        Self::I350,
        Self::I82599,
        Self::X540,
        Self::X550,
    ];

    /// The family whose driver runs it.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::I82576 | Self::I350 => Family::Igbvf,
            Self::I82599 | Self::X540 | Self::X550 => Family::Ixgbevf,
        }
    }

    /// PCI device id of the VF (vendor 8086), the plain part's where a model has several.
    #[must_use]
    pub const fn vf_device_id(self) -> u16 {
        match self {
            Self::I82576 => 0x10ca,
            Self::I350 => 0x1520,
            Self::I82599 => 0x10ed,
            Self::X540 => 0x1515,
            Self::X550 => 0x1565,
        }
    }

    /// PCI device id of the PF that carries such VFs.
    #[must_use]
    pub const fn pf_device_id(self) -> u16 {
        match self {
            Self::I82576 => 0x10c9,
            Self::I350 => 0x1521,
            Self::I82599 => 0x10fb,
            Self::X540 => 0x1528,
            Self::X550 => 0x1563,
        }
    }

    /// The model a VF's ids belong to, if it is one of ours.
    #[must_use]
    pub const fn from_vf_ids(vendor: u16, device: u16) -> Option<Self> {
        match (vendor, device) {
            (0x8086, 0x10ca) => Some(Self::I82576),
            (0x8086, 0x1520) => Some(Self::I350),
            (0x8086, 0x10ed) => Some(Self::I82599),
            (0x8086, 0x1515) => Some(Self::X540),
            (0x8086, 0x1565 | 0x15a8 | 0x15c5) => Some(Self::X550),
            _ => None,
        }
    }

    /// The word for it in options, specs and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::I82576 => "82576",
            Self::I350 => "i350",
            Self::I82599 => "82599",
            Self::X540 => "x540",
            Self::X550 => "x550",
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|model| model.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                format!("no model `{text}`; the models are 82576, i350, 82599, x540, x550")
            })
    }
}
