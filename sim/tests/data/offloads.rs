//! TX offloads against an independent computation: every frame that arrives is taken apart by etherparse, which knows
//! nothing of this card.

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use vfnic_hw::Model;
use vfnic_sim::data::{DropReason, VlanInsert};

use crate::rig::{self, CC, Context, DATA, EOP, IXSM, RS, Rig, TSE, TXSM, VLE, frame, mac};

/// What is asked of the card.
#[derive(Clone, Debug)]
struct Request {
    ipv6: bool,
    udp: bool,
    payload: Vec<u8>,
    mss: Option<usize>,
    tag: Option<u16>,
    /// Sizes of the pieces the frame is cut into, cycled.
    cuts: Vec<usize>,
}

/// Adds 16-bit words, end around.
fn add(bytes: &[u8], mut total: u32) -> u32 {
    for pair in bytes.chunks(2) {
        total += u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
        total = (total & 0xffff) + (total >> 16);
    }
    total
}

/// A frame as a driver hands it over: lengths, checksums and pseudo-header sums as the offload wants them.
fn template(request: &Request) -> (Vec<u8>, usize, usize) {
    let builder = PacketBuilder::ethernet2(mac(0), mac(1));
    let builder = if request.ipv6 {
        builder.ipv6([0xfd; 16], [0xfe; 16], 64)
    } else {
        builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
    };
    let mut frame = Vec::new();
    let first = &request.payload[..request.payload.len().min(1400)];
    let (ip_len, l4_len) = (
        if request.ipv6 { 40 } else { 20 },
        if request.udp { 8 } else { 20 },
    );
    if request.udp {
        let builder = builder.udp(0x1234, 0x5678);
        builder.write(&mut frame, first).expect("a frame");
    } else {
        let builder = builder
            .tcp(0x1234, 0x5678, 0xffff_fff0, 1000)
            .fin()
            .psh()
            .ack(7);
        builder.write(&mut frame, first).expect("a frame");
        // CWR.
        frame[14 + ip_len + 13] |= 0x80;
    }
    // More than IP has words for is what segmentation is there for.
    frame.extend_from_slice(&request.payload[first.len()..]);
    let l4 = 14 + ip_len;
    let protocol = if request.udp { 17 } else { 6 };
    let mut sum = add(&frame[if request.ipv6 { 22 } else { 26 }..l4], protocol);
    if request.mss.is_none() {
        sum = add(
            &u16::try_from(frame.len() - l4)
                .expect("short")
                .to_be_bytes(),
            sum,
        );
    } else if request.ipv6 {
        frame[18..20].fill(0);
    } else {
        frame[16..18].fill(0);
    }
    if !request.ipv6 {
        // Zero and all ones are the same sum; drivers use either.
        frame[24..26].fill(if request.payload.len().is_multiple_of(2) {
            0
        } else {
            0xff
        });
        frame[18..20].copy_from_slice(&[0xff, 0xfe]);
    }
    let field = l4 + if request.udp { 6 } else { 16 };
    frame[field..field + 2].copy_from_slice(&u16::try_from(sum).expect("folded").to_be_bytes());
    (frame, l4, l4_len)
}

fn submit(rig: &mut Rig, request: &Request) {
    let (frame, l4, l4_len) = template(request);
    let context = Context {
        mac: 14,
        ip: (l4 - 14) as u64,
        l4: l4_len as u64,
        mss: request.mss.unwrap_or(0) as u64,
        vlan: u64::from(request.tag.unwrap_or(0)),
        ipv4: !request.ipv6,
        l4t: u64::from(!request.udp),
        slot: 1,
    };
    let vf = &mut rig.vfs[0];
    vf.put(0, context.words());
    let paylen = if request.mss.is_some() {
        request.payload.len()
    } else {
        frame.len()
    };
    let mut bits = DATA | CC | TXSM | 1 << 36 | (paylen as u64) << 46;
    bits |= if request.ipv6 { 0 } else { IXSM };
    bits |= if request.mss.is_some() { TSE } else { 0 };
    bits |= if request.tag.is_some() { VLE } else { 0 };
    let address = vf.stage(0, &frame);
    let (mut at, mut cut) = (0, 0);
    while at < frame.len() {
        let len = request.cuts[cut % request.cuts.len()]
            .min(frame.len() - at)
            .min(65_535);
        // At most 40 descriptors: the last takes what is left.
        let len = if cut == 30 { frame.len() - at } else { len };
        cut += 1;
        let end = if at + len == frame.len() { EOP | RS } else { 0 };
        vf.put(0, [address + at as u64, bits | end | len as u64]);
        at += len;
    }
    rig.ring(0, 0);
    rig.tick();
}

