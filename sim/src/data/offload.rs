//! TX offloads: checksums, segmentation, VLAN tags (ixgbevf.md §10.5-10.7, igbvf.md §9.3).
//!
//! As the hardware does, checksums are *added to* what the field already holds, which is how drivers hand over
//! pseudo-header sums and cancel out parts that are not to be covered.
//!
//! Where headers and fields are is what the driver says. Fields are found from their header's start on; an offset that does
//! not fit stays at the end of all addresses, which is in no frame, and a length at nothing, which is too short for any
//! header.

use std::num::Wrapping;

use super::checksum::{Sum, crc32c, finish, sum_at};
use super::desc::{L4Type, TxContext, TxData, TxLegacy};
use super::hooks::RingViolation;
use super::parse::ethertype;

/// Longest header of a segmented frame, in bytes.
const MAX_HEADER: usize = 512;

/// Most frames one segmentation request makes.
pub(crate) const MAX_SEGMENTS: usize = 4096;

/// Where a context says the headers of a frame of `len` bytes are.
fn headers(context: &TxContext, len: usize) -> Result<(usize, usize), RingViolation> {
    let ip = context.mac_len as usize;
    let l4 = ip.saturating_add(context.ip_len as usize);
    if ip < 14 || l4 > len {
        return Err(RingViolation::BadOffload);
    }
    Ok((ip, l4))
}

/// The `N` bytes at `at` of what begins at `from` in a frame.
fn field<const N: usize>(
    frame: &mut [u8],
    from: usize,
    at: usize,
) -> Result<&mut [u8; N], RingViolation> {
    frame
        .get_mut(from..)
        .and_then(|part| part.get_mut(at..)?.first_chunk_mut())
        .ok_or(RingViolation::BadOffload)
}

/// Puts a finished checksum, covering `frame[from..to]`, at `at` of that part.
fn insert(
    frame: &mut [u8],
    from: usize,
    to: usize,
    at: usize,
    more: Sum,
) -> Result<(), RingViolation> {
    let covered = frame.get(from..to).ok_or(RingViolation::BadOffload)?;
    let total = sum_at(from, covered) + more;
    let mut sum = finish(total);
    if (from ^ at) & 1 == 1 {
        // The sum is in the word order of the whole frame; the field lies across it.
        sum.reverse();
    }
    *field(frame, from, at)? = sum;
    Ok(())
}

fn ip_checksum(frame: &mut [u8], ip: usize, l4: usize) -> Result<(), RingViolation> {
    if l4.saturating_sub(ip) < 20 {
        return Err(RingViolation::BadOffload);
    }
    insert(frame, ip, l4, 10, Wrapping(0))
}

fn l4_checksum(
    frame: &mut [u8],
    context: &TxContext,
    l4: usize,
    more: Sum,
) -> Result<(), RingViolation> {
    let len = frame.len();
    match context.l4 {
        L4Type::Tcp if l4.saturating_add(20) <= len => insert(frame, l4, len, 16, more),
        L4Type::Udp => {
            insert(frame, l4, len, 6, more)?;
            let sum = field::<2>(frame, l4, 6)?;
            if *sum == [0, 0] {
                *sum = [0xff, 0xff];
            }
            Ok(())
        }
        L4Type::Sctp => {
            let packet = frame.get_mut(l4..).ok_or(RingViolation::BadOffload)?;
            let ([before @ .., a, b, c, d], behind) = packet
                .split_first_chunk_mut::<12>()
                .ok_or(RingViolation::BadOffload)?;
            [*a, *b, *c, *d] = crc32c(&[before, &[0; 4], behind]).to_le_bytes();
            Ok(())
        }
        _ => Err(RingViolation::BadOffload),
    }
}

/// Fills in the checksums that the descriptor asks for, in place.
///
/// # Errors
///
/// When the headers the context names do not fit the frame.
pub(crate) fn checksums(
    frame: &mut [u8],
    data: &TxData,
    context: &TxContext,
) -> Result<(), RingViolation> {
    if let Some(legacy) = data.legacy {
        return legacy_checksum(frame, &legacy);
    }
    if !data.ixsm && !data.txsm {
        return Ok(());
    }
    let (ip, l4) = headers(context, frame.len())?;
    if data.ixsm && context.ipv4 {
        ip_checksum(frame, ip, l4)?;
    }
    if data.txsm {
        l4_checksum(frame, context, l4, Wrapping(0))?;
    }
    Ok(())
}

fn legacy_checksum(frame: &mut [u8], legacy: &TxLegacy) -> Result<(), RingViolation> {
    if !legacy.checksum {
        return Ok(());
    }
    let (from, at) = (usize::from(legacy.start), usize::from(legacy.offset));
    let at = at.checked_sub(from).ok_or(RingViolation::BadOffload)?;
    insert(frame, from, frame.len(), at, Wrapping(0))
}

