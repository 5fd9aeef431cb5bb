//! RLIMIT_MEMLOCK, asked before the kernel is.
//!
//! The kernel counts what a process has pinned for devices and says no more than "out of memory" when that is too much;
//! the numbers have to be worked out here for the error to be of use.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing
    )
)]

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use vfnic_hw::DmaError;

/// CAP_IPC_LOCK: no limit applies.
const IPC_LOCK: u32 = 14;

/// What the kernel holds a process's pinned memory against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memlock {
    /// Bytes locked or pinned already.
    pub(crate) locked: u64,
    /// Bytes allowed; `None` is no limit.
    pub(crate) allowed: Option<u64>,
    /// The limit does not apply to this process.
    pub(crate) exempt: bool,
}

/// Where a process's pinned memory is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    /// With what it locked itself: VFIO's type 1 driver.
    Locked,
    /// Apart from that: iommufd. (The limit is held against the *user's* sum there, which nothing shows; this process's
    /// share is the best that can be had.)
    Pinned,
}

impl Memlock {
    /// This process's, as `proc` tells it. What cannot be read is taken to be in order: the kernel has the last word.
    pub(crate) fn read(proc: &Path, counter: Counter) -> Self {
        let status = fs::read_to_string(proc.join("self/status")).unwrap_or_default();
        let allowed = getrlimit(Resource::Memlock).current;
        Self::parse(&status, counter, allowed)
    }

    fn parse(status: &str, counter: Counter, allowed: Option<u64>) -> Self {
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let counter = match counter {
            Counter::Locked => "VmLck",
            Counter::Pinned => "VmPin",
        };
        let kib = field(counter)
            .and_then(|text| text.strip_suffix(" kB")?.trim().parse::<u64>().ok())
            .unwrap_or(0);
        let capabilities = field("CapEff")
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .unwrap_or(0);
        Self {
            locked: kib.saturating_mul(1024),
            allowed,
            exempt: capabilities >> IPC_LOCK & 1 == 1,
        }
    }

    /// The error for a mapping of `need` bytes, if the limit forbids it.
    pub(crate) fn check(&self, need: u64) -> Result<(), DmaError> {
        if self.exempt {
            Ok(())
        } else {
            self.limit(need)
        }
    }

    /// As [`check`](Self::check), for a process that the kernel has just refused: an exemption that holds only in the
    /// process's own user namespace is none.
    pub(crate) fn limit(&self, need: u64) -> Result<(), DmaError> {
        match self.allowed {
            Some(allowed) if self.locked.saturating_add(need) > allowed => Err(DmaError::Memlock {
                need,
                locked: self.locked,
                allowed,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Name:\tx\nVmLck:\t    4096 kB\nVmPin:\t     128 kB\nCapEff:\t0000000000000000\n";

    #[test]
    fn reads_what_is_locked_and_what_is_pinned() {
        let limit = Some(8 << 20);
        let locked = Memlock::parse(STATUS, Counter::Locked, limit);
        assert_eq!((locked.locked, locked.exempt), (4 << 20, false));
        let pinned = Memlock::parse(STATUS, Counter::Pinned, limit);
        assert_eq!(pinned.locked, 128 << 10);
    }

    #[test]
    fn h6_the_last_byte_allowed_is_allowed() {
        let memlock = Memlock::parse(STATUS, Counter::Locked, Some(8 << 20));
        assert!(memlock.check(4 << 20).is_ok());
        let error = memlock.check((4 << 20) + 4096).unwrap_err();
        let text = error.to_string();
        for number in ["4198400", "4194304", "8388608"] {
            assert!(text.contains(number), "{text}");
        }
        assert!(memlock.check(u64::MAX).is_err());
    }

    #[test]
    fn no_limit_and_an_exemption_let_everything_pass() {
        assert!(
            Memlock::parse(STATUS, Counter::Locked, None)
                .check(1 << 40)
                .is_ok()
        );
        let root = STATUS.replace("CapEff:\t0000000000000000", "CapEff:\t0000000000004000");
        let memlock = Memlock::parse(&root, Counter::Locked, Some(0));
        assert!(memlock.check(1 << 40).is_ok());
        assert!(memlock.limit(1 << 40).is_err());
        let other = STATUS.replace("CapEff:\t0000000000000000", "CapEff:\t0000000000002000");
        assert!(
            Memlock::parse(&other, Counter::Locked, Some(0))
                .check(1)
                .is_err()
        );
    }

    #[test]
    fn a_status_that_cannot_be_read_leaves_the_verdict_to_the_kernel() {
        let memlock = Memlock::parse("VmLck: lots\nCapEff: xyz\n", Counter::Locked, Some(1 << 20));
        assert_eq!(memlock.locked, 0);
        assert!(!memlock.exempt);
    }
}
