//! The PF's side: what its driver keeps of each VF, how it answers mailbox messages, and its administrator's knobs.
//!
//! Linux's PF drivers (ixgbe and igb) are the model, with DPDK's as a variant (ixgbevf.md §6.8, igbvf.md §6.2-6.7).
//! `task` is the mailbox interrupt; `ixgbe`, `igb` and `dpdk` answer; `port` brings the whole port up and down.

mod addresses;
mod dpdk;
mod error;
mod igb;
mod ixgbe;
mod knobs;
mod port;
mod task;
mod turn;

use std::collections::VecDeque;
use std::time::Duration;

use vfnic_hw::{Family, Model};

use crate::builder::CardBuilder;
use crate::counting::Count;
use crate::data::{LinkState, Mac};
use crate::fault::Random;
use crate::per_vf::PerVf;

pub use error::PfError;
pub use knobs::{Pf, VfInfo, VfLink};

/// Message bit: done (ixgbevf.md §6.5).
const SUCCESS: u32 = 1 << 31;
/// Message bit: refused.
const FAILURE: u32 = 1 << 30;
/// Message bit: clear to send.
const CTS: u32 = 1 << 29;
/// PF to VF: ping.
const PF_CONTROL: u32 = 0x0100;
/// Reset handshake; the one message that is compared whole.
const RESET: u32 = 0x01;

/// Most multicast hashes a PF keeps of a VF.
const MOST_HASHES: usize = 30;

/// Whose PF driver the card has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PfPersonality {
    /// ixgbe or igb.
    #[default]
    Linux,
    /// net_ixgbe or net_e1000_igb: no clear-to-send rule for requests, a MAC address for every VF, short replies.
    Dpdk,
}

/// Which part of the X550 family the VFs show; other models have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// X550: 1565.
    #[default]
    Plain,
    /// X550EM_x (Xeon D): 15a8.
    EmX,
    /// X550EM_a (Atom C3000): 15c5.
    EmA,
}

impl Variant {
    /// The VF's device id.
    pub(crate) const fn device_id(self, model: Model) -> u16 {
        match (model, self) {
            (Model::X550, Self::EmX) => 0x15a8,
            (Model::X550, Self::EmA) => 0x15c5,
            _ => model.vf_device_id(),
        }
    }
}

/// What the PF driver keeps.
#[derive(Debug)]
pub(crate) struct PfState {
    personality: PfPersonality,
    /// API versions accepted, as numbers on the wire.
    api_versions: Vec<u32>,
    /// How long it takes over a message, twice: until it has read it, and until it replies.
    delay: Duration,
    /// How long a reset of the port takes by itself.
    reset_time: Duration,
    /// The interface is up (administratively).
    up: bool,
    /// The port is being reset; it comes back then.
    back_at: Option<Duration>,
    mtu: u16,
    promiscuous: bool,
    all_multicast: bool,
    /// Its own address.
    mac: Mac,
    /// Addresses behind it: `bridge fdb`.
    fdb: Vec<Mac>,
    /// The cable.
    cable: LinkState,
    /// Link was down since VFLINKS was read last: bit 7 is latched low.
    link_latch: bool,
    /// Longest frame any VF asked for: MAXFRS is only ever raised.
    max_frame: u32,
    vfs: PerVf<PfVf>,
}

/// What it keeps of one VF.
#[derive(Debug, Default)]
struct PfVf {
    mac: Mac,
    /// The administrator set it.
    mac_administered: bool,
    trusted: bool,
    spoofchk: bool,
    link: VfLink,
    /// VFTE and VFRE are to be set.
    link_enable: bool,
    vlan: u16,
    qos: u8,
    max_tx_rate: u32,
    rss_query: bool,
    clear_to_send: bool,
    api: u32,
    hashes: Vec<u16>,
    /// The VF asked for more multicast addresses than there is room for (igb).
    hash_overflow: bool,
    /// Further unicast addresses.
    more_macs: Vec<Mac>,
    /// ixgbe: UPDATE_XCAST_MODE as installed.
    xcast: u32,
    /// igb: SET_PROMISC, multicast part.
    multicast_promiscuous: bool,
    /// igb: when it was last told no, or reset.
    last_nack: Duration,
    /// DPDK: how many addresses it has added.
    dpdk_adds: u8,
    spoofed: u64,
    /// When the mailbox task looks at this VF.
    due: Option<Duration>,
    /// A request whose delay has been served already.
    delayed: bool,
    /// Messages on their way to it.
    outbox: VecDeque<Message>,
}

