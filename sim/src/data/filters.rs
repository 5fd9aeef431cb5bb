//! What the PF has programmed: the switch's filters and policies, in the hardware's own terms (ixgbevf.md §7.2, igbvf.md §4).
//!
//! Every change moves `generation`, which ends the life of cached verdicts.

use bitflags::bitflags;
use vfnic_hw::{Family, Model};

use crate::low_bits::LowBits;

mod pools;

pub(crate) use pools::PoolPolicy;

/// A MAC address.
pub type Mac = [u8; 6];

/// Most pools any model has; a set of pools is a bitmap in a `u64`.
pub const MAX_POOLS: usize = 64;

bitflags! {
    /// What a pool accepts: VMOLR, at the bit positions both families share; an igb has UPE at 29 instead of 22 and VPE at
    /// 23 on the I350 only, which the PF model is to translate.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Accept: u32 {
        /// Every unicast address (X540, X550, I350).
        const UPE = 1 << 22;
        /// Every VLAN.
        const VPE = 1 << 23;
        /// Untagged frames.
        const AUPE = 1 << 24;
        /// Multicast whose hash is in MTA.
        const ROMPE = 1 << 25;
        /// Unicast whose hash is in UTA.
        const ROPE = 1 << 26;
        /// Broadcast.
        const BAM = 1 << 27;
        /// Every multicast.
        const MPE = 1 << 28;
    }
}

/// VMVIR: who decides on the VLAN tag of what a pool sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VlanInsert {
    /// The descriptor (VLE).
    #[default]
    Descriptor,
    /// This tag (TCI: priority and VID), always.
    Always(u16),
    /// Nobody: never a tag.
    Never,
}

/// Which spoof checks a pool is under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoofChecks {
    /// Source address must be one of the pool's RARs.
    pub mac: bool,
    /// VLAN must be one of the pool's.
    pub vlan: bool,
    /// No PAUSE or LLDP by ethertype (X550), whatever [`Filters::set_control_frames`] says.
    pub ethertype: bool,
}

/// State of the physical link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Up.
    pub up: bool,
    /// Speed in Mb/s while up.
    pub mbps: u32,
}

/// RSS as one owner set it: the PF for all pools (82599, X540), or a VF for itself (X550).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RssTable {
    /// Key, first byte in bits 7:0 of RSSRK(0).
    pub key: [u8; 40],
    /// Queue per hash value: 128 entries of the PF's table, 64 of a VF's.
    pub reta: [u8; 128],
    /// Hash types, bits 31:16 of MRQC (ixgbevf.md §4.8); 0 is off.
    pub types: u32,
}

