//! OpenStack Nova's `[pci] device_spec`: which functions a compute node offers.
//!
//! Its two address grammars are Nova's own, not [`DeviceSpec`](vfnic::DeviceSpec)'s: in the string every part may be left
//! out or be `*`; in the object every part is a regular expression that has to match at the start of the part, and need
//! not reach its end.

use std::fmt;
use std::str::FromStr;

use regex_lite::Regex;
use serde_json::Value;
use vfnic::backend::PciAddress;

use super::function::Function;

/// A `device_spec` that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NovaError {
    text: String,
    what: String,
}

impl NovaError {
    fn new(text: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            what: what.into(),
        }
    }
}

impl fmt::Display for NovaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.text.chars().take(80).collect();
        write!(f, "`{shown}` is no device_spec of Nova's: {}", self.what)
    }
}

impl std::error::Error for NovaError {}

/// The string form of an address: `[[[[domain]:]bus]:][slot][.[function]]`, each part hexadecimal, `*` or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NovaGlob {
    /// Domain, bus, slot, function; `None` is any.
    parts: [Option<u32>; 4],
}

/// The greatest value of each part.
const MOST: [u32; 4] = [0xffff, 0xff, 0x1f, 7];
const NAMES: [&str; 4] = ["domain", "bus", "slot", "function"];

impl FromStr for NovaGlob {
    type Err = NovaError;

    fn from_str(text: &str) -> Result<Self, NovaError> {
        let (left, function) = text.split_once('.').unwrap_or((text, ""));
        let fields: Vec<&str> = left.split(':').collect();
        if fields.len() > 3 {
            return Err(NovaError::new(text, "more than two `:`"));
        }
        let mut parts = [None; 4];
        // Right-aligned: what is missing is missing at the front.
        for (at, field) in (3 - fields.len()..3).zip(&fields) {
            parts[at] = part(text, at, field)?;
        }
        parts[3] = part(text, 3, function)?;
        Ok(Self { parts })
    }
}

fn part(text: &str, at: usize, field: &str) -> Result<Option<u32>, NovaError> {
    if field.is_empty() || field == "*" {
        return Ok(None);
    }
    let name = NAMES[at];
    if !field.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(NovaError::new(
            text,
            format!("{name}: `{field}` is neither `*` nor a hexadecimal number"),
        ));
    }
    match u32::from_str_radix(field, 16) {
        Ok(value) if value <= MOST[at] => Ok(Some(value)),
        _ => Err(NovaError::new(
            text,
            format!("{name}: `{field}` is above {:x}", MOST[at]),
        )),
    }
}

const fn numbers(address: PciAddress) -> [u32; 4] {
    [
        address.domain,
        address.bus as u32,
        address.device as u32,
        address.function as u32,
    ]
}

impl NovaGlob {
    /// Whether `address` is meant.
    #[must_use]
    pub fn matches(&self, address: PciAddress) -> bool {
        self.parts
            .iter()
            .zip(numbers(address))
            .all(|(part, value)| part.is_none_or(|part| part == value))
    }

    /// The address, when no part is left open.
    #[must_use]
    pub fn exact(&self) -> Option<PciAddress> {
        let [Some(domain), Some(bus), Some(device), Some(function)] = self.parts else {
            return None;
        };
        Some(PciAddress {
            domain,
            bus: u8::try_from(bus).ok()?,
            device: u8::try_from(device).ok()?,
            function: u8::try_from(function).ok()?,
        })
    }
}

impl fmt::Display for NovaGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (part, width)) in self.parts.iter().zip([4, 2, 2, 1]).enumerate() {
            f.write_str(["", ":", ":", "."][at])?;
            match part {
                Some(value) => write!(f, "{value:0width$x}")?,
                None => f.write_str("*")?,
            }
        }
        Ok(())
    }
}

/// The object form of an address: a regular expression for each part.
#[derive(Clone, Debug)]
pub struct NovaExpressions {
    parts: [Option<Regex>; 4],
}

