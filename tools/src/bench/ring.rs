//! The ring bench: core cycles per packet of receiving, sending and forwarding on the null device.
//!
//! A region is 256 packets. Outside the timed part the device completes everything outstanding and makes 256 frames
//! ready; inside it the rings' public API handles exactly those in bursts, with no device code and no clock in
//! between. Ticks become core cycles through a chain of dependent additions timed right after each repetition, so
//! the result does not depend on what clock the core happened to run at.

#![expect(
    clippy::cast_precision_loss,
    reason = "counts far below 2^52 become means"
)]

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde::Serialize;
use vfnic_ring::{
    Batch, Dialect, DmaRegion, Doorbell, Fate, HeapDma, Iova, Packet, Pool, PoolConfig, RxParams,
    RxRing, Simd, TxParams, TxRing, forward, measure,
};

use super::clock;
use super::null::{Caches, NullDevice, RDT, TDT};
use super::remote::Remote;

/// Packets in a timed region.
pub const REGION: usize = FRAMES as usize;
const FRAMES: u32 = 256;
const WARM_UP: usize = 40;
const TIMED: usize = 200;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum Op {
    /// Receive and keep.
    Rx,
    /// Receive and drop each burst.
    RxDrop,
    /// Send, reclaiming what was sent before.
    Tx,
    /// Receive and send.
    Fwd,
    /// The same, changing a byte of each payload in between.
    FwdTouch,
    /// Receive and send in one pass.
    Fused,
    /// The same, changing a byte of each payload on the way.
    FusedTouch,
    /// Forward with every frame made an owned packet and back.
    Owned,
}

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub op: Op,
    /// Which ring code ran.
    pub simd: &'static str,
    /// Where the device's writes left the cache lines.
    pub device: &'static str,
    /// Descriptors in each ring.
    pub ring: u16,
    /// Packets a call.
    pub burst: usize,
    /// Core cycles per packet: median over the repetitions.
    pub cycles: f64,
    /// The least of them.
    pub cycles_min: f64,
    /// The most of them.
    pub cycles_max: f64,
    /// Nanoseconds per packet at the clock it ran at: median.
    pub ns: f64,
}

/// One configuration to measure.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// What to measure.
    pub op: Op,
    /// Which ring code to run.
    pub simd: Simd,
    /// Where the device's writes leave the cache lines.
    pub caches: Caches,
    /// Descriptors in each ring.
    pub ring: u16,
    /// Packets a call, from 1 to 256.
    pub burst: usize,
    /// Whether receiving begins to load the frames' first lines.
    pub prefetch: bool,
    /// Repetitions of 200 timed regions.
    pub repetitions: usize,
}

enum Device {
    Here(NullDevice),
    Elsewhere(Remote),
}

impl Device {
    /// Sends everything outstanding and receives `frames`.
    fn round(&mut self, frames: u32) -> anyhow::Result<()> {
        match self {
            Self::Here(device) => {
                device.transmit();
                device.receive(frames);
            }
            Self::Elsewhere(device) => ensure!(
                device.round(frames),
                "the null device's thread did not answer within 5 s; give the bench two idle cores"
            ),
        }
        Ok(())
    }
}

struct Bench {
    device: Device,
    rx: RxRing,
    tx: TxRing,
    batch: Batch,
    /// Receives a whole region in bursts.
    keep: Batch,
    /// What is to be sent, a batch a burst.
    bursts: Vec<Batch>,
    packets: Vec<Packet>,
}

fn memory(len: usize, iova: u64) -> anyhow::Result<DmaRegion> {
    let memory =
        HeapDma::new(len, Iova(iova)).with_context(|| format!("cannot map {len} bytes"))?;
    Ok(DmaRegion::new(Arc::new(memory)))
}

impl Bench {
    fn new(setup: &Setup) -> anyhow::Result<Self> {
        let config = PoolConfig {
            buffers: match (setup.op, setup.ring) {
                // A batch a burst, each with free buffers of its own; none of them is touched.
                (Op::Tx, _) => 1 << 16,
                (_, ..=512) => 4096,
                _ => 8192,
            },
            ..PoolConfig::default()
        };
        let buffers = memory(config.region_len(), 0x1_0000_0000)?;
        let pool = Pool::new(buffers.clone(), config)?;
        let len = usize::from(setup.ring) * 16;
        let (rx_ring, tx_ring, tails) = (
            memory(len, 0x10_0000)?,
            memory(len, 0x20_0000)?,
            memory(4096, 0x30_0000)?,
        );
        let doorbell = |at| Doorbell::in_region(&tails, at).context("no tail word");
        let mut rx = RxRing::new(RxParams {
            ring: rx_ring.clone(),
            offset: 0,
            size: setup.ring,
            pool: pool.clone(),
            doorbell: doorbell(RDT)?,
            dialect: Dialect::I82599,
            max_frame: 1514,
        })?
        .with_simd(setup.simd)
        .with_prefetch(setup.prefetch);
        rx.arm()?;
        let tx = TxRing::new(TxParams {
            ring: tx_ring.clone(),
            offset: 0,
            size: setup.ring,
            pool: pool.clone(),
            doorbell: doorbell(TDT)?,
            dialect: Dialect::I82599,
            max_frame: 1514,
        })?
        .with_simd(setup.simd);
        let bursts = if setup.op == Op::Tx {
            REGION.div_ceil(setup.burst)
        } else {
            0
        };
        let device = NullDevice::new(rx_ring, tx_ring, tails, buffers, setup.ring, setup.caches);
        Ok(Self {
            device: match setup.caches {
                Caches::Remote => Device::Elsewhere(Remote::new(device)),
                Caches::Hot | Caches::Cold => Device::Here(device),
            },
            rx,
            tx,
            batch: pool.batch(setup.burst),
            keep: pool.batch(REGION),
            bursts: (0..bursts).map(|_| pool.batch(setup.burst)).collect(),
            packets: Vec::with_capacity(REGION),
        })
    }

