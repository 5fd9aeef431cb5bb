//! The parser against frames that were made to order, so that what it must find is known, and against itself with less
//! of the frame in hand.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Ip {
    /// 32-bit words of options, and the word of flags and offset.
    V4 { options: u8, fragment: u16 },
    /// Extension headers.
    V6(Vec<Extension>),
}

#[derive(Clone, Debug)]
enum Extension {
    /// Hop-by-hop, or destination options: 8 bytes and so many more times 8.
    Options { destination: bool, more: u8 },
    /// How many segments are left.
    Routing { left: u8 },
    /// The word of offset and flags.
    Fragment(u16),
}

#[derive(Clone, Debug)]
enum L4 {
    /// 32-bit words of options.
    Tcp {
        options: u8,
    },
    /// With a checksum, and with a claim of so many bytes less than there are.
    Udp {
        checked: bool,
        less: u8,
    },
    Sctp,
    /// A protocol by its number: 41, 50, 51, or one nobody looks into.
    Other(u8),
}

#[derive(Clone, Debug)]
struct Order {
    tag: bool,
    ip: Ip,
    l4: L4,
    payload: Vec<u8>,
    /// Bytes behind the packet, as a short frame is filled up.
    behind: usize,
    /// A bit of the L4 payload or header is not what the checksum was made for.
    spoiled: bool,
}

/// One 16-bit big-endian word after the other: the definition.
fn internet(pieces: &[&[u8]]) -> u16 {
    let bytes = pieces.concat();
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut total: u32 = words.sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).expect("folded")
}

/// CRC32c, bit by bit.
fn castagnoli(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let low = crc & 1;
            crc >>= 1;
            crc ^= low * 0x82f6_3b78;
        }
    }
    !crc
}

fn short(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("short").to_be_bytes()
}

