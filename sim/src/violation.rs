//! What a driver did that the hardware's rules forbid, recorded instead of guessed at later.

use std::fmt;
use std::time::Duration;

use vfnic_hw::Iova;

use crate::counting::Count;
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
        self.total.count(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever reads it has this line and nothing else: which VF, what was done, with which value.
    #[test]
    fn a_violation_says_in_a_line_what_was_done_and_where() {
        use ViolationKind as Kind;
        let queue = || "TX 1".to_owned();
        let register = || "VFMTRC0".to_owned();
        let iova = Iova(0x7000);
        let of_tail = |tail, size| Kind::TailRange {
            queue: queue(),
            tail,
            size,
        };
        let dma = |write| Kind::DmaFault {
            iova,
            len: 60,
            write,
        };
        let unknown = |write| Kind::UnknownRegister {
            offset: 0x44,
            write,
        };
        let cases: Vec<(Kind, &[&str])> = vec![
            (
                Kind::ReadOnlyWrite {
                    register: register(),
                    value: 0x1f,
                },
                &["0x1f", "read-only", "VFMTRC0"],
            ),
            (unknown(true), &["write", "0x44"]),
            (unknown(false), &["read", "0x44"]),
            (Kind::BadAccess { offset: 6 }, &["0x6", "misaligned"]),
            (
                Kind::RingBase {
                    queue: queue(),
                    base: 0x1040,
                },
                &["TX 1", "0x1040"],
            ),
            (
                Kind::RingLength {
                    queue: queue(),
                    len: 100,
                },
                &["TX 1", "100", "128"],
            ),
            (of_tail(64, 64), &["TX 1", "tail 64", "64 descriptors"]),
            (
                Kind::TailWhileDisabled {
                    queue: queue(),
                    tail: 9,
                },
                &["TX 1", "tail 9", "enabled"],
            ),
            (
                Kind::ChangedWhileEnabled {
                    register: register(),
                    value: 0x80,
                },
                &["VFMTRC0", "0x80", "enabled"],
            ),
            (Kind::MailboxWithoutLock { word: 3 }, &["word 3", "VFU"]),
            (Kind::RequestWithoutLock, &["request", "VFU"]),
            (Kind::ResetWithQueuesEnabled { queues: 2 }, &["2 queues"]),
            (
                Kind::UnmapWhileEnabled { iova, len: 4096 },
                &["4096", "0x7000", "unmapped"],
            ),
            (dma(true), &["write", "60", "0x7000"]),
            (dma(false), &["read", "60", "0x7000"]),
            (
                Kind::NoBusMaster { queue: queue() },
                &["TX 1", "bus master"],
            ),
            (
                Kind::Ring {
                    queue: 1,
                    what: RingViolation::BaseMisaligned,
                },
                &["queue 1", "BaseMisaligned"],
            ),
            (Kind::Other("in words".to_owned()), &["in words"]),
        ];
        for (kind, parts) in cases {
            let at = Duration::from_millis(5);
            let text = Violation { at, vf: 7, kind }.to_string();
            for part in ["VF 7", "5ms"].iter().chain(parts) {
                assert!(text.contains(part), "{text}: no `{part}`");
            }
            assert!(!text.contains('\n') && text.len() < 120, "{text}");
        }
    }

    #[test]
    fn many_are_counted_and_the_first_are_kept() {
        let mut violations = Violations::default();
        for vf in 0..300 {
            violations.record(Duration::ZERO, vf, ViolationKind::RequestWithoutLock);
        }
        assert_eq!((violations.list().len(), violations.total()), (KEPT, 300));
        assert_eq!(violations.take()[255].vf, 255);
        assert_eq!((violations.list().len(), violations.total()), (0, 0));
    }
}
