//! Devices by name, simulated ones included.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, bail};
use vfnic::backend::vfio_user::{self, UserOptions, UserSpace};
use vfnic::backend::{OpenOptions, VfioSpace};
use vfnic::{DeviceSpec, MacAddr, PciAddress, Port, PortConfig, SimSpec, SpecError, System};
use vfnic_hw::Model;
use vfnic_sim::{Card, SimSpace};

/// VFs of a simulated card whose spec does not say.
const DEFAULT_VFS: u16 = 4;

/// A device spec, as written on the command line.
#[derive(Clone, Debug)]
pub struct Device {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Real(DeviceSpec),
    Simulated(SimDevice),
}

/// A VF of a simulated card: `sim:MODEL[/VF][?KEY=VALUE&…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SimDevice {
    model: Model,
    /// Which card of that model, when several are wanted.
    card: String,
    vf: u16,
    vfs: Option<u16>,
    seed: Option<u64>,
    mac: Option<MacAddr>,
    vlan: Option<u16>,
    trust: Option<bool>,
    mtu: Option<u16>,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A VF's number may stand behind a slash, which the common grammar leaves to the opener.
        let (plain, vf) = split_vf(text);
        let spec: DeviceSpec = plain.parse().map_err(|error| format!("{error}"))?;
        let kind = match spec {
            DeviceSpec::Sim(spec) => Kind::Simulated(SimDevice::new(text, &spec, vf)?),
            real => Kind::Real(real),
        };
        Ok(Self {
            text: text.to_owned(),
            kind,
        })
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn split_vf(text: &str) -> (String, Option<&str>) {
    if text.starts_with("sim:") {
        let (card, options) = text
            .split_once('?')
            .map_or((text, None), |(card, options)| (card, Some(options)));
        if let Some((model, vf)) = card.split_once('/') {
            let options = options
                .map(|options| format!("?{options}"))
                .unwrap_or_default();
            return (format!("{model}{options}"), Some(vf));
        }
    }
    (text.to_owned(), None)
}

impl SimDevice {
    fn new(text: &str, spec: &SimSpec, vf: Option<&str>) -> Result<Self, String> {
        let mut device = Self {
            model: spec.model,
            card: String::new(),
            vf: 0,
            vfs: None,
            seed: None,
            mac: None,
            vlan: None,
            trust: None,
            mtu: None,
        };
        if let Some(vf) = vf {
            device.vf = number(text, "VF", vf)?;
        }
        for (key, value) in &spec.options {
            match key.as_str() {
                "card" => device.card.clone_from(value),
                "vf" => device.vf = number(text, key, value)?,
                "vfs" => device.vfs = Some(number(text, key, value)?),
                "seed" => device.seed = Some(number(text, key, value)?),
                "mac" => {
                    let mac = value
                        .parse()
                        .map_err(|error| format!("`{text}`: {error}"))?;
                    device.mac = Some(mac);
                }
                "vlan" => device.vlan = Some(number(text, key, value)?),
                "trust" => device.trust = Some(switch(text, key, value)?),
                "mtu" => device.mtu = Some(number(text, key, value)?),
                _ => {
                    return Err(format!(
                        "`{text}`: a simulated card has no option `{key}`; the options are card, vf, vfs, seed, mac, vlan, trust, mtu"
                    ));
                }
            }
        }
        Ok(device)
    }
}

fn number<T: FromStr>(text: &str, key: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("`{text}`: {key}: `{value}` is not a number, or too large"))
}

fn switch(text: &str, key: &str, value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!(
            "`{text}`: {key}: `{value}` is neither `on` nor `off`"
        )),
    }
}

/// Simulated cards of this process, by model and name. They live until it ends, so that ports never outlive them.
static CARDS: Mutex<BTreeMap<(&'static str, String), Arc<Card>>> = Mutex::new(BTreeMap::new());

impl Device {
    /// Whether `other` means the same device, however written.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Real(one), Kind::Real(two)) => one == two,
            (Kind::Simulated(one), Kind::Simulated(two)) => {
                (one.model, &one.card, one.vf) == (two.model, &two.card, two.vf)
            }
            _ => false,
        }
    }

    /// How it is reached, in a word. Devices of one kind can share memory.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match &self.kind {
            Kind::Simulated(_) => "simulated",
            Kind::Real(DeviceSpec::VfioUser(_)) => "vfio-user",
            Kind::Real(_) => "vfio",
        }
    }

    /// Opens it in a space that others share.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_in(&self, spaces: &Spaces, config: PortConfig) -> anyhow::Result<Port> {
        let function = match &self.kind {
            Kind::Simulated(device) => {
                let card = device
                    .card()
                    .with_context(|| format!("cannot simulate {self}"))?;
                card.function_in(device.vf, &spaces.simulated)?
            }
            Kind::Real(DeviceSpec::VfioUser(path)) => {
                vfio_user::connect_in(path, &spaces.user, &UserOptions::default())
                    .map_err(vfnic::Error::from)?
            }
            Kind::Real(spec) => {
                let devices = spec.resolve()?;
                let [address] = devices.as_slice() else {
                    let spec = self.text.clone();
                    bail!(SpecError::Several { spec, devices });
                };
                vfnic::backend::open_in(&address.to_string(), spaces.vfio(spec, *address)?)
                    .map_err(vfnic::Error::from)?
            }
        };
        Ok(Port::from_function(function, config)?)
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// What the driver says, or why the simulated card cannot be as asked.
    pub fn open(&self, config: PortConfig) -> anyhow::Result<Port> {
        let Kind::Simulated(device) = &self.kind else {
            return Ok(Port::open_with(&self.text, config)?);
        };
        let card = device
            .card()
            .with_context(|| format!("cannot simulate {self}"))?;
        let function = card.function(device.vf)?;
        Ok(Port::from_function(function, config)?)
    }
}

