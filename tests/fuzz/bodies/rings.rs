//! The rings, against a device that writes whatever it likes into them.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vfnic_ring::{
    Batch, Dialect, DmaRegion, Doorbell, HeapDma, Iova, L4, Pool, PoolConfig, Quiesced, RxParams,
    RxRing, Simd, TxOffload, TxParams, TxRing,
};

use super::Input;

const CONFIG: PoolConfig = PoolConfig {
    buffers: 512,
    buffer_size: 2048,
    headroom: 64,
};
const SIZE: u16 = 64;
/// Longest frame, in bytes.
const LONGEST: u32 = 9018;
const DIALECTS: [Dialect; 5] = [
    Dialect::I82576,
    Dialect::I350,
    Dialect::I82599,
    Dialect::X540,
    Dialect::X550,
];

fn memory(len: usize, iova: u64) -> DmaRegion {
    DmaRegion::new(Arc::new(HeapDma::new(len, Iova(iova)).expect("memory")))
}

fn pool() -> Pool {
    Pool::new(memory(CONFIG.region_len(), 0x4000_0000), CONFIG).expect("a pool")
}

thread_local! {
    /// For all executions one after the other: each ends with all buffers at home.
    static POOL: Pool = pool();
}

fn ring() -> DmaRegion {
    memory(usize::from(SIZE) * 16, 0x1_0000)
}

fn rx(memory: &DmaRegion, pool: &Pool, dialect: Dialect, simd: Simd) -> RxRing {
    let tail = self::memory(4096, 0x20_0000);
    RxRing::new(RxParams {
        ring: memory.clone(),
        offset: 0,
        size: SIZE,
        pool: pool.clone(),
        doorbell: Doorbell::in_region(&tail, 0).expect("a word"),
        dialect,
        max_frame: LONGEST,
    })
    .expect("a ring")
    .with_simd(simd)
}

/// A ring that outlives an execution, between frames.
struct Standing {
    memory: DmaRegion,
    rx: RxRing,
    batch: Batch,
    /// The descriptor the device completes next.
    next: usize,
    dialect: Dialect,
}

impl Standing {
    fn new(dialect: Dialect, simd: Simd) -> Self {
        let (pool, memory) = (pool(), ring());
        let mut rx = rx(&memory, &pool, dialect, simd);
        rx.arm().expect("buffers");
        Self {
            memory,
            rx,
            batch: pool.batch(usize::from(SIZE)),
            next: 0,
            dialect,
        }
    }

    /// All there are, made at the first look.
    fn all() -> Vec<Self> {
        let each = |dialect| Simd::ALL.map(|simd| Self::new(dialect, simd));
        DIALECTS.into_iter().flat_map(each).collect()
    }

    fn complete(&mut self, words: [u64; 2]) {
        let descriptor = &self.memory.words()[2 * self.next..][..2];
        descriptor[0].store(words[0], Ordering::Relaxed);
        descriptor[1].store(words[1] | 1, Ordering::Release);
        self.next = (self.next + 1) % usize::from(SIZE);
    }

    /// What came, looked at from all sides: how many frames and bytes.
    fn look(&mut self) -> (usize, usize) {
        let came = self.rx.receive(&mut self.batch).expect("its own pool");
        let mut bytes = 0;
        for frame in self.batch.frames() {
            assert!(frame.segments().all(|part| part.len() <= 2048));
            assert!((14..=9018).contains(&frame.len()), "{}", frame.len());
            let _ = (frame.vlan(), frame.rss(), frame.checksums());
            let _ = (frame.packet_type(), frame.looped_back());
            bytes += frame.len();
        }
        self.batch.clear();
        (came, bytes)
    }
}

/// Errors that make a frame unusable, as the datasheets have them in word 1 (igbvf.md §8.2, ixgbevf.md §9.3).
const fn errors(dialect: Dialect) -> u64 {
    match dialect {
        Dialect::I82576 | Dialect::I350 => 0x9700_0000,
        _ => 0x3b00_0000,
    }
}

/// Completions of any bits, up to five in a row, each at the descriptor it belongs to. What comes of frames in one
/// piece is also worked out here, from bit numbers.
pub(super) fn rx_desc(data: &[u8]) {
    thread_local! {
        static RINGS: RefCell<Vec<Standing>> = RefCell::new(Standing::all());
    }
    RINGS.with_borrow_mut(|rings| {
        let (&[which, flags], words) = data.split_first_chunk().unwrap_or((&[0, 0], &[]));
        let count = rings.len();
        let ring = &mut rings[usize::from(which) % count];
        let (mut good, mut sum) = (0, 0);
        // Whether frames end where they begin; what is in several pieces is not worked out.
        let whole = flags & 1 != 0;
        for words in words.as_chunks::<16>().0.iter().take(5) {
            let words = u128::from_le_bytes(*words).to_le_bytes();
            let (low, high) = words.split_at(8);
            let word0 = u64::from_le_bytes(low.try_into().expect("8 bytes"));
            let mut word1 = u64::from_le_bytes(high.try_into().expect("8 bytes"));
            if whole {
                word1 |= 2;
            }
            if flags & 2 != 0 {
                // Errors are in half of all otherwise, and most lengths impossible.
                word1 &= !errors(ring.dialect) & !(0xf000 << 32);
            }
            ring.complete([word0, word1]);
            let len = usize::from(u16::try_from(word1 >> 32 & 0xffff).expect("16 bits"));
            if (14..=2048).contains(&len) && word1 & errors(ring.dialect) == 0 {
                good += 1;
                sum += len;
            }
        }
        let came = ring.look();
        if whole {
            assert_eq!(came, (good, sum), "frames and bytes, {:?}", ring.dialect);
        }
        // Whatever a frame has been begun ends here, so that the next execution finds the ring between frames.
        if !whole {
            ring.complete([0, 64 << 32 | 2]);
            ring.look();
        }
    });
}