fn check(model: Model, request: &Request) {
    let mut rig = Rig::new(model, 2);
    rig.path.filters_mut().set_max_frame(9728);
    rig.path.filters_mut().set_max_len(1, Some(9728));
    let tag = request.tag.map(|tag| tag & 0xfff);
    if let Some(vid) = tag {
        rig.path.filters_mut().add_vlan(vid, 1);
    }
    submit(&mut rig, request);
    let frames = rig.frames(1);
    let mss = request.mss.unwrap_or_else(|| request.payload.len().max(1));
    let wanted: Vec<&[u8]> = if request.mss.is_some() {
        request.payload.chunks(mss).collect()
    } else {
        vec![&request.payload]
    };
    assert_eq!(frames.len(), wanted.len(), "{model} {request:?}");
    let count = frames.len();
    for (number, (frame, wanted)) in frames.iter().zip(wanted).enumerate() {
        let packet = SlicedPacket::from_ethernet(frame).expect("a packet");
        let vids = packet.vlan_ids();
        assert_eq!(vids.first().map(|vid| vid.value()), tag);
        let last = number + 1 == count;
        let source_and_destination = match packet.net.as_ref().expect("an IP packet") {
            NetSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                assert_eq!(
                    header.identification,
                    0xfffe_u16.wrapping_add(number as u16)
                );
                None
            }
            NetSlice::Ipv6(ip) => Some(ip.header().to_header()),
            other => panic!("{other:?}"),
        };
        match packet.transport.as_ref().expect("a transport header") {
            TransportSlice::Tcp(tcp) => {
                assert_eq!(tcp.payload(), wanted);
                let header = tcp.to_header();
                let offset = (number * mss) as u32;
                assert_eq!(header.sequence_number, 0xffff_fff0_u32.wrapping_add(offset));
                assert_eq!(
                    (header.fin, header.psh, header.cwr),
                    (last, last, number == 0)
                );
                let sum = match &source_and_destination {
                    None => header.calc_checksum_ipv4_raw([10, 0, 0, 1], [10, 0, 0, 2], wanted),
                    Some(_) => header.calc_checksum_ipv6_raw([0xfd; 16], [0xfe; 16], wanted),
                };
                assert_eq!(header.checksum, sum.expect("short enough"));
            }
            TransportSlice::Udp(udp) => {
                assert_eq!(udp.payload(), wanted);
                let header = udp.to_header();
                assert_eq!(usize::from(header.length), wanted.len() + 8);
                let sum = match &source_and_destination {
                    None => header.calc_checksum_ipv4_raw([10, 0, 0, 1], [10, 0, 0, 2], wanted),
                    Some(_) => header.calc_checksum_ipv6_raw([0xfd; 16], [0xfe; 16], wanted),
                };
                assert_eq!(header.checksum, sum.expect("short enough"));
            }
            other => panic!("{other:?}"),
        }
    }
    rig.assert_quiet();
}

