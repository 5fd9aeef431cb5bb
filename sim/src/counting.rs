//! Counters.

/// A number that goes up, and that stays at its end rather than begin anew.
pub(crate) trait Count {
    /// Counts `more`.
    fn count(&mut self, more: Self);
}

impl Count for u64 {
    #[inline]
    fn count(&mut self, more: Self) {
        *self = self.saturating_add(more);
    }
}

impl Count for u32 {
    #[inline]
    fn count(&mut self, more: Self) {
        *self = self.saturating_add(more);
    }
}

impl Count for usize {
    #[inline]
    fn count(&mut self, more: Self) {
        *self = self.saturating_add(more);
    }
}
