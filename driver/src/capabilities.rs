//! What a port can do, and why not.

use crate::family::{ApiVersion, Family, Grant, Limits, MIN_MTU, Promisc};

/// Whether a port has a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It has.
    Available,
    /// It has not, for this reason.
    Unavailable(String),
}

impl Availability {
    /// Whether it is there.
    #[must_use]
    pub const fn is_available(&self) -> bool {
        matches!(self, Self::Available)
    }

    fn when(condition: bool, reason: &str) -> Self {
        if condition {
            Self::Available
        } else {
            Self::Unavailable(reason.to_owned())
        }
    }
}

impl std::fmt::Display for Availability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Available => f.write_str("available"),
            Self::Unavailable(reason) => write!(f, "not available: {reason}"),
        }
    }
}

/// What a port can do: model, PF and backend taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Version of the mailbox API agreed on with the PF; `None` on igbvf, which has but one.
    pub api: Option<ApiVersion>,
    /// Most queue pairs [`Port::start`](crate::Port::start) can give.
    pub max_queue_pairs: u16,
    /// What limits them.
    pub max_queue_pairs_why: &'static str,
    /// MTUs that can be set, in bytes.
    pub mtu: std::ops::RangeInclusive<u16>,
    /// The administrator set a port VLAN: every frame of the VF is in it, and tags are not the VF's business.
    pub port_vlan: bool,
    features: Vec<(&'static str, Availability)>,
}

impl Capabilities {
    pub(crate) fn of(family: Family, grant: &Grant, vectors: u32) -> Self {
        let limits = family.limits();
        let api = grant.api;
        let jumbo = jumbo(api);
        let promisc = |mode| match family.set_promisc(mode, grant) {
            Ok(_) => Availability::Available,
            Err(reason) => Availability::Unavailable(reason),
        };
        let spread = grant.pairs > 1;
        let owns_table = limits.reta_entries > 0;
        let features = vec![
            ("multi_queue", Availability::when(spread, grant.pairs_why)),
            (
                "rss",
                Availability::when(spread, "there is one receive queue only"),
            ),
            ("rss_key", rss_key(family, spread, limits)),
            (
                "rss_table",
                if owns_table {
                    Availability::when(spread, "there is one receive queue only")
                } else {
                    rss_key(family, spread, limits)
                },
            ),
            ("checksum", Availability::Available),
            ("tso", Availability::Available),
            ("jumbo", jumbo.clone()),
            (
                "vlan_filter",
                Availability::when(!grant.port_vlan, PORT_VLAN),
            ),
            (
                "vlan_insert",
                Availability::when(!grant.port_vlan, PORT_VLAN),
            ),
            ("vlan_strip", vlan_strip(family, grant)),
            ("multicast_list", Availability::Available),
            ("all_multicast", promisc(Promisc::AllMulticast)),
            ("promiscuous", promisc_all(family, grant)),
            (
                "interrupts",
                Availability::when(vectors > 0, "the function has no message vectors"),
            ),
            (
                "interrupt_per_queue",
                Availability::when(
                    vectors > 2,
                    "the function has fewer than three message vectors",
                ),
            ),
            (
                "admin_link_state",
                Availability::when(
                    api >= Some(ApiVersion::V1_2),
                    "the PF cannot be asked (ixgbevf mailbox API 1.2 and later)",
                ),
            ),
        ];
        let most = if jumbo.is_available() {
            limits.max_mtu
        } else {
            // A frame of 1518 bytes, or with a tag 1522 (ixgbevf.md §9.7).
            1500
        };
        Self {
            api,
            max_queue_pairs: grant.pairs,
            max_queue_pairs_why: grant.pairs_why,
            mtu: MIN_MTU..=most,
            port_vlan: grant.port_vlan,
            features,
        }
    }

    /// The feature called `name`, if there is such a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Availability> {
        self.features
            .iter()
            .find_map(|(known, availability)| (*known == name).then_some(availability))
    }

    /// Whether the feature called `name` is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(Availability::is_available)
    }

    /// Every feature, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Availability)> {
        self.features
            .iter()
            .map(|(name, availability)| (*name, availability))
    }
}

const PORT_VLAN: &str = "the administrator set a port VLAN for this VF";

fn jumbo(api: Option<ApiVersion>) -> Availability {
    match api {
        Some(api) if api < ApiVersion::V1_1 => Availability::Unavailable(format!(
            "the PF speaks mailbox API {api}, it takes 1.1 for frames of more than 1518 bytes"
        )),
        _ => Availability::Available,
    }
}

fn rss_key(family: Family, spread: bool, limits: Limits) -> Availability {
    match family {
        Family::Igbvf(_) => Availability::Unavailable("there is one receive queue only".to_owned()),
        Family::Ixgbevf(_) if limits.reta_entries == 0 => Availability::Unavailable(
            "the VF shares the PF's key and table; only X550 VFs have their own".to_owned(),
        ),
        Family::Ixgbevf(_) => Availability::when(spread, "there is one receive queue only"),
    }
}

fn vlan_strip(family: Family, grant: &Grant) -> Availability {
    match family {
        _ if grant.port_vlan => Availability::Unavailable(PORT_VLAN.to_owned()),
        Family::Igbvf(_) => Availability::Unavailable(
            "the PF decides: it strips tags as soon as the VF has a VLAN, and goes on doing so"
                .to_owned(),
        ),
        Family::Ixgbevf(_) => Availability::Available,
    }
}

fn promisc_all(family: Family, grant: &Grant) -> Availability {
    match family {
        // Asked for all the same: other PFs than Linux's may agree (igbvf.md §6.3, §6.8).
        Family::Igbvf(_) => Availability::Unavailable(
            "Linux's PF driver refuses it to every VF of these models".to_owned(),
        ),
        Family::Ixgbevf(_) => match family.set_promisc(Promisc::All, grant) {
            Ok(_) => Availability::Available,
            Err(reason) => Availability::Unavailable(reason),
        },
    }
}
