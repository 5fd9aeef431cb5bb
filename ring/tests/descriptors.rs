//! What stands in descriptors, of frames as they are, of their offloads and of what came in, against the reference
//! (ixgbevf.md §9-10, igbvf.md §8).

mod toy;

use toy::Toy;
use vfnic_ring::{Dialect, L4, PoolConfig, TxOffload, Verdict};

const POOL: PoolConfig = PoolConfig {
    buffers: 1024,
    buffer_size: 2048,
    headroom: 64,
};

#[test]
fn plain_descriptors_match_the_reference() {
    // 60 bytes: DTALEN 60, DTYP 3, EOP, IFCS, RS (last of its call), DEXT, PAYLEN 60; CC on ixgbe only.
    let word = 60 | 3 << 20 | 1 << 24 | 1 << 25 | 1 << 27 | 1 << 29 | 60u64 << 46;
    for (dialect, cc) in [
        (Dialect::I82576, 0),
        (Dialect::I350, 0),
        (Dialect::I82599, 1u64 << 39),
        (Dialect::X550, 1 << 39),
    ] {
        let mut toy = Toy::new(64, POOL, dialect, 1514);
        let mut batch = toy.pool.batch(8);
        batch.push_bytes(&[7; 60]).expect("room");
        assert_eq!(toy.tx.send(&mut batch), Ok(1));
        let sent = toy.transmit(usize::MAX);
        assert_eq!(sent[0].word1, word | cc, "{dialect:?}");
        // MACLEN 14, L4T 3 (none), in slot 0.
        let context = if cc == 0 {
            (0, 0)
        } else {
            (14 << 9, 3 << 11 | 2 << 20 | 1 << 29)
        };
        assert_eq!(toy.contexts[0], context, "{dialect:?}");
    }
}

fn tcp4(payload: usize) -> Vec<u8> {
    let mut frame = vec![0u8; 54 + payload];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&u16::try_from(40 + payload).unwrap_or(0).to_be_bytes());
    frame[22] = 64;
    frame[23] = 6;
    frame[24..26].copy_from_slice(&[0xab, 0xcd]);
    frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    frame[46] = 5 << 4;
    frame
}

#[test]
fn tso_descriptors_and_headers_match_the_reference() {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
    let mut batch = toy.pool.batch(8);
    let offload = TxOffload {
        ip_checksum: true,
        l4: Some(L4::Tcp),
        tso_mss: Some(1000),
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        ..TxOffload::default()
    };
    batch.push_bytes(&tcp4(5000)).expect("room");
    batch
        .frames_mut()
        .next()
        .expect("one")
        .request(offload)
        .expect("legal");
    assert_eq!(toy.tx.send(&mut batch), Ok(1));
    let sent = &toy.transmit(usize::MAX)[0];
    // IPLEN 20, MACLEN 14; IPV4, L4T 1 (TCP), DTYP 2, DEXT; slot 1, L4LEN 20, MSS 1000.
    assert_eq!(
        sent.context,
        (
            20 | 14 << 9,
            1 << 10 | 1 << 11 | 2 << 20 | 1 << 29 | 1 << 36 | 20 << 40 | 1000 << 48
        )
    );
    assert_eq!(sent.word1 >> 46, 5000, "PAYLEN counts payload only");
    assert_eq!(sent.word1 >> 31 & 1, 1, "TSE");
    assert_eq!(sent.word1 >> 40 & 3, 3, "IXSM and TXSM");
    assert_eq!(sent.bytes[16..18], [0, 0], "IP length zeroed");
    assert_eq!(sent.bytes[24..26], [0, 0], "IP checksum zeroed");
    // 10.0.0.1 + 10.0.0.2 + protocol 6, no length: 0a00+0001+0a00+0002+0006.
    assert_eq!(
        sent.bytes[50..52],
        [0x14, 0x09],
        "pseudo-header sum without the length"
    );
    // The same request again needs no new context.
    batch.push_bytes(&tcp4(3000)).expect("room");
    batch
        .frames_mut()
        .next()
        .expect("one")
        .request(offload)
        .expect("legal");
    assert_eq!(toy.tx.send(&mut batch), Ok(1));
    assert_eq!(
        toy.tx.stats().contexts(),
        2,
        "the default one and one for TSO"
    );
}

