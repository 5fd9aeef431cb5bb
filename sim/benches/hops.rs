//! What one hop through the card costs: VF to VF, gen -> fwd -> sink, with hand-made rings instead of a driver.
//!
//! `cargo bench -p vfnic-sim --bench hops` prints two tables. *One thread*: rings are filled outside the measured time,
//! so a hop is the card's work alone, with everything in this core's caches. *Two threads*: the card ticks on one core
//! while the other plays all three drivers, as a demo does. A hop is the card's time in ticks that moved something, the cache
//! lines that travel included.
#![expect(
    clippy::cast_possible_truncation,
    reason = "small numbers in small fields"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vfnic_hw::{DmaRegion, Iova, Model};
use vfnic_ring::HeapDma;
use vfnic_sim::data::{Accept, DataPath, Line, NoHooks, Ring, RxSettings};
use vfnic_sim::{Mapping, Translate};

const SIZE: usize = 512;
const BUFFERS: usize = 2048;
const STRIDE: usize = 2112;
const DATA: u64 = 3 << 20 | 1 << 29 | 1 << 25 | 1 << 24 | 1 << 39;
const RS: u64 = 1 << 27;

#[derive(Debug)]
struct Flat(Mapping);

impl Translate for Flat {
    fn generation(&self) -> u64 {
        1
    }
    fn lookup(&self, iova: u64) -> Option<Mapping> {
        let inside = iova >= self.0.iova() && iova - self.0.iova() < self.0.len() as u64;
        inside.then(|| self.0.clone())
    }
}

/// One VF as its driver sees it.
struct Vf {
    region: DmaRegion,
    base: u64,
    tx_tail: Arc<Line>,
    rx_tail: Arc<Line>,
    tx: usize,
    tx_clean: usize,
    rx: usize,
    rx_posted: usize,
    /// Buffer of each descriptor.
    tx_buffer: Vec<u32>,
    rx_buffer: Vec<u32>,
    free: Vec<u32>,
}

const RX_RING: usize = 0x2_0000;
const POOL: usize = 0x4_0000;

impl Vf {
    fn new(path: &mut DataPath, pool: u8) -> Self {
        let base = 0x10_0000_0000 + u64::from(pool) * 0x1000_0000;
        let memory = Arc::new(HeapDma::new(POOL + BUFFERS * STRIDE, Iova(base)).expect("memory"));
        let region = DmaRegion::new(memory.clone());
        path.set_space(pool, Some(Arc::new(Flat(Mapping::new(base, memory)))));
        let len = (SIZE * 16) as u32;
        let tx = path.tx(pool, 0).expect("a queue");
        tx.set_ring(Ring { base, len });
        tx.enable().expect("a ring");
        let tx_tail = tx.tail_word();
        let rx = path.rx(pool, 0).expect("a queue");
        rx.set_ring(Ring {
            base: base + RX_RING as u64,
            len,
        });
        rx.set_settings(RxSettings::decode(Model::I82599, 0x0200_0002, 0));
        rx.enable().expect("a ring");
        let rx_tail = rx.tail_word();
        let mut vf = Self {
            region,
            base,
            tx_tail,
            rx_tail,
            tx: 0,
            tx_clean: 0,
            rx: 0,
            rx_posted: 0,
            tx_buffer: vec![0; SIZE],
            rx_buffer: vec![0; SIZE],
            free: (0..BUFFERS as u32).collect(),
        };
        vf.post();
        // The default context, as drivers for these cards write it.
        vf.words(0)[0].store(14 << 9, Ordering::Relaxed);
        vf.words(0)[1].store(2 << 20 | 1 << 29 | 3 << 11, Ordering::Relaxed);
        vf.tx = 1;
        vf.tx_buffer[0] = u32::MAX;
        vf.tx_tail.store(1);
        vf
    }

