//! A toy card for the ring tests: reads and writes descriptors from literal bit numbers (ixgbevf.md §9-10), on its own.
#![allow(dead_code, reason = "each test file uses its part of it")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vfnic_ring::{
    Dialect, DmaRegion, Doorbell, HeapDma, Iova, Pool, PoolConfig, Quiesced, RxParams, RxRing,
    TxParams, TxRing,
};

/// How many cases of a property to try: fewer where every instruction is emulated.
pub const fn cases(usual: u32) -> u32 {
    if cfg!(miri) {
        2
    } else if cfg!(target_arch = "x86_64") {
        usual
    } else {
        usual / 16
    }
}

pub fn memory(len: usize, iova: u64) -> DmaRegion {
    DmaRegion::new(Arc::new(HeapDma::new(len, Iova(iova)).expect("memory")))
}

pub const MODELS: [Dialect; 5] = [
    Dialect::I82576,
    Dialect::I350,
    Dialect::I82599,
    Dialect::X540,
    Dialect::X550,
];

/// A frame of `len` bytes, four at least, that tells its number first.
pub fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len)
        .map(|at| (number as usize * 31 + at).to_le_bytes()[0])
        .collect();
    frame[..4].copy_from_slice(&number.to_be_bytes());
    frame
}

#[derive(Debug)]
pub struct Toy {
    pub pool: Pool,
    pub rx: RxRing,
    pub tx: TxRing,
    rx_ring: DmaRegion,
    tx_ring: DmaRegion,
    tails: DmaRegion,
    buffers: DmaRegion,
    size: u32,
    rx_head: u32,
    tx_head: u32,
    half_sent: Option<Sent>,
    /// Contexts as the card holds them.
    pub contexts: [(u64, u64); 2],
}

/// A frame as the card saw it leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub bytes: Vec<u8>,
    pub word1: u64,
    pub context: (u64, u64),
}

impl Toy {
    pub fn new(size: u16, config: PoolConfig, dialect: Dialect, max_frame: u32) -> Self {
        let buffers = memory(config.region_len(), 0x4000_0000);
        let pool = Pool::new(buffers.clone(), config).expect("pool");
        Self::on(size, pool, buffers, dialect, max_frame)
    }

    /// Another card whose buffers are of the same pool.
    pub fn beside(&self, dialect: Dialect, max_frame: u32) -> Self {
        let size = u16::try_from(self.size).expect("as made");
        let (pool, buffers) = (self.pool.clone(), self.buffers.clone());
        Self::on(size, pool, buffers, dialect, max_frame)
    }

    fn on(size: u16, pool: Pool, buffers: DmaRegion, dialect: Dialect, max_frame: u32) -> Self {
        let bytes = usize::from(size) * 16;
        let (rx_ring, tx_ring, tails) = (
            memory(bytes, 0x1_0000),
            memory(bytes, 0x10_0000),
            memory(4096, 0x20_0000),
        );
        let rx = RxRing::new(RxParams {
            ring: rx_ring.clone(),
            offset: 0,
            size,
            pool: pool.clone(),
            doorbell: Doorbell::in_region(&tails, 0).expect("word"),
            dialect,
            max_frame,
        })
        .expect("rx ring");
        let tx = TxRing::new(TxParams {
            ring: tx_ring.clone(),
            offset: 0,
            size,
            pool: pool.clone(),
            doorbell: Doorbell::in_region(&tails, 64).expect("word"),
            dialect,
            max_frame,
        })
        .expect("tx ring");
        let size = size.into();
        Self {
            pool,
            rx,
            tx,
            rx_ring,
            tx_ring,
            tails,
            buffers,
            size,
            rx_head: 0,
            tx_head: 0,
            contexts: [(0, 0); 2],
            half_sent: None,
        }
    }

    /// The same with other code moving descriptors.
    pub fn with_simd(mut self, simd: vfnic_ring::Simd) -> Self {
        self.rx = self.rx.with_simd(simd);
        self.tx = self.tx.with_simd(simd);
        self
    }

    fn tail(&self, word: usize) -> u32 {
        self.tails.dwords()[word].load(Ordering::Acquire)
    }

    fn buffer(&self, iova: u64, len: usize) -> std::ops::Range<usize> {
        let at = usize::try_from(iova - self.buffers.iova().0).expect("inside the pool");
        assert!(at + len <= self.buffers.len(), "outside the pool");
        at..at + len
    }

    /// Descriptors the card may fill.
    pub fn posted(&self) -> u32 {
        (self.tail(0) + self.size - self.rx_head) % self.size
    }

    /// Completes the next RX descriptor with these bytes and this word 1 (length included); false when none is posted.
    pub fn complete(&mut self, bytes: &[u8], word0: u64, word1: u64) -> bool {
        if self.rx_head == self.tail(0) {
            return false;
        }
        let words = self.rx_ring.words();
        let at = self.rx_head as usize * 2;
        let range = self.buffer(words[at].load(Ordering::Relaxed), bytes.len());
        for (to, from) in self.buffers.bytes()[range].iter().zip(bytes) {
            to.store(*from, Ordering::Relaxed);
        }
        words[at].store(word0, Ordering::Relaxed);
        words[at + 1].store(word1, Ordering::Release);
        self.rx_head = (self.rx_head + 1) % self.size;
        true
    }