/// The L4 part for a pseudo header of these addresses.
fn l4_bytes(order: &Order, addresses: &[u8]) -> (u8, Vec<u8>) {
    let mut bytes = vec![0x12, 0x34, 0x56, 0x78];
    let (protocol, field) = match order.l4 {
        L4::Tcp { options } => {
            bytes.extend([
                1,
                2,
                3,
                4,
                5,
                6,
                7,
                8,
                (5 + options) << 4,
                0x10,
                1,
                0,
                0,
                0,
                0,
                0,
            ]);
            bytes.extend(std::iter::repeat_n(1, 4 * usize::from(options)));
            (6, Some(16))
        }
        L4::Udp { checked, .. } => {
            bytes.extend([0; 4]);
            (17, checked.then_some(6))
        }
        L4::Sctp => {
            bytes.extend([9, 8, 7, 6, 0, 0, 0, 0]);
            (132, None)
        }
        L4::Other(protocol) => {
            bytes.clear();
            (protocol, None)
        }
    };
    bytes.extend(&order.payload);
    let mut covered = bytes.len();
    if let L4::Udp { less, .. } = order.l4 {
        covered -= usize::from(less);
        bytes[4..6].copy_from_slice(&short(covered));
    }
    if let Some(field) = field {
        let tail = [0, protocol, short(covered)[0], short(covered)[1]];
        let mut sum = internet(&[addresses, &tail, &bytes[..covered]]);
        if sum == 0 && protocol == 17 {
            sum = 0xffff;
        }
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    } else if protocol == 132 {
        let crc = castagnoli(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    }
    if order.spoiled && !bytes.is_empty() {
        // The source port is in every header, and nothing is decided by it.
        bytes[0] ^= 0x40;
    }
    (protocol, bytes)
}

/// The frame, and what there is to be found in it.
fn made(order: &Order) -> (Vec<u8>, Parsed) {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if order.tag {
        frame.extend([0x81, 0, 0x20, 5]);
    }
    let mut found = Parsed::default();
    let (protocol, l4);
    match &order.ip {
        Ip::V4 { options, fragment } => {
            let addresses = [10, 0, 0, 1, 192, 168, 255, 2];
            (protocol, l4) = l4_bytes(order, &addresses);
            frame.extend([8, 0]);
            found.l2 = frame.len();
            let size = 20 + 4 * usize::from(*options);
            let mut header = vec![0x45 + options, 0];
            header.extend(short(size + l4.len()));
            header.extend([7, 7]);
            header.extend(fragment.to_be_bytes());
            header.extend([64, protocol, 0, 0]);
            header.extend(addresses);
            header.resize(size, 1);
            let sum = internet(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(&header);
            found.kind = 1 << 4 | if *options > 0 { 1 << 5 } else { 0 };
            found.ip = Check::Good;
            found.fragment = fragment & 0x3fff != 0;
        }
        Ip::V6(extensions) => {
            let addresses: Vec<u8> = (0x40..0x60).collect();
            (protocol, l4) = l4_bytes(order, &addresses);
            frame.extend([0x86, 0xdd]);
            found.l2 = frame.len();
            found.kind = 1 << 6;
            let number = |extension: &Extension| match extension {
                Extension::Options { destination, .. } => [0, 60][usize::from(*destination)],
                Extension::Routing { .. } => 43,
                Extension::Fragment(_) => 44,
            };
            let mut next = extensions.iter().map(number).chain([protocol]);
            let first = next.next().expect("one more than extensions");
            let mut between = Vec::new();
            for extension in extensions {
                found.kind |= 1 << 7;
                let next = next.next().expect("one more than extensions");
                match extension {
                    Extension::Options { more, .. } => {
                        between.extend([next, *more]);
                        between.extend(vec![0; 6 + 8 * usize::from(*more)]);
                    }
                    Extension::Routing { left } => {
                        between.extend([next, 0, 0, *left, 0, 0, 0, 0]);
                        found.fragment |= *left != 0;
                    }
                    Extension::Fragment(word) => {
                        between.extend([next, 0]);
                        between.extend(word.to_be_bytes());
                        between.extend([0, 0, 0, 9]);
                        found.fragment |= word & 0xfff9 != 0;
                    }
                }
            }
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(short(between.len() + l4.len()));
            frame.extend([first, 64]);
            frame.extend(addresses);
            frame.extend(between);
        }
    }
    found.l4 = frame.len();
    found.headers = found.l4;
    frame.extend(&l4);
    frame.extend(vec![0; order.behind]);
    if !found.fragment {
        let check = if order.spoiled {
            Check::Bad
        } else {
            Check::Good
        };
        let (kind, header, check) = match order.l4 {
            L4::Tcp { options } => (1 << 8, 20 + 4 * usize::from(options), check),
            L4::Udp { checked: true, .. } => (1 << 9, 8, check),
            L4::Udp { checked: false, .. } => (1 << 9, 8, Check::Not),
            L4::Sctp => (1 << 10, 12, check),
            L4::Other(41) => (1 << 6, 0, Check::Not),
            L4::Other(50) => (1 << 12, 0, Check::Not),
            L4::Other(51) => (1 << 13, 0, Check::Not),
            L4::Other(_) => (0, 0, Check::Not),
        };
        found.kind |= kind;
        found.headers += header;
        found.l4_check = check;
        found.udp_checksum = matches!(order.l4, L4::Udp { checked: true, .. });
    }
    (frame, found)
}

fn orders() -> impl Strategy<Value = Order> {
    let extension = prop_oneof![
        (any::<bool>(), 0..3_u8)
            .prop_map(|(destination, more)| Extension::Options { destination, more }),
        (0..2_u8).prop_map(|left| Extension::Routing { left }),
        // The whole in one piece, the first of several, a later one, the last.
        prop::sample::select(vec![0, 1, 0x40, 0x41]).prop_map(Extension::Fragment),
    ];
    let ip = prop_oneof![
        (
            0..11_u8,
            prop::sample::select(vec![0, 0x4000, 0x2000, 0x2010, 0x0010])
        )
            .prop_map(|(options, fragment)| Ip::V4 { options, fragment }),
        prop::collection::vec(extension, 0..8).prop_map(Ip::V6),
    ];
    let l4 = prop_oneof![
        (0..11_u8).prop_map(|options| L4::Tcp { options }),
        (any::<bool>(), 0..3_u8).prop_map(|(checked, less)| L4::Udp { checked, less }),
        Just(L4::Sctp),
        prop::sample::select(vec![41, 50, 51, 1, 59, 253]).prop_map(L4::Other),
    ];
    let payload = prop::collection::vec(any::<u8>(), 3..200);
    (any::<bool>(), ip, l4, payload, 0..20_usize, any::<bool>()).prop_map(
        |(tag, ip, l4, payload, behind, spoiled)| Order {
            tag,
            ip,
            l4,
            payload,
            behind,
            spoiled,
        },
    )
}

proptest! {
    #[test]
    fn a_frame_is_found_to_be_what_it_was_made_as(order in orders()) {
        let (frame, found) = made(&order);
        prop_assert_eq!(parse(&frame), found);
    }

    /// However much of it is at hand: the same verdict, or none before there is more. The whole always suffices.
    #[test]
    fn the_beginning_of_a_frame_says_the_same_as_all_of_it_or_nothing(
        order in orders(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut frame, _) = made(&order);
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        // Cut short, too: every header can end anywhere.
        frame.truncate(cut.index(frame.len() + 1));
        let whole = parse(&frame);
        for len in 0..=frame.len() {
            let found = parse_start(&frame[..len], frame.len(), || sum(&frame));
            prop_assert!(found.is_none_or(|found| found == whole), "{} of {}", len, frame.len());
        }
        prop_assert!(whole.headers <= frame.len().max(14), "{whole:?} of {}", frame.len());
        prop_assert!(whole.l2 <= whole.l4 && whole.l4 <= whole.headers);
    }
}

/// One byte of a good frame is another: what is contradictory ends the parsing there, and is never an offset.
#[test]
fn d14_headers_that_contradict_themselves_are_not_believed() {
    let order = |ip| Order {
        tag: false,
        ip,
        l4: L4::Tcp { options: 2 },
        payload: vec![7; 40],
        behind: 0,
        spoiled: false,
    };
    let v4 = Ip::V4 {
        options: 1,
        fragment: 0,
    };
    let options = Extension::Options {
        destination: true,
        more: 1,
    };
    let v6 = Ip::V6(vec![options]);
    for (ip, at, byte, l4, kind) in [
        // Version, header length too small and beyond the packet's, packet longer than the frame and than no header.
        (&v4, 14, 0x66, 14, 0),
        (&v4, 14, 0x44, 14, 0),
        (&v4, 16, 0x7f, 14, 0),
        (&v4, 17, 10, 14, 0),
        // A data offset of less than a header, and of more than there is: the plain header is what is left of it.
        (&v4, 14 + 24 + 12, 0x40, 38, 1 << 4 | 1 << 5 | 1 << 8),
        // Version, length, and an extension beyond the packet.
        (&v6, 14, 0x40, 14, 0),
        (&v6, 18, 0x7f, 14, 0),
        (&v6, 14 + 40 + 1, 0xff, 14, 1 << 6),
    ] {
        let (mut frame, _) = made(&order(ip.clone()));
        frame[at] = byte;
        let found = parse(&frame);
        assert_eq!((found.l4, found.kind), (l4, kind), "{ip:?} {at}: {found:?}");
    }
    let bare = |ip: &Ip, l4, behind| Order {
        l4,
        payload: vec![],
        behind,
        ..order(ip.clone())
    };
    for offset in [0x40, 0xf0] {
        let (mut frame, _) = made(&bare(&v4, L4::Tcp { options: 0 }, 0));
        frame[14 + 24 + 12] = offset;
        assert_eq!(parse(&frame).headers, 14 + 24 + 20, "{offset:#x}");
    }
    // What lies behind the packet is no part of a header of it.
    for (len, tcp) in [(24 + 20, 1 << 8), (24 + 19, 0)] {
        let (mut frame, _) = made(&bare(&v4, L4::Tcp { options: 0 }, 6));
        frame[17] = len;
        assert_eq!(parse(&frame).kind & 1 << 8, tcp, "{len}");
    }
    // Nor does it help a UDP header that claims it, whatever the sum of both may be.
    let udp = L4::Udp {
        checked: true,
        less: 0,
    };
    let (mut frame, found) = made(&bare(&v4, udp, 6));
    assert_eq!(found.l4_check, Check::Good);
    let packet = frame.len() - 6;
    frame[packet..].fill(0);
    frame[14 + 24 + 5] += 2;
    let sum = u16::from_be_bytes([frame[14 + 24 + 6], frame[14 + 24 + 7]]);
    let sum = sum.checked_sub(4).expect("it is not about carries");
    frame[14 + 24 + 6..14 + 24 + 8].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(parse(&frame).l4_check, Check::Bad);
    // More extensions than are worth it: the ninth is where the search ends.
    let nine = vec![Extension::Routing { left: 0 }; 9];
    let (frame, _) = made(&order(Ip::V6(nine)));
    let found = parse(&frame);
    assert_eq!((found.kind, found.l4), (1 << 6 | 1 << 7, 14 + 40 + 8 * 8));
    // A UDP header that claims less than itself, or more than there is.
    for claim in [7, 200] {
        let udp = Order {
            l4: L4::Udp {
                checked: true,
                less: 0,
            },
            ..order(v4.clone())
        };
        let (mut frame, _) = made(&udp);
        frame[14 + 24 + 5] = claim;
        let found = parse(&frame);
        assert_eq!((found.l4_check, found.udp_checksum), (Check::Bad, true));
    }
}

#[test]
fn a_packet_may_end_with_any_of_its_headers() {
    let v4 = |options| Ip::V4 {
        options,
        fragment: 0,
    };
    let extension = Extension::Options {
        destination: true,
        more: 0,
    };
    for (ip, l4) in [
        (v4(0), L4::Other(200)),
        (v4(3), L4::Other(200)),
        (Ip::V6(vec![]), L4::Other(59)),
        (Ip::V6(vec![extension.clone()]), L4::Other(59)),
        (v4(0), L4::Tcp { options: 0 }),
        (v4(0), L4::Tcp { options: 5 }),
        (Ip::V6(vec![extension]), L4::Tcp { options: 5 }),
        (v4(0), L4::Sctp),
    ] {
        for behind in [0, 6] {
            let order = Order {
                tag: false,
                ip: ip.clone(),
                l4: l4.clone(),
                payload: vec![],
                behind,
                spoiled: false,
            };
            let (frame, expected) = made(&order);
            assert_eq!(parse(&frame), expected, "{order:?}");
            let kind = if matches!(order.ip, Ip::V4 { .. }) {
                1 << 4
            } else {
                1 << 6
            };
            assert_ne!(parse(&frame).kind & kind, 0, "{order:?}");
        }
    }
}
