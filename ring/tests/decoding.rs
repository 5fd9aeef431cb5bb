//! What the card says of a frame and what is asked of it, word for word, from literal bits (ixgbevf.md §9-10, igbvf.md §8).

mod toy;

use toy::{Sent, Toy};
use vfnic_ring::{Batch, Dialect, L4, PoolConfig, TxOffload, Verdict};

const POOL: PoolConfig = PoolConfig {
    buffers: 256,
    buffer_size: 2048,
    headroom: 64,
};

/// A frame of 60 bytes that came with these words (DD, EOP and the length are added).
fn received(dialect: Dialect, word0: u64, word1: u64) -> Batch {
    let mut toy = Toy::new(64, POOL, dialect, 1514);
    toy.rx.arm().expect("enough buffers");
    let mut batch = toy.pool.batch(16);
    assert!(toy.complete(&[0; 60], word0, word1 | 3 | 60 << 32));
    assert_eq!(toy.rx.receive(&mut batch), Ok(1));
    batch
}

#[test]
fn each_bit_of_the_packet_type_says_one_thing() {
    for bits in 0..1u16 << 12 {
        let batch = received_type(bits);
        let kind = batch.frames().next().expect("one").packet_type();
        let bit = |number: u16| bits >> number & 1 == 1;
        // Bit 11: an L2 packet, where the others mean something else.
        let l3 = !bit(11);
        assert_eq!(kind.bits(), bits);
        assert_eq!(kind.is_ipv4(), l3 && (bit(0) || bit(1)), "{bits:#x}");
        assert_eq!(kind.is_ipv6(), l3 && (bit(2) || bit(3)), "{bits:#x}");
        assert_eq!(kind.is_tcp(), l3 && bit(4), "{bits:#x}");
        assert_eq!(kind.is_udp(), l3 && bit(5), "{bits:#x}");
        assert_eq!(kind.is_sctp(), l3 && bit(6), "{bits:#x}");
    }
}

thread_local! {
    static TOY: std::cell::RefCell<Option<Toy>> = const { std::cell::RefCell::new(None) };
}

/// As [`received`], on one card for all.
fn received_type(bits: u16) -> Batch {
    TOY.with_borrow_mut(|toy| {
        let toy = toy.get_or_insert_with(|| {
            let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
            toy.rx.arm().expect("enough buffers");
            toy
        });
        let mut batch = toy.pool.batch(16);
        assert!(toy.complete(&[0; 60], u64::from(bits) << 4, 3 | 60 << 32));
        assert_eq!(toy.rx.receive(&mut batch), Ok(1));
        batch
    })
}

#[test]
fn verdicts_need_the_header_the_check_and_the_model_s_own_error_bit() {
    use Dialect::{I350, I82576, I82599, X540, X550};
    // (IPv4 error, L4 error) in word 1.
    for (dialect, ip_error, l4_error) in [
        (I82576, 30, 29),
        (I350, 30, 29),
        (I82599, 31, 30),
        (X540, 31, 30),
        (X550, 31, 30),
    ] {
        // TCP, UDP, SCTP over IPv4 and IPv6; then what has no L4, no L3.
        for kind in [0x11u64, 0x21, 0x41, 0x14, 0x24, 0x01, 0x04, 0x800, 0x871] {
            for bits in 0..32u64 {
                let bit = |number: u64| bits >> number & 1 == 1;
                let (ipcs, l4cs, udpcs) = (bit(0), bit(1), bit(2));
                let word1 = u64::from(ipcs) << 6
                    | u64::from(l4cs) << 5
                    | u64::from(udpcs) << 4
                    | u64::from(bit(3)) << ip_error
                    | u64::from(bit(4)) << l4_error;
                let batch = received(dialect, kind << 4, word1);
                let got = batch.frames().next().expect("one").checksums();
                let verdict = |there, checked, wrong| match (there && checked, wrong) {
                    (false, _) => Verdict::Unknown,
                    (true, false) => Verdict::Good,
                    (true, true) => Verdict::Bad,
                };
                let l3 = kind & 0x800 == 0;
                let lies = dialect == I82599 && kind & 0x20 != 0 && bit(4);
                let what = format!("{dialect:?} {kind:#x} {word1:#x}");
                assert_eq!(got.ip, verdict(l3 && kind & 3 != 0, ipcs, bit(3)), "{what}");
                let l4 = l3 && kind & 0x70 != 0 && !lies;
                assert_eq!(got.l4, verdict(l4, l4cs || udpcs, bit(4)), "{what}");
            }
        }
    }
}

