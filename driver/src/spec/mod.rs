//! Device specs: one grammar for the library and the tools.
//!
//! | Spec | Means |
//! |---|---|
//! | `0000:31:10.1`, `31:10.1` | one PCI function |
//! | `eth0#0`, `eth0#0,2-7`, `eth0` | VFs of the PF behind a network interface, all of them without a range |
//! | `0000:31:00.0#0-3` | VFs of the PF at an address, as the Kubernetes device plugin's `rootDevices` writes them |
//! | `*:31:12.*` | every VF we drive whose address matches |
//! | `k8s:RESOURCE`, `k8s:RESOURCE/1` | what the Kubernetes SR-IOV device plugin gave this container |
//! | `vfio-user:PATH` | a device served on a Unix socket |
//! | `sim:82599`, `sim:x550?key=value&…` | a simulated card; the options are the opener's |
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

mod address;
mod parse;
mod resolve;
mod token;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use vfnic_hw::Model;

pub use address::PciPattern;
use parse::Cursor;
pub use resolve::System;
pub use vfnic_backend::PciAddress;

/// The grammar in one line.
const HINT: &str = "a device is written as 0000:31:10.1, 31:10.1, eth0#0,2-7, 0000:31:00.0#0-3, *:31:12.*, k8s:RESOURCE[/i], vfio-user:PATH or sim:82599[?key=value&…]";

/// Longer than any path the kernel takes; a spec beyond it is a mistake, and is not repeated in full.
const LONGEST: usize = 4096;

/// VFs of one PF have numbers below this (SR-IOV allows 65535, these cards have 64).
const MOST_VFS: u16 = 255;

/// A spec that cannot be read, or that names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// It breaks the grammar.
    #[error("`{spec}`, position {}: {what}; {hint}", at.saturating_add(1))]
    Syntax {
        /// The spec, shortened if it is very long.
        spec: String,
        /// Byte offset of what is wrong.
        at: usize,
        /// What is wrong.
        what: String,
        /// How to write it.
        hint: &'static str,
    },
    /// It can be read, but nothing on this machine answers to it.
    #[error("`{spec}` names no device here: {why}; {todo}")]
    Nothing {
        /// The spec.
        spec: String,
        /// What was looked for and not found.
        why: String,
        /// What to do.
        todo: &'static str,
    },
    /// What was to be a VF token is none.
    #[error(
        "the VF token in the environment variable {variable} is no UUID; one looks like 14d63f20-8445-11ea-8900-1f9ce7d5650d"
    )]
    Token {
        /// The variable.
        variable: String,
    },
    /// It names several devices where one was wanted.
    #[error("`{spec}` names {} devices, one was wanted: {}; name one of them", devices.len(), list(devices))]
    Several {
        /// The spec.
        spec: String,
        /// The devices.
        devices: Vec<PciAddress>,
    },
}

fn list(devices: &[PciAddress]) -> String {
    let text: Vec<_> = devices.iter().map(PciAddress::to_string).collect();
    text.join(", ")
}

impl SpecError {
    fn new(spec: &str, at: usize, what: impl Into<String>, hint: &'static str) -> Self {
        let shown = if spec.len() > 200 {
            let head: String = spec.chars().take(60).collect();
            format!("{head}… ({} bytes)", spec.len())
        } else {
            spec.to_owned()
        };
        Self::Syntax {
            spec: shown,
            at,
            what: what.into(),
            hint,
        }
    }
}

/// Which VFs of a PF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VfSet {
    /// All there are.
    All,
    /// These ranges of VF numbers, both ends included.
    Ranges(Vec<(u16, u16)>),
}

impl VfSet {
    /// Whether VF `number` is meant.
    #[must_use]
    pub fn contains(&self, number: u16) -> bool {
        match self {
            Self::All => true,
            Self::Ranges(ranges) => ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&number)),
        }
    }
}

impl fmt::Display for VfSet {
    /// As it stands behind a PF: `#0,2-7`, or nothing for all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Ranges(ranges) = self else {
            return Ok(());
        };
        let mut separator = '#';
        for (first, last) in ranges {
            write!(f, "{separator}{first}")?;
            if last != first {
                write!(f, "-{last}")?;
            }
            separator = ',';
        }
        Ok(())
    }
}

/// A device, or several, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceSpec {
    /// One PCI function.
    Pci(PciAddress),
    /// VFs of the PF behind a network interface.
    Netdev {
        /// The PF's interface.
        name: String,
        /// Which of its VFs.
        vfs: VfSet,
    },
    /// VFs of the PF at an address.
    OfPf {
        /// The PF.
        pf: PciAddress,
        /// Which of its VFs.
        vfs: VfSet,
    },
    /// Every VF we drive whose address matches.
    Pattern(PciPattern),
    /// What the Kubernetes SR-IOV device plugin gave this container.
    Kubernetes {
        /// The resource, as `intel.com/sriov_vfs`.
        resource: String,
        /// Which of its devices, when not all.
        index: Option<u16>,
    },
    /// A device served on a Unix socket.
    VfioUser(PathBuf),
    /// A simulated card.
    Sim(SimSpec),
}

/// A simulated card: the model, and options that only the simulator's opener understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimSpec {
    /// The card's model.
    pub model: Model,
    /// Key and value, in the order given.
    pub options: Vec<(String, String)>,
}

impl SimSpec {
    /// The last value given for `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.options
            .iter()
            .rev()
            .find_map(|(known, value)| (known == key).then_some(value.as_str()))
    }
}

