//! One frame of a batch: its bytes, what the card said about it, and what to ask of the card on its way out.

use std::fmt;

use crate::desc::{Dialect, rx};
use crate::pool::Shared;
use crate::{FrameError, TxOffload};

/// Fewest bytes of a frame: an Ethernet header.
pub const MIN_FRAME: usize = 14;

/// What an entry carries beyond index and write-back; looked at only where the entry's `SIDE` bit is set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Side {
    /// Bytes from the buffer's start to the data.
    pub(crate) head: u16,
    pub(crate) offload: TxOffload,
}

/// A checksum, as the card saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Checked and right.
    Good,
    /// Checked and wrong.
    Bad,
    /// Not checked, or what the card says cannot be relied on.
    Unknown,
}

/// The card's verdicts on a frame's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// The IPv4 header's.
    pub ip: Verdict,
    /// TCP's, UDP's or SCTP's.
    pub l4: Verdict,
}

/// What the card recognised in a frame: bits of the write-back's packet type (ixgbevf.md §9.3, igbvf.md §8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketType(u16);

impl PacketType {
    /// The raw 12 bits, 0 in bit 0 of the first: bit 0 IPv4 … bit 4 TCP, bit 5 UDP, bit 6 SCTP.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }
    const fn l3_valid(self) -> bool {
        self.0 & 1 << 11 == 0
    }
    /// An IPv4 header, with or without options.
    #[must_use]
    pub const fn is_ipv4(self) -> bool {
        self.l3_valid() && self.0 & 0b11 != 0
    }
    /// An IPv6 header, with or without extension headers.
    #[must_use]
    pub const fn is_ipv6(self) -> bool {
        self.l3_valid() && self.0 & 0b1100 != 0
    }
    /// TCP.
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        self.l3_valid() && self.0 & 1 << 4 != 0
    }
    /// UDP.
    #[must_use]
    pub const fn is_udp(self) -> bool {
        self.l3_valid() && self.0 & 1 << 5 != 0
    }
    /// SCTP.
    #[must_use]
    pub const fn is_sctp(self) -> bool {
        self.l3_valid() && self.0 & 1 << 6 != 0
    }
}

/// The card's RSS hash of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RssHash {
    /// Which header fields went in, as the card numbers it: 1 TCP/IPv4, 2 IPv4, 3 TCP/IPv6, 5 IPv6, 7 UDP/IPv4 ….
    pub kind: u8,
    /// The hash.
    pub hash: u32,
}

#[inline]
pub(crate) const fn seg_len(word1: u64) -> usize {
    ((word1 >> rx::LEN_SHIFT) & 0xffff) as usize
}

/// How a frame's metadata is read: shared by [`Frame`] and [`FrameMut`].
#[derive(Clone, Copy)]
struct Meta {
    dialect: Dialect,
    word0: u64,
    word1: u64,
}

impl Meta {
    fn checksums(self) -> Checksums {
        let seen = |bits: u64| self.word1 & bits != 0;
        if seen(self.dialect.ignore_checksums()) {
            return Checksums {
                ip: Verdict::Unknown,
                l4: Verdict::Unknown,
            };
        }
        let ip = match (seen(rx::IPCS), seen(self.dialect.ip_error())) {
            (false, _) => Verdict::Unknown,
            (true, false) => Verdict::Good,
            (true, true) => Verdict::Bad,
        };
        let l4 = match (seen(rx::L4CS | rx::UDPCS), seen(self.dialect.l4_error())) {
            (false, _) => Verdict::Unknown,
            (true, false) => Verdict::Good,
            (true, true) if self.dialect.udp_errors_lie() && self.packet_type().is_udp() => {
                Verdict::Unknown
            }
            (true, true) => Verdict::Bad,
        };
        // A verdict on headers the card says are not there is no verdict (faults.md D14).
        let kind = self.packet_type();
        Checksums {
            ip: if kind.is_ipv4() { ip } else { Verdict::Unknown },
            l4: if kind.is_tcp() || kind.is_udp() || kind.is_sctp() {
                l4
            } else {
                Verdict::Unknown
            },
        }
    }

    const fn packet_type(self) -> PacketType {
        PacketType(((self.word0 >> 4) & 0xfff) as u16)
    }

