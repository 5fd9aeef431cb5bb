//! What a driver did that the hardware's rules forbid, recorded instead of guessed at later.

use std::fmt;
use std::time::Duration;

use vfnic_hw::Iova;

use crate::data::RingViolation;

/// Violations kept with all their details; further ones are only counted.
const KEPT: usize = 256;

/// One breach of the hardware's rules by whoever drives a VF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, by the card's clock.
    pub at: Duration,
    /// The VF it happened on.
    pub vf: u16,
    /// What was done.
    pub kind: ViolationKind,
}

/// The kinds of breach the card notices.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViolationKind {
    /// A write to a read-only register.
    ReadOnlyWrite {
        /// The register.
        register: String,
        /// What was written.
        value: u32,
    },
    /// An access to an offset where this family has no register.
    UnknownRegister {
        /// The offset in BAR 0.
        offset: u32,
        /// Whether it was a write.
        write: bool,
    },
    /// An access that is not aligned to 4 bytes or lies past the BAR.
    BadAccess {
        /// The offset asked for.
        offset: u32,
    },
    /// A ring whose base is not 128-byte aligned.
    RingBase {
        /// The queue's registers, as `RX 0`.
        queue: String,
        /// The base.
        base: u64,
    },
    /// A ring whose length is 0, not a multiple of 128 bytes, or too long.
    RingLength {
        /// The queue's registers, as `RX 0`.
        queue: String,
        /// The length in bytes.
        len: u32,
    },
    /// A tail at or beyond the ring's length.
    TailRange {
        /// The queue's registers, as `RX 0`.
        queue: String,
        /// The tail written.
        tail: u32,
        /// Descriptors in the ring.
        size: u32,
    },
    /// A tail written (other than 0) while the queue did not read as enabled.
    TailWhileDisabled {
        /// The queue's registers, as `RX 0`.
        queue: String,
        /// The tail written.
        tail: u32,
    },
    /// Ring geometry changed while the queue was enabled.
    ChangedWhileEnabled {
        /// The register.
        register: String,
        /// What was written.
        value: u32,
    },
    /// Mailbox memory written without owning it (VFU).
    MailboxWithoutLock {
        /// The word.
        word: u32,
    },
    /// A request signalled without having owned the mailbox memory since the last one.
    RequestWithoutLock,
    /// The VF reset itself while queues were still enabled.
    ResetWithQueuesEnabled {
        /// How many.
        queues: u32,
    },
    /// Memory unmapped while an enabled queue could still reach it.
    UnmapWhileEnabled {
        /// First address of the mapping.
        iova: Iova,
        /// Its length in bytes.
        len: usize,
    },
    /// DMA to an address that is not mapped for this function.
    DmaFault {
        /// The address.
        iova: Iova,
        /// How many bytes were wanted.
        len: usize,
        /// Whether the card wanted to write.
        write: bool,
    },
    /// A tail written while bus mastering was off: the DMA it asks for cannot happen.
    NoBusMaster {
        /// The queue's registers, as `RX 0`.
        queue: String,
    },
    /// A mistake on a ring, seen by the data path.
    Ring {
        /// The queue's number.
        queue: u8,
        /// What was wrong.
        what: RingViolation,
    },
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} VF {}: {}", self.at, self.vf, self.kind)
    }
}

impl fmt::Display for ViolationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadOnlyWrite { register, value } => {
                write!(f, "{value:#x} written to the read-only {register}")
            }
            Self::UnknownRegister { offset, write } => {
                let done = if *write { "write to" } else { "read of" };
                write!(f, "{done} offset {offset:#x}, where there is no register")
            }
            Self::BadAccess { offset } => {
                write!(f, "access at {offset:#x} is misaligned or past the BAR")
            }
            Self::RingBase { queue, base } => {
                write!(f, "{queue}: ring base {base:#x} is not 128-byte aligned")
            }
            Self::RingLength { queue, len } => write!(
                f,
                "{queue}: ring length {len} is not a multiple of 128 bytes in 128..=524288"
            ),
            Self::TailRange { queue, tail, size } => {
                write!(f, "{queue}: tail {tail} in a ring of {size} descriptors")
            }
            Self::TailWhileDisabled { queue, tail } => {
                write!(
                    f,
                    "{queue}: tail {tail} written before the queue read as enabled"
                )
            }
            Self::ChangedWhileEnabled { register, value } => {
                write!(
                    f,
                    "{value:#x} written to {register} while its queue was enabled"
                )
            }
            Self::MailboxWithoutLock { word } => {
                write!(
                    f,
                    "mailbox word {word} written without owning the buffer (VFU)"
                )
            }
            Self::RequestWithoutLock => {
                f.write_str("mailbox request signalled without having owned the buffer (VFU)")
            }
            Self::ResetWithQueuesEnabled { queues } => {
                write!(f, "VF reset with {queues} queues still enabled")
            }
            Self::UnmapWhileEnabled { iova, len } => {
                write!(f, "{len} bytes at {iova} unmapped under an enabled queue")
            }
            Self::DmaFault { iova, len, write } => {
                let done = if *write { "write" } else { "read" };
                write!(f, "DMA {done} of {len} bytes at unmapped {iova}")
            }
            Self::NoBusMaster { queue } => {
                write!(f, "{queue}: tail written while bus mastering was off")
            }
            Self::Ring { queue, what } => write!(f, "queue {queue}: {what:?}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// The record of violations: the first ones in full, the rest as a count.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    list: Vec<Violation>,
    total: u64,
}

impl Violations {
    /// Records one.
    #[cold]
    pub(crate) fn record(&mut self, at: Duration, vf: usize, kind: ViolationKind) {
        self.total += 1;
        log::debug!("violation on VF {vf}: {kind}");
        if self.list.len() < KEPT {
            let vf = u16::try_from(vf).unwrap_or(u16::MAX);
            self.list.push(Violation { at, vf, kind });
        }
    }

    /// Those kept, oldest first.
    pub(crate) fn list(&self) -> &[Violation] {
        &self.list
    }

    /// How many there were, including those not kept.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Takes those kept and starts over.
    pub(crate) fn take(&mut self) -> Vec<Violation> {
        self.total = 0;
        std::mem::take(&mut self.list)
    }
}
