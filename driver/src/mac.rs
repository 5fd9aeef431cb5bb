//! Ethernet addresses.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A 48-bit Ethernet address, first byte on the wire first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// 00:00:00:00:00:00, which stands for "none assigned".
    pub const ZERO: Self = Self([0; 6]);

    /// Whether it names a group of stations, the broadcast address included.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether a VF may use it as its own: neither a group address nor all zeros.
    #[must_use]
    pub fn is_usable(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }

    /// Whether it was made up locally and not assigned by a vendor.
    #[must_use]
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 != 0
    }

    /// 01:80:C2:00:00:0x: addresses that bridges keep to themselves and a VF must not send to (ixgbevf.md §17.21).
    #[must_use]
    pub const fn is_link_local(self) -> bool {
        matches!(self.0, [0x01, 0x80, 0xc2, 0, 0, 0..=0x0f])
    }

    /// A random address, locally administered and unicast.
    ///
    /// Random enough not to meet another one on the same network; not a secret.
    #[must_use]
    pub fn random() -> Self {
        // The standard library seeds every RandomState from the operating system: no dependency for six bytes.
        let [a, b, c, d, e, f, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
        Self([(a & !1) | 2, b, c, d, e, f])
    }

    /// The address that a name stands for, locally administered and unicast: the same in every start, for a VF to which the
    /// PF assigns none. The name should not occur twice on a network: the machine's id and the PCI address make a good one.
    ///
    /// ```
    /// use vfnic::{MacAddr, MacChoice, PortConfig};
    ///
    /// let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    /// let address = MacAddr::of_name(&format!("{} 0000:31:10.1", machine.trim()));
    /// let config = PortConfig::default().mac(MacChoice::Set(address));
    /// # let _ = config;
    /// ```
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        // FNV-1a, 64 bits: the standard library's hashes may change from release to release.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
        Self([((a ^ g) & !1) | 2, b ^ h, c, d, e, f])
    }

    /// The group that frames for an IP group go to (RFC 1112 §6.4, RFC 2464 §7); `None` for what is no group.
    #[must_use]
    pub const fn of_group(group: IpAddr) -> Option<Self> {
        match group {
            IpAddr::V4(ip) if ip.is_multicast() => {
                let [_, b, c, d] = ip.octets();
                Some(Self([0x01, 0, 0x5e, b & 0x7f, c, d]))
            }
            IpAddr::V6(ip) if ip.is_multicast() => {
                let [.., w, x, y, z] = ip.octets();
                Some(Self([0x33, 0x33, w, x, y, z]))
            }
            _ => None,
        }
    }

    /// The group to which neighbours ask for `ip` (RFC 4291 §2.7.1). A VF that joins it, with
    /// [`Port::set_multicast`](crate::Port::set_multicast), can be found by IPv6 without being trusted or promiscuous.
    #[must_use]
    pub const fn solicited_node(ip: Ipv6Addr) -> Self {
        let [.., x, y, z] = ip.octets();
        Self([0x33, 0x33, 0xff, x, y, z])
    }

    /// The two mailbox words that carry it: byte 0 in bits 7:0 of the first (ixgbevf.md §6.7, igbvf.md §6.1).
    pub(crate) const fn to_words(self) -> [u32; 2] {
        let [a, b, c, d, e, f] = self.0;
        [
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, 0, 0]),
        ]
    }

    /// The address in two mailbox words; the upper half of the second is not part of it.
    pub(crate) const fn from_words(words: [u32; 2]) -> Self {
        let [a, b, c, d] = words[0].to_le_bytes();
        let [e, f, _, _] = words[1].to_le_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

impl From<MacAddr> for [u8; 6] {
    fn from(address: MacAddr) -> Self {
        address.0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Text that is not an Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an Ethernet address; write six bytes in hexadecimal, as 02:00:00:12:34:56"
)]
pub struct MacParseError {
    /// What was given.
    pub text: String,
}

impl FromStr for MacAddr {
    type Err = MacParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || MacParseError {
            text: text.to_owned(),
        };
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(refuse)?;
            // `from_str_radix` takes a sign, which an address has no use for.
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refuse());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() {
            return Err(refuse());
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailbox_words_are_the_golden_ones() {
        // ixgbevf.md §6.7, worked example.
        let address: MacAddr = "02:11:22:33:44:55".parse().expect("an address");
        assert_eq!(address.to_words(), [0x3322_1102, 0x0000_5544]);
        assert_eq!(MacAddr::from_words([0x3322_1102, 0xdead_5544]), address);
    }

    #[test]
    fn text_round_trips_and_rubbish_is_refused() {
        assert_eq!(
            "AA-bb-0c-01-02-ff"
                .parse::<MacAddr>()
                .map(|m| m.to_string()),
            Ok("aa:bb:0c:01:02:ff".to_owned())
        );
        for bad in [
            "",
            "02:11:22:33:44",
            "02:11:22:33:44:55:66",
            "2:11:22:33:44:55",
            "+2:11:22:33:44:55",
            "zz:11:22:33:44:55",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn groups_of_ip_have_their_documented_addresses() {
        let group = |ip: &str| MacAddr::of_group(ip.parse().expect("an address"));
        let text = |mac: Option<MacAddr>| mac.map(|mac| mac.to_string());
        assert_eq!(
            text(group("224.0.0.251")).as_deref(),
            Some("01:00:5e:00:00:fb")
        );
        // 23 bits of 28 only.
        assert_eq!(group("239.128.0.1"), group("239.0.0.1"));
        assert_eq!(
            text(group("ff02::1:2")).as_deref(),
            Some("33:33:00:01:00:02")
        );
        assert_eq!(group("192.0.2.1"), None);
        assert_eq!(group("2001:db8::1"), None);
        let ip: Ipv6Addr = "fe80::2aa:ff:fe28:9c5a".parse().expect("an address");
        // The example of RFC 4291, as RFC 2464 maps it.
        let solicited = "ff02::1:ff28:9c5a";
        assert_eq!(Some(MacAddr::solicited_node(ip)), group(solicited));
    }

    #[test]
    fn a_name_has_one_address_for_good() {
        let address = MacAddr::of_name("0123456789abcdef 0000:31:10.1");
        // Somebody's DHCP server knows it: a change here is a change there.
        assert_eq!(address.to_string(), "22:14:bd:9c:81:56");
        assert!(address.is_usable() && address.is_local());
        assert_ne!(address, MacAddr::of_name("0123456789abcdef 0000:31:10.3"));
        assert_ne!(MacAddr::of_name("a"), MacAddr::of_name("b"));
    }

    #[test]
    fn random_addresses_are_local_unicast_and_differ() {
        let (a, b) = (MacAddr::random(), MacAddr::random());
        assert!(a.is_local() && a.is_usable(), "{a}");
        assert_ne!(a, b);
    }
}
