//! An array that starts on a cache line.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

/// Plain numbers, of which every bit pattern is a value.
pub(crate) trait Number: Copy {}
impl Number for u32 {}
impl Number for [u64; 2] {}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u64; 8]);

/// A fixed array of which the first element is 64-byte aligned, so that a vector's worth of entries is one line.
pub(crate) struct Lines<T> {
    memory: Box<[Line]>,
    len: usize,
    _of: std::marker::PhantomData<T>,
}

impl<T: Number> Lines<T> {
    /// At least `len` zeros.
    pub(crate) fn new(len: usize) -> Self {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        Self {
            memory: vec![Line([0; 8]); lines].into_boxed_slice(),
            len: lines * (size_of::<Line>() / size_of::<T>()),
            _of: std::marker::PhantomData,
        }
    }
}

impl<T: Number> Deref for Lines<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: as many `T` as fit the lines, which are numbers themselves and stricter aligned.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Lines<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), self.len) }
    }
}

/// The `len` elements of `slice` from `at` on. They are there, as every caller has seen to.
#[inline]
pub(crate) fn window<T>(slice: &[T], at: usize, len: usize) -> &[T] {
    &slice[at..][..len]
}

/// As [`window`], to be changed.
#[inline]
pub(crate) fn window_mut<T>(slice: &mut [T], at: usize, len: usize) -> &mut [T] {
    &mut slice[at..][..len]
}

/// Moves elements to the front of `slice`, over the first `by` of them.
pub(crate) fn shift_down<T: Copy>(slice: &mut [T], by: usize) {
    let cells = Cell::from_mut(slice).as_slice_of_cells();
    for (to, from) in cells.iter().zip(cells.iter().skip(by)) {
        to.set(from.get());
    }
}

/// Moves elements to the end of `slice`, over the last `by` of them.
pub(crate) fn shift_up<T: Copy>(slice: &mut [T], by: usize) {
    let cells = Cell::from_mut(slice).as_slice_of_cells();
    for (to, from) in cells.iter().rev().zip(cells.iter().rev().skip(by)) {
        to.set(from.get());
    }
}

/// The `N` elements of `slice` from `at` on, where there are so many.
#[inline(always)]
pub(crate) fn chunk<T, const N: usize>(slice: &[T], at: usize) -> Option<&[T; N]> {
    slice.get(at..)?.first_chunk()
}

/// As [`chunk`], to be changed.
#[inline(always)]
pub(crate) fn chunk_mut<T, const N: usize>(slice: &mut [T], at: usize) -> Option<&mut [T; N]> {
    slice.get_mut(at..)?.first_chunk_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits<T: Number>() {
        for len in 0..100 {
            let lines = Lines::<T>::new(len);
            let memory = size_of_val(&*lines.memory);
            assert!(lines.len() >= len);
            assert!(size_of_val(&*lines) <= memory);
            assert!(memory < len * size_of::<T>() + 64, "no line too many");
            assert!(lines.as_ptr().addr().is_multiple_of(64));
        }
    }

    #[test]
    fn an_array_is_inside_its_lines_and_they_are_as_few_as_can_be() {
        fits::<u32>();
        fits::<[u64; 2]>();
    }
}
