//! What the examples run on: a simulated card, and somebody on another VF of it who sends frames and counts what comes back.
//! On hardware neither is needed: `Port::open("0000:31:10.1")` takes the place of `Port::from_function`.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vfnic::{MacAddr, Port, PortConfig};
use vfnic_sim::Card;

/// Whatever can go wrong.
pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Frames that each example moves.
pub(crate) const FRAMES: usize = 2000;

/// A card that runs on a thread of its own, as fast as it goes.
pub(crate) fn card(model: vfnic_hw::Model, vfs: u16) -> Result<Card> {
    Ok(Card::builder(model).vfs(vfs).threaded().build()?)
}

/// Looks after `port` until its link is up.
pub(crate) fn wait_for_link(port: &Port) -> Result {
    let start = Instant::now();
    while !port.link().is_up() {
        let pause = port.poll_control()?;
        if start.elapsed() > Duration::from_secs(5) {
            return Err("no link after 5 s".into());
        }
        std::thread::sleep(pause.min(Duration::from_millis(1)));
    }
    Ok(())
}

/// A UDP datagram over IPv4; ports differ from number to number, so that they are many flows.
pub(crate) fn datagram(to: MacAddr, from: MacAddr, number: usize) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&from.0);
    frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17]);
    frame[26..34].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    let mut sum: u32 = frame[14..34]
        .chunks_exact(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    sum = (sum & 0xffff) + (sum >> 16);
    let [.., high, low] = (!sum).to_be_bytes();
    frame[24..26].copy_from_slice(&[high, low]);
    let [.., high, low] = number.to_be_bytes();
    frame[34..40].copy_from_slice(&[0x80 | (high & 0x7f), low, 0, 7, 0, 26]);
    frame
}

/// Turns a frame round: who sent it shall have it, from `own`.
pub(crate) fn turn_round(frame: &mut [u8], own: MacAddr) {
    if let Some(head) = frame.first_chunk_mut::<12>() {
        head.copy_within(6..12, 0);
        head[6..].copy_from_slice(&own.0);
    }
}

/// Sends [`FRAMES`] datagrams to `to` from VF `vf` of `card`, on a thread; gives the number of frames that came back in
/// time.
pub(crate) fn neighbour(card: &Card, vf: u16, to: MacAddr) -> Result<JoinHandle<Result<usize>>> {
    let function = card.function(vf)?;
    let thread = std::thread::Builder::new().name("neighbour".into());
    Ok(thread.spawn(move || {
        let port = Port::from_function(function, PortConfig::default())?;
        let mut pairs = port.start()?;
        wait_for_link(&port)?;
        let own = port.mac().0;
        let mut batch = port.batch(64);
        let (mut sent, mut back) = (0, 0);
        let start = Instant::now();
        while back < FRAMES && start.elapsed() < Duration::from_secs(20) {
            // Not more under way than any ring holds.
            while sent < FRAMES && sent < back + 64 && batch.room() > 0 {
                batch.push_bytes(&datagram(to, own, sent))?;
                sent += 1;
            }
            pairs[0].tx.send(&mut batch)?;
            if batch.is_empty() {
                back += pairs[0].rx.receive(&mut batch)?;
                batch.clear();
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        drop((batch, pairs));
        port.close()?;
        Ok(back)
    })?)
}

/// What the neighbour says in the end.
pub(crate) fn all_came_back(neighbour: JoinHandle<Result<usize>>) -> Result {
    let back = neighbour.join().map_err(|_| "the neighbour panicked")??;
    println!("{back} of {FRAMES} frames came back");
    if back != FRAMES {
        return Err(format!("{back} of {FRAMES} frames came back").into());
    }
    Ok(())
}