/// A segmentation request, checked: makes the frames one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    context: TxContext,
    ixsm: bool,
    ip: usize,
    l4: usize,
    header: usize,
    mss: usize,
    total: usize,
}

impl Segments {
    /// Checks a request of `total` bytes, headers included, against its context; frames are to be at most `max_frame`
    /// bytes long.
    ///
    /// # Errors
    ///
    /// [`RingViolation::BadOffload`] when header lengths or segment size make no frames.
    pub(crate) fn new(
        data: &TxData,
        context: &TxContext,
        total: usize,
        max_frame: usize,
    ) -> Result<Self, RingViolation> {
        let (ip, l4) = headers(context, total)?;
        let header = l4.saturating_add(context.l4_len as usize);
        let mss = context.mss as usize;
        let (least_ip, least_l4) = (
            if context.ipv4 { 20 } else { 40 },
            match context.l4 {
                L4Type::Tcp => 20,
                L4Type::Udp => 8,
                L4Type::Sctp | L4Type::None => return Err(RingViolation::BadOffload),
            },
        );
        if l4.saturating_sub(ip) < least_ip
            || header.saturating_sub(l4) < least_l4
            || header > MAX_HEADER
            || header >= total
            || mss == 0
            || header.saturating_add(mss) > max_frame
            || !data.txsm
        {
            return Err(RingViolation::BadOffload);
        }
        let segments = Self {
            context: *context,
            ixsm: data.ixsm,
            ip,
            l4,
            header,
            mss,
            total,
        };
        if segments.count() > MAX_SEGMENTS {
            return Err(RingViolation::BadOffload);
        }
        Ok(segments)
    }

    /// How many frames it makes; at least one.
    pub(crate) const fn count(&self) -> usize {
        self.total.saturating_sub(self.header).div_ceil(self.mss)
    }

    /// Builds frame `number` from the request's bytes.
    pub(crate) fn build(
        &self,
        request: &[u8],
        number: usize,
        frame: &mut Vec<u8>,
    ) -> Result<(), RingViolation> {
        let Self {
            context,
            ip,
            l4,
            header,
            mss,
            ..
        } = *self;
        let done = number.saturating_mul(mss);
        let from = header.saturating_add(done);
        let to = from.saturating_add(mss).min(self.total);
        frame.clear();
        let (Some(headers), Some(payload)) = (request.get(..header), request.get(from..to)) else {
            return Err(RingViolation::BadOffload);
        };
        frame.extend_from_slice(headers);
        frame.extend_from_slice(payload);
        let last = to == self.total;
        // Lengths that do not fit their field wrap, as they would on the card: a segment is below 16 KiB.
        let be = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
        let len = headers.len().saturating_add(payload.len());
        let (ip_len, l4_len) = (len.saturating_sub(ip), len.saturating_sub(l4));
        if context.ipv4 {
            *field(frame, ip, 2)? = be(ip_len);
            add_be(field::<2>(frame, ip, 4)?, number as u64);
        } else {
            *field(frame, ip, 4)? = be(ip_len.saturating_sub(40));
        }
        if context.l4 == L4Type::Tcp {
            add_be(field::<4>(frame, l4, 4)?, done as u64);
            // FIN and PSH belong to the last segment, CWR to the first.
            let mut keep = 0xff;
            if !last {
                keep &= !0x09;
            }
            if number > 0 {
                keep &= !0x80;
            }
            let [flags] = field(frame, l4, 13)?;
            *flags &= keep;
        } else {
            *field(frame, l4, 4)? = be(l4_len);
        }
        if self.ixsm && context.ipv4 {
            ip_checksum(frame, ip, l4)?;
        }
        // The driver's pseudo-header sum lacks the length, which differs from segment to segment.
        l4_checksum(frame, &context, l4, sum_at(l4, &be(l4_len)))
    }
}

/// Adds to a big-endian number, wrapping.
fn add_be(field: &mut [u8], add: u64) {
    let mut carry = Wrapping(add);
    for byte in field.iter_mut().rev() {
        let sum = Wrapping(u64::from(*byte)) + (carry & Wrapping(0xff));
        *byte = sum.0.to_le_bytes()[0];
        carry = (carry >> 8) + (sum >> 8);
    }
}

/// Inserts a VLAN tag behind the addresses.
pub(crate) fn insert_vlan(frame: &mut Vec<u8>, tci: u16) {
    let [a, b] = ethertype::VLAN.to_be_bytes();
    let [c, d] = tci.to_be_bytes();
    let at = 12.min(frame.len());
    frame.splice(at..at, [a, b, c, d]);
}

