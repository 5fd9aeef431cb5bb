//! Patterns of PCI addresses.

use std::fmt;

use vfnic_backend::PciAddress;

use super::SpecError;
use super::parse::Cursor;

/// Addresses by Nova's grammar: any part may be `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciPattern {
    domain: Option<u32>,
    bus: Option<u8>,
    device: Option<u8>,
    function: Option<u8>,
}

impl PciPattern {
    /// Reads one, and leaves the cursor behind it.
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, SpecError> {
        let domain = if cursor.rest().matches(':').count() >= 2 {
            let domain = cursor.number_or_star("domain", 8, u32::MAX)?;
            cursor.expect(':', "after the domain")?;
            domain
        } else {
            Some(0)
        };
        let bus = cursor.number_or_star("bus", 2, 0xff)?;
        cursor.expect(':', "after the bus")?;
        let device = cursor.number_or_star("device", 2, 0x1f)?;
        cursor.expect('.', "after the device")?;
        let function = cursor.number_or_star("function", 1, 7)?;
        let byte = |part: Option<u32>| part.and_then(|value| u8::try_from(value).ok());
        Ok(Self {
            domain,
            bus: byte(bus),
            device: byte(device),
            function: byte(function),
        })
    }

    /// The address, when no part is left open.
    pub(super) const fn exact(&self) -> Option<PciAddress> {
        match (self.domain, self.bus, self.device, self.function) {
            // Within their bits: that was looked at when they were read.
            (Some(domain), Some(bus), Some(device), Some(function)) => Some(PciAddress {
                domain,
                bus,
                device,
                function,
            }),
            _ => None,
        }
    }

    /// Whether `address` is one of those meant.
    #[must_use]
    pub fn matches(&self, address: PciAddress) -> bool {
        self.domain.is_none_or(|domain| domain == address.domain)
            && self.bus.is_none_or(|bus| bus == address.bus)
            && self.device.is_none_or(|device| device == address.device)
            && self
                .function
                .is_none_or(|function| function == address.function)
    }
}

impl fmt::Display for PciPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |f: &mut fmt::Formatter<'_>, value: Option<u32>, width: usize| match value {
            Some(value) => write!(f, "{value:0width$x}"),
            None => f.write_str("*"),
        };
        part(f, self.domain, 4)?;
        f.write_str(":")?;
        part(f, self.bus.map(u32::from), 2)?;
        f.write_str(":")?;
        part(f, self.device.map(u32::from), 2)?;
        f.write_str(".")?;
        part(f, self.function.map(u32::from), 1)
    }
}