#[test]
fn igb_can_say_that_its_checksum_bits_say_nothing() {
    for (dialect, verdict) in [
        (Dialect::I82576, Verdict::Unknown),
        (Dialect::I350, Verdict::Unknown),
        (Dialect::X540, Verdict::Good),
    ] {
        let batch = received(dialect, 0x110, 0x60 | 1 << 2);
        let got = batch.frames().next().expect("one").checksums();
        assert_eq!((got.ip, got.l4), (verdict, verdict), "{dialect:?}");
    }
}

#[test]
fn tags_and_hashes_are_there_when_the_card_says_so() {
    let (vp, lb) = (1u64 << 3, 1u64 << 18);
    for (dialect, word1, vlan, looped) in [
        (Dialect::X540, 0x0123 << 48, None, false),
        (Dialect::X540, vp | 0x0123 << 48, Some(0x0123), false),
        (Dialect::X540, vp | lb | 0xf123 << 48, Some(0xf123), true),
        (Dialect::X540, lb, None, true),
        (Dialect::I82576, vp | lb | 0x0123 << 48, Some(0x0123), true),
        (Dialect::I350, vp | 0x0123 << 48, Some(0x0123), false),
        (Dialect::I350, vp | lb | 0x2301 << 48, Some(0x0123), true),
    ] {
        let batch = received(dialect, 0, word1);
        let frame = batch.frames().next().expect("one");
        assert_eq!(frame.vlan(), vlan, "{dialect:?} {word1:#x}");
        assert_eq!(frame.looped_back(), looped, "{dialect:?} {word1:#x}");
        assert_eq!(frame.rss(), None);
    }
    for kind in 1..16u8 {
        let batch = received(Dialect::X540, 0xfedc_ba98 << 32 | u64::from(kind), 0);
        let rss = batch.frames().next().expect("one").rss().expect("a hash");
        assert_eq!((rss.kind, rss.hash), (kind, 0xfedc_ba98));
    }
}

/// Whether tags of looped-back frames are swapped is the card's own way.
#[test]
fn frames_of_two_cards_in_one_batch_are_read_each_as_its_card_wrote_it() {
    let tag = |dialect| match dialect {
        Dialect::I350 => Some(0x0123),
        _ => Some(0x2301),
    };
    for dialects in [
        [Dialect::X540, Dialect::I350],
        [Dialect::I350, Dialect::X540],
    ] {
        for most in [1, 8] {
            let first = Toy::new(64, POOL, dialects[0], 1514);
            let second = first.beside(dialects[1], 1514);
            let mut batch = first.pool.batch(16);
            let mut cards = [first, second];
            for card in &mut cards {
                card.rx.arm().expect("enough buffers");
            }
            let turns = [0, 1, 0, 0, 1, 1];
            for turn in turns {
                let word1 = 0x2301 << 48 | 60 << 32 | 1 << 18 | 1 << 3 | 3;
                assert!(cards[turn].complete(&[0; 60], 0, word1));
                assert_eq!(cards[turn].rx.receive_up_to(&mut batch, most), Ok(1));
            }
            let tags: Vec<_> = batch.frames().map(|frame| frame.vlan()).collect();
            assert_eq!(tags, turns.map(|turn| tag(dialects[turn])), "{dialects:?}");
            // Taken out and put together again.
            let packets: Vec<_> = batch.drain_packets().collect();
            for packet in packets {
                batch.push(packet).expect("room");
            }
            let tags: Vec<_> = batch.frames().map(|frame| frame.vlan()).collect();
            assert_eq!(tags, turns.map(|turn| tag(dialects[turn])), "{dialects:?}");
            // And of packets that came in batches of their own.
            batch.clear();
            for turn in turns {
                let mut own = batch.pool().batch(16);
                let word1 = 0x2301 << 48 | 60 << 32 | 1 << 18 | 1 << 3 | 3;
                assert!(cards[turn].complete(&[0; 60], 0, word1));
                assert_eq!(cards[turn].rx.receive_up_to(&mut own, most), Ok(1));
                let packet = own.pop().expect("one");
                batch.push(packet).expect("room");
            }
            let tags: Vec<_> = batch.frames().map(|frame| frame.vlan()).collect();
            assert_eq!(tags, turns.map(|turn| tag(dialects[turn])), "{dialects:?}");
        }
    }
}

