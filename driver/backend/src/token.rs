//! The secret of a PF that is itself in the hands of a VFIO user.

use std::fmt;
use std::str::FromStr;

/// A VF token: the UUID that the owner of a PF bound to vfio-pci has set, and that whoever opens one of its VFs must
/// know. PFs with a kernel driver have none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VfToken(pub [u8; 16]);

impl fmt::Display for VfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// It is a secret: not in logs.
impl fmt::Debug for VfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VfToken(…)")
    }
}

impl FromStr for VfToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = || "a VF token is a UUID, as 14d63f20-8445-11ea-8900-1f9ce7d5650d".to_owned();
        let parts: Vec<_> = text.split('-').map(str::len).collect();
        if parts != [8, 4, 4, 4, 12] || !text.is_ascii() {
            return Err(problem());
        }
        let digits: Option<Vec<u8>> = text
            .chars()
            .filter(|&c| c != '-')
            .map(|digit| u8::try_from(digit.to_digit(16)?).ok())
            .collect();
        let digits = digits.ok_or_else(problem)?;
        let mut token = [0; 16];
        for (byte, [high, low]) in token.iter_mut().zip(digits.as_chunks().0) {
            *byte = high << 4 | low;
        }
        Ok(Self(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints_and_nothing_else() {
        let text = "14d63f20-8445-11ea-8900-1f9ce7d5650d";
        let token: VfToken = text.parse().unwrap();
        assert_eq!(token.to_string(), text);
        assert_eq!(token.0[..2], [0x14, 0xd6]);
        assert!(!format!("{token:?}").contains("14d6"));
        for bad in [
            "",
            "14d63f20844511ea89001f9ce7d5650d",
            &text.replace('d', "x"),
            &text.replace("14", "+4"),
            &text[1..],
        ] {
            assert!(bad.parse::<VfToken>().is_err(), "{bad}");
        }
    }
}
