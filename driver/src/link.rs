//! Link state.

/// A link's speed and duplex.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Speed {
    /// Megabits per second; 0 when the hardware shows a code that has no meaning.
    pub(crate) mbps: u32,
    pub(crate) full_duplex: bool,
}

/// What the registers say, before debouncing and before the administrator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawLink {
    pub(crate) up: bool,
    pub(crate) speed: Speed,
}

/// The state of a port's link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Frames can pass.
    Up {
        /// Megabits per second; 0 when the hardware shows a reserved code.
        mbps: u32,
        /// Whether both directions work at once.
        full_duplex: bool,
    },
    /// No link, or switched off by the administrator, or the PF is in reset.
    #[default]
    Down,
}

impl Link {
    /// Whether frames can pass.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Down => f.write_str("down"),
            Self::Up { mbps: 0, .. } => f.write_str("up, speed unknown"),
            Self::Up { mbps, full_duplex } => {
                write!(
                    f,
                    "up, {mbps} Mb/s{}",
                    if *full_duplex { "" } else { " half duplex" }
                )
            }
        }
    }
}

impl From<RawLink> for Link {
    fn from(raw: RawLink) -> Self {
        if raw.up {
            Self::Up {
                mbps: raw.speed.mbps,
                full_duplex: raw.speed.full_duplex,
            }
        } else {
            Self::Down
        }
    }
}
