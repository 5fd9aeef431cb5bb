//! The RX engine: descriptors, buffers, write-backs of one queue (ixgbevf.md §9, igbvf.md §8).

use vfnic_hw::{Family, Model};

use super::desc::{
    RxMeta, RxSplit, Words, rx_legacy, rx_overflow, rx_partial, rx_status, rx_types,
};
use super::hooks::{At, Fault, Point, RingViolation};
use super::parse::{Parsed, kind};
use super::place::Place;
use super::queue::{FETCH, RxFormat, RxQueue, RxSettings, places_after};
use super::stats::DropReason;
use super::write_back::{Owner, WriteBack};
use crate::counting::Count;
use crate::dma::{Direction, DmaFault, Translate, prefetch_write};
use crate::low_bits::LowBits;

/// A frame on its way into one queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    /// The frame, its tag already taken out if it is to be stripped.
    pub(crate) data: &'a [u8],
    pub(crate) meta: RxMeta,
    /// Bytes of `data` that are headers, for header split; 0 when none is recognised.
    pub(crate) headers: usize,
}

/// How a frame is spread over header buffer and packet buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// Bytes from the frame's start that go to the header buffer.
    header: usize,
    /// Where the packet buffers' part begins.
    rest: usize,
    split: RxSplit,
}

impl Plan {
    fn new(settings: &RxSettings, len: usize, headers: usize) -> Self {
        let room = settings.header_size as usize;
        let told = |len: usize| u32::try_from(len).unwrap_or(0x3ff).min(0x3ff);
        let whole = Self {
            header: 0,
            rest: 0,
            split: RxSplit::default(),
        };
        let fits = headers > 0 && headers <= room;
        match settings.format {
            RxFormat::Legacy | RxFormat::OneBuffer | RxFormat::Reserved => whole,
            _ if room == 0 => whole,
            RxFormat::SplitAlways if len <= room => Self {
                header: len,
                rest: len,
                split: RxSplit {
                    header_len: told(len),
                    ..RxSplit::default()
                },
            },
            RxFormat::SplitAlways if !fits => Self {
                header: room,
                rest: room,
                split: RxSplit {
                    split: headers > 0,
                    overflow: headers > 0,
                    header_len: told(if headers > 0 { headers } else { room }),
                },
            },
            RxFormat::Split | RxFormat::Replicate if !fits => Self {
                split: RxSplit {
                    split: false,
                    overflow: headers > 0,
                    header_len: told(headers),
                },
                ..whole
            },
            RxFormat::Split | RxFormat::SplitAlways | RxFormat::Replicate => Self {
                header: headers,
                rest: if settings.format == RxFormat::Replicate {
                    0
                } else {
                    headers
                },
                split: RxSplit {
                    split: true,
                    overflow: false,
                    header_len: told(headers),
                },
            },
        }
    }
}

/// The headers that a split separates, in bytes: an igb splits whatever it recognises, SCTP behind IP; the others go by
/// PSRTYPE.
pub(crate) fn split_headers(model: Model, psrtype: u32, parsed: &Parsed) -> usize {
    let has = |bits: u32| parsed.kind & bits != 0;
    match model.family() {
        Family::Igbvf if has(kind::TCP | kind::UDP) => parsed.headers,
        Family::Igbvf if has(kind::IPV4 | kind::IPV6) => parsed.l4,
        Family::Igbvf => 0,
        Family::Ixgbevf => {
            let on = |number: u32| psrtype & (1 << number) != 0;
            if has(kind::TCP) && on(4) || has(kind::UDP) && on(5) {
                parsed.headers
            } else if has(kind::IPV4) && on(8) || has(kind::IPV6) && on(9) {
                parsed.l4
            } else if on(12) {
                parsed.l2
            } else {
                0
            }
        }
    }
}

/// What became of a frame that had room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Put {
    /// The driver can see something new.
    pub(crate) raised: bool,
    /// It was given up on the way and written back with an error.
    pub(crate) lost: bool,
}

