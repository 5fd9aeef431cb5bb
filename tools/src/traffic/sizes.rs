//! Mixes of frame lengths.

use std::fmt;
use std::str::FromStr;

use super::frame;

/// Bytes that the hardware adds behind every frame.
pub(super) const CRC: usize = 4;
/// Shortest and longest length that may be asked for, CRC included; the upper bound is the largest frame an ixgbevf
/// may ask its PF for (ixgbevf.md §6.7).
const WIRE: std::ops::RangeInclusive<usize> = 64..=9728;

/// Simple IMIX: seven of 64, four of 594 and one of 1518 bytes in twelve, spread out.
const IMIX: [usize; 12] = [64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 594, 64];

/// Which frame lengths to send, as on the wire: the 4 bytes of CRC included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameSizes {
    /// All of one length, in bytes.
    Fixed(usize),
    /// Simple IMIX, 7:4:1 of 64, 594 and 1518 bytes.
    Imix,
}

impl FrameSizes {
    /// The pattern of lengths that repeats, in bytes with CRC.
    #[must_use]
    pub fn pattern(&self) -> Vec<usize> {
        match self {
            Self::Fixed(len) => vec![*len],
            Self::Imix => IMIX.to_vec(),
        }
    }

    /// The longest frame, in bytes with CRC.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Fixed(len) => *len,
            Self::Imix => 1518,
        }
    }

    /// The longest frame as software sees it, in bytes without CRC.
    #[must_use]
    pub fn longest_len(&self) -> usize {
        self.longest().max(frame::MIN_LEN + CRC) - CRC
    }

    /// The MTU these frames need: what is behind the 14 bytes of Ethernet header, 1500 at least.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        u16::try_from(self.longest_len() - 14)
            .unwrap_or(u16::MAX)
            .max(1500)
    }
}

impl fmt::Display for FrameSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(len) => write!(f, "{len}"),
            Self::Imix => f.write_str("imix"),
        }
    }
}

impl FromStr for FrameSizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("imix") {
            return Ok(Self::Imix);
        }
        match text.parse() {
            Ok(len) if WIRE.contains(&len) => Ok(Self::Fixed(len)),
            _ => Err(format!(
                "`{text}` is neither `imix` nor a frame length in bytes, CRC included, from {} to {}",
                WIRE.start(),
                WIRE.end()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imix_is_seven_to_four_to_one() {
        let count = |len| IMIX.iter().filter(|&&l| l == len).count();
        assert_eq!((count(64), count(594), count(1518)), (7, 4, 1));
    }

    #[test]
    fn lengths_are_those_of_the_wire() {
        let parse = |text: &str| text.parse::<FrameSizes>();
        assert_eq!(parse("64"), Ok(FrameSizes::Fixed(64)));
        assert_eq!(parse("1518").map(|s| s.mtu()), Ok(1500));
        assert_eq!(parse("9000").map(|s| s.mtu()), Ok(8982));
        assert_eq!(parse("IMIX"), Ok(FrameSizes::Imix));
        for bad in ["", "63", "9729", "-1", "64k", "jumbo"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