    const fn vlan(self) -> Option<u16> {
        if self.word1 & rx::VP == 0 {
            return None;
        }
        let tci = (self.word1 >> 48) as u16;
        let swapped = self.dialect.swaps_looped_vlan() && self.word1 & rx::LB != 0;
        Some(if swapped { tci.swap_bytes() } else { tci })
    }

    const fn rss(self) -> Option<RssHash> {
        let kind = (self.word0 & 0xf) as u8;
        if kind == 0 {
            None
        } else {
            Some(RssHash {
                kind,
                hash: (self.word0 >> 32) as u32,
            })
        }
    }
}

macro_rules! frame_reads {
    () => {
        fn meta(&self) -> Meta {
            // All but length is valid in the last descriptor only.
            let [word0, word1] = self.words.last().copied().unwrap_or_default();
            Meta {
                dialect: self.dialect,
                word0,
                word1,
            }
        }

        fn head(&self) -> usize {
            match self.words.first() {
                Some([_, word1]) if word1 & rx::SIDE != 0 => self.side.head.into(),
                _ => self.shared.config().headroom.into(),
            }
        }

        /// Length in bytes over all segments, without FCS.
        #[must_use]
        pub fn len(&self) -> usize {
            self.words.iter().map(|[_, word1]| seg_len(*word1)).sum()
        }

        /// Whether the frame lies in one buffer.
        #[must_use]
        pub const fn is_single(&self) -> bool {
            self.words.len() == 1
        }

        /// Buffers the frame lies in.
        #[must_use]
        pub const fn segment_count(&self) -> usize {
            self.words.len()
        }

        /// The bytes of the first segment: the whole frame where [`is_single`](Self::is_single).
        #[must_use]
        #[inline]
        pub fn data(&self) -> &[u8] {
            self.segment(0)
        }

        fn segment(&self, number: usize) -> &[u8] {
            let (Some(index), Some([_, word1])) = (self.index.get(number), self.words.get(number))
            else {
                return &[];
            };
            let head = if number == 0 {
                self.head()
            } else {
                self.shared.config().headroom.into()
            };
            // SAFETY: the batch this frame borrows from owns the index, and the borrow ties the slice to it.
            unsafe { self.shared.bytes(*index, head, seg_len(*word1)) }
        }

        /// The frame's bytes, buffer by buffer.
        pub fn segments(&self) -> impl Iterator<Item = &[u8]> + '_ {
            (0..self.words.len()).map(|number| self.segment(number))
        }

        /// Copies the frame, as much of it as fits, and returns how much that was.
        pub fn copy_to(&self, mut to: &mut [u8]) -> usize {
            let mut copied = 0;
            for from in self.segments() {
                let len = from.len().min(to.len());
                to[..len].copy_from_slice(&from[..len]);
                to = &mut to[len..];
                copied += len;
            }
            copied
        }

        /// The frame in one piece.
        #[must_use]
        pub fn to_vec(&self) -> Vec<u8> {
            let mut all = vec![0; self.len()];
            self.copy_to(&mut all);
            all
        }

        /// The card's verdicts on the checksums.
        #[must_use]
        pub fn checksums(&self) -> Checksums {
            self.meta().checksums()
        }

        /// The 802.1Q tag that came with the frame (TCI). It is out of the data only where stripping is on.
        #[must_use]
        pub fn vlan(&self) -> Option<u16> {
            self.meta().vlan()
        }

        /// The RSS hash, where the card computed one.
        #[must_use]
        pub fn rss(&self) -> Option<RssHash> {
            self.meta().rss()
        }

        /// What the card recognised.
        #[must_use]
        pub fn packet_type(&self) -> PacketType {
            self.meta().packet_type()
        }

        /// Whether it came from another function of the same card. QEMU's igb never says so.
        #[must_use]
        pub fn looped_back(&self) -> bool {
            self.meta().word1 & rx::LB != 0
        }
    };
}

/// A frame to read.
pub struct Frame<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) dialect: Dialect,
    pub(crate) index: &'a [u32],
    pub(crate) words: &'a [[u64; 2]],
    pub(crate) side: &'a Side,
}

impl Frame<'_> {
    frame_reads!();
}

/// A frame to read and change.
pub struct FrameMut<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) dialect: Dialect,
    pub(crate) index: &'a [u32],
    pub(crate) words: &'a mut [[u64; 2]],
    pub(crate) side: &'a mut Side,
}

