//! Looking things up by the low bits of a number, as hardware does: a table of 2^n entries has one for every number.

/// A table that every number is good for.
pub(crate) trait LowBits<T> {
    /// The entry that the low bits of `number` name.
    fn entry(&self, number: impl Into<usize>) -> &T;
    /// The same, to be changed.
    fn entry_mut(&mut self, number: impl Into<usize>) -> &mut T;
}

#[expect(
    clippy::indexing_slicing,
    reason = "what is masked with one less than the length is below it"
)]
impl<T, const N: usize> LowBits<T> for [T; N] {
    #[inline]
    fn entry(&self, number: impl Into<usize>) -> &T {
        const { assert!(N.is_power_of_two()) }
        &self[number.into() & const { N - 1 }]
    }

    #[inline]
    fn entry_mut(&mut self, number: impl Into<usize>) -> &mut T {
        const { assert!(N.is_power_of_two()) }
        &mut self[number.into() & const { N - 1 }]
    }
}

#[cfg(test)]
mod tests {
    use super::LowBits;

    #[test]
    fn bits_above_the_table_do_not_count() {
        let mut table = [10, 11, 12, 13];
        *table.entry_mut(6usize) = 20;
        assert_eq!(table, [10, 11, 20, 13]);
        assert_eq!(*table.entry(u8::MAX), 13);
    }
}
