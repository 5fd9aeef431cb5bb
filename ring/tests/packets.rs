//! Owned packets: the same bytes and the same words of the card as in the batch they were taken from, whatever they
//! lie in, and their buffers go home when they do.

mod toy;

use toy::Toy;
use vfnic_ring::{Batch, Dialect, FrameError, L4, Packet, PoolConfig, TxOffload};

const POOL: PoolConfig = PoolConfig {
    buffers: 256,
    buffer_size: 2048,
    headroom: 64,
};

fn toy() -> Toy {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 9014);
    toy.rx.arm().expect("enough buffers");
    toy
}

fn numbered(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + len).to_le_bytes()[0]).collect()
}

/// A frame that came in, taken out of its batch.
fn received(toy: &mut Toy, frame: &[u8]) -> Packet {
    let mut batch = toy.pool.batch(16);
    assert!(toy.deliver(frame, 2048));
    assert_eq!(toy.rx.receive(&mut batch), Ok(1));
    batch.pop().expect("one")
}

/// What the card sends of a packet.
fn sent(toy: &mut Toy, packet: Packet) -> toy::Sent {
    let mut batch = toy.pool.batch(16);
    batch.push(packet).expect("room, and the same pool");
    assert_eq!(toy.tx.send(&mut batch), Ok(1));
    toy.transmit(usize::MAX).remove(0)
}

#[test]
fn a_packet_of_one_buffer_is_read_changed_and_sent() {
    let mut toy = toy();
    let frame = numbered(300);
    let mut packet = received(&mut toy, &frame);
    assert_eq!((packet.len(), packet.segment_count()), (300, 1));
    assert!(packet.is_single());
    assert_eq!(packet.data(), frame);
    assert_eq!(packet.frame().to_vec(), frame);
    packet.data_mut()[299] = 0xee;
    assert_eq!(packet.to_vec()[298..], [frame[298], 0xee]);
    assert_eq!(
        format!("{packet:?}"),
        "Packet { len: 300, segments: 1, .. }"
    );
    let expected = packet.to_vec();
    assert_eq!(sent(&mut toy, packet).bytes, expected);
}

#[test]
fn a_packet_of_three_buffers_is_one_frame() {
    let mut toy = toy();
    let frame = numbered(5000);
    let home = toy.pool.stats().home;
    let mut packet = received(&mut toy, &frame);
    assert_eq!((packet.len(), packet.segment_count()), (5000, 3));
    assert!(!packet.is_single());
    assert_eq!(packet.data(), &frame[..2048]);
    assert_eq!(packet.to_vec(), frame);
    let parts: Vec<usize> = packet.frame().segments().map(<[u8]>::len).collect();
    assert_eq!(parts, [2048, 2048, 904]);
    packet.data_mut()[0] = !frame[0];
    let mut changed = packet.frame_mut();
    assert_eq!((changed.len(), changed.segment_count()), (5000, 3));
    let mut start = [0; 2050];
    assert_eq!(changed.copy_to(&mut start), 2050, "as much as fits");
    assert_eq!(start[1..], frame[1..2050]);
    assert!(matches!(
        changed.set_len(100),
        Err(FrameError::Length { max: 0, .. })
    ));
    changed.data_mut()[1] = !frame[1];
    assert_eq!(packet.to_vec()[..3], [!frame[0], !frame[1], frame[2]]);
    assert_eq!(toy.pool.stats().home, home - 3);
    drop(packet);
    assert_eq!(toy.pool.stats().home, home, "every buffer of it is back");
}

