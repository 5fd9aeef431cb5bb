//! Descriptors as drivers write them, and write-backs as they read them.

use super::*;

#[test]
fn a_data_descriptor_as_linux_writes_it() {
    // 60 bytes at 0x1_2345_6780, EOP|IFCS|RS|DEXT, type 3, CC, slot 0, PAYLEN 60.
    let words = [0x0000_0001_2345_6780, 0x000f_0080_2b30_003c];
    let TxDescriptor::Data(data) = TxDescriptor::decode(words) else {
        panic!("not a data descriptor")
    };
    assert_eq!(
        data,
        TxData {
            address: 0x1_2345_6780,
            len: 60,
            eop: true,
            ifcs: true,
            rs: true,
            cc: true,
            paylen: 60,
            ..TxData::default()
        }
    );
    assert_eq!(words[1] & PLAIN_MASK, PLAIN);
    assert_ne!(words[1] & RS, 0);
    assert_ne!(words[1] & CC, 0);
}

#[test]
fn a_tso_data_descriptor() {
    // 66-byte header piece: TSE|VLE|DEXT|IFCS, type 3, IDX 1, IXSM|TXSM, PAYLEN 262143.
    let words = [0x4000, 0xffff_c310_e230_0042];
    let TxDescriptor::Data(data) = TxDescriptor::decode(words) else {
        panic!("not a data descriptor")
    };
    assert!(data.tse && data.vle && data.ixsm && data.txsm && !data.eop && !data.rs);
    assert_eq!((data.slot, data.paylen, data.len), (1, 262_143, 66));
    assert_ne!(words[1] & PLAIN_MASK, PLAIN);
}

#[test]
fn every_offload_bit_leaves_the_short_way() {
    let plain = 0x000f_0080_2b30_003c_u64;
    for number in [18, 19, 22, 30, 31, 40, 41, 42] {
        assert_ne!((plain ^ (1 << number)) & PLAIN_MASK, PLAIN, "bit {number}");
    }
    for number in [20, 21, 24, 25, 29] {
        assert_ne!((plain ^ (1 << number)) & PLAIN_MASK, PLAIN, "bit {number}");
    }
}

#[test]
fn a_context_descriptor() {
    // VLAN 0x2064, MACLEN 14, IPLEN 20; L4T TCP, IPV4, DEXT, type 2; IDX 1, L4LEN 32, MSS 1448.
    let words = [0x0000_0000_2064_1c14, 0x05a8_2010_2020_0c00];
    assert_eq!(
        TxDescriptor::decode(words),
        TxDescriptor::Context(
            1,
            TxContext {
                mac_len: 14,
                ip_len: 20,
                l4_len: 32,
                mss: 1448,
                vlan: 0x2064,
                ipv4: true,
                l4: L4Type::Tcp,
            }
        )
    );
}

#[test]
fn a_context_ignores_the_low_nibble_of_dword_3() {
    // DPDK's default context: MACLEN 14, L4T none, and a stale DD bit in dword 3.
    let words = [14 << 9, 0x0000_0001_2020_1800];
    assert_eq!(
        TxDescriptor::decode(words),
        TxDescriptor::Context(
            0,
            TxContext {
                mac_len: 14,
                l4: L4Type::None,
                ..TxContext::default()
            }
        )
    );
}

#[test]
fn a_legacy_descriptor_and_an_unknown_type() {
    // 64 bytes, CSO 50, EOP|IFCS|IC|RS, CSS 14, VLAN 0x0123.
    let words = [0x9000, 0x0123_0e00_0f32_0040];
    let TxDescriptor::Data(data) = TxDescriptor::decode(words) else {
        panic!("not a data descriptor")
    };
    assert_eq!(
        data.legacy,
        Some(TxLegacy {
            checksum: true,
            start: 14,
            offset: 50,
            vlan: 0x123,
        })
    );
    assert_eq!(
        TxDescriptor::decode([0, 1 << 29 | 1 << 20]),
        TxDescriptor::Unknown
    );
}

#[test]
fn tx_write_back_is_dd_amid_rubbish() {
    let words = tx_write_back([u64::MAX, u64::MAX]);
    assert_eq!(words[1] >> 32 & 0xf, 1, "only DD of STA is set");
    assert_eq!(words[0], u64::MAX);
}

