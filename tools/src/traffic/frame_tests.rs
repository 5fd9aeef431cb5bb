use proptest::prelude::*;

use super::*;

const IDENTITY: Identity = Identity {
    source: [2, 0, 0, 0, 0, 1],
    destination: [2, 0, 0, 0, 0, 2],
    seed: 0x1234_5678,
};

fn frame(len: usize, flow: u16, sequence: u64, departure: u64) -> Vec<u8> {
    let template = Template::new(&IDENTITY, len, &body_block(IDENTITY.seed));
    let mut frame = vec![0xDB; template.len()];
    template.write(&mut frame, flow, sequence, departure);
    frame
}

#[test]
fn an_independent_parser_reads_the_frame() {
    let frame = frame(594, 0xABCD, 7, 1);
    let sliced = etherparse::SlicedPacket::from_ethernet(&frame).expect("well-formed");
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else {
        panic!("not IPv4: {:?}", sliced.net);
    };
    let header = ip.header().to_header();
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
    assert_eq!(header.source, [198, 18, 0xAB, 0xCD]);
    let Some(etherparse::TransportSlice::Udp(udp)) = &sliced.transport else {
        panic!("not UDP: {:?}", sliced.transport);
    };
    assert_eq!(udp.destination_port(), 9);
    assert_eq!(usize::from(udp.length()), 594 - 34);
}

#[test]
fn the_smallest_frame_is_the_smallest_ethernet_frame() {
    assert_eq!(HEAD, MIN_LEN);
    assert_eq!(frame(0, 0, 0, 0).len(), 60);
}

#[test]
fn sequence_numbers_survive_the_wrap_of_40_bits() {
    let near = |sequence: u64, expected: u64| {
        let Parsed::Stamped(stamp) = parse(&frame(60, 0, sequence, 0)) else {
            panic!("intact");
        };
        stamp.full_sequence(expected)
    };
    let turn = 1u64 << 40;
    assert_eq!(near(turn + 3, turn - 2), turn + 3);
    assert_eq!(near(turn - 2, turn + 3), turn - 2);
    assert_eq!(near(5 * turn + 9, 5 * turn), 5 * turn + 9);
    assert_eq!(near(3, 0), 3);
}

#[test]
fn latency_survives_the_wrap_of_40_bits() {
    let Parsed::Stamped(stamp) = parse(&frame(60, 0, 0, (1 << 40) - 10)) else {
        panic!("intact");
    };
    assert_eq!(stamp.age((1 << 40) + 15), 25);
}

#[test]
fn others_frames_are_foreign() {
    assert_eq!(parse(&[]), Parsed::Foreign);
    assert_eq!(parse(&[0; 60]), Parsed::Foreign);
    let mut arp = frame(60, 0, 0, 0);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(parse(&arp), Parsed::Foreign);
}

#[test]
fn a_filled_in_udp_checksum_is_checked() {
    let mut frame = frame(90, 3, 4, 5);
    let (ip, rest) = etherparse::Ipv4Header::from_slice(&frame[14..]).expect("IPv4");
    let (udp, payload) = etherparse::UdpHeader::from_slice(rest).expect("UDP");
    let right = udp.calc_checksum_ipv4(&ip, payload).expect("short");
    frame[40..42].copy_from_slice(&right.to_be_bytes());
    assert!(matches!(parse(&frame), Parsed::Stamped(_)));
    frame[40..42].copy_from_slice(&(right ^ 1).to_be_bytes());
    assert_eq!(parse(&frame), Parsed::Corrupt);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        len in 0usize..9100, flow: u16, sequence in 0u64..1 << 40, departure in 0u64..1 << 40, tagged: bool,
    ) {
        let mut frame = frame(len, flow, sequence, departure);
        if tagged {
            frame.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        }
        prop_assert_eq!(
            parse(&frame),
            Parsed::Stamped(Stamp { seed: 0x5678, flow, sequence, departure })
        );
    }

    #[test]
    fn no_flipped_bit_goes_unseen(
        len in 60usize..200, flow: u16, sequence in 0u64..1 << 40, at: prop::sample::Index, bit in 0u8..8,
    ) {
        let mut frame = frame(len, flow, sequence, 99);
        let at = 12 + at.index(frame.len() - 12);
        frame[at] ^= 1 << bit;
        prop_assert!(!matches!(parse(&frame), Parsed::Stamped(_)), "bit {bit} of byte {at}");
    }

    #[test]
    fn no_cut_goes_unseen(len in 60usize..400, keep: prop::sample::Index) {
        let frame = frame(len, 1, 2, 3);
        let keep = keep.index(frame.len());
        prop_assert!(!matches!(parse(&frame[..keep]), Parsed::Stamped(_)));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }
}
