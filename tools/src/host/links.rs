//! A PF's knobs for its VFs: reading and turning them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vfnic::MacAddr;

/// What a PF's driver says about one VF. What it does not say is `None`: not every driver has every knob.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VfSettings {
    /// The address the administrator set; all zero when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The VLAN the card tags and untags by itself; 0 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u32>,
    /// Its priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<u32>,
    /// Whose tag that VLAN's is: `802.1Q` or `802.1ad`. Kernels before 4.9 do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan_proto: Option<String>,
    /// Whether frames with another source address are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spoofchk: Option<bool>,
    /// Whether the VF may be promiscuous, and change its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<bool>,
    /// `auto`, `enable` or `disable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Whether the VF may read the PF's RSS table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_rss: Option<bool>,
    /// Least rate in Mbit/s; 0 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tx_rate: Option<u32>,
    /// Greatest rate in Mbit/s; 0 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tx_rate: Option<u32>,
}

/// One knob and where to turn it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The VF's address.
    Mac(MacAddr),
    /// The VLAN, 0 for none, its priority, and whether its tag is 802.1ad's.
    Vlan {
        /// 0 to 4094.
        id: u16,
        /// 0 to 7.
        qos: u8,
        /// 802.1ad in place of 802.1Q.
        ad: bool,
    },
    /// Anti-spoofing.
    SpoofCheck(bool),
    /// Trust.
    Trust(bool),
    /// The link state the VF sees.
    State(LinkState),
    /// Whether the VF may read the RSS table.
    QueryRss(bool),
    /// Rates in Mbit/s, as (least, greatest); 0 is none.
    Rate(u32, u32),
}

/// The link state a VF sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// The port's.
    Auto,
    /// Up, whatever the port's is.
    Enable,
    /// Down.
    Disable,
}

impl LinkState {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }
}

/// The protocol of a VLAN's tags, as `ip link` calls it.
#[must_use]
pub const fn vlan_protocol(ad: bool) -> &'static str {
    if ad { "802.1ad" } else { "802.1Q" }
}

impl VfSettings {
    /// Whether the VLAN's tag is 802.1ad's.
    #[must_use]
    pub fn is_ad(&self) -> bool {
        self.vlan_proto.as_deref() == Some(vlan_protocol(true))
    }
}

const fn switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

impl fmt::Display for Setting {
    /// As `ip link set PF vf N` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "mac {mac}"),
            Self::Vlan { id, qos, ad } => {
                write!(f, "vlan {id}")?;
                if *qos != 0 {
                    write!(f, " qos {qos}")?;
                }
                if *ad {
                    write!(f, " proto {}", vlan_protocol(true))?;
                }
                Ok(())
            }
            Self::SpoofCheck(on) => write!(f, "spoofchk {}", switch(*on)),
            Self::Trust(on) => write!(f, "trust {}", switch(*on)),
            Self::State(state) => write!(f, "state {}", state.name()),
            Self::QueryRss(on) => write!(f, "query_rss {}", switch(*on)),
            Self::Rate(least, most) => write!(f, "min_tx_rate {least} max_tx_rate {most}"),
        }
    }
}

impl Setting {
    /// Whether `settings` say that the knob is where this wants it.
    #[must_use]
    pub fn holds_in(&self, settings: &VfSettings) -> bool {
        match self {
            Self::Mac(mac) => settings.mac.as_deref() == Some(mac.to_string().as_str()),
            // Without a VLAN there is no tag.
            Self::Vlan { id, qos, ad } => {
                settings.vlan == Some((*id).into())
                    && settings.qos.unwrap_or(0) == u32::from(*qos)
                    && (*id == 0 || settings.is_ad() == *ad)
            }
            Self::SpoofCheck(on) => settings.spoofchk == Some(*on),
            Self::Trust(on) => settings.trust == Some(*on),
            Self::State(state) => settings.state.as_deref() == Some(state.name()),
            Self::QueryRss(on) => settings.query_rss == Some(*on),
            Self::Rate(least, most) => {
                settings.min_tx_rate.unwrap_or(0) == *least && settings.max_tx_rate == Some(*most)
            }
        }
    }

