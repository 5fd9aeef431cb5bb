//! A pool under guard: canaries round every buffer and behind the last, poison in every one that holds nothing.

use std::sync::atomic::Ordering;

use anyhow::{Context, ensure};
use vfnic::{Pool, PoolConfig};
use vfnic_hw::{DmaRegion, DmaRequest, DmaSpace};

/// What free buffers are filled with: no frame looks like it.
pub(super) const POISON: u8 = 0xDB;
/// What nobody may ever change.
const CANARY: u64 = 0xC0DE_CA4A_12D5_A5A5;
/// Bytes behind the last buffer.
const TAIL: usize = 4096;
/// Bytes before and, because a stride is an odd number of lines, at least 64 behind each buffer's data.
const HEADROOM: u16 = 128;

/// The layout: buffers of `size` bytes.
pub(super) const fn layout(buffers: u32, size: u32) -> PoolConfig {
    PoolConfig {
        buffers,
        buffer_size: size,
        headroom: HEADROOM,
    }
}

/// The pool, and its memory as nobody else sees it.
#[derive(Debug)]
pub(super) struct Guard {
    pool: Pool,
    region: DmaRegion,
}

impl Guard {
    /// Makes a pool in `space`, all of it poisoned.
    pub(super) fn new(space: &dyn DmaSpace, config: PoolConfig) -> anyhow::Result<Self> {
        let region = space
            .map(DmaRequest {
                len: config.region_len() + TAIL,
                prefer_huge: false,
            })
            .context("cannot map a pool")?;
        let pool = Pool::new(region.clone(), config)?;
        let guard = Self { pool, region };
        for word in guard.region.words() {
            word.store(CANARY, Ordering::Relaxed);
        }
        guard.poison();
        Ok(guard)
    }

    pub(super) const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Fills the data of every buffer. Only while no frame is anywhere: no DMA is under way then.
    pub(super) fn poison(&self) {
        let word = u64::from_ne_bytes([POISON; 8]);
        for (_, data) in self.buffers() {
            for place in data {
                place.store(word, Ordering::Relaxed);
            }
        }
    }

    /// Looks at every canary.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let words = self.region.words();
        let config = self.pool.config();
        let (stride, headroom) = (config.stride() / 8, usize::from(config.headroom) / 8);
        let data = headroom + config.buffer_size as usize / 8;
        let end = stride * config.buffers as usize;
        for (index, buffer) in words[..end].chunks_exact(stride).enumerate() {
            for (offset, word) in buffer.iter().enumerate() {
                if (headroom..data).contains(&offset) {
                    continue;
                }
                let seen = word.load(Ordering::Relaxed);
                ensure!(
                    seen == CANARY,
                    "something wrote beside buffer {index}, {} bytes from its start: {seen:#018x}",
                    offset * 8
                );
            }
        }
        let behind = words[end..]
            .iter()
            .position(|word| word.load(Ordering::Relaxed) != CANARY);
        ensure!(
            behind.is_none(),
            "something wrote {} bytes behind the pool",
            behind.unwrap_or(0) * 8
        );
        Ok(())
    }

    /// The words of every buffer's data.
    fn buffers(&self) -> impl Iterator<Item = (usize, &[std::sync::atomic::AtomicU64])> {
        let config = self.pool.config();
        let headroom = usize::from(config.headroom) / 8;
        let data = headroom + config.buffer_size as usize / 8;
        self.region
            .words()
            .chunks_exact(config.stride() / 8)
            .take(config.buffers as usize)
            .map(move |buffer| &buffer[headroom..data])
            .enumerate()
    }
}

#[cfg(test)]
mod tests {
    use vfnic_sim::SimSpace;

    use super::*;

    #[test]
    fn a_byte_beside_a_buffer_or_behind_the_pool_is_noticed() {
        let guard = Guard::new(&SimSpace::new(), layout(64, 2048)).expect("room");
        guard.check().expect("untouched");
        let config = guard.pool.config();
        let data = usize::from(config.headroom);
        let bytes = guard.region.bytes();
        for inside in [data, data + 2047, config.stride() + data] {
            bytes[inside].store(1, Ordering::Relaxed);
            guard.check().expect("a buffer's data may change");
        }
        let behind = config.region_len();
        for beside in [
            0,
            data - 1,
            data + 2048,
            config.stride(),
            behind,
            behind + 4095,
        ] {
            let was = bytes[beside].swap(1, Ordering::Relaxed);
            guard.check().expect_err("a canary died");
            bytes[beside].store(was, Ordering::Relaxed);
        }
        guard.check().expect("all as before");
    }
}