fn request() -> impl Strategy<Value = Request> {
    let tag = proptest::option::of(1u16..0xe000);
    let cuts = proptest::collection::vec(1usize..4000, 1..6);
    let payload = (1usize..20_000, any::<u8>());
    let mss = proptest::option::of(64usize..1460);
    (any::<bool>(), any::<bool>(), payload, mss, tag, cuts).prop_map(
        |(ipv6, udp, (len, seed), mss, tag, cuts)| {
            let len = match mss {
                Some(mss) => len.min(mss * 60),
                None => len % 1400 + 1,
            };
            Request {
                ipv6,
                udp,
                payload: (0..len)
                    .map(|n| (n as u8).wrapping_mul(31) ^ seed)
                    .collect(),
                mss,
                tag,
                cuts,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_is_asked_arrives_right(request in request(), model in 0usize..5) {
        check(Model::ALL[model], &request);
    }
}

#[test]
fn g8_a_tso_request_as_large_as_the_field_allows() {
    check(
        Model::X540,
        &Request {
            ipv6: false,
            udp: false,
            payload: vec![0x5a; 245_000],
            mss: Some(1448),
            tag: None,
            cuts: vec![16_384],
        },
    );
}

#[test]
fn sctp_gets_its_crc() {
    let mut rig = Rig::new(Model::I82576, 2);
    let mut sent = frame(mac(1), mac(0), 14);
    sent[12..14].copy_from_slice(&[8, 0]);
    let mut ip = etherparse::Ipv4Header::new(24, 64, etherparse::IpNumber(132), [1; 4], [2; 4])
        .expect("short");
    ip.header_checksum = ip.calc_header_checksum();
    ip.write(&mut sent).expect("room");
    sent.extend([
        0x12, 0x34, 0x56, 0x78, 1, 2, 3, 4, 0, 0, 0, 0, 0, 3, 0, 16, 9, 9, 9, 9, 8, 8, 8, 8,
    ]);
    let vf = &mut rig.vfs[0];
    vf.put(
        0,
        Context {
            mac: 14,
            ip: 20,
            l4t: 2,
            ipv4: true,
            ..Default::default()
        }
        .words(),
    );
    let address = vf.stage(0, &sent);
    vf.put(0, [address, rig::plain(sent.len()) | TXSM]);
    rig.ring(0, 0);
    rig.tick();
    let got = rig.got(1, 0);
    // Computed by hand over the 24 bytes with a zero field.
    assert_ne!(got[0].data[42..46], [0; 4]);
    // The receiver's own check agrees: L4CS and IPCS, no error; IPv4 and SCTP.
    assert_eq!(got[0].status() & 0x6000_0060, 0x60);
    assert_eq!(got[0].packet_type(), 0x410);
    rig.assert_quiet();
}

#[test]
fn the_pf_decides_on_tags() {
    let mut rig = Rig::new(Model::I82599, 2);
    let filters = rig.path.filters_mut();
    filters.add_vlan(5, 0);
    filters.add_vlan(5, 1);
    filters.set_vlan_insert(0, VlanInsert::Always(0x6005));
    let sent = frame(mac(1), mac(0), 100);
    rig.send(0, &sent);
    let got = rig.frames(1);
    assert_eq!(got[0][12..16], [0x81, 0x00, 0x60, 0x05]);
    assert_eq!(got[0][16..], sent[12..]);
    // Never: not even when the descriptor asks.
    rig.path.filters_mut().set_vlan_insert(0, VlanInsert::Never);
    let vf = &mut rig.vfs[0];
    vf.put(
        0,
        Context {
            mac: 14,
            vlan: 5,
            l4t: 3,
            ..Default::default()
        }
        .words(),
    );
    let address = vf.stage(0, &sent);
    vf.put(0, [address, rig::plain(100) | VLE]);
    rig.ring(0, 0);
    rig.tick();
    assert_eq!(rig.frames(1), [sent]);
}

#[test]
fn g8_requests_that_make_no_frames_are_dropped_with_a_word() {
    // Context, payload length, flags.
    let tcp = Context {
        mac: 14,
        ip: 20,
        l4: 20,
        mss: 1000,
        ipv4: true,
        l4t: 1,
        ..Default::default()
    };
    for (context, paylen, bits) in [
        (Context { mss: 0, ..tcp }, 3946, TSE | TXSM | IXSM),
        (Context { mss: 9700, ..tcp }, 3946, TSE | TXSM | IXSM),
        (
            Context {
                l4: 255,
                ip: 511,
                mac: 127,
                ..tcp
            },
            3946,
            TSE | TXSM | IXSM,
        ),
        (Context { l4: 8, ..tcp }, 3946, TSE | TXSM | IXSM),
        (Context { mac: 13, ..tcp }, 3946, TSE | TXSM | IXSM),
        (Context { l4t: 2, ..tcp }, 3946, TSE | TXSM | IXSM),
        (Context { l4t: 3, ..tcp }, 4000, TXSM),
        (Context { ip: 19, ..tcp }, 4000, IXSM),
    ] {
        let mut rig = Rig::new(Model::I82599, 2);
        rig.path.filters_mut().set_max_frame(9728);
        let vf = &mut rig.vfs[0];
        vf.put(0, context.words());
        let address = vf.stage(0, &frame(mac(1), mac(0), 4000));
        let index = vf.put(
            0,
            [address, DATA | CC | EOP | RS | bits | 4000 | paylen << 46],
        );
        rig.ring(0, 0);
        rig.tick();
        assert!(rig.frames(1).is_empty());
        assert!(!rig.log.violations.is_empty());
        let stats = rig.path.stats(0).expect("a function");
        assert_eq!(
            (stats.taken, stats.drops.get(DropReason::Malformed)),
            (1, 1)
        );
        assert_eq!(
            rig.vfs[0].tx_descriptor(0, index)[1] >> 32 & 1,
            1,
            "done all the same"
        );
        // And the queue goes on.
        rig.send(0, &frame(mac(1), mac(0), 60));
        assert_eq!(rig.frames(1).len(), 1);
    }
}

#[test]
fn g8_output_is_bounded() {
    // Segments of one byte: as many as there may be in one request, and not one more.
    for (payload, frames) in [(255, 255), (4096, 4096), (4097, 0), (200_000, 0)] {
        let mut rig = Rig::new(Model::X540, 2);
        let wire = rig::Tap::default();
        rig.path.set_uplink(Box::new(wire.clone()));
        let vf = &mut rig.vfs[0];
        let context = Context {
            mac: 14,
            ip: 20,
            l4: 20,
            mss: 1,
            ipv4: true,
            l4t: 1,
            ..Default::default()
        };
        vf.put(0, context.words());
        let mut sent = frame([2, 9, 9, 9, 9, 9], mac(0), 54 + payload);
        sent[12..14].copy_from_slice(&[8, 0]);
        let address = vf.stage(0, &sent);
        let flags = TSE | TXSM | IXSM | DATA;
        let mut left = sent.len() as u64;
        let mut at = address;
        while left > 0 {
            let piece = left.min(0x8000);
            left -= piece;
            let end = if left == 0 { EOP | RS } else { 0 };
            vf.put(0, [at, flags | CC | end | piece | (payload as u64) << 46]);
            at += piece;
        }
        rig.ring(0, 0);
        for _ in 0..10 {
            rig.tick();
        }
        assert_eq!(wire.left().len(), frames, "{payload} bytes");
        assert!(!rig.path.has_work());
        rig.send(0, &frame(mac(1), mac(0), 60));
        assert_eq!(rig.frames(1).len(), 1, "and the queue goes on");
    }
}

#[test]
fn g9_checksums_outside_the_frame_are_refused() {
    for model in Model::ALL {
        let mut rig = Rig::new(model, 2);
        let mut asked = 0u64;
        for len in [17usize, 33, 34, 41, 46, 60] {
            for (mac_len, ip_len) in [
                (14, 20),
                (0, 0),
                (14, 0),
                (14, 511),
                (127, 20),
                (127, 511),
                (14, 40),
            ] {
                for l4t in 0..4 {
                    for bits in [TXSM, IXSM, TXSM | IXSM] {
                        let context = Context {
                            mac: mac_len,
                            ip: ip_len,
                            l4t,
                            ipv4: true,
                            ..Default::default()
                        };
                        let vf = &mut rig.vfs[0];
                        vf.put(0, context.words());
                        let address = vf.stage(0, &frame(mac(1), mac(0), len));
                        vf.put(0, [address, rig::plain(len) | bits]);
                        rig.ring(0, 0);
                        rig.tick();
                        asked += 1;
                        // What was sent is whole; what was not, was counted; an X550 blocks the queue, which a reset frees.
                        for got in rig.frames(1) {
                            assert_eq!(got.len(), len.max(60), "{model}");
                        }
                        if rig.path.tx(0, 0).expect("a queue").blocked().is_some() {
                            rig.path.reset_vf(0);
                            rig.start(
                                0,
                                vfnic_sim::data::RxSettings::decode(model, 0x0200_0002, 0),
                            );
                        }
                    }
                }
            }
        }
        // Legacy descriptors say where the sum starts and where it goes.
        for (start, offset) in [
            (0, 0),
            (14, 13),
            (59, 58),
            (60, 60),
            (14, 59),
            (255, 255),
            (200, 0),
        ] {
            let vf = &mut rig.vfs[0];
            let address = vf.stage(0, &frame(mac(1), mac(0), 60));
            let words = [
                address,
                60 | offset << 16 | EOP | RS | 1 << 26 | start << 40,
            ];
            vf.put(0, words);
            rig.ring(0, 0);
            rig.tick();
            asked += 1;
            rig.frames(1);
            rig.path.reset_vf(0);
            rig.start(
                0,
                vfnic_sim::data::RxSettings::decode(model, 0x0200_0002, 0),
            );
        }
        assert!(asked > 500);
        let stats = rig.path.stats(0).expect("a function");
        assert!(stats.drops.total() > 0, "{model}");
        assert_eq!(stats.taken, stats.gptc + stats.drops.total(), "{model}");
        rig.send(0, &frame(mac(1), mac(0), 60));
        assert_eq!(rig.frames(1).len(), 1, "{model}");
    }
}