impl FrameMut<'_> {
    frame_reads!();

    /// The bytes of the first segment, to be changed in place.
    #[must_use]
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let head = self.head();
        let (Some(index), Some([_, word1])) = (self.index.first(), self.words.first()) else {
            return &mut [];
        };
        // SAFETY: the batch this frame borrows from owns the index, and the exclusive borrow ties the slice to it.
        unsafe { self.shared.bytes(*index, head, seg_len(*word1)) }
    }

    /// Sets the length of a one-buffer frame; bytes that were not part of it keep what was in the buffer.
    ///
    /// # Errors
    ///
    /// [`FrameError::Length`] below an Ethernet header, above the buffer, or for a frame of several buffers.
    pub fn set_len(&mut self, len: usize) -> Result<(), FrameError> {
        let config = self.shared.config();
        let end = usize::from(config.headroom) + config.buffer_size as usize;
        let max = if self.is_single() {
            end.saturating_sub(self.head())
        } else {
            0
        };
        let len16 = u16::try_from(len)
            .ok()
            .filter(|_| (MIN_FRAME..=max).contains(&len));
        let (Some(len16), Some([_, word1])) = (len16, self.words.first_mut()) else {
            return Err(FrameError::Length {
                len,
                min: MIN_FRAME,
                max,
            });
        };
        *word1 = *word1 & !(0xffff << rx::LEN_SHIFT) | u64::from(len16) << rx::LEN_SHIFT;
        Ok(())
    }

    fn use_side(&mut self) {
        let head = self.shared.config().headroom;
        if let Some([_, word1]) = self.words.first_mut() {
            if *word1 & rx::SIDE == 0 {
                *self.side = Side {
                    head,
                    offload: TxOffload::default(),
                };
            }
            *word1 |= rx::SIDE;
        }
    }

    /// Makes room for `by` bytes in front of the data, taken from the headroom; they hold what was there before.
    ///
    /// # Errors
    ///
    /// [`FrameError::Headroom`] when there is less.
    pub fn push_front(&mut self, by: usize) -> Result<&mut [u8], FrameError> {
        let head = self.head();
        let len = self.words.first().map_or(0, |[_, word1]| seg_len(*word1));
        let fits = u16::try_from(len + by).is_ok();
        let Some(head) = head.checked_sub(by).filter(|_| fits) else {
            return Err(FrameError::Headroom { by, have: head });
        };
        self.move_head(head, len + by);
        let data = self.data_mut();
        let by = by.min(data.len());
        Ok(&mut data[..by])
    }

    /// Takes `by` bytes off the front.
    ///
    /// # Errors
    ///
    /// [`FrameError::Length`] when less than an Ethernet header would stay in the first buffer.
    pub fn pull_front(&mut self, by: usize) -> Result<(), FrameError> {
        let head = self.head();
        let len = self.words.first().map_or(0, |[_, word1]| seg_len(*word1));
        match len.checked_sub(by) {
            Some(left) if left >= MIN_FRAME => {
                self.move_head(head + by, left);
                Ok(())
            }
            _ => Err(FrameError::Length {
                len: len.saturating_sub(by),
                min: MIN_FRAME,
                max: len,
            }),
        }
    }

    fn move_head(&mut self, head: usize, len: usize) {
        self.use_side();
        self.side.head = u16::try_from(head).unwrap_or(u16::MAX);
        if let Some([_, word1]) = self.words.first_mut() {
            *word1 = *word1 & !(0xffff << rx::LEN_SHIFT) | ((len as u64) & 0xffff) << rx::LEN_SHIFT;
        }
    }

    /// Asks the card for offloads when the frame is sent; replaces what was asked before.
    ///
    /// # Errors
    ///
    /// [`FrameError::Headers`] or [`FrameError::Tso`] when the lengths cannot be right for this frame.
    pub fn request(&mut self, offload: TxOffload) -> Result<(), FrameError> {
        offload.check(self.data().len())?;
        self.use_side();
        self.side.offload = offload;
        Ok(())
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("len", &self.len())
            .field("segments", &self.words.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FrameMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameMut")
            .field("len", &self.len())
            .field("segments", &self.words.len())
            .finish_non_exhaustive()
    }
}
