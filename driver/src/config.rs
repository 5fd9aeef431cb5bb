//! How a port is to be set up.

use std::time::Duration;

use vfnic_ring::{Pool, PoolConfig};

use crate::MacAddr;
use crate::family::Promisc;

/// How many queue pairs to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueCount {
    /// One for each CPU of this machine, as far as the PF gives queues and received traffic can be spread over them.
    Auto,
    /// Exactly so many; an error when the VF cannot have them.
    Exactly(u16),
}

/// Which address the VF is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MacChoice {
    /// The one the administrator assigned, or else a random one.
    #[default]
    Assigned,
    /// This one, if the PF lets us.
    Set(MacAddr),
}

/// How often a message vector may fire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Itr {
    /// Follows the load: at once when little comes, less often when much does. Needs a [`Poller`](crate::Poller).
    #[default]
    Adaptive,
    /// At most once in this time; zero for no limit. QEMU's igb waits four times as long.
    Fixed(Duration),
}

/// Spread of received frames over several queues.
///
/// Key, table and UDP matter on X550 only, where the VF owns them; elsewhere the PF's apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssConfig {
    /// Toeplitz key, in the order of the specification's examples.
    pub key: [u8; 40],
    /// Queue for each table entry, repeated as often as it takes; empty for all queues in turn.
    pub table: Vec<u8>,
    /// Whether ports of UDP datagrams count. Fragments then go elsewhere than whole datagrams of the same flow.
    pub udp: bool,
}

impl Default for RssConfig {
    fn default() -> Self {
        Self {
            // The key of the published check vectors (ixgbevf.md §11.2): spread can be recomputed with any tool.
            key: [
                0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
                0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
                0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
            ],
            table: Vec::new(),
            udp: true,
        }
    }
}

impl RssConfig {
    /// The table with `entries` entries, each below `queues`.
    pub(crate) fn entries(&self, entries: u16, queues: u16) -> Vec<u8> {
        (0..entries)
            .map(|index| {
                let place = usize::from(index).checked_rem(self.table.len());
                let told = place.and_then(|place| self.table.get(place));
                let queue = told.map_or(index, |&queue| u16::from(queue));
                let queue = queue.checked_rem(queues).unwrap_or(0);
                u8::try_from(queue).unwrap_or(0)
            })
            .collect()
    }
}

/// Where buffers come from.
#[derive(Clone, Debug)]
pub(crate) enum PoolChoice {
    /// A pool of the port's own, large enough for its rings and then some.
    Own { buffer_size: u32 },
    /// A pool of the port's own, as told.
    Sized(PoolConfig),
    /// Somebody else's, in the same IOVA space.
    Shared(Pool),
}

/// How a port is to be set up. Start from [`default`](Self::default) and change what matters.
///
/// ```
/// use vfnic::{PortConfig, QueueCount};
///
/// let config = PortConfig::default()
///     .queues(QueueCount::Exactly(2))
///     .mtu(9000)
///     .rings(1024, 1024);
/// ```
#[derive(Clone, Debug)]
pub struct PortConfig {
    pub(crate) queues: QueueCount,
    pub(crate) rx_ring: u16,
    pub(crate) tx_ring: u16,
    pub(crate) pool: PoolChoice,
    pub(crate) mtu: u16,
    pub(crate) mac: MacChoice,
    pub(crate) vlan_strip: bool,
    pub(crate) promisc: Promisc,
    pub(crate) interrupts: bool,
    pub(crate) itr: Itr,
    pub(crate) rss: RssConfig,
    pub(crate) mailbox_timeout: Duration,
    pub(crate) open_timeout: Duration,
    pub(crate) prefer_huge: bool,
    pub(crate) prefetch: bool,
}

impl Default for PortConfig {
    /// One queue pair, rings of 512 descriptors, buffers of 2048 bytes, MTU 1500, the address the PF assigned, VLAN
    /// tags stripped, interrupts on.
    fn default() -> Self {
        Self {
            queues: QueueCount::Exactly(1),
            rx_ring: 512,
            tx_ring: 512,
            pool: PoolChoice::Own { buffer_size: 2048 },
            mtu: 1500,
            mac: MacChoice::Assigned,
            vlan_strip: true,
            promisc: Promisc::Off,
            interrupts: true,
            itr: Itr::Adaptive,
            rss: RssConfig::default(),
            // TIMEOUT: every driver of these families looks 2000 times, 500 µs apart (ixgbevf.md §6.4). Here the call is
            // over within that second, on a machine that is busy as well.
            mailbox_timeout: Duration::from_millis(950),
            open_timeout: Duration::from_millis(4500),
            prefer_huge: true,
            prefetch: false,
        }
    }
}