    fn words(&self, offset: usize) -> &[AtomicU64; 2] {
        self.region.words()[offset / 8..]
            .first_chunk()
            .expect("in the region")
    }

    fn address(&self, buffer: u32) -> u64 {
        self.base + (POOL + buffer as usize * STRIDE + 64) as u64
    }

    fn frame(&self, buffer: u32) -> &[AtomicU64] {
        &self.region.words()[(POOL + buffer as usize * STRIDE + 64) / 8..]
    }

    /// Posts as many RX buffers as there is room for.
    fn post(&mut self) {
        let mut next = self.rx_posted;
        while (next + 1) % SIZE != self.rx {
            let Some(buffer) = self.free.pop() else { break };
            let words = self.words(RX_RING + next * 16);
            words[0].store(self.address(buffer), Ordering::Relaxed);
            words[1].store(0, Ordering::Relaxed);
            self.rx_buffer[next] = buffer;
            next = (next + 1) % SIZE;
        }
        if next != self.rx_posted {
            self.rx_posted = next;
            self.rx_tail.store(next as u32);
        }
    }

    /// Queues one frame; RS on every 32nd descriptor.
    fn queue(&mut self, buffer: u32, len: u64) -> bool {
        let index = self.tx;
        if (index + 1) % SIZE == self.tx_clean {
            return false;
        }
        let words = self.words(index * 16);
        let report = if index % 32 == 31 { RS } else { 0 };
        words[0].store(self.address(buffer), Ordering::Relaxed);
        words[1].store(DATA | report | len | len << 46, Ordering::Relaxed);
        self.tx_buffer[index] = buffer;
        self.tx = (index + 1) % SIZE;
        true
    }

    /// Takes back what the card has reported done.
    fn reclaim(&mut self) {
        loop {
            let last = self.tx_clean | 31;
            let in_use = (self.tx + SIZE - self.tx_clean) % SIZE;
            if in_use <= last - self.tx_clean {
                return;
            }
            let word = self.words(last * 16)[1].load(Ordering::Acquire);
            if word >> 32 & 1 == 0 {
                return;
            }
            while self.tx_clean <= last {
                let buffer = self.tx_buffer[self.tx_clean];
                if buffer != u32::MAX {
                    self.free.push(buffer);
                }
                self.tx_clean += 1;
            }
            self.tx_clean %= SIZE;
        }
    }

    /// The next received frame's buffer and length.
    fn receive(&mut self) -> Option<(u32, u64)> {
        if self.rx == self.rx_posted {
            return None;
        }
        let word = self.words(RX_RING + self.rx * 16)[1].load(Ordering::Acquire);
        if word & 1 == 0 {
            return None;
        }
        let buffer = self.rx_buffer[self.rx];
        self.rx = (self.rx + 1) % SIZE;
        Some((buffer, word >> 32 & 0xffff))
    }
}

fn mac(pool: u64) -> u64 {
    u64::from_le_bytes([2, 0, 0, 0, 0, pool as u8, 0, 0])
}

