//! A call's argument: a number, or where in the caller's memory a structure is.

use std::ffi::c_int;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The argument, and what of the structure has been copied in.
pub(super) struct Argument<'a> {
    memory: &'a File,
    pub(super) value: u64,
    bytes: Vec<u8>,
}

impl<'a> Argument<'a> {
    pub(super) fn new(memory: &'a File, value: u64) -> Self {
        Self {
            memory,
            value,
            bytes: Vec::new(),
        }
    }

    /// Copies in a structure that says its size first; with less than `least` bytes it is none. Returns its size.
    pub(super) fn sized(&mut self, least: u32) -> Result<u32, c_int> {
        let size = u32::from_ne_bytes(self.copy_in(self.value)?);
        if size < least {
            return Err(libc::EINVAL);
        }
        self.bytes = vec![0; least as usize];
        let read = self.memory.read_exact_at(&mut self.bytes, self.value);
        read.map_err(|_| libc::EFAULT)?;
        Ok(size)
    }

    pub(super) fn copy_in<const N: usize>(&self, at: u64) -> Result<[u8; N], c_int> {
        let mut bytes = [0; N];
        let read = self.memory.read_exact_at(&mut bytes, at);
        read.map(|()| bytes).map_err(|_| libc::EFAULT)
    }

    pub(super) fn copy_out(&self, at: u64, bytes: &[u8]) -> Result<(), c_int> {
        let written = self.memory.write_all_at(bytes, at);
        written.map_err(|_| libc::EFAULT)
    }

    /// Copies the structure back.
    pub(super) fn back(&self) -> Result<c_int, c_int> {
        self.copy_out(self.value, &self.bytes).map(|()| 0)
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(*self.bytes[at..].first_chunk().unwrap())
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(*self.bytes[at..].first_chunk().unwrap())
    }

    pub(super) fn set_u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    pub(super) fn set_u64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }

    /// What is 32 bits at an offset, of an argument that has not been copied.
    pub(super) fn peek(&self, at: u64) -> u32 {
        self.copy_in(self.value + at).map_or(0, u32::from_ne_bytes)
    }

    /// The text up to its zero.
    pub(super) fn text(&self) -> String {
        let bytes = (0..256).map_while(|at| match self.copy_in(self.value + at) {
            Ok([0]) | Err(_) => None,
            Ok([byte]) => Some(byte),
        });
        String::from_utf8(bytes.collect()).unwrap()
    }

    /// Gives a structure that has room for it its capabilities, behind its `len` bytes; says how much room there should
    /// be where there is not. `first` is where the first one is said to be, and `flag` that there are any.
    pub(super) fn capabilities(
        &mut self,
        size: u32,
        (flag, first_at): (u32, usize),
        (first, bytes): &(u32, Vec<u8>),
        len: u32,
    ) -> Result<(), c_int> {
        self.set_u32(4, self.u32(4) | flag);
        let needed = len + u32::try_from(bytes.len()).unwrap();
        if size < needed {
            self.set_u32(0, needed);
            return Ok(());
        }
        self.set_u32(first_at, *first);
        self.copy_out(self.value + u64::from(len), bytes)
    }
}