impl NovaExpressions {
    /// Reads `{"domain": …, "bus": …, "slot": …, "function": …}`, each of which may be missing.
    ///
    /// # Errors
    ///
    /// When there are other keys, or a value is no regular expression.
    pub fn parse(object: &serde_json::Map<String, Value>) -> Result<Self, NovaError> {
        let mut parts = [const { None }; 4];
        for (key, value) in object {
            let at = NAMES
                .iter()
                .position(|name| name == key)
                .ok_or_else(|| NovaError::new(key, "an address has domain, bus, slot, function"))?;
            let text = value
                .as_str()
                .ok_or_else(|| NovaError::new(value.to_string(), format!("{key}: text wanted")))?;
            let expression = Regex::new(&format!("^(?:{text})"))
                .map_err(|error| NovaError::new(text, format!("{key}: {error}")))?;
            parts[at] = Some(expression);
        }
        Ok(Self { parts })
    }

    /// Whether `address` is meant.
    #[must_use]
    pub fn matches(&self, address: PciAddress) -> bool {
        self.parts
            .iter()
            .zip(numbers(address))
            .zip([4, 2, 2, 1])
            .all(|((part, value), width)| {
                part.as_ref()
                    .is_none_or(|part| part.is_match(&format!("{value:0width$x}")))
            })
    }
}

#[derive(Clone, Debug)]
enum Where {
    Anywhere,
    Glob(NovaGlob),
    Expressions(NovaExpressions),
    Device(String),
}

/// One `device_spec`.
#[derive(Clone, Debug)]
pub struct NovaSpec {
    vendor: Option<u16>,
    product: Option<u16>,
    place: Where,
}

impl FromStr for NovaSpec {
    type Err = NovaError;

    /// Reads the JSON of one `device_spec`. Keys that choose nothing (`physical_network`, `trusted` …) are taken and ignored.
    fn from_str(text: &str) -> Result<Self, NovaError> {
        let object: serde_json::Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| NovaError::new(text, format!("a JSON object wanted: {error}")))?;
        let id = |key: &str| match object.get(key) {
            None => Ok(None),
            Some(Value::String(id)) if id == "*" => Ok(None),
            Some(Value::String(id)) => u16::from_str_radix(id.trim_start_matches("0x"), 16)
                .map(Some)
                .map_err(|_| NovaError::new(text, format!("{key}: `{id}` is no id"))),
            Some(_) => Err(NovaError::new(text, format!("{key}: text wanted"))),
        };
        let place = match (object.get("address"), object.get("devname")) {
            (Some(_), Some(_)) => {
                return Err(NovaError::new(text, "either address or devname, not both"));
            }
            (Some(Value::String(glob)), None) => Where::Glob(glob.parse()?),
            (Some(Value::Object(parts)), None) => {
                Where::Expressions(NovaExpressions::parse(parts)?)
            }
            (None, Some(Value::String(name))) => Where::Device(name.clone()),
            (None, None) => Where::Anywhere,
            _ => return Err(NovaError::new(text, "address or devname: text wanted")),
        };
        Ok(Self {
            vendor: id("vendor_id")?,
            product: id("product_id")?,
            place,
        })
    }
}

impl NovaSpec {
    /// Whether Nova would offer `function`. A PF meant by its full address or by name means its VFs as well.
    #[must_use]
    pub fn matches(&self, function: &Function) -> bool {
        let ids = self.vendor.is_none_or(|id| id == function.vendor_id)
            && self.product.is_none_or(|id| id == function.device_id);
        ids && match &self.place {
            Where::Anywhere => true,
            Where::Glob(glob) => {
                glob.matches(function.at) || (glob.exact().is_some() && glob.exact() == function.pf)
            }
            Where::Expressions(parts) => parts.matches(function.at),
            Where::Device(name) => {
                function.interfaces.contains(name) || function.pf_interface.as_ref() == Some(name)
            }
        }
    }
}