/// Any 16 bytes in any receive descriptor, in any order, posted or not.
pub(super) fn rx_ring(data: &[u8]) {
    let mut input = Input::new(data);
    let (pool, memory) = (POOL.with(Clone::clone), ring());
    let (dialect, simd) = (input.pick(&DIALECTS), input.pick(&Simd::ALL));
    let mut rx = rx(&memory, &pool, dialect, simd);
    rx.arm().expect("buffers");
    let mut batch = pool.batch(8 + input.below(64));
    let mut packets = Vec::new();
    let mut next = 0;
    for _ in 0..300 {
        if input.is_empty() {
            break;
        }
        match input.below(8) {
            // Mostly the next one, so that frames come at all.
            0..=3 => {
                let at = match input.byte() {
                    0..=9 => input.below(SIZE.into()),
                    _ => {
                        next = (next + 1) % usize::from(SIZE);
                        (next + usize::from(SIZE) - 1) % usize::from(SIZE)
                    }
                };
                let words = memory.words();
                words[2 * at].store(input.long(), Ordering::Relaxed);
                let done = u64::from(input.byte() & 3);
                words[2 * at + 1].store(input.long() & !3 | done, Ordering::Release);
            }
            4 | 5 => {
                let came = rx.receive(&mut batch).expect("its own pool");
                assert!(came <= usize::from(SIZE), "more than there are descriptors");
                for frame in batch.frames() {
                    assert!(frame.segments().all(|part| part.len() <= 2048));
                    assert!((14..=9018).contains(&frame.len()), "{}", frame.len());
                    let _ = (frame.to_vec(), frame.vlan(), frame.rss(), frame.checksums());
                    let _ = (frame.packet_type(), frame.looped_back());
                }
            }
            6 => {
                if input.byte() < 128 {
                    batch.take_packets(&mut packets);
                }
                batch.clear();
            }
            _ => {
                if input.byte() < 32 {
                    rx.reset(Quiesced::after_reset());
                    packets.clear();
                    batch.clear();
                    next = 0;
                    rx.arm().expect("all buffers are back");
                }
            }
        }
    }
    rx.reset(Quiesced::after_reset());
    drop((batch, packets));
    assert_eq!(pool.stats().home, CONFIG.buffers, "a buffer is missing");
}

/// Frames of all kinds, and a device that completes whatever it likes.
pub(super) fn tx_complete(data: &[u8]) {
    let mut input = Input::new(data);
    let (pool, memory) = (POOL.with(Clone::clone), ring());
    let tail = self::memory(4096, 0x20_0000);
    let mut tx = TxRing::new(TxParams {
        ring: memory.clone(),
        offset: 0,
        size: SIZE,
        pool: pool.clone(),
        doorbell: Doorbell::in_region(&tail, 0).expect("a word"),
        dialect: input.pick(&DIALECTS),
        max_frame: LONGEST,
    })
    .expect("a ring")
    .with_simd(input.pick(&Simd::ALL));
    let mut batch = pool.batch(8 + input.below(64));
    for _ in 0..300 {
        if input.is_empty() {
            break;
        }
        match input.below(8) {
            0..=2 => {
                let len = input.below(10_000);
                let frame = vec![input.byte(); len];
                if batch.push_bytes(&frame).is_ok() && input.byte() < 100 {
                    let offload = TxOffload {
                        vlan: (input.byte() < 128).then(|| input.half()),
                        ip_checksum: input.byte() & 1 == 0,
                        l4: input.pick(&[None, Some(L4::Tcp), Some(L4::Udp), Some(L4::Sctp)]),
                        tso_mss: (input.byte() < 64).then(|| input.half()),
                        ipv6: input.byte() & 1 == 0,
                        l2_len: input.pick(&[14, 18, 22, 0, 127, 255]),
                        l3_len: input.pick(&[20, 40, 60, 0, 511, 512]),
                        l4_len: input.pick(&[8, 20, 60, 0, 255]),
                    };
                    if let Some(mut frame) = batch.frames_mut().last() {
                        let _ = frame.request(offload);
                    }
                }
            }
            3 | 4 => {
                if tx.send(&mut batch).is_err() {
                    // The front one can never be sent.
                    batch.clear();
                }
                assert!(tx.pending() < SIZE.into());
            }
            5 | 6 => {
                for _ in 0..1 + input.below(16) {
                    let at = input.below(SIZE.into());
                    memory.words()[2 * at + 1].store(input.long() | 1 << 32, Ordering::Release);
                }
                tx.reclaim(&mut batch);
            }
            _ => {
                if input.byte() < 32 {
                    tx.reset(Quiesced::after_reset());
                }
            }
        }
    }
    tx.reset(Quiesced::after_reset());
    drop(batch);
    assert_eq!(pool.stats().home, CONFIG.buffers, "a buffer is missing");
}
