//! Frames from one VF's buffers into another's.

use std::num::Wrapping;

use super::Start;
use super::group::{GROUP, Group};
use crate::counting::Count;
use crate::data::checksum::{Sum, fold, sum64};
use crate::data::desc::{Words, data_len};
use crate::data::transmit::MIN_FRAME;
use crate::dma::{Chunks, Mapping, VolatileSlice};

/// Writes the start of a frame that ends inside it, its own bytes only. `len` is 60 to 63.
#[inline]
fn store_short(start: &Start, to: &VolatileSlice<'_>, len: usize) {
    let ([.., sixth, seventh], []) = start.as_chunks::<8>() else {
        return;
    };
    // The frame's last 8 bytes lie across the two words.
    let both =
        u128::from(u64::from_le_bytes(*seventh)) << 64 | u128::from(u64::from_le_bytes(*sixth));
    let end = (both >> ((len & 7) << 3)).to_le_bytes();
    if let (Some(front), Some(end)) = (start.first_chunk::<48>(), end.first_chunk::<8>()) {
        to.store(0, front);
        to.store(48, sixth);
        to.store(len.wrapping_sub(8), end);
    }
}

/// From byte `n` on, a mask of 64 bytes for the last `n` of them.
const LAST: [u8; 128] = {
    let mut mask = [0xff; 128];
    let (mut rest, _) = mask.split_at_mut(64);
    while let [first, more @ ..] = rest {
        *first = 0;
        rest = more;
    }
    mask
};

/// Copies what is behind the first 64 bytes, and sums it.
#[inline]
fn copy_rest(frame: &VolatileSlice<'_>, to: &VolatileSlice<'_>) -> Sum {
    let len = frame.len();
    let mut total = Wrapping(0);
    for at in (64..len & !63).step_by(64) {
        let chunk = frame.load(at);
        to.store(at, &chunk);
        total += sum64(&chunk);
    }
    if len & 63 != 0 {
        // The last chunk overlaps the one before; only what is new is summed. A frame without a first chunk has no last.
        let last = len.wrapping_sub(64);
        let mut chunk: [u8; 64] = frame.load(last);
        to.store(last, &chunk);
        let new = LAST.get(len & 63..).and_then(<[u8]>::first_chunk);
        for (byte, mask) in chunk.iter_mut().zip(new.unwrap_or(&[0; 64])) {
            *byte &= mask;
        }
        let sum = sum64(&chunk);
        // It stands where the frame's end has put it: of an odd length, each byte at the other half of its word.
        total += if len.is_multiple_of(2) {
            sum
        } else {
            Wrapping(u64::from(fold(sum)) << 8)
        };
    }
    total
}

impl Group {
    /// Copies frames `from..to` into buffers for as long as both are where they are expected, and sums what is behind
    /// their starts. Gives how many. The starts are those that have been judged: what the sender has written there since does not count.
    #[inline(never)]
    pub(super) fn copy(
        &self,
        (from, to): (usize, usize),
        source: &Mapping,
        buffers: &[Words],
        target: &Mapping,
        limit: u32,
        rests: &mut [Sum; GROUP],
    ) -> usize {
        let (Some(descriptors), Some(starts)) =
            (self.descriptors.get(from..to), self.starts.get(from..to))
        else {
            return 0;
        };
        let frames = descriptors.iter().zip(starts);
        let mut copied = 0usize;
        for ((&[buffer, _], (&[address, word], start)), rest) in
            buffers.iter().zip(frames).zip(rests)
        {
            let len = data_len(word);
            if len > limit || buffer == 0 {
                break;
            }
            let len = (len as usize).max(MIN_FRAME);
            let Some(into) = target.part(buffer, len) else {
                break;
            };
            if len < 64 {
                store_short(start, &into, len);
            } else {
                let Some(frame) = source.part(address, len) else {
                    break;
                };
                into.store(0, start);
                *rest = copy_rest(&frame, &into);
            }
            copied.count(1);
        }
        copied
    }
}