impl Default for RssTable {
    fn default() -> Self {
        Self {
            key: [0; 40],
            reta: [0; 128],
            types: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rar {
    pub(crate) mac: Mac,
    pub(crate) pools: u64,
    pub(crate) valid: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vlvf {
    pub(crate) vid: u16,
    pub(crate) pools: u64,
    pub(crate) valid: bool,
}

/// The filters of the whole card. Pools 0.. are the VFs; the PF's pool follows the last VF.
#[derive(Debug)]
pub struct Filters {
    pub(crate) model: Model,
    pub(crate) generation: u64,
    pub(crate) pf_pool: u8,
    pub(crate) rars: Vec<Rar>,
    pub(crate) mta: [u32; 128],
    pub(crate) uta: [u32; 128],
    pub(crate) hash_shift: u8,
    pub(crate) vlvf: Vec<Vlvf>,
    pub(crate) vfta: [u32; 128],
    pub(crate) vlan_filter: bool,
    pub(crate) pools: [PoolPolicy; MAX_POOLS],
    pub(crate) spoof_mac: u64,
    pub(crate) spoof_vlan: u64,
    pub(crate) spoof_ethertype: u64,
    pub(crate) rx_enabled: u64,
    pub(crate) tx_enabled: u64,
    pub(crate) source_pruning: u64,
    pub(crate) hairpin: u64,
    pub(crate) max_frame: u32,
    pub(crate) replicated_strip: bool,
    pub(crate) loopback: bool,
    pub(crate) loopback_without_link: bool,
    pub(crate) default_pool: Option<u8>,
    pub(crate) pf_unicast: bool,
    pub(crate) pf_multicast: bool,
    pub(crate) replication: bool,
    pub(crate) control_frames: bool,
    pub(crate) flow_control: bool,
    pub(crate) link: LinkState,
    pub(crate) rss: RssTable,
}

impl Filters {
    /// Everything as after a reset of the PF with SR-IOV enabled for `vfs` VFs and nothing provisioned yet.
    #[must_use]
    pub fn new(model: Model, vfs: u8) -> Self {
        let (rars, vlans) = match model {
            Model::I82576 => (24, 32),
            Model::I350 => (32, 32),
            _ => (128, 64),
        };
        Self {
            model,
            generation: 1,
            pf_pool: vfs,
            rars: vec![Rar::default(); rars],
            mta: [0; 128],
            uta: [0; 128],
            hash_shift: 4,
            vlvf: vec![Vlvf::default(); vlans],
            vfta: [0; 128],
            vlan_filter: true,
            pools: [PoolPolicy::default(); MAX_POOLS],
            spoof_mac: 0,
            spoof_vlan: 0,
            spoof_ethertype: 0,
            rx_enabled: 1 << vfs,
            tx_enabled: 1 << vfs,
            source_pruning: 0,
            hairpin: 0,
            max_frame: 1518,
            replicated_strip: false,
            loopback: true,
            loopback_without_link: false,
            default_pool: Some(vfs),
            pf_unicast: false,
            pf_multicast: false,
            replication: true,
            control_frames: false,
            flow_control: false,
            link: LinkState {
                up: true,
                mbps: match model.family() {
                    Family::Igbvf => 1_000,
                    Family::Ixgbevf => 10_000,
                },
            },
            rss: RssTable::default(),
        }
    }

    /// Takes over what a reset of the port does not change.
    pub(crate) fn succeed(&mut self, old: &Self) {
        self.generation = old.generation.wrapping_add(1);
        self.link = old.link;
        self.loopback_without_link = old.loopback_without_link;
        self.control_frames = old.control_frames;
    }

    fn touch(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// The PF's own pool.
    #[must_use]
    pub const fn pf_pool(&self) -> u8 {
        self.pf_pool
    }

    /// MAC filters the card has (RAL/RAH).
    #[must_use]
    pub fn rar_count(&self) -> usize {
        self.rars.len()
    }

    /// Programs RAR `index` to accept `mac` for a bitmap of pools; ignored past the last one.
    pub fn set_rar(&mut self, index: usize, mac: Mac, pools: u64) {
        if let Some(rar) = self.rars.get_mut(index) {
            *rar = Rar {
                mac,
                pools,
                valid: true,
            };
            self.touch();
        }
    }

    /// Invalidates RAR `index`.
    pub fn clear_rar(&mut self, index: usize) {
        if let Some(rar) = self.rars.get_mut(index) {
            *rar = Rar::default();
            self.touch();
        }
    }

    /// RAR `index`, if valid: address and pools.
    #[must_use]
    pub fn rar(&self, index: usize) -> Option<(Mac, u64)> {
        let rar = self.rars.get(index)?;
        rar.valid.then_some((rar.mac, rar.pools))
    }

    /// Adds `pool` to the filter of `mac`, taking a free RAR if there is none yet (an FDB entry is one for the PF's pool).
    /// False when the table is full.
    pub fn add_mac(&mut self, mac: Mac, pool: u8) -> bool {
        let rars = &mut self.rars;
        let same = rars.iter().position(|rar| rar.valid && rar.mac == mac);
        let place = same.or_else(|| rars.iter().position(|rar| !rar.valid));
        let Some(rar) = place.and_then(|index| rars.get_mut(index)) else {
            return false;
        };
        *rar = Rar {
            mac,
            pools: rar.pools | bit(pool),
            valid: true,
        };
        self.touch();
        true
    }

    /// Takes `pool` out of the filter of `mac`; the RAR is free again when that was the last pool.
    pub fn remove_mac(&mut self, mac: Mac, pool: u8) {
        for rar in &mut self.rars {
            if rar.valid && rar.mac == mac {
                rar.pools &= !bit(pool);
                rar.valid = rar.pools != 0;
            }
        }
        self.touch();
    }

    /// Sets or clears a bit of the multicast hash table; `hash` has 12 bits.
    pub fn set_mta(&mut self, hash: u16, on: bool) {
        set_bit(&mut self.mta, hash, on);
        self.touch();
    }

    /// Clears the multicast hash table.
    pub fn clear_mta(&mut self) {
        self.mta = [0; 128];
        self.touch();
    }

    /// Sets or clears a bit of the unicast hash table; `hash` has 12 bits.
    pub fn set_uta(&mut self, hash: u16, on: bool) {
        set_bit(&mut self.uta, hash, on);
        self.touch();
    }

    /// Programs VLVF `index` with a bitmap of pools; ignored past the last one. An entry without pools is still an entry.
    pub fn set_vlvf(&mut self, index: usize, vid: u16, pools: u64) {
        if let Some(entry) = self.vlvf.get_mut(index) {
            *entry = Vlvf {
                vid: vid & 0xfff,
                pools,
                valid: true,
            };
            self.touch();
        }
    }

    /// Sets or clears the global filter bit of a VLAN.
    pub fn set_vfta(&mut self, vid: u16, on: bool) {
        set_bit(&mut self.vfta, vid & 0xfff, on);
        self.touch();
    }

    /// Makes `pool` a member of a VLAN: VLVF and VFTA. False when the table is full.
    pub fn add_vlan(&mut self, vid: u16, pool: u8) -> bool {
        let vid = vid & 0xfff;
        let entries = &mut self.vlvf;
        let same = entries
            .iter()
            .position(|entry| entry.valid && entry.vid == vid);
        let place = same.or_else(|| entries.iter().position(|entry| !entry.valid));
        let Some(entry) = place.and_then(|index| entries.get_mut(index)) else {
            return false;
        };
        *entry = Vlvf {
            vid,
            pools: entry.pools | bit(pool),
            valid: true,
        };
        self.set_vfta(vid, true);
        true
    }

    /// Ends a membership; entry and filter bit go with the last member.
    pub fn remove_vlan(&mut self, vid: u16, pool: u8) {
        let vid = vid & 0xfff;
        let mut gone = false;
        for entry in &mut self.vlvf {
            if entry.valid && entry.vid == vid {
                entry.pools &= !bit(pool);
                entry.valid = entry.pools != 0;
                gone = !entry.valid;
            }
        }
        if gone {
            set_bit(&mut self.vfta, vid, false);
        }
        self.touch();
    }

    /// Whether `pool` is a member of the VLAN.
    #[must_use]
    pub fn has_vlan(&self, vid: u16, pool: u8) -> bool {
        self.vlan_pools(vid)
            .is_some_and(|pools| pools & bit(pool) != 0)
    }

    /// Pools of the VLVF entry of `vid`, if there is one.
    pub(crate) fn vlan_pools(&self, vid: u16) -> Option<u64> {
        self.vlvf
            .iter()
            .find(|entry| entry.valid && entry.vid == vid)
            .map(|entry| entry.pools)
    }

    /// VLNCTRL.VFE or RCTL.VFE: tagged frames must pass VFTA.
    pub fn set_vlan_filter(&mut self, on: bool) {
        self.vlan_filter = on;
        self.touch();
    }

    /// ixgbevf MAXFRS: longest frame with CRC, 4 more for a tag.
    pub fn set_max_frame(&mut self, len: u32) {
        self.max_frame = len;
        self.touch();
    }

    /// 82576 RPLOLR.STRVLAN: tags are stripped from replicated frames.
    pub fn set_replicated_strip(&mut self, on: bool) {
        self.replicated_strip = on;
        self.touch();
    }

    /// PFDTXGSWC or DTXSWC bit 31: switching inside the card. Off is VEPA: everything leaves by the wire.
    pub fn set_loopback(&mut self, on: bool) {
        self.loopback = on;
        self.touch();
    }

    /// Whether frames still pass from function to function while the link is down. Hardware stops; off by default.
    pub fn set_loopback_without_link(&mut self, on: bool) {
        self.loopback_without_link = on;
        self.touch();
    }

    /// Who gets what matches no filter and came from the wire.
    pub fn set_default_pool(&mut self, pool: Option<u8>) {
        self.default_pool = pool;
        self.touch();
    }

    /// FCTRL.UPE and MPE of an ixgbe PF: whether the default pool takes unicast and multicast that match no filter. An igb
    /// gives its default pool everything.
    pub fn set_pf_promiscuous(&mut self, unicast: bool, multicast: bool) {
        self.pf_unicast = unicast;
        self.pf_multicast = multicast;
        self.touch();
    }

    /// REPLEN: one copy for each pool. Off, only one pool gets a frame, the PF before others.
    pub fn set_replication(&mut self, on: bool) {
        self.replication = on;
        self.touch();
    }

    /// Lets VFs send PAUSE and LLDP frames, as unprotected cards do (CVE-2015-1142857). Off by default.
    pub fn set_control_frames(&mut self, allowed: bool) {
        self.control_frames = allowed;
        self.touch();
    }

    /// Flow control: a receiver without descriptors holds its senders back and nothing is dropped for it, whatever
    /// DROP_EN says. The PF drivers turn queue drop off when the link has flow control.
    pub fn set_flow_control(&mut self, on: bool) {
        self.flow_control = on;
        self.touch();
    }

    /// The physical link.
    pub fn set_link(&mut self, link: LinkState) {
        self.link = link;
        self.touch();
    }

    /// The physical link.
    #[must_use]
    pub const fn link(&self) -> LinkState {
        self.link
    }

    /// The PF's RSS table, which 82599 and X540 use for every pool (with each pool's RQPL).
    pub fn set_rss(&mut self, table: RssTable) {
        self.rss = table;
        self.touch();
    }
}

pub(crate) const fn bit(pool: u8) -> u64 {
    1 << (pool & 63)
}

fn set_bit(table: &mut [u32; 128], index: u16, on: bool) {
    let word = table.entry_mut(index >> 5);
    if on {
        *word |= 1 << (index & 31);
    } else {
        *word &= !(1 << (index & 31));
    }
}