    /// Everything outside the timed part.
    fn prepare(&mut self, setup: &Setup) -> anyhow::Result<()> {
        if setup.op != Op::Tx {
            self.keep.clear();
            return self.device.round(FRAMES);
        }
        self.device.round(0)?;
        let mut left = REGION;
        for batch in &mut self.bursts {
            batch.clear();
            for _ in 0..left.min(setup.burst) {
                batch.alloc(60)?;
            }
            left = left.saturating_sub(setup.burst);
        }
        Ok(())
    }

    /// The timed part. Returns the packets handled, for a check.
    #[inline(never)]
    fn run(&mut self, op: Op, burst: usize) -> usize {
        let mut handled = 0;
        match op {
            Op::Rx => {
                while handled < REGION {
                    let got = self.rx.receive_up_to(&mut self.keep, burst).unwrap_or(0);
                    handled += got;
                    if got == 0 {
                        break;
                    }
                }
            }
            Op::Tx => {
                for batch in &mut self.bursts {
                    handled += self.tx.send(batch).unwrap_or(0);
                }
            }
            Op::RxDrop => {
                while handled < REGION {
                    let got = self.rx.receive(&mut self.batch).unwrap_or(0);
                    self.batch.clear();
                    handled += got;
                    if got == 0 {
                        break;
                    }
                }
            }
            Op::Fwd | Op::FwdTouch => {
                while handled < REGION {
                    if self.rx.receive(&mut self.batch).unwrap_or(0) == 0 {
                        break;
                    }
                    if op == Op::FwdTouch {
                        touch(&mut self.batch);
                    }
                    handled += self.tx.send(&mut self.batch).unwrap_or(0);
                    self.batch.clear();
                }
            }
            Op::Fused | Op::FusedTouch => {
                while handled < REGION {
                    let done = if op == Op::Fused {
                        forward(&mut self.rx, &mut self.tx, &mut self.batch, |_| Fate::Send)
                    } else {
                        forward(&mut self.rx, &mut self.tx, &mut self.batch, |frame| {
                            touch_bytes(frame.data_mut());
                            Fate::Send
                        })
                    };
                    match done {
                        Ok(0) | Err(_) => break,
                        Ok(done) => handled += done,
                    }
                }
            }
            Op::Owned => {
                while handled < REGION {
                    if self.rx.receive(&mut self.batch).unwrap_or(0) == 0 {
                        break;
                    }
                    self.batch.take_packets(&mut self.packets);
                    for packet in self.packets.drain(..) {
                        // The frames just came out of this batch, so there is room for them.
                        drop(self.batch.push(packet));
                    }
                    handled += self.tx.send(&mut self.batch).unwrap_or(0);
                    self.batch.clear();
                }
            }
        }
        handled
    }
}

#[inline]
fn touch_bytes(bytes: &mut [u8]) {
    if let Some(byte) = bytes.get_mut(48) {
        *byte = byte.wrapping_add(1);
    }
}

#[inline]
fn touch(batch: &mut Batch) {
    batch.each_first_mut(touch_bytes);
}

/// Measures one configuration.
///
/// # Errors
///
/// When the rings cannot be made so, or handle fewer packets than were ready.
pub fn measure(setup: &Setup) -> anyhow::Result<Row> {
    let mut bench = Bench::new(setup)?;
    let overhead = clock::overhead();
    let mut results = Vec::with_capacity(setup.repetitions);
    for _ in 0..setup.repetitions {
        let mut regions = Vec::with_capacity(TIMED);
        for region in 0..WARM_UP + TIMED {
            bench.prepare(setup)?;
            let start = measure::ticks_start();
            let handled = black_box(bench.run(setup.op, setup.burst));
            let ticks = measure::ticks_end() - start;
            ensure!(
                handled == REGION,
                "{:?} handled {handled} packets of {REGION} that were ready",
                setup.op
            );
            if region >= WARM_UP {
                regions.push(ticks.saturating_sub(overhead));
            }
        }
        results.push((
            clock::interquartile_mean(&mut regions) / REGION as f64,
            clock::ticks_per_cycle(),
        ));
    }
    let mut cycles: Vec<f64> = results
        .iter()
        .map(|(ticks, per_cycle)| ticks / per_cycle)
        .collect();
    cycles.sort_by(f64::total_cmp);
    let mut ns: Vec<f64> = results
        .iter()
        .map(|(ticks, _)| ticks * clock::ns_per_tick())
        .collect();
    ns.sort_by(f64::total_cmp);
    Ok(Row {
        op: setup.op,
        simd: bench.rx.simd().name(),
        device: setup.caches.name(),
        ring: setup.ring,
        burst: setup.burst,
        cycles: cycles[cycles.len() / 2],
        cycles_min: cycles[0],
        cycles_max: cycles[cycles.len() - 1],
        ns: ns[ns.len() / 2],
    })
}