    /// The setting that puts this knob back to where `settings` had it, if they say.
    #[must_use]
    pub fn undo(&self, settings: &VfSettings) -> Option<Self> {
        Some(match self {
            Self::Mac(_) => Self::Mac(settings.mac.as_ref()?.parse().ok()?),
            Self::Vlan { .. } => Self::Vlan {
                id: u16::try_from(settings.vlan?).ok()?,
                qos: u8::try_from(settings.qos.unwrap_or(0)).ok()?,
                ad: settings.is_ad(),
            },
            Self::SpoofCheck(_) => Self::SpoofCheck(settings.spoofchk?),
            Self::Trust(_) => Self::Trust(settings.trust?),
            Self::State(_) => Self::State(match settings.state.as_deref()? {
                "auto" => LinkState::Auto,
                "enable" => LinkState::Enable,
                "disable" => LinkState::Disable,
                _ => return None,
            }),
            Self::QueryRss(_) => Self::QueryRss(settings.query_rss?),
            Self::Rate(..) => Self::Rate(settings.min_tx_rate.unwrap_or(0), settings.max_tx_rate?),
        })
    }

    fn apply(&self, settings: &mut VfSettings) {
        match self {
            Self::Mac(mac) => settings.mac = Some(mac.to_string()),
            Self::Vlan { id, qos, ad } => {
                settings.vlan = Some((*id).into());
                settings.qos = Some((*qos).into());
                settings.vlan_proto = Some(vlan_protocol(*ad).to_owned());
            }
            Self::SpoofCheck(on) => settings.spoofchk = Some(*on),
            Self::Trust(on) => settings.trust = Some(*on),
            Self::State(state) => settings.state = Some(state.name().to_owned()),
            Self::QueryRss(on) => settings.query_rss = Some(*on),
            Self::Rate(least, most) => {
                settings.min_tx_rate = Some(*least);
                settings.max_tx_rate = Some(*most);
            }
        }
    }
}

/// Where the knobs are.
pub trait Links: fmt::Debug {
    /// What the PF behind `interface` says of its VFs, by number.
    ///
    /// # Errors
    ///
    /// When it cannot be asked; `Unsupported` when nobody can be.
    fn read(&self, interface: &str) -> io::Result<BTreeMap<u16, VfSettings>>;

    /// Turns a knob.
    ///
    /// # Errors
    ///
    /// What the PF's driver answers.
    fn set(&self, interface: &str, vf: u16, setting: &Setting) -> io::Result<()>;
}

/// Nobody to ask: a tree of files.
#[derive(Clone, Copy, Debug)]
pub struct NoLinks;

fn nobody() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "a tree of files has no netlink, and this one no links.json",
    )
}

impl Links for NoLinks {
    fn read(&self, _interface: &str) -> io::Result<BTreeMap<u16, VfSettings>> {
        Err(nobody())
    }

    fn set(&self, _interface: &str, _vf: u16, _setting: &Setting) -> io::Result<()> {
        Err(nobody())
    }
}

type Record = BTreeMap<String, BTreeMap<u16, VfSettings>>;

/// What netlink said once, in a file: interface, VF, settings.
#[derive(Clone, Debug)]
pub struct RecordedLinks {
    file: PathBuf,
}

impl RecordedLinks {
    /// Those in `file`.
    #[must_use]
    pub const fn new(file: PathBuf) -> Self {
        Self { file }
    }

    fn load(&self) -> io::Result<Record> {
        let bad = |what: String| {
            let what = format!("{}: {what}", self.file.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        let size = fs::metadata(&self.file)?.len();
        if size > super::LARGEST {
            return Err(bad(format!(
                "{size} bytes are too many for a record of VFs"
            )));
        }
        // Line and column are the parser's.
        serde_json::from_str(&super::try_text(&self.file)?).map_err(|error| bad(error.to_string()))
    }
}

impl Links for RecordedLinks {
    fn read(&self, interface: &str) -> io::Result<BTreeMap<u16, VfSettings>> {
        self.load()?
            .remove(interface)
            .ok_or_else(|| io::Error::from_raw_os_error(rustix::io::Errno::NODEV.raw_os_error()))
    }

    fn set(&self, interface: &str, vf: u16, setting: &Setting) -> io::Result<()> {
        let mut record = self.load()?;
        let settings = record
            .get_mut(interface)
            .and_then(|vfs| vfs.get_mut(&vf))
            .ok_or_else(|| io::Error::from_raw_os_error(rustix::io::Errno::INVAL.raw_os_error()))?;
        // A knob that the driver did not speak of it does not have.
        if setting.undo(settings).is_none() {
            return Err(io::Error::from_raw_os_error(
                rustix::io::Errno::OPNOTSUPP.raw_os_error(),
            ));
        }
        setting.apply(settings);
        fs::write(&self.file, serde_json::to_string_pretty(&record)?)
    }
}