    /// Delivers a frame in buffers of `buffer` bytes; false when not enough descriptors are posted.
    pub fn deliver(&mut self, frame: &[u8], buffer: usize) -> bool {
        if (self.posted() as usize) < frame.len().div_ceil(buffer) {
            return false;
        }
        let last = frame.chunks(buffer).count() - 1;
        for (number, part) in frame.chunks(buffer).enumerate() {
            // DD in bit 0, EOP in bit 1, length from bit 32.
            let status = if number == last { 0b11 } else { 0b01 };
            assert!(self.complete(part, 0, status | (part.len() as u64) << 32));
        }
        true
    }

    /// Sends up to `most` descriptors' worth of what was handed over; returns the frames. Write-backs scribble over
    /// the whole descriptor.
    pub fn transmit(&mut self, most: usize) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut frame = self.half_sent.take();
        for _ in 0..most {
            if self.tx_head == self.tail(16) {
                break;
            }
            let words = self.tx_ring.words();
            let at = self.tx_head as usize * 2;
            let (word0, word1) = (
                words[at].load(Ordering::Relaxed),
                words[at + 1].load(Ordering::Acquire),
            );
            assert_eq!(word1 >> 29 & 1, 1, "DEXT in every descriptor");
            let slot = (word1 >> 36 & 1) as usize;
            match word1 >> 20 & 0xf {
                2 => {
                    assert!(frame.is_none(), "a context inside a frame");
                    assert_eq!(word1 >> 27 & 1, 0, "RS on a context is never answered");
                    self.contexts[slot] = (word0, word1);
                }
                3 => {
                    let len = (word1 & 0xffff) as usize;
                    let range = self.buffer(word0, len);
                    let context = self.contexts[slot];
                    let frame_now = frame.get_or_insert_with(|| Sent {
                        bytes: Vec::new(),
                        word1,
                        context,
                    });
                    frame_now.bytes.extend(
                        self.buffers.bytes()[range]
                            .iter()
                            .map(|byte| byte.load(Ordering::Relaxed)),
                    );
                    if word1 >> 24 & 1 == 1 {
                        sent.extend(frame.take());
                    } else {
                        assert_eq!(word1 >> 27 & 1, 0, "RS before the end of a frame");
                    }
                }
                other => panic!("descriptor type {other}"),
            }
            if word1 >> 27 & 1 == 1 {
                words[at].store(0xdead_beef_dead_beef, Ordering::Relaxed);
                words[at + 1].store(0xffff_ffff_dead_beef | 1 << 32, Ordering::Release);
            }
            self.tx_head = (self.tx_head + 1) % self.size;
        }
        assert!(
            frame.is_none() || most != usize::MAX,
            "the doorbell was rung inside a frame"
        );
        self.half_sent = frame;
        sent
    }

    /// Writes a receive slot back out of turn, whoever it belongs to.
    pub fn scribble_rx(&self, slot: usize, word0: u64, word1: u64) {
        let words = self.rx_ring.words();
        words[slot * 2].store(word0, Ordering::Relaxed);
        words[slot * 2 + 1].store(word1, Ordering::Release);
    }

    /// Writes a transmit slot back out of turn.
    pub fn scribble_tx(&self, slot: usize, word0: u64, word1: u64) {
        let words = self.tx_ring.words();
        words[slot * 2].store(word0, Ordering::Relaxed);
        words[slot * 2 + 1].store(word1, Ordering::Release);
    }

    /// The receive ring's memory and the buffers', for a device that does as it likes.
    pub fn memory(&self) -> [DmaRegion; 2] {
        [self.rx_ring.clone(), self.buffers.clone()]
    }

    /// Every bit that the driver and the card have written to rings and tails.
    pub fn bits(&self) -> Vec<u64> {
        let rings = [&self.rx_ring, &self.tx_ring];
        let words = rings.iter().flat_map(|ring| ring.words());
        let words = words.map(|word| word.load(Ordering::Acquire));
        words
            .chain([self.tail(0).into(), self.tail(16).into()])
            .collect()
    }

    /// A reset brings every buffer home, each once.
    pub fn all_come_home(mut self) {
        self.rx.reset(Quiesced::after_reset());
        self.tx.reset(Quiesced::after_reset());
        assert_eq!(self.pool.stats().home, self.pool.stats().total);
    }

    /// What a reset does to the card's own indices.
    pub fn reset_heads(&mut self) {
        self.rx_head = 0;
        self.tx_head = 0;
        for word in [0, 16] {
            self.tails.dwords()[word].store(0, Ordering::Relaxed);
        }
    }
}
