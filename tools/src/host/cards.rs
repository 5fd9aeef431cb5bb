//! The VFs that somebody chose, by the card they are of: what is kept over a restart and handed to others is written
//! down card by card.

use anyhow::bail;
use vfnic::{DeviceSpec, MacAddr};

use super::Host;
use super::function::{Function, Role};
use super::links::{VfSettings, vlan_protocol};
use super::select;

/// A PF and those of its VFs that were chosen.
#[derive(Clone, Debug)]
pub struct Card {
    /// The PF, when it is to be seen here; in a guest it is not.
    pub pf: Option<Function>,
    /// The chosen VFs, by number.
    pub vfs: Vec<Function>,
}

impl Card {
    /// How many VFs the PF has, chosen or not.
    #[must_use]
    pub fn count(&self) -> u16 {
        let counts = self.pf.as_ref().and_then(|pf| pf.vfs);
        counts.map_or(0, |(on, _)| on)
    }

    /// Whether every VF of the card is among the chosen.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.pf.is_some() && self.vfs.len() == usize::from(self.count())
    }

    /// The PF's interface, when its name can stand in any file without quoting.
    #[must_use]
    pub fn plain_interface(&self) -> Option<&str> {
        let name = self.pf.as_ref()?.interfaces.first()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        (name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(plain))
            .then_some(name.as_str())
    }
}

/// The cards behind `spec`. A PF given by its address stands for itself with no VFs.
///
/// # Errors
///
/// When there are none, or a function is neither PF nor VF.
pub fn of(host: &Host, spec: &DeviceSpec) -> anyhow::Result<Vec<Card>> {
    let mut cards: Vec<Card> = Vec::new();
    for function in select::functions(host, spec)? {
        match function.role {
            Role::Other => bail!(
                "{} ({}) has nothing to do with SR-IOV; `vfnic list` shows PFs and VFs",
                function.address,
                function.ids
            ),
            Role::Pf => cards.push(Card {
                pf: Some(function),
                vfs: Vec::new(),
            }),
            Role::Vf => {
                let known = cards.iter_mut().find(|card| {
                    function.pf.is_some() && card.pf.as_ref().map(|pf| pf.at) == function.pf
                });
                match known {
                    Some(card) => card.vfs.push(function),
                    None => cards.push(Card {
                        pf: function.pf.and_then(|pf| Function::read(host, pf)),
                        vfs: vec![function],
                    }),
                }
            }
        }
    }
    for card in &mut cards {
        card.vfs.sort_by_key(|vf| (vf.vf, vf.at));
    }
    Ok(cards)
}

/// The VLAN a VF is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// 1 to 4094.
    pub id: u32,
    /// Its priority.
    pub qos: u32,
    /// Its tag is 802.1ad's, not 802.1Q's.
    pub ad: bool,
}

/// What the administrator has set for a VF beyond what a new one has: these words have to be said again after a
/// restart, and a driver that lacks a knob is not asked about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Its address.
    pub mac: Option<MacAddr>,
    /// Its VLAN.
    pub vlan: Option<Vlan>,
    /// The spoof check is off.
    pub spoofs: bool,
    /// It is trusted.
    pub trusted: bool,
    /// Its link is held up, or down.
    pub link: Option<bool>,
    /// It may read the RSS table.
    pub reads_rss: bool,
    /// Least and greatest rate in Mbit/s; 0 is none.
    pub rates: Option<(u32, u32)>,
}

impl Changed {
    /// That of `settings`.
    #[must_use]
    pub fn of(settings: Option<&VfSettings>) -> Self {
        let Some(settings) = settings else {
            return Self::default();
        };
        let rates = (
            settings.min_tx_rate.unwrap_or(0),
            settings.max_tx_rate.unwrap_or(0),
        );
        let mac: Option<MacAddr> = settings.mac.as_ref().and_then(|mac| mac.parse().ok());
        Self {
            mac: mac.filter(|mac| *mac != MacAddr([0; 6])),
            vlan: settings
                .vlan
                .filter(|vlan| (1..4095).contains(vlan))
                .map(|id| Vlan {
                    id,
                    qos: settings.qos.unwrap_or(0),
                    ad: settings.is_ad(),
                }),
            spoofs: settings.spoofchk == Some(false),
            trusted: settings.trust == Some(true),
            link: match settings.state.as_deref() {
                Some("enable") => Some(true),
                Some("disable") => Some(false),
                _ => None,
            },
            reads_rss: settings.query_rss == Some(true),
            rates: (rates != (0, 0)).then_some(rates),
        }
    }

    /// As words for `ip link set PF vf N …`; empty when nothing is changed.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        if let Some(mac) = self.mac {
            words.push(format!("mac {mac}"));
        }
        if let Some(Vlan { id, qos, ad }) = self.vlan {
            words.push(format!("vlan {id}"));
            if qos != 0 {
                words.push(format!("qos {qos}"));
            }
            if ad {
                words.push(format!("proto {}", vlan_protocol(ad)));
            }
        }
        if self.spoofs {
            words.push("spoofchk off".to_owned());
        }
        if self.trusted {
            words.push("trust on".to_owned());
        }
        match self.link {
            Some(true) => words.push("state enable".to_owned()),
            Some(false) => words.push("state disable".to_owned()),
            None => {}
        }
        if self.reads_rss {
            words.push("query_rss on".to_owned());
        }
        match self.rates {
            Some((0, most)) => words.push(format!("max_tx_rate {most}")),
            Some((least, most)) => words.push(format!("min_tx_rate {least} max_tx_rate {most}")),
            None => {}
        }
        words.join(" ")
    }
}
