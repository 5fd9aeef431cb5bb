//! The token that memory may be touched again.

/// Proof that no DMA of the old life can follow: made by whoever has reset the device, ended the mapping, or seen the
/// function gone from the bus.
///
/// Rings take their buffers back only against it. A ring dropped without one leaves its buffers out of the pool on
/// purpose, counted as [`PoolStats::lost`](crate::PoolStats::lost); the memory itself stays mapped as long as the
/// pool, so a late write can hurt nobody.
#[derive(Clone, Copy, Debug)]
pub struct Quiesced(());

impl Quiesced {
    /// States that the device was reset (or is unmapped, or gone) and will not write to the rings' memory any more.
    #[must_use]
    pub const fn after_reset() -> Self {
        Self(())
    }
}