impl RxQueue {
    /// Descriptors a frame takes.
    pub(crate) fn needed(&self, len: usize, headers: usize) -> u32 {
        let plan = Plan::new(&self.settings, len, headers);
        let size = (self.settings.buffer_size as usize).max(1024);
        let packet = len.saturating_sub(plan.rest);
        u32::try_from(packet.div_ceil(size).max(1)).unwrap_or(u32::MAX)
    }

    /// Whether the queue takes frames at all.
    #[inline]
    pub(crate) const fn is_usable(&self) -> bool {
        self.base.count != 0
    }

    /// Whether that many descriptors are there.
    pub(crate) fn has_room(&mut self, needed: u32, place: &mut Place<'_>, owner: Owner) -> bool {
        if self.filled.saturating_sub(self.at) >= needed as usize {
            return true;
        }
        match self.base.available(self.base.head) {
            Ok(available) => available >= needed,
            Err(violation) => {
                place.hooks.violation(owner.pool, owner.queue, violation);
                false
            }
        }
    }

    /// Fetches descriptors if none are at hand, and gets the buffers' first lines on their way. False when there are
    /// none, or the ring cannot be read, which stops the queue.
    pub(crate) fn fetch(
        &mut self,
        space: &dyn Translate,
        place: &mut Place<'_>,
        owner: Owner,
    ) -> bool {
        if self.at < self.filled {
            return true;
        }
        let head = self.base.head;
        let available = match self.base.available(head) {
            Ok(0) => return false,
            Ok(available) => available,
            Err(violation) => {
                place.hooks.violation(owner.pool, owner.queue, violation);
                return false;
            }
        };
        let until_wrap = self.base.count.saturating_sub(head);
        let want = (available.min(until_wrap) as usize).min(FETCH);
        let iova = self.base.ring.at(head);
        let fetched = self.fetched.get_mut(..want).unwrap_or_default();
        let got = self.base.windows.fetch(space, iova, fetched);
        self.at = 0;
        self.filled = got;
        if got == 0 {
            place.hooks.dma_fault(DmaFault {
                pool: owner.pool,
                iova,
                len: 16,
                write: false,
            });
            self.base.stop();
            return false;
        }
        // While these are used, the next ones' buffers travel, and the descriptors after those, and come ready to be
        // written.
        let buffer = |address: u64| {
            let windows = &self.base.data_windows;
            if let Some(slice) = windows.get(address, 64, Direction::Write) {
                prefetch_write(&slice);
            }
        };
        let more = (available.min(until_wrap) as usize).saturating_sub(got);
        let more = more.min(2 * FETCH);
        let (next, after) = (more.min(FETCH), more.saturating_sub(FETCH));
        let following = places_after(iova, got);
        self.base
            .windows
            .prefetch(places_after(following, next), after, Direction::Write);
        self.fetched
            .iter()
            .take(got)
            .for_each(|words| buffer(words[0]));
        self.base.windows.addresses(following, next, buffer);
        true
    }

    /// Takes the next descriptor: its index and content.
    #[inline]
    fn take(
        &mut self,
        space: &dyn Translate,
        place: &mut Place<'_>,
        owner: Owner,
    ) -> Option<(u32, Words)> {
        if !self.fetch(space, place, owner) {
            return None;
        }
        let words = *self.fetched.entry(self.at);
        let index = self.base.head;
        self.at.count(1);
        self.base.head = self.base.after(index, 1);
        Some((index, words))
    }