#[test]
fn a_header_put_in_front_stays_there_when_the_packet_moves() {
    let mut toy = toy();
    let frame = numbered(100);
    let mut packet = received(&mut toy, &frame);
    let mut front = packet.frame_mut();
    front.push_front(64).expect("all the headroom").fill(9);
    assert_eq!(
        front.push_front(1).err(),
        Some(FrameError::Headroom { by: 1, have: 0 })
    );
    let all = [&[9; 64][..], &frame].concat();
    assert_eq!(packet.data(), all);
    assert_eq!(packet.frame().to_vec(), all);
    let mut batch = toy.pool.batch(4);
    batch.push(packet).expect("room");
    let mut packet = batch.pop().expect("the same");
    assert_eq!((packet.len(), packet.data()), (164, &all[..]));
    // Off again, and further: down to an Ethernet header, no less.
    packet.frame_mut().pull_front(150).expect("14 are left");
    assert_eq!(packet.data(), &frame[86..]);
    let least = FrameError::Length {
        len: 13,
        min: 14,
        max: 14,
    };
    assert_eq!(packet.frame_mut().pull_front(1), Err(least));
    assert!(packet.frame_mut().pull_front(15).is_err());
    let bytes = sent(&mut toy, packet).bytes;
    assert_eq!(bytes[..14], frame[86..]);
}

#[test]
fn what_a_packet_asks_of_the_card_goes_with_it() {
    let mut toy = toy();
    let mut packet = received(&mut toy, &numbered(200));
    let asked = TxOffload {
        l4: Some(L4::Udp),
        l3_len: 20,
        ..TxOffload::vlan(0x123)
    };
    packet.frame_mut().request(asked).expect("legal");
    let sent = sent(&mut toy, packet);
    assert_eq!(sent.context.0, 20 | 14 << 9 | 0x123 << 16);
    assert_eq!(sent.word1 >> 30 & 1, 1, "VLE");
    assert_eq!(sent.word1 >> 40 & 3, 2, "TXSM alone");
}

#[test]
fn a_request_leaves_a_moved_head_where_it_is() {
    let mut toy = toy();
    let mut batch = toy.pool.batch(4);
    let frame = numbered(100);
    batch.push_bytes(&frame).expect("room");
    for mut frame in batch.frames_mut() {
        frame.push_front(4).expect("headroom").fill(9);
        frame.request(TxOffload::vlan(5)).expect("legal");
    }
    assert_eq!(toy.tx.send(&mut batch), Ok(1));
    let sent = toy.transmit(usize::MAX).remove(0);
    assert_eq!(sent.bytes, [&[9; 4][..], &frame].concat());
    assert_eq!(sent.context.0 >> 16 & 0xffff, 5);
    assert_eq!(Dialect::X540.max_frame(), 9728, "ixgbevf.md §9.7");
}

#[test]
fn the_words_of_the_card_are_read_from_the_last_buffer() {
    let mut toy = toy();
    let mut batch = toy.pool.batch(16);
    // Two buffers: of the first only the length counts. A TCP segment, RSS type 1, a tag, both checksums good.
    let (dd, eop) = (1u64, 2u64);
    assert!(toy.complete(&[1; 2048], 0x3f_ffff, dd | 2048 << 32 | 0xffff << 48));
    let word0 = 1 | 0x11 << 4 | 0xabcd_ef01 << 32;
    assert!(toy.complete(&[2; 60], word0, dd | eop | 0x68 | 60 << 32 | 0x0123 << 48));
    assert_eq!(toy.rx.receive(&mut batch), Ok(1));
    let packet = batch.pop().expect("one");
    let frame = packet.frame();
    assert_eq!(frame.len(), 2108);
    assert_eq!(frame.vlan(), Some(0x123));
    let rss = frame.rss().expect("a hash");
    assert_eq!((rss.kind, rss.hash), (1, 0xabcd_ef01));
    assert_eq!(frame.packet_type().bits(), 0x11);
    assert!(!frame.looped_back());
}

#[test]
fn a_packet_of_another_pool_or_without_room_comes_back_whole() {
    let (mut one, two) = (toy(), toy());
    let frame = numbered(5000);
    let packet = received(&mut one, &frame);
    let packet = two.pool.batch(16).push(packet).expect_err("another pool");
    assert_eq!(packet.to_vec(), frame);
    let mut small: Batch = one.pool.batch(2);
    let packet = small.push(packet).expect_err("three buffers in two places");
    assert_eq!(packet.to_vec(), frame);
    assert!(small.is_empty());
    let mut enough = one.pool.batch(3);
    enough.push(packet).expect("exactly enough");
    assert_eq!(enough.pop().expect("it").to_vec(), frame);
    assert!(enough.is_empty());
}