/// Takes the tag out of a tagged frame, into `out`.
pub(crate) fn strip_vlan(frame: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(frame.get(..12).unwrap_or(frame));
    out.extend_from_slice(frame.get(16..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: RingViolation = RingViolation::BadOffload;

    fn context(l4: L4Type, ip_len: u32, l4_len: u32, mss: u32) -> TxContext {
        TxContext {
            mac_len: 14,
            ip_len,
            l4_len,
            mss,
            ipv4: true,
            l4,
            ..TxContext::default()
        }
    }

    /// What a request for an L4 checksum says of a frame of so many bytes.
    fn checked(len: usize, context: &TxContext) -> Result<(), RingViolation> {
        let data = TxData {
            txsm: true,
            ..TxData::default()
        };
        checksums(&mut vec![0; len], &data, context)
    }

    #[test]
    fn a_header_to_be_summed_is_inside_the_frame_to_the_byte() {
        for (l4, least) in [(L4Type::Tcp, 20), (L4Type::Udp, 8), (L4Type::Sctp, 12)] {
            let context = context(l4, 20, 0, 0);
            assert_eq!(checked(34 + least, &context), Ok(()), "{l4:?}");
            assert_eq!(checked(33 + least, &context), Err(BAD), "{l4:?}");
        }
        let ethernet = TxContext {
            mac_len: 13,
            ..context(L4Type::Udp, 20, 0, 0)
        };
        assert_eq!(checked(100, &ethernet), Err(BAD), "no MAC header");
        let ip = TxData {
            ixsm: true,
            ..TxData::default()
        };
        for (ip_len, len, expected) in [(20, 34, Ok(())), (19, 34, Err(BAD)), (21, 34, Err(BAD))] {
            let context = context(L4Type::Udp, ip_len, 0, 0);
            assert_eq!(checksums(&mut vec![0; len], &ip, &context), expected);
        }
    }

    #[test]
    fn a_legacy_checksum_lies_in_what_it_covers_and_in_the_frame() {
        for (start, offset, expected) in [
            (14, 98, Ok(())),
            (14, 99, Err(BAD)),
            (98, 98, Ok(())),
            (98, 97, Err(BAD)),
            (99, 98, Err(BAD)),
            (100, 100, Err(BAD)),
        ] {
            let data = TxData {
                legacy: Some(TxLegacy {
                    checksum: true,
                    start,
                    offset,
                    vlan: 0,
                }),
                ..TxData::default()
            };
            let got = checksums(&mut [0; 100], &data, &TxContext::default());
            assert_eq!(got, expected, "{offset} from {start} on");
        }
        // Alone behind the last covered byte there is nothing to sum.
        let data = |start| TxData {
            legacy: Some(TxLegacy {
                checksum: true,
                start,
                offset: start,
                vlan: 0,
            }),
            ..TxData::default()
        };
        let mut frame = vec![0; 2];
        assert_eq!(
            checksums(&mut frame, &data(0), &TxContext::default()),
            Ok(())
        );
        assert_eq!(frame, [0xff, 0xff]);
        assert_eq!(
            checksums(&mut frame, &data(2), &TxContext::default()),
            Err(BAD)
        );
    }

    /// How many frames a request of `total` bytes makes, of at most 9728 bytes each.
    fn made(context: &TxContext, total: usize) -> Result<usize, RingViolation> {
        let data = TxData {
            txsm: true,
            ..TxData::default()
        };
        Segments::new(&data, context, total, 9728).map(|segments| segments.count())
    }

    #[test]
    fn segments_have_whole_headers_and_payload_and_fit_a_frame() {
        use L4Type::{Sctp, Tcp, Udp};
        let tcp = context(Tcp, 20, 20, 1000);
        // 54 bytes of headers.
        assert_eq!(made(&tcp, 54), Err(BAD), "no payload");
        assert_eq!(made(&tcp, 55), Ok(1));
        assert_eq!(made(&tcp, 1054), Ok(1));
        assert_eq!(made(&tcp, 1055), Ok(2));
        assert_eq!(made(&context(Tcp, 19, 20, 1000), 2000), Err(BAD));
        assert_eq!(made(&context(Tcp, 20, 19, 1000), 2000), Err(BAD));
        assert_eq!(made(&context(Udp, 20, 8, 1000), 2000), Ok(2));
        assert_eq!(made(&context(Udp, 20, 7, 1000), 2000), Err(BAD));
        assert_eq!(made(&context(Sctp, 20, 20, 1000), 2000), Err(BAD));
        let ipv6 = |ip_len| TxContext {
            ipv4: false,
            ..context(Tcp, ip_len, 20, 1000)
        };
        assert_eq!(made(&ipv6(40), 2000), Ok(2));
        assert_eq!(made(&ipv6(39), 2000), Err(BAD));
        // 512 bytes of headers.
        assert_eq!(made(&context(Tcp, 478, 20, 1000), 1512), Ok(1));
        assert_eq!(made(&context(Tcp, 479, 20, 1000), 1513), Err(BAD));
        assert_eq!(made(&context(Tcp, 20, 20, 0), 2000), Err(BAD));
        assert_eq!(made(&context(Tcp, 20, 20, 9728 - 54), 9728), Ok(1));
        assert_eq!(made(&context(Tcp, 20, 20, 9728 - 53), 9728), Err(BAD));
        let small = context(Tcp, 20, 20, 16);
        assert_eq!(made(&small, 54 + 16 * MAX_SEGMENTS), Ok(MAX_SEGMENTS));
        assert_eq!(made(&small, 55 + 16 * MAX_SEGMENTS), Err(BAD));
    }

    #[test]
    fn a_field_may_lie_across_the_words_of_the_frame() {
        // One 16-bit big-endian word after the other, from where the sum begins.
        let total = |bytes: &[u8]| {
            let words = bytes.as_chunks::<2>().0.iter();
            let total: u32 = words.map(|&word| u32::from(u16::from_be_bytes(word))).sum();
            (total & 0xffff) + (total >> 16)
        };
        for (start, offset) in [(14, 24), (15, 15), (15, 31), (21, 27)] {
            let data = TxData {
                legacy: Some(TxLegacy {
                    checksum: true,
                    start,
                    offset,
                    vlan: 0,
                }),
                ..TxData::default()
            };
            let from = usize::from(start);
            let mut frame: Vec<u8> = (1..).take(from + 40).collect();
            let at = usize::from(offset);
            frame[at..at + 2].fill(0);
            assert_eq!(checksums(&mut frame, &data, &TxContext::default()), Ok(()));
            assert_eq!(total(&frame[from..]), 0xffff, "{offset} from {start} on");
        }
    }

    #[test]
    fn a_udp_sum_of_zero_is_sent_as_all_ones() {
        let data = TxData {
            txsm: true,
            ..TxData::default()
        };
        let mut frame = vec![0; 44];
        frame[42..].fill(0xff);
        assert_eq!(
            checksums(&mut frame, &data, &context(L4Type::Udp, 20, 0, 0)),
            Ok(())
        );
        assert_eq!(frame[40..42], [0xff, 0xff]);
        assert!(frame[..40].iter().all(|&byte| byte == 0));
    }

    /// The frames that a request of three times 10 bytes of payload becomes.
    fn segments(ipv4: bool, ixsm: bool) -> Vec<Vec<u8>> {
        let ip_len = if ipv4 { 20 } else { 40 };
        let context = TxContext {
            ipv4,
            ..context(L4Type::Tcp, ip_len, 20, 10)
        };
        let data = TxData {
            ixsm,
            txsm: true,
            ..TxData::default()
        };
        let header = 34 + context.ip_len as usize;
        let mut request = vec![0; header + 30];
        request[header - 20 + 13] = 0x89;
        let segments = Segments::new(&data, &context, request.len(), 1518).expect("good");
        assert_eq!(segments.count(), 3);
        let build = |number| {
            let mut frame = Vec::new();
            segments.build(&request, number, &mut frame).expect("built");
            frame
        };
        (0..3).map(build).collect()
    }

    #[test]
    fn each_segment_has_the_length_it_has() {
        for (number, frame) in (0..).zip(segments(true, true)) {
            assert_eq!(frame[16..18], [0, 20 + 20 + 10]);
            assert_eq!(frame[18..20], [0, number], "the identification");
        }
        for frame in segments(false, false) {
            // IPv6 does not count its own header, nor is anything before the field touched.
            assert_eq!(frame[18..20], [0, 20 + 10]);
            assert_eq!(frame[..18], [0; 18]);
        }
    }

    #[test]
    fn cwr_is_the_first_segments_and_psh_and_fin_are_the_lasts() {
        let flags: Vec<u8> = segments(true, true).iter().map(|frame| frame[47]).collect();
        assert_eq!(flags, [0x80, 0, 0x09]);
    }

    #[test]
    fn an_ip_checksum_is_ipv4_s_and_where_it_was_asked_for() {
        for (ipv4, ixsm, summed) in [
            (true, true, true),
            (true, false, false),
            (false, true, false),
            (false, false, false),
        ] {
            // An IPv6 header has the middle of an address there.
            let there = segments(ipv4, ixsm)[1][14 + 10..14 + 12] != [0, 0];
            assert_eq!(there, summed, "{ipv4} {ixsm}");
        }
    }
}
