//! Offloads through the whole of it: asked for on one VF, checked on another.

mod common;

use common::{Station, card};
use vfnic::{L4, MacAddr, PortConfig, TxOffload, Verdict};

/// An IPv4 packet: `protocol` with `l4` behind it. Checksums are left zero.
fn ipv4(to: MacAddr, from: MacAddr, protocol: u8, l4: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(to.0);
    bytes.extend(from.0);
    bytes.extend([0x08, 0x00]);
    let length = u16::try_from(20 + l4.len()).expect("fits").to_be_bytes();
    bytes.extend([
        0x45, 0, length[0], length[1], 0, 7, 0x40, 0, 64, protocol, 0, 0,
    ]);
    bytes.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend(l4);
    bytes
}

fn tcp(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes[..4].copy_from_slice(&[0x10, 0x00, 0x20, 0x00]);
    bytes[4..8].copy_from_slice(&1000u32.to_be_bytes());
    bytes[12] = 5 << 4;
    bytes[13] = 0x18;
    bytes[14..16].copy_from_slice(&[0xff, 0xff]);
    bytes.extend(payload);
    bytes
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x10, 0x00, 0x20, 0x00];
    bytes.extend(
        u16::try_from(8 + payload.len())
            .expect("fits")
            .to_be_bytes(),
    );
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// The Internet checksum over `bytes` and what came before.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut total = bytes.chunks(2).fold(start, |total, pair| {
        total + (u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
    });
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::try_from(total).expect("folded")
}

/// Whether both checksums of an IPv4 packet in a frame hold.
fn checksums_hold(frame: &[u8]) -> bool {
    let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let (ip, l4) = (&frame[14..34], &frame[34..14 + length]);
    let pseudo = u32::from(sum(&frame[26..34], 0))
        + u32::from(frame[23])
        + u32::try_from(l4.len()).expect("short");
    sum(ip, 0) == 0xffff && sum(l4, pseudo) == 0xffff
}

fn send(station: &mut Station, bytes: &[u8], offload: TxOffload) {
    let mut batch = station.port.batch(32);
    batch.push_bytes(bytes).expect("room");
    batch
        .frames_mut()
        .next()
        .expect("one frame")
        .request(offload)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(station.pairs[0].tx.send(&mut batch), Ok(1));
}

for_every_model! {
    fn checksums_are_put_in_and_checked(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        for (protocol, kind, header) in [(6, L4::Tcp, 20), (17, L4::Udp, 8)] {
            for payload in [&[][..], b"x", b"odd", &[7; 1000]] {
                let l4 = if protocol == 6 { tcp(payload) } else { udp(payload) };
                let bytes = ipv4(right.mac(), left.mac(), protocol, &l4);
                let offload = TxOffload {
                    ip_checksum: true,
                    l4: Some(kind),
                    l2_len: 14,
                    l3_len: 20,
                    l4_len: header,
                    ..TxOffload::default()
                };
                send(&mut left, &bytes, offload);
                card.step();
                let mut batch = right.port.batch(8);
                assert_eq!(right.pairs[0].rx.receive(&mut batch), Ok(1));
                let frame = batch.frames().next().expect("one frame");
                assert!(checksums_hold(&frame.to_vec()), "{kind:?}, {} bytes", payload.len());
                let verdicts = frame.checksums();
                assert_eq!(verdicts.ip, Verdict::Good);
                assert_eq!(verdicts.l4, Verdict::Good);
            }
        }
        // And one that is wrong is seen to be.
        let mut bytes = ipv4(right.mac(), left.mac(), 6, &tcp(b"wrong"));
        bytes[24] = 0x12;
        left.send(&[bytes]);
        card.step();
        let mut batch = right.port.batch(8);
        assert_eq!(right.pairs[0].rx.receive(&mut batch), Ok(1));
        let verdicts = batch.frames().next().expect("one frame").checksums();
        assert_eq!(verdicts.ip, Verdict::Bad);
        drop((batch, left, right));
        card.assert_no_violations();
    }

    fn large_sends_are_segmented(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        let payload: Vec<u8> = (0..8000u16).map(|n| n.to_le_bytes()[0]).collect();
        let bytes = ipv4(right.mac(), left.mac(), 6, &tcp(&payload));
        let offload = TxOffload {
            ip_checksum: true,
            l4: Some(L4::Tcp),
            tso_mss: Some(1400),
            l2_len: 14,
            l3_len: 20,
            l4_len: 20,
            ..TxOffload::default()
        };
        for _ in 0..5 {
            send(&mut left, &bytes, offload);
            card.step();
            let got = right.receive();
            assert_eq!(got.len(), 6, "8000 bytes in pieces of 1400");
            let mut all: Vec<u8> = Vec::new();
            for (index, frame) in (0u32..).zip(&got) {
                assert!(checksums_hold(frame), "segment {index}");
                let sequence = u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]);
                assert_eq!(sequence, 1000 + index * 1400);
                // PSH on the last one only.
                assert_eq!(frame[47] & 0x08 != 0, index == 5);
                all.extend(&frame[54..]);
            }
            assert_eq!(all, payload);
        }
        drop((left, right));
        card.assert_no_violations();
    }

    fn what_was_received_is_described(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        left.send(&[ipv4(right.mac(), left.mac(), 17, &udp(&[1; 40]))]);
        card.step();
        let mut batch = right.port.batch(8);
        assert_eq!(right.pairs[0].rx.receive(&mut batch), Ok(1));
        let frame = batch.frames().next().expect("one frame");
        assert!(frame.looped_back(), "it came from a neighbour");
        assert_eq!(frame.vlan(), None);
        let kind = frame.packet_type();
        assert!(kind.is_ipv4() && kind.is_udp() && !kind.is_tcp());
        drop((batch, left, right));
        card.assert_no_violations();
    }
}