    /// Writes a frame to the queue's buffers and publishes its descriptors. The caller has asked for room.
    ///
    /// # Errors
    ///
    /// The reason when the queue turns out to be unusable half-way.
    pub(crate) fn put(
        &mut self,
        space: &dyn Translate,
        family: Family,
        incoming: &Incoming<'_>,
        place: &mut Place<'_>,
        owner: Owner,
    ) -> Result<Put, DropReason> {
        let plan = Plan::new(&self.settings, incoming.data.len(), incoming.headers);
        let size = self.settings.buffer_size as usize;
        debug_assert!(plan.header.max(plan.rest) <= incoming.data.len());
        let header = incoming.data.get(..plan.header).unwrap_or_default();
        let mut rest = incoming.data.get(plan.rest..).unwrap_or_default();
        let (mut first, mut raised) = (true, false);
        let mut meta = incoming.meta;
        loop {
            let Some((index, words)) = self.take(space, place, owner) else {
                return Err(DropReason::QueueDisabled);
            };
            let asked = place.ask(At {
                point: Point::RxFetch,
                pool: owner.pool,
                queue: owner.queue,
                index: u16::try_from(index).unwrap_or(u16::MAX),
            });
            if asked == Some(Fault::Block) {
                self.base.stop();
                return Err(DropReason::QueueDisabled);
            }
            let (now, later) = rest.split_at(rest.len().min(size));
            rest = later;
            let last = rest.is_empty();
            if first && plan.header > 0 {
                if words[1] & 1 != 0 {
                    place
                        .hooks
                        .violation(owner.pool, owner.queue, RingViolation::BadBufferAddress);
                }
                meta.error |= !self.store(space, words[1] & !1, header, place, owner, index);
            }
            meta.error |= !self.store(space, words[0], now, place, owner, index);
            let len = u32::try_from(now.len()).unwrap_or(0);
            let split = if first {
                plan.split
            } else {
                RxSplit::default()
            };
            let written = if self.settings.format == RxFormat::Legacy {
                [words[0], rx_legacy(family, &meta, len, last)]
            } else if last {
                [
                    rx_types(&meta, split),
                    rx_status(family, &meta, len) | rx_overflow(split),
                ]
            } else {
                let types = rx_types(&RxMeta::default(), split);
                let rubbish = place.rubbish(index)[0] & 0xffff_ffff_001f_ffff;
                [types | rubbish, rx_partial(split, len)]
            };
            let address = self.base.ring.at(index);
            let write_back = WriteBack::new(address, written);
            raised |= self.base.publish(space, place, owner, index, write_back);
            first = false;
            if last {
                break;
            }
        }
        self.base.head_word.store(self.base.head);
        Ok(Put {
            raised,
            lost: meta.error,
        })
    }

