//! What is set for each pool by itself.

use super::{Accept, Filters, SpoofChecks, VlanInsert, bit};
use crate::low_bits::LowBits;

/// One pool's policies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PoolPolicy {
    pub(crate) accept: Accept,
    pub(crate) insert: VlanInsert,
    pub(crate) max_len: Option<u32>,
    pub(crate) strip: bool,
    pub(crate) hide_vlan: bool,
    pub(crate) drop_en: bool,
    pub(crate) rss: bool,
}

impl Filters {
    /// VMOLR of a pool.
    pub fn set_accept(&mut self, pool: u8, accept: Accept) {
        self.policy(pool).accept = accept;
    }

    /// What a pool accepts at present.
    #[must_use]
    pub fn accept(&self, pool: u8) -> Accept {
        self.pools.entry(pool).accept
    }

    /// igbvf: longest frame of the pool, CRC and tags included (VMOLR.LPE and RLPML); none is 1518 and 4 for each tag.
    pub fn set_max_len(&mut self, pool: u8, len: Option<u32>) {
        self.policy(pool).max_len = len;
    }

    /// VMVIR of a pool.
    pub fn set_vlan_insert(&mut self, pool: u8, insert: VlanInsert) {
        self.policy(pool).insert = insert;
    }

    /// igbvf: tags are stripped for the pool (VMOLR.STRVLAN on 82576, DVMOLR on I350).
    pub fn set_strip(&mut self, pool: u8, on: bool) {
        self.policy(pool).strip = on;
    }

    /// QDE.HIDE_VLAN of all queues of a pool: the tag goes and nothing tells of it.
    pub fn set_hide_vlan(&mut self, pool: u8, on: bool) {
        self.policy(pool).hide_vlan = on;
    }

    /// QDE drop enable of all queues of a pool.
    pub fn set_queue_drop(&mut self, pool: u8, on: bool) {
        self.policy(pool).drop_en = on;
    }

    /// 82576 VMOLR.RSSE of a pool (with MRQC mode 5): its second queue gets the frames whose RSS entry is odd. Linux's PF
    /// never sets it for a VF.
    pub fn set_pool_rss(&mut self, pool: u8, on: bool) {
        self.policy(pool).rss = on;
    }

    fn policy(&mut self, pool: u8) -> &mut PoolPolicy {
        self.touch();
        self.pools.entry_mut(pool)
    }

    /// Spoof checks of a pool (PFVFSPOOF, DTXSWC).
    pub fn set_spoof(&mut self, pool: u8, checks: SpoofChecks) {
        set_pool(&mut self.spoof_mac, pool, checks.mac);
        set_pool(&mut self.spoof_vlan, pool, checks.vlan);
        set_pool(&mut self.spoof_ethertype, pool, checks.ethertype);
        self.touch();
    }

    /// VFRE of a pool.
    pub fn set_receive(&mut self, pool: u8, on: bool) {
        set_pool(&mut self.rx_enabled, pool, on);
        self.touch();
    }

    /// VFTE of a pool. While 0 no descriptor of its queues is fetched.
    pub fn set_transmit(&mut self, pool: u8, on: bool) {
        set_pool(&mut self.tx_enabled, pool, on);
        self.touch();
    }

    /// Source pruning of a pool (X550 PFFLP): it gets no frame from the wire that has one of its own addresses as source.
    pub fn set_source_pruning(&mut self, pool: u8, on: bool) {
        set_pool(&mut self.source_pruning, pool, on);
        self.touch();
    }

    /// igbvf LLE of a pool: it may receive what it sends.
    pub fn set_hairpin(&mut self, pool: u8, on: bool) {
        set_pool(&mut self.hairpin, pool, on);
        self.touch();
    }
}

fn set_pool(set: &mut u64, pool: u8, on: bool) {
    if on {
        *set |= bit(pool);
    } else {
        *set &= !bit(pool);
    }
}