/// A message of the PF's.
#[derive(Clone, Debug)]
struct Message {
    at: Duration,
    words: Vec<u32>,
}

impl PfState {
    pub(crate) fn new(builder: &CardBuilder) -> Self {
        let model = builder.model;
        let mut random = Random::new(builder.seed ^ 0x5046);
        let linux = builder.personality == PfPersonality::Linux;
        let mut mac = [0x00, 0x1b, 0x21, 0, 0, 0];
        let mut draw = || random.next().to_le_bytes();
        mac[3..].copy_from_slice(&draw()[..3]);
        let vfs = (0..builder.vfs)
            .map(|_| {
                let mut vf = PfVf {
                    spoofchk: linux,
                    link_enable: true,
                    ..PfVf::default()
                };
                if !linux {
                    // DPDK's PF makes an address up for every VF when it starts.
                    vf.mac = [0x02, 0x09, 0xc0, 0, 0, 0];
                    vf.mac[3..].copy_from_slice(&draw()[..3]);
                }
                vf
            })
            .collect();
        let versions: &[u32] = if linux {
            &[0, 2, 3, 4, 5, 7, 8]
        } else {
            &[0, 2, 3, 4]
        };
        Self {
            personality: builder.personality,
            api_versions: builder
                .api_versions
                .clone()
                .unwrap_or_else(|| versions.to_vec()),
            delay: builder.mailbox_delay,
            reset_time: builder.pf_reset_time,
            up: true,
            back_at: None,
            mtu: 1500,
            promiscuous: false,
            all_multicast: false,
            mac,
            fdb: Vec::new(),
            cable: LinkState {
                up: true,
                mbps: match model.family() {
                    Family::Igbvf => 1_000,
                    Family::Ixgbevf => 10_000,
                },
            },
            link_latch: true,
            max_frame: 1518,
            vfs,
        }
    }

    /// VFLINKS: bit 30 up, 29:28 speed, 27 the X550's odd speeds, 7 up ever since the last read (ixgbevf.md §4.3).
    pub(crate) const fn vflinks(&mut self, link: LinkState) -> u32 {
        if !link.up {
            self.link_latch = false;
            return 0;
        }
        let latch = if self.link_latch { 0x80 } else { 0 };
        self.link_latch = true;
        let speed = match link.mbps {
            10_000 => 0x3000_0000,
            5_000 => 0x1800_0000,
            2_500 => 0x3800_0000,
            1_000 => 0x2000_0000,
            100 => 0x1000_0000,
            _ => 0,
        };
        0x4000_0000 | speed | latch
    }

    /// A VF's frame was dropped by the spoof check.
    pub(crate) fn spoofed(&mut self, vf: usize) {
        if let Some(vf) = self.vfs.find(vf) {
            self.vfs[vf].spoofed.count(1);
        }
    }

    /// The driver serves its mailbox: the interface is up and no reset is in progress.
    const fn running(&self) -> bool {
        self.up && self.back_at.is_none()
    }
}

/// Whether a VF or the PF may have it: neither multicast nor zero.
fn is_unicast(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

/// The address in words 1 and 2 of a message (ixgbevf.md §6.7: byte 0 in bits 7:0 of word 1).
const fn mac_of(words: &[u32; 16]) -> Mac {
    let [a, b, c, d] = words[1].to_le_bytes();
    let [e, f, _, _] = words[2].to_le_bytes();
    [a, b, c, d, e, f]
}

/// An address as words 1 and 2 of a message.
const fn mac_words(mac: Mac) -> [u32; 2] {
    let [a, b, c, d, e, f] = mac;
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, 0, 0]),
    ]
}

/// MSGINFO: bits 23:16 of word 0.
const fn info(word: u32) -> u32 {
    (word >> 16) & 0xff
}

/// The hashes in words 1.. of a SET_MULTICAST, low half first.
fn hashes(words: &[u32; 16], count: usize) -> Vec<u16> {
    words[1..]
        .iter()
        .flat_map(|word| {
            let [a, b, c, d] = word.to_le_bytes();
            [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
        })
        .take(count)
        .map(|hash| hash & 0xfff)
        .collect()
}