/// What the card sends when this is asked of this frame.
/// A packet says whose it is wherever it goes: here from a card, by another one's batch, to a third one's.
#[test]
fn a_packet_of_one_card_goes_through_the_batches_of_two_others() {
    let word1 = 0x2301 << 48 | 60 << 32 | 1 << 18 | 1 << 3 | 3;
    let config = PoolConfig {
        buffers: 512,
        ..POOL
    };
    let first = Toy::new(64, config, Dialect::X540, 1514);
    let second = first.beside(Dialect::I350, 1514);
    let third = first.beside(Dialect::I82599, 1514);
    let mut cards = [first, second, third];
    let mut batches = [0; 2].map(|_| cards[0].pool.batch(16));
    for card in &mut cards {
        card.rx.arm().expect("enough buffers");
        assert!(card.complete(&[0; 60], 0, word1));
    }
    // One card's frame makes the batch its own, another's is a guest.
    for (card, batch) in [(0, 0), (1, 0), (2, 1)] {
        assert_eq!(cards[card].rx.receive(&mut batches[batch]), Ok(1));
    }
    let guest = batches[0].pop().expect("one");
    batches[1].push(guest).expect("room");
    let tags: Vec<_> = batches[1].frames().map(|frame| frame.vlan()).collect();
    assert_eq!(tags, [Some(0x2301), Some(0x0123)]);
}

fn sent(frame: &[u8], offload: TxOffload) -> Sent {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
    let mut batch = toy.pool.batch(8);
    batch.push_bytes(frame).expect("room");
    let mut frames = batch.frames_mut();
    frames.next().expect("one").request(offload).expect("legal");
    assert_eq!(toy.tx.send(&mut batch), Ok(1));
    toy.transmit(usize::MAX).remove(0)
}

/// A frame of all ones but for the length that its IP header states.
fn ones(len: usize, ipv6: bool, stated: u16) -> Vec<u8> {
    let mut frame = vec![0xff; len];
    let at = if ipv6 { 18 } else { 16 };
    frame[at..at + 2].copy_from_slice(&stated.to_be_bytes());
    frame
}

/// The ones' complement sum of these words, folded.
fn sum(words: impl IntoIterator<Item = u64>) -> [u8; 2] {
    let all: u64 = words.into_iter().sum();
    // The sum of 16-bit words modulo 0xffff, where all ones stand for zero unless everything is.
    let folded = match all % 0xffff {
        0 if all > 0 => 0xffff,
        rest => rest,
    };
    u16::try_from(folded).expect("16 bits").to_be_bytes()
}