    /// Writes part of a frame to a buffer. False when the buffer cannot be written.
    fn store(
        &mut self,
        space: &dyn Translate,
        iova: u64,
        data: &[u8],
        place: &mut Place<'_>,
        owner: Owner,
        index: u32,
    ) -> bool {
        if data.is_empty() {
            return true;
        }
        if iova == 0 {
            place
                .hooks
                .violation(owner.pool, owner.queue, RingViolation::BadBufferAddress);
            return false;
        }
        let asked = place.ask(At {
            point: Point::DmaWrite,
            pool: owner.pool,
            queue: owner.queue,
            index: u16::try_from(index).unwrap_or(u16::MAX),
        });
        if asked != Some(Fault::Refuse) && self.base.data_windows.write(space, iova, data) {
            return true;
        }
        place.hooks.dma_fault(DmaFault {
            pool: owner.pool,
            iova,
            len: u32::try_from(data.len()).unwrap_or(u32::MAX),
            write: true,
        });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(format: RxFormat, len: usize, headers: usize) -> Plan {
        let settings = RxSettings {
            buffer_size: 2048,
            header_size: 128,
            format,
            drop_en: false,
            strip: false,
            max_len: None,
        };
        Plan::new(&settings, len, headers)
    }

    /// Bytes in the header buffer, where the rest begins, and what is told of the header: split, too long, its length.
    fn told(format: RxFormat, len: usize, headers: usize) -> (usize, usize, bool, bool, u32) {
        let Plan {
            header,
            rest,
            split,
        } = plan(format, len, headers);
        (header, rest, split.split, split.overflow, split.header_len)
    }

    #[test]
    fn a_header_buffer_takes_headers_of_its_size_and_not_a_byte_more() {
        use RxFormat::{Replicate, Split, SplitAlways};
        assert_eq!(told(Split, 200, 128), (128, 128, true, false, 128));
        assert_eq!(told(Split, 200, 129), (0, 0, false, true, 129));
        assert_eq!(told(Split, 200, 0), (0, 0, false, false, 0));
        assert_eq!(told(Replicate, 200, 128), (128, 0, true, false, 128));
        assert_eq!(told(Replicate, 200, 129), (0, 0, false, true, 129));
        assert_eq!(told(Replicate, 200, 0), (0, 0, false, false, 0));
        assert_eq!(told(SplitAlways, 200, 128), (128, 128, true, false, 128));
        assert_eq!(told(SplitAlways, 200, 129), (128, 128, true, true, 129));
        assert_eq!(told(SplitAlways, 200, 0), (128, 128, false, false, 128));
    }

    #[test]
    fn a_frame_that_fits_the_header_buffer_goes_there_whole_if_that_is_always_used() {
        let always = |len| told(RxFormat::SplitAlways, len, 54);
        assert_eq!(always(127), (127, 127, false, false, 127));
        assert_eq!(always(128), (128, 128, false, false, 128));
        assert_eq!(always(129), (54, 54, true, false, 54));
    }

    #[test]
    fn without_a_header_buffer_nothing_is_split() {
        for format in [
            RxFormat::Legacy,
            RxFormat::OneBuffer,
            RxFormat::Split,
            RxFormat::Replicate,
            RxFormat::SplitAlways,
            RxFormat::Reserved,
        ] {
            let mut settings = RxSettings::decode(Model::X540, 0, 0);
            settings.format = format;
            for headers in [0, 54] {
                let Plan {
                    header,
                    rest,
                    split,
                } = Plan::new(&settings, 200, headers);
                assert_eq!((header, rest, split), (0, 0, RxSplit::default()));
            }
        }
    }

    #[test]
    fn an_igb_splits_what_it_knows_and_the_others_what_they_are_asked_to() {
        let (l2, l4, headers) = (14, 34, 54);
        let parsed = |kind| Parsed {
            kind,
            l2,
            l4,
            headers,
            ..Parsed::default()
        };
        let kinds = [
            0,
            kind::IPV4,
            kind::IPV6,
            kind::IPV4 | kind::TCP,
            kind::IPV4 | kind::UDP,
            kind::IPV6 | kind::TCP,
            kind::IPV6 | kind::UDP,
            kind::IPV4 | kind::SCTP,
        ];
        for bits in kinds {
            let parsed = parsed(bits);
            let (ip, transport) = (
                bits & (kind::IPV4 | kind::IPV6) != 0,
                bits & (kind::TCP | kind::UDP) != 0,
            );
            let expected = match (ip, transport) {
                (_, true) => headers,
                (true, false) => l4,
                (false, false) => 0,
            };
            assert_eq!(
                split_headers(Model::I350, 0, &parsed),
                expected,
                "{bits:#x}"
            );
            for asked in 0..32 {
                // PSRTYPE: TCP 4, UDP 5, IPv4 8, IPv6 9, Ethernet 12.
                let expected = match asked {
                    4 if bits & kind::TCP != 0 => headers,
                    5 if bits & kind::UDP != 0 => headers,
                    8 if bits & kind::IPV4 != 0 => l4,
                    9 if bits & kind::IPV6 != 0 => l4,
                    12 => l2,
                    _ => 0,
                };
                let got = split_headers(Model::X540, 1 << asked, &parsed);
                assert_eq!(got, expected, "{bits:#x}, {asked}");
            }
        }
    }
}
