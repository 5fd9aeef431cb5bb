//! Rate limiting of a TX queue (ixgbevf.md §8.5), by virtual time: a frame may go when the time owed for those before it
//! has passed.

/// How far a queue may run ahead, in nanoseconds at its rate: what makes up for a caller that does not come at the instant
/// the hardware's timer would.
const AHEAD_NS: u64 = 100_000;

/// One queue's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    mbps: u32,
    /// When everything sent so far would have left at the limited rate, in picoseconds.
    owed: u128,
}

impl Limit {
    /// A limit of `mbps` Mb/s, at least 1.
    pub(crate) fn new(mbps: u32) -> Self {
        Self {
            mbps: mbps.max(1),
            owed: 0,
        }
    }

    /// When the next frame may go, in nanoseconds of the card's clock.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "nanoseconds since the card's start fit 64 bits for 584 years"
    )]
    pub(crate) const fn due(&self) -> u64 {
        ((self.owed / 1000) as u64).saturating_sub(AHEAD_NS)
    }

    /// Takes a frame of `len` bytes, CRC not included, at time `now`.
    pub(crate) fn take(&mut self, now: u64, len: usize) {
        let bits = (len as u128).saturating_add(4) << 3;
        let took = bits
            .saturating_mul(1_000_000)
            .div_euclid(u128::from(self.mbps));
        let now = u128::from(now).saturating_mul(1000);
        self.owed = self.owed.max(now).saturating_add(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_in_one_second(mbps: u32, len: usize, step_ns: u64) -> f64 {
        let mut limit = Limit::new(mbps);
        let mut bits = 0;
        for now in (0..1_000_000_000).step_by(usize::try_from(step_ns).expect("a small step")) {
            while limit.due() <= now {
                limit.take(now, len);
                bits += (len + 4) * 8;
            }
        }
        bits as f64 / 1e6
    }

    #[test]
    fn the_rate_is_kept_however_seldom_it_is_asked() {
        for mbps in [11, 100, 1000, 10_000] {
            for len in [60, 1514] {
                for step in [50_000, 10_000, 997] {
                    let got = sent_in_one_second(mbps, len, step);
                    // One second, what it may run ahead, and one frame.
                    let wanted = f64::from(mbps);
                    assert!(
                        got >= wanted * 0.999 && got <= wanted * 1.0002 + 0.025,
                        "{got} Mb/s of {mbps}, {len} bytes every {step} ns"
                    );
                }
            }
        }
    }

    #[test]
    fn silence_earns_no_credit_beyond_the_burst() {
        let mut limit = Limit::new(100);
        let start = 5_000_000_000;
        let mut frames = 0;
        while limit.due() <= start {
            limit.take(start, 1246);
            frames += 1;
        }
        // 100 microseconds of 100 Mb/s are 1250 bytes: one frame on credit, and the one that runs it out.
        assert_eq!(frames, 2);
    }
}