/// IOVA spaces for devices that are to share memory, one for each kind.
#[derive(Debug)]
pub struct Spaces {
    /// Made for the first function: which token is sent is settled with it.
    vfio: OnceLock<VfioSpace>,
    user: UserSpace,
    simulated: SimSpace,
}

impl Default for Spaces {
    fn default() -> Self {
        Self {
            vfio: OnceLock::new(),
            user: UserSpace::new(),
            simulated: SimSpace::new(),
        }
    }
}

impl Spaces {
    fn vfio(&self, spec: &DeviceSpec, address: PciAddress) -> Result<&VfioSpace, SpecError> {
        if let Some(space) = self.vfio.get() {
            return Ok(space);
        }
        let vf_token = spec.vf_token_on(&System::this(), address)?;
        Ok(self.vfio.get_or_init(|| {
            VfioSpace::new(&OpenOptions {
                vf_token,
                ..OpenOptions::default()
            })
        }))
    }
}

impl SimDevice {
    /// The card, made if it is the first VF of it that is asked for, with the administrator's settings for this VF.
    fn card(&self) -> anyhow::Result<Arc<Card>> {
        let mut cards = CARDS.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.model.name(), self.card.clone());
        let card = if let Some(card) = cards.get(&key) {
            let have = card.vf_count();
            if self.vfs.is_some_and(|vfs| vfs != have) {
                bail!(
                    "the card exists already and has {have} VFs; give `vfs` once, or another `card`"
                );
            }
            Arc::clone(card)
        } else {
            let card = Card::builder(self.model)
                .vfs(
                    self.vfs
                        .unwrap_or_else(|| DEFAULT_VFS.max(self.vf.saturating_add(1))),
                )
                .seed(self.seed.unwrap_or(0))
                .threaded()
                .build()?;
            let card = Arc::new(card);
            cards.insert(key, Arc::clone(&card));
            card
        };
        let pf = card.pf();
        if let Some(mtu) = self.mtu {
            pf.set_mtu(mtu)?;
        }
        if let Some(MacAddr(mac)) = self.mac {
            pf.set_vf_mac(self.vf, mac)?;
        }
        if let Some(vlan) = self.vlan {
            pf.set_vf_vlan(self.vf, vlan, 0)?;
        }
        if let Some(trust) = self.trust {
            pf.set_vf_trust(self.vf, trust)?;
        }
        Ok(card)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulated(text: &str) -> SimDevice {
        match text.parse::<Device>().map(|device| device.kind) {
            Ok(Kind::Simulated(device)) => device,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_vf_can_be_named_both_ways() {
        assert_eq!(simulated("sim:x540/2").vf, 2);
        assert_eq!(simulated("sim:x540?vf=2").vf, 2);
        let both = simulated("sim:i350/1?vfs=3&card=b&trust=on&mac=02:00:00:00:00:09");
        assert_eq!((both.vf, both.vfs, both.card.as_str()), (1, Some(3), "b"));
        assert_eq!(both.mac, Some(MacAddr([2, 0, 0, 0, 0, 9])));
        assert_eq!((both.model, both.trust), (Model::I350, Some(true)));
    }

    #[test]
    fn a_vf_that_no_card_has_is_refused() {
        for text in ["sim:x540/63", "sim:x540/65535", "sim:x540?vf=65535"] {
            assert!(simulated(text).card().is_err(), "{text}");
        }
    }

    #[test]
    fn real_devices_are_left_to_the_driver() {
        for text in ["0000:31:10.1", "31:10.1", "eth0#0"] {
            let device: Device = text.parse().expect(text);
            assert!(matches!(device.kind, Kind::Real(_)), "{text}");
        }
    }

    #[test]
    fn a_device_is_itself_however_written() {
        let same = |one: &str, two: &str| {
            let [one, two] = [one, two].map(|text| text.parse::<Device>().expect(text));
            one.is(&two)
        };
        assert!(same("31:10.1", "0000:31:10.1"));
        assert!(same("sim:x540", "sim:x540/0?vfs=2"));
        assert!(!same("sim:x540", "sim:x540/1"));
        assert!(!same("sim:x540?card=a", "sim:x540?card=b"));
        assert!(!same("31:10.1", "sim:x540"));
    }

    #[test]
    fn nonsense_is_refused_with_what_was_asked() {
        for text in [
            "",
            "0000:zz:10",
            "sim:",
            "sim:e810",
            "sim:x540/x",
            "sim:x540?vf=-1",
            "sim:x540?speed=9",
            "sim:x540?trust=1",
        ] {
            let error = text.parse::<Device>().expect_err(text);
            assert!(error.contains(text), "{error}");
        }
    }
}