impl FromStr for DeviceSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let cursor = Cursor::new(text, HINT);
        if text.is_empty() {
            return Err(cursor.error("an empty spec"));
        }
        if text.len() > LONGEST {
            return Err(cursor.skip(LONGEST).error("too long"));
        }
        if let Some(found) = text.find(|c: char| c.is_control()) {
            return Err(cursor.skip(found).error("a control character"));
        }
        if let Some(rest) = text.strip_prefix("sim:") {
            return sim(cursor.skip("sim:".len()), rest);
        }
        if let Some(path) = text.strip_prefix("vfio-user:") {
            if path.is_empty() {
                return Err(cursor
                    .skip("vfio-user:".len())
                    .error("a socket's path wanted"));
            }
            return Ok(Self::VfioUser(PathBuf::from(path)));
        }
        if text.starts_with("k8s:") {
            return kubernetes(cursor.skip("k8s:".len()));
        }
        if text
            .split('#')
            .next()
            .is_some_and(|name| name.contains(':'))
        {
            return pci(cursor);
        }
        netdev(cursor)
    }
}

fn pci(mut cursor: Cursor<'_>) -> Result<DeviceSpec, SpecError> {
    let start = cursor;
    let pattern = PciPattern::parse(&mut cursor)?;
    if cursor.rest().starts_with('#') {
        let Some(pf) = pattern.exact() else {
            return Err(start.error("one PF's whole address is wanted before VF numbers"));
        };
        let vfs = vf_numbers(cursor)?;
        return Ok(DeviceSpec::OfPf { pf, vfs });
    }
    cursor.end("the function")?;
    Ok(pattern
        .exact()
        .map_or(DeviceSpec::Pattern(pattern), DeviceSpec::Pci))
}

fn sim(cursor: Cursor<'_>, rest: &str) -> Result<DeviceSpec, SpecError> {
    let (model, options) = rest
        .split_once('?')
        .map_or((rest, None), |(model, options)| (model, Some(options)));
    let parsed: Model = model.parse().map_err(|error: String| cursor.error(error))?;
    let mut pairs = Vec::new();
    let mut at = cursor.behind(model);
    for option in options.into_iter().flat_map(|options| options.split('&')) {
        match option.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                pairs.push((key.to_owned(), value.to_owned()));
            }
            _ => return Err(at.error(format!("key=value wanted, found `{option}`"))),
        }
        at = at.behind(option);
    }
    Ok(DeviceSpec::Sim(SimSpec {
        model: parsed,
        options: pairs,
    }))
}

fn kubernetes(cursor: Cursor<'_>) -> Result<DeviceSpec, SpecError> {
    let text = cursor.rest();
    // A resource has a slash of its own (`intel.com/vfs`), so only a number behind the last one is an index.
    let (resource, index) = match text.rsplit_once('/') {
        Some((resource, digits))
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            let mut place = cursor.behind(resource);
            (resource, Some(place.decimal("index", MOST_VFS)?))
        }
        _ => (text, None),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_');
    if resource.is_empty() {
        return Err(cursor.error("a resource's name wanted, as intel.com/sriov_vfs"));
    }
    if let Some(bad) = resource.find(|c| !allowed(c)) {
        return Err(cursor
            .skip(bad)
            .error("a resource's name has letters, digits and `.`, `/`, `-`, `_` only"));
    }
    Ok(DeviceSpec::Kubernetes {
        resource: resource.to_owned(),
        index,
    })
}

fn netdev(cursor: Cursor<'_>) -> Result<DeviceSpec, SpecError> {
    let text = cursor.rest();
    let name = text.split('#').next().unwrap_or(text);
    // What the kernel takes for an interface's name, short of what nobody calls one: 15 bytes, no slash, no blank,
    // neither `.` nor `..`.
    if name.is_empty()
        || name.len() > 15
        || matches!(name, "." | "..")
        || name.contains(|c: char| matches!(c, '/' | ':') || !c.is_ascii_graphic())
    {
        return Err(cursor.error(format!(
            "`{name}` is neither an address nor an interface's name"
        )));
    }
    let name_owned = name.to_owned();
    let place = cursor.skip(name.len());
    let vfs = match place.rest().is_empty() {
        true => VfSet::All,
        false => vf_numbers(place)?,
    };
    Ok(DeviceSpec::Netdev {
        name: name_owned,
        vfs,
    })
}

/// `#0,2-7`, to the end.
fn vf_numbers(mut place: Cursor<'_>) -> Result<VfSet, SpecError> {
    place.expect('#', "between a PF and VF numbers")?;
    let mut ranges = Vec::new();
    loop {
        let first = place.decimal("VF number", MOST_VFS)?;
        let last = if place.rest().starts_with('-') {
            place = place.skip(1);
            place.decimal("VF number", MOST_VFS)?
        } else {
            first
        };
        if last < first {
            return Err(place.error(format!("the range {first}-{last} is empty")));
        }
        ranges.push((first, last));
        if place.rest().is_empty() {
            return Ok(VfSet::Ranges(ranges));
        }
        place.expect(',', "between VF numbers")?;
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => address.fmt(f),
            Self::Netdev { name, vfs } => write!(f, "{name}{vfs}"),
            Self::OfPf { pf, vfs } => write!(f, "{pf}{vfs}"),
            Self::Pattern(pattern) => pattern.fmt(f),
            Self::Kubernetes { resource, index } => {
                write!(f, "k8s:{resource}")?;
                index.map_or(Ok(()), |index| write!(f, "/{index}"))
            }
            Self::VfioUser(path) => write!(f, "vfio-user:{}", Path::display(path)),
            Self::Sim(sim) => {
                write!(f, "sim:{}", sim.model)?;
                let mut separator = '?';
                for (key, value) in &sim.options {
                    write!(f, "{separator}{key}={value}")?;
                    separator = '&';
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