#[test]
fn d38_d39_impossible_offloads_are_refused_before_anything_is_written() {
    let toy = Toy::new(64, POOL, Dialect::X540, 1514);
    let mut batch = toy.pool.batch(8);
    batch.push_bytes(&tcp4(100)).expect("room");
    let good = TxOffload {
        ip_checksum: true,
        l4: Some(L4::Tcp),
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        ..TxOffload::default()
    };
    let mut frame = batch.frames_mut().next().expect("one");
    frame.request(good).expect("legal");
    for bad in [
        TxOffload { l2_len: 13, ..good },
        TxOffload {
            l2_len: 128,
            ..good
        },
        TxOffload { l3_len: 19, ..good },
        TxOffload {
            l3_len: 512,
            ..good
        },
        TxOffload {
            l3_len: 140,
            ..good
        },
        TxOffload {
            tso_mss: Some(0),
            ..good
        },
        TxOffload {
            tso_mss: Some(9700),
            ..good
        },
        TxOffload {
            tso_mss: Some(500),
            l4: Some(L4::Udp),
            ..good
        },
        TxOffload {
            tso_mss: Some(500),
            l4_len: 19,
            ..good
        },
        TxOffload { ipv6: true, ..good },
    ] {
        assert!(frame.request(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn d13_d14_verdicts_come_from_the_right_bits() {
    let tcp4 = 0x110u64;
    let udp4 = 0x210u64;
    // (dialect, word 0, status and error bits, ip, l4)
    let cases = [
        (Dialect::X540, tcp4, 0x60u64, Verdict::Good, Verdict::Good),
        (
            Dialect::X540,
            tcp4,
            0x60 | 1 << 31,
            Verdict::Bad,
            Verdict::Good,
        ),
        (
            Dialect::X540,
            tcp4,
            0x60 | 1 << 30,
            Verdict::Good,
            Verdict::Bad,
        ),
        (
            Dialect::I82576,
            tcp4,
            0x60 | 1 << 30,
            Verdict::Bad,
            Verdict::Good,
        ),
        (
            Dialect::I82576,
            tcp4,
            0x60 | 1 << 29,
            Verdict::Good,
            Verdict::Bad,
        ),
        (
            Dialect::I82576,
            tcp4,
            0x64,
            Verdict::Unknown,
            Verdict::Unknown,
        ),
        (
            Dialect::I82599,
            udp4,
            0x70 | 1 << 30,
            Verdict::Good,
            Verdict::Unknown,
        ),
        (
            Dialect::X550,
            udp4,
            0x70 | 1 << 30,
            Verdict::Good,
            Verdict::Bad,
        ),
        (Dialect::X540, tcp4, 0, Verdict::Unknown, Verdict::Unknown),
        (Dialect::X540, 0, 0x60, Verdict::Unknown, Verdict::Unknown),
    ];
    for (dialect, word0, bits, ip, l4) in cases {
        let mut toy = Toy::new(64, POOL, dialect, 1514);
        toy.rx.arm().expect("armed");
        let mut batch = toy.pool.batch(8);
        assert!(toy.complete(&[0; 60], word0, 0b11 | bits | 60 << 32));
        assert_eq!(toy.rx.receive(&mut batch), Ok(1), "{dialect:?} {bits:#x}");
        let frame = batch.frames().next().expect("one");
        assert_eq!(
            (frame.checksums().ip, frame.checksums().l4),
            (ip, l4),
            "{dialect:?} {bits:#x}"
        );
    }
}

#[test]
fn a_looped_back_tag_is_swapped_on_i350_alone() {
    for (dialect, tag) in [(Dialect::I350, 0x6400), (Dialect::I82576, 0x0064)] {
        let mut toy = Toy::new(64, POOL, dialect, 1514);
        toy.rx.arm().expect("armed");
        let mut batch = toy.pool.batch(8);
        assert!(toy.complete(
            &[0; 60],
            0,
            0b11 | 1 << 3 | 1 << 18 | 60 << 32 | 0x0064 << 48
        ));
        assert!(toy.complete(&[0; 60], 0, 0b11 | 1 << 3 | 60 << 32 | 0x0064 << 48));
        assert_eq!(toy.rx.receive(&mut batch), Ok(2));
        let tags: Vec<_> = batch.frames().map(|frame| frame.vlan()).collect();
        assert_eq!(tags, [Some(tag), Some(0x0064)], "{dialect:?}");
    }
}