/// Writes a UDP frame from gen to fwd, checksums right.
fn make_frame(words: &[AtomicU64], len: usize) {
    let mut frame = vec![0u8; len];
    frame[..6].copy_from_slice(&mac(1).to_le_bytes()[..6]);
    frame[6..12].copy_from_slice(&mac(0).to_le_bytes()[..6]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let ip = (len - 14) as u16;
    frame[14..24].copy_from_slice(&[0x45, 0, (ip >> 8) as u8, ip as u8, 0, 0, 0, 0, 64, 17]);
    frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    let udp = ip - 20;
    frame[34..40].copy_from_slice(&[0x12, 0x34, 0x56, 0x78, (udp >> 8) as u8, udp as u8]);
    for (index, byte) in frame[42..].iter_mut().enumerate() {
        *byte = index as u8;
    }
    let sum = |bytes: &[u8], mut total: u32| {
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        !(total as u16)
    };
    let header = sum(&frame[14..34], 0);
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    let pseudo = sum(&frame[26..34], 17 + u32::from(udp));
    let check = sum(&frame[34..], u32::from(!pseudo));
    frame[40..42].copy_from_slice(&check.to_be_bytes());
    frame.resize(len.next_multiple_of(8), 0);
    for (word, bytes) in words.iter().zip(frame.chunks(8)) {
        word.store(
            u64::from_le_bytes(bytes.try_into().expect("8 bytes")),
            Ordering::Relaxed,
        );
    }
}

/// Readdresses a frame on its way through fwd: touches the packet.
fn readdress(words: &[AtomicU64]) {
    let second = words[1].load(Ordering::Relaxed);
    words[0].store(mac(2) | mac(1) << 48, Ordering::Relaxed);
    words[1].store(second & !0xffff_ffff | mac(1) >> 16, Ordering::Relaxed);
}

fn card() -> DataPath {
    let mut path = DataPath::new(Model::I82599, 3, 1);
    let filters = path.filters_mut();
    for pool in 0..3 {
        let mac = mac(u64::from(pool)).to_le_bytes();
        let mac = mac[..6].try_into().expect("6 bytes");
        filters.add_mac(mac, pool);
        filters.add_vlan(0, pool);
        filters.set_accept(pool, Accept::AUPE | Accept::BAM);
        filters.set_receive(pool, true);
        filters.set_transmit(pool, true);
        filters.set_spoof(
            pool,
            vfnic_sim::data::SpoofChecks {
                mac: true,
                vlan: true,
                ethertype: false,
            },
        );
    }
    filters.set_flow_control(true);
    path
}

/// One round of the three drivers. Gives frames received by the sink.
fn drive(vfs: &mut [Vf; 3], len: usize, most: usize, fresh: bool) -> usize {
    let [generator, forwarder, sink] = vfs;
    let mut received = 0;
    generator.reclaim();
    for _ in 0..most {
        let Some(buffer) = generator.free.pop() else {
            break;
        };
        if fresh {
            // What a generator writes into each frame: a sequence number, in the first line.
            generator.frame(buffer)[6].fetch_add(0, Ordering::Relaxed);
        }
        if !generator.queue(buffer, len as u64) {
            generator.free.push(buffer);
            break;
        }
    }
    generator.tx_tail.store(generator.tx as u32);
    forwarder.reclaim();
    for _ in 0..most {
        if (forwarder.tx + 1) % SIZE == forwarder.tx_clean {
            break;
        }
        let Some((buffer, len)) = forwarder.receive() else {
            break;
        };
        readdress(forwarder.frame(buffer));
        forwarder.queue(buffer, len);
    }
    forwarder.tx_tail.store(forwarder.tx as u32);
    forwarder.post();
    for _ in 0..most {
        let Some((buffer, _)) = sink.receive() else {
            break;
        };
        std::hint::black_box(sink.frame(buffer)[6].load(Ordering::Relaxed));
        sink.free.push(buffer);
        received += 1;
    }
    sink.post();
    received
}

fn set_up(len: usize) -> (DataPath, [Vf; 3]) {
    let mut path = card();
    let vfs = [0, 1, 2].map(|pool| Vf::new(&mut path, pool));
    let buffers = vfs[0].free.clone();
    for buffer in buffers {
        make_frame(vfs[0].frame(buffer), len);
    }
    path.filters_mut().set_max_frame(9728);
    (path, vfs)
}

/// Median over the ticks and the best twentieth: a preempted tick does not count.
fn one_thread(len: usize) -> (f64, f64) {
    let (mut path, mut vfs) = set_up(len);
    let (mut received, mut hops) = (0, 0);
    let mut ticks = Vec::new();
    let end = Instant::now() + Duration::from_millis(500);
    let mut now = 0;
    while Instant::now() < end {
        received += drive(&mut vfs, len, 64, false);
        let start = Instant::now();
        let tick = path.tick(now, 256, &mut NoHooks);
        let took = start.elapsed();
        hops += u64::from(tick.frames);
        if tick.frames >= 64 {
            ticks.push(took.as_nanos() as f64 / f64::from(tick.frames));
        }
        now += 1000;
        path.take_causes(|_, _| {});
    }
    assert!(received > 0, "nothing arrived");
    for pool in 0..3 {
        let drops = path.stats(pool).expect("a function").drops;
        assert_eq!(drops.total(), 0, "{drops:?}");
    }
    if std::env::var_os("HOPS").is_some() {
        eprintln!("{hops} hops");
    }
    ticks.sort_by(f64::total_cmp);
    (ticks[ticks.len() / 2], ticks[ticks.len() / 20])
}

fn two_threads(len: usize) -> (f64, f64, f64) {
    let (mut path, mut vfs) = set_up(len);
    let stop = Arc::new(AtomicBool::new(false));
    let card_stop = Arc::clone(&stop);
    let card = std::thread::spawn(move || {
        let (mut frames, mut ticks, mut empty) = (0u64, 0u64, 0u64);
        let mut busy = Duration::ZERO;
        while !card_stop.load(Ordering::Relaxed) {
            let before = Instant::now();
            let tick = path.tick(ticks, 256, &mut NoHooks);
            if tick.frames > 0 {
                busy += before.elapsed();
            }
            frames += u64::from(tick.frames);
            ticks += 1;
            empty += u64::from(tick.frames == 0);
            path.take_causes(|_, _| {});
            if tick.frames == 0 {
                // As the card's own thread does.
                for _ in 0..32 {
                    std::hint::spin_loop();
                }
            }
        }
        let drops = (0..3)
            .map(|pool| path.stats(pool).expect("a function").drops.total())
            .sum::<u64>();
        assert_eq!(drops, 0);
        (busy, frames, empty as f64 / ticks as f64)
    });
    let start = Instant::now();
    let mut received = 0u64;
    while start.elapsed() < Duration::from_secs(1) {
        for _ in 0..64 {
            received += drive(&mut vfs, len, 64, true) as u64;
        }
    }
    let took = start.elapsed();
    stop.store(true, Ordering::Relaxed);
    let (busy, hops, empty) = card.join().expect("the card runs");
    (
        received as f64 / took.as_secs_f64() / 1e6,
        busy.as_nanos() as f64 / hops as f64,
        empty,
    )
}

fn main() {
    if let Some(len) = std::env::args().find_map(|word| word.parse().ok()) {
        // One length alone, for a profiler.
        if std::env::args().any(|word| word == "two") {
            for _ in 0..5 {
                let (mpps, ns, empty) = two_threads(len);
                println!(
                    "{mpps:.2} Mpps, {ns:.1} ns a hop, {:.0} % empty",
                    empty * 100.0
                );
            }
            return;
        }
        for _ in 0..4 {
            let (median, best) = one_thread(len);
            println!("{median:.1} ns a hop, {best:.1} in the best 5 %");
        }
        return;
    }
    println!("one thread: the card's work alone");
    for len in [60, 124, 252, 508, 1020, 1514] {
        let (median, best) = one_thread(len);
        println!(
            "  {:>5} bytes: {median:6.1} ns a hop, {best:6.1} in the best 5 %",
            len + 4
        );
    }
    println!("two threads: all drivers on one core, the card on the other");
    for len in [60, 508, 1514] {
        let (mpps, ns, empty) = two_threads(len);
        println!(
            "  {:>5} bytes: {mpps:6.2} Mpps gen to sink, {ns:6.1} ns a hop, {:.1} Gbit/s, {:.0} % of ticks empty",
            len + 4,
            mpps * (len as f64 + 4.0) * 8.0 / 1000.0,
            empty * 100.0
        );
    }
}