#[test]
fn checksum_fields_are_seeded_over_addresses_protocol_and_length() {
    for ipv6 in [false, true] {
        let (l3_len, addresses) = if ipv6 { (40, 16) } else { (20, 4) };
        let l4_at = 14 + usize::from(l3_len);
        for (l4, protocol, field, code) in [
            (L4::Tcp, 6, 16, 1u64),
            (L4::Udp, 17, 6, 0),
            (L4::Sctp, 132, 8, 2),
        ] {
            // Stated: 100 bytes of L4 in a frame with 30 more; one more than there is; nothing at all.
            for (stated, l4_bytes) in [(100, 100), (130, 130), (131, 130), (0, 130)] {
                let header = if ipv6 { 0 } else { l3_len };
                let total = if stated == 0 { 0 } else { stated + header };
                let frame = ones(l4_at + 130, ipv6, total);
                let sent = sent(
                    &frame,
                    TxOffload {
                        l4: Some(l4),
                        ipv6,
                        l2_len: 14,
                        l3_len,
                        ..TxOffload::default()
                    },
                );
                let mut expected = frame.clone();
                if l4 == L4::Sctp {
                    expected[l4_at + 8..l4_at + 12].fill(0);
                } else {
                    let words = std::iter::repeat_n(0xffff, addresses);
                    let seed = sum(words.chain([protocol, l4_bytes]));
                    expected[l4_at + field..][..2].copy_from_slice(&seed);
                }
                assert_eq!(sent.bytes, expected, "{l4:?} {ipv6} {stated}");
                assert_eq!(sent.context.0, u64::from(l3_len) | 14 << 9);
                // IPV4, L4T, DTYP 2, DEXT, slot 1.
                let ipv4 = u64::from(!ipv6) << 10;
                let word1 = ipv4 | code << 11 | 2 << 20 | 1 << 29 | 1 << 36;
                assert_eq!(sent.context.1, word1, "{l4:?} {ipv6}");
                assert_eq!(sent.word1 >> 40 & 3, 2, "TXSM alone");
                assert_eq!(sent.word1 >> 31 & 1, 0, "no TSE");
            }
        }
    }
}

#[test]
fn what_segmentation_fills_in_is_zero_before() {
    for ipv6 in [false, true] {
        let l3_len: u8 = if ipv6 { 40 } else { 20 };
        let frame = ones(1400, ipv6, 0x1234);
        let sent = sent(
            &frame,
            TxOffload {
                l4: Some(L4::Tcp),
                tso_mss: Some(1000),
                ipv6,
                l2_len: 14,
                l3_len: l3_len.into(),
                l4_len: 20,
                ..TxOffload::default()
            },
        );
        let mut expected = frame.clone();
        let addresses = if ipv6 {
            expected[18..20].fill(0);
            16
        } else {
            expected[16..18].fill(0);
            expected[24..26].fill(0);
            4
        };
        let seed = sum(std::iter::repeat_n(0xffff, addresses).chain([6]));
        expected[14 + usize::from(l3_len) + 16..][..2].copy_from_slice(&seed);
        assert_eq!(sent.bytes, expected, "{ipv6}");
        let payload = 1400 - 14 - u64::from(l3_len) - 20;
        assert_eq!(sent.word1 >> 46, payload, "{ipv6}");
        assert_eq!(sent.word1 >> 40 & 3, 2 | u64::from(!ipv6), "TXSM, IXSM");
    }
}

#[test]
fn a_pseudo_header_that_adds_up_to_all_ones_is_folded_no_further() {
    // 0xfff9 + 6 for TCP, and the same with a carry: 0xffff + 0xfff9 + 6.
    for words in [0xfff9_0000u32, 0xffff_fff9] {
        let mut frame = ones(1400, false, 0);
        frame[26..30].copy_from_slice(&words.to_be_bytes());
        frame[30..34].fill(0);
        let sent = sent(
            &frame,
            TxOffload {
                l4: Some(L4::Tcp),
                tso_mss: Some(1000),
                l2_len: 14,
                l3_len: 20,
                l4_len: 20,
                ..TxOffload::default()
            },
        );
        assert_eq!(sent.bytes[14 + 20 + 16..][..2], [0xff, 0xff], "{words:#x}");
    }
}

#[test]
fn an_ip_checksum_alone_touches_nothing_else() {
    let frame = ones(100, false, 86);
    let sent = sent(
        &frame,
        TxOffload {
            ip_checksum: true,
            l2_len: 14,
            l3_len: 20,
            ..TxOffload::default()
        },
    );
    let mut expected = frame.clone();
    expected[24..26].fill(0);
    assert_eq!(sent.bytes, expected);
    assert_eq!(sent.word1 >> 40 & 3, 1, "IXSM alone");
    assert_eq!(sent.context.1 >> 10 & 7, 0b111, "IPv4, and no L4");
}