impl PortConfig {
    /// Number of queue pairs.
    #[must_use]
    pub const fn queues(mut self, queues: QueueCount) -> Self {
        self.queues = queues;
        self
    }

    /// Descriptors in each receive and each transmit ring: 64 to 4096, multiples of 8.
    #[must_use]
    pub const fn rings(mut self, rx: u16, tx: u16) -> Self {
        self.rx_ring = rx;
        self.tx_ring = tx;
        self
    }

    /// Size in bytes of the buffers of the port's own pool: 1024 to 16384, a multiple of 1024. Longer frames take
    /// several.
    #[must_use]
    pub fn buffer_size(mut self, bytes: u32) -> Self {
        self.pool = PoolChoice::Own { buffer_size: bytes };
        self
    }

    /// A pool of the port's own, with so many buffers and of that size. By default it has what the rings can hold and
    /// as much again, for batches and packets in the application's hands.
    #[must_use]
    pub fn pool(mut self, pool: PoolConfig) -> Self {
        self.pool = PoolChoice::Sized(pool);
        self
    }

    /// Buffers from a pool that exists already, so that frames can be forwarded between ports without copying. The
    /// pool must lie in the IOVA space the function was opened in; a device that cannot reach it receives nothing.
    #[must_use]
    pub fn shared_pool(mut self, pool: Pool) -> Self {
        self.pool = PoolChoice::Shared(pool);
        self
    }

    /// Largest payload of a frame in bytes, neither Ethernet header nor CRC counted: 68 to 9710 (igbvf: 9706).
    #[must_use]
    pub const fn mtu(mut self, bytes: u16) -> Self {
        self.mtu = bytes;
        self
    }

    /// The VF's address.
    #[must_use]
    pub const fn mac(mut self, mac: MacChoice) -> Self {
        self.mac = mac;
        self
    }

    /// Whether the hardware takes VLAN tags out of received frames and shows them beside. On igbvf the PF decides: it
    /// strips as soon as the VF has a VLAN.
    #[must_use]
    pub const fn vlan_strip(mut self, strip: bool) -> Self {
        self.vlan_strip = strip;
        self
    }

    /// How promiscuous to be from the start; starting fails if the PF does not grant it.
    #[must_use]
    pub const fn promiscuous(mut self, mode: Promisc) -> Self {
        self.promisc = mode;
        self
    }

    /// Whether to use interrupts. Without them a [`Poller`](crate::Poller) can only poll.
    #[must_use]
    pub const fn interrupts(mut self, on: bool) -> Self {
        self.interrupts = on;
        self
    }

    /// How often interrupts may come.
    #[must_use]
    pub const fn itr(mut self, itr: Itr) -> Self {
        self.itr = itr;
        self
    }

    /// How received frames are spread over several queues.
    #[must_use]
    pub fn rss(mut self, rss: RssConfig) -> Self {
        self.rss = rss;
        self
    }

    /// How long the PF may take for one request, and for all that one call has to ask of it; starting has
    /// [`open_timeout`](Self::open_timeout). Default: 950 ms, so that every call is over within a second.
    #[must_use]
    pub const fn mailbox_timeout(mut self, time: Duration) -> Self {
        self.mailbox_timeout = time;
        self
    }

    /// How long opening may take in all, and starting. Giving up resets the device, which takes 100 ms more. Default: 4.5 s.
    #[must_use]
    pub const fn open_timeout(mut self, time: Duration) -> Self {
        self.open_timeout = time;
        self
    }

    /// Whether to map memory in huge pages when there are any. Default: yes.
    #[must_use]
    pub const fn huge_pages(mut self, on: bool) -> Self {
        self.prefer_huge = on;
        self
    }

    /// Whether receiving begins to load the first line of every frame, for applications that read them all. It pays
    /// where the card writes to memory and not to the cache; docs/performance.md has figures. Default: no.
    #[must_use]
    pub const fn prefetch(mut self, on: bool) -> Self {
        self.prefetch = on;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_entry_names_a_queue_that_exists() {
        let mut rss = RssConfig::default();
        assert_eq!(rss.entries(4, 3), [0, 1, 2, 0]);
        rss.table = vec![1, 7];
        assert_eq!(rss.entries(4, 2), [1, 1, 1, 1]);
    }

    #[test]
    fn the_default_key_has_the_documented_register_words() {
        // ixgbevf.md §11.2.
        let words: Vec<u32> = RssConfig::default()
            .key
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| u32::from_le_bytes(*bytes))
            .collect();
        assert_eq!(
            (words[0], words[1], words[9]),
            (0xDA56_5A6D, 0xC20E_5B25, 0xFA01_ACBE)
        );
    }
}