#[test]
fn rx_write_back_bits_of_both_families() {
    let udp = RxMeta {
        packet_type: 0x210,
        ip: Check::Good,
        l4: Check::Good,
        udp: true,
        ..RxMeta::default()
    };
    // The values a real model of the 82576 was seen to write (igbvf.md §16.2).
    assert_eq!(rx_status(Family::Igbvf, &udp, 60), 0x0000_003c_0000_0073);
    let tcp = RxMeta { udp: false, ..udp };
    assert_eq!(rx_status(Family::Igbvf, &tcp, 60) & 0xffff_ffff, 0x63);
    let bad_l4 = RxMeta {
        l4: Check::Bad,
        ..udp
    };
    assert_eq!(
        rx_status(Family::Igbvf, &bad_l4, 0) & 0xffff_ffff,
        0x2000_0073
    );
    assert_eq!(
        rx_status(Family::Ixgbevf, &bad_l4, 0) & 0xffff_ffff,
        0x4000_0073
    );
    let bad_ip = RxMeta {
        ip: Check::Bad,
        ..udp
    };
    assert_eq!(
        rx_status(Family::Igbvf, &bad_ip, 0) & 0xffff_ffff,
        0x4000_0073
    );
    assert_eq!(
        rx_status(Family::Ixgbevf, &bad_ip, 0) & 0xffff_ffff,
        0x8000_0073
    );
    let error = RxMeta {
        error: true,
        tagged: true,
        vlan: 0xe005,
        loopback: true,
        inexact: true,
        ..RxMeta::default()
    };
    assert_eq!(
        rx_status(Family::Ixgbevf, &error, 0x5dc),
        0xe005_05dc_2004_008b
    );
    assert_eq!(
        rx_status(Family::Igbvf, &error, 0x5dc),
        0xe005_05dc_8004_008b
    );
}

#[test]
fn rx_types_and_split() {
    let meta = RxMeta {
        packet_type: 0x1_0130,
        rss_type: 1,
        rss_hash: 0x51cc_c178,
        ..RxMeta::default()
    };
    let split = RxSplit {
        split: true,
        overflow: true,
        header_len: 54,
    };
    assert_eq!(rx_types(&meta, split), 0x51cc_c178_86c1_0131);
    assert_eq!(rx_partial(split, 2048), 0x0000_0800_0080_0001);
    assert_eq!(rx_overflow(split), 1 << 23);
}

#[test]
fn legacy_rx_write_back() {
    let meta = RxMeta {
        ip: Check::Bad,
        l4: Check::Good,
        tagged: true,
        vlan: 7,
        ..RxMeta::default()
    };
    assert_eq!(
        rx_legacy(Family::Ixgbevf, &meta, 100, true),
        0x0007_806b_0000_0064
    );
    assert_eq!(
        rx_legacy(Family::Igbvf, &meta, 100, true),
        0x0007_406b_0000_0064
    );
    assert_eq!(
        rx_legacy(Family::Igbvf, &meta, 100, false),
        0x0000_0001_0000_0064
    );
}

#[test]
fn a_legacy_write_back_has_its_status_and_errors_in_bytes_of_their_own() {
    let plain = RxMeta::default();
    for family in [Family::Ixgbevf, Family::Igbvf] {
        assert_eq!(rx_legacy(family, &plain, 0x600, false), 0x1_0000_0600);
        assert_eq!(rx_legacy(family, &plain, 0x600, true), 0x3_0000_0600);
    }
    let everything = RxMeta {
        ip: Check::Bad,
        l4: Check::Bad,
        udp: true,
        tagged: true,
        vlan: 0xa123,
        inexact: true,
        error: true,
        ..plain
    };
    // DD, EOP, VP, UDPCS, L4CS, IPCS and PIF; RXE, TCPE and IPE.
    let ixgbe = rx_legacy(Family::Ixgbevf, &everything, 60, true);
    assert_eq!(ixgbe, 0xa123_c1fb_0000_003c);
    let igb = rx_legacy(Family::Igbvf, &everything, 60, true);
    assert_eq!(igb, 0xa123_e0fb_0000_003c);
    let l4_alone = RxMeta {
        l4: Check::Bad,
        ..plain
    };
    assert_eq!(
        rx_legacy(Family::Igbvf, &l4_alone, 60, true),
        0x2023_0000_003c
    );
    let ip_alone = RxMeta {
        ip: Check::Bad,
        ..plain
    };
    assert_eq!(
        rx_legacy(Family::Igbvf, &ip_alone, 60, true),
        0x4043_0000_003c
    );
}

#[test]
fn there_is_a_hash_where_its_type_says_so() {
    assert_eq!(rss_hash(0x1234_5678_0000_0000), None);
    for kind in 1..16 {
        assert_eq!(rss_hash(0x1234_5678_0000_0000 | kind), Some(0x1234_5678));
    }
}
