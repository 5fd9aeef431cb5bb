//! The address of a PCI function.
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

use std::fmt;
use std::str::FromStr;

use vfnic_hw::PciError;

/// `domain:bus:device.function`, as in `0000:31:10.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// Domain; more than 16 bits behind some controllers.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl FromStr for PciAddress {
    type Err = PciError;

    /// Takes exactly what the kernel prints, with or without the domain: fixed numbers of hexadecimal digits, nothing
    /// around them. The text ends up in paths, so nothing else may pass.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| PciError::Address {
            // Somebody else's 300 characters need not fill the terminal.
            text: text.chars().take(64).collect(),
        })
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (rest, function) = text.split_once('.')?;
    let mut parts = rest.rsplitn(3, ':');
    let device = hex(parts.next()?, 2..=2)?;
    let bus = hex(parts.next()?, 2..=2)?;
    let domain = parts.next().map_or(Some(0), |text| hex(text, 4..=8))?;
    let address = PciAddress {
        domain,
        bus: u8::try_from(bus).ok()?,
        device: u8::try_from(device).ok()?,
        function: u8::try_from(hex(function, 1..=1)?).ok()?,
    };
    (address.device < 32 && address.function < 8).then_some(address)
}

fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let only_digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (only_digits && digits.contains(&text.len()))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in ["0000:31:10.1", "10000:e1:1f.7", "ffff:00:00.0"] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
        }
        assert_eq!(
            "31:10.1".parse::<PciAddress>().unwrap().to_string(),
            "0000:31:10.1"
        );
        assert_eq!(
            "0000:3A:1F.7".parse::<PciAddress>().unwrap().to_string(),
            "0000:3a:1f.7"
        );
    }

    #[test]
    fn h23_refuses_everything_else() {
        let long = "0".repeat(300);
        for text in [
            "",
            "0000:00:00.8",
            "0000:00:20.0",
            "0000:zz:10",
            "0000:31:10",
            "0:31:10.1",
            "0000:31:10.1 ",
            "0000:31:10.1/../../x",
            "../0000:31:10.1",
            "0000:31:10.+1",
            "0000:31:١٠.1",
            "1:0000:31:10.1",
            ":31:10.1",
            &long,
        ] {
            let error = text.parse::<PciAddress>().unwrap_err();
            assert!(matches!(error, PciError::Address { .. }), "{text}");
            assert!(error.to_string().len() < 200);
        }
    }
}
