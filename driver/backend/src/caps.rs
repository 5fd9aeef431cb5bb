//! The chains of variable-size structures behind VFIO's info structures. What the kernel says is checked like anything
//! else: a chain that loops or leaves its buffer ends there.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing
    )
)]

use vfio_bindings::bindings::vfio::{
    VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, VFIO_REGION_INFO_CAP_SPARSE_MMAP,
};
use vfnic_hw::IovaRange;

/// More links than any kernel has capability kinds.
const MOST: usize = 64;

/// Finds the capability `id` in `info`, whose first link is at `first`; returns its bytes after the 8-byte header.
fn find(info: &[u8], first: u32, id: u32) -> Option<&[u8]> {
    let mut at = usize::try_from(first).ok()?;
    for _ in 0..MOST {
        if at == 0 {
            return None;
        }
        let body = info.get(at..)?;
        let header: &[u8; 8] = body.first_chunk()?;
        let here = u16::from_ne_bytes([header[0], header[1]]);
        if u32::from(here) == id {
            return body.get(8..);
        }
        at = u32::from_ne_bytes([header[4], header[5], header[6], header[7]])
            .try_into()
            .ok()?;
    }
    None
}

/// The body that both capabilities of interest have: a count, 4 reserved bytes, then pairs of 64-bit numbers.
fn pairs(body: &[u8]) -> Option<Vec<(u64, u64)>> {
    let count = u32::from_ne_bytes(*body.first_chunk()?);
    let (words, _) = body.get(8..)?.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    let pairs = pairs.get(..usize::try_from(count).ok()?)?;
    Some(
        pairs
            .iter()
            .map(|[a, b]| (u64::from_ne_bytes(*a), u64::from_ne_bytes(*b)))
            .collect(),
    )
}

/// The ranges of `VFIO_IOMMU_GET_INFO`; `None` where the kernel does not tell them.
pub(crate) fn iova_ranges(info: &[u8], first: u32) -> Option<Vec<IovaRange>> {
    let pairs = pairs(find(info, first, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)?)?;
    Some(
        pairs
            .into_iter()
            .map(|(start, end)| IovaRange { start, end })
            .collect(),
    )
}

/// The parts of a region that can be mapped as (offset, length), where that is not all of it.
pub(crate) fn sparse_areas(info: &[u8], first: u32) -> Option<Vec<(u64, u64)>> {
    pairs(find(info, first, VFIO_REGION_INFO_CAP_SPARSE_MMAP)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A buffer with capabilities at given places: (offset, id, next, body).
    fn chain(len: usize, links: &[(usize, u16, u32, &[u64])]) -> Vec<u8> {
        let mut info = vec![0; len];
        for &(at, id, next, body) in links {
            info[at..at + 2].copy_from_slice(&id.to_ne_bytes());
            info[at + 4..at + 8].copy_from_slice(&next.to_ne_bytes());
            for (i, word) in body.iter().enumerate() {
                info[at + 8 + 8 * i..at + 16 + 8 * i].copy_from_slice(&word.to_ne_bytes());
            }
        }
        info
    }

    #[test]
    fn finds_the_ranges_behind_another_capability() {
        let ranges = [2, 0, 0xfedf_ffff, 0xfef0_0000, (1 << 48) - 1];
        let info = chain(128, &[(24, 2, 56, &[1, 2, 3]), (56, 1, 0, &ranges)]);
        assert_eq!(
            iova_ranges(&info, 24).unwrap(),
            [
                IovaRange {
                    start: 0,
                    end: 0xfedf_ffff
                },
                IovaRange {
                    start: 0xfef0_0000,
                    end: (1 << 48) - 1
                }
            ]
        );
        assert_eq!(iova_ranges(&info, 0), None);
    }

    #[test]
    fn finds_sparse_areas() {
        let info = chain(80, &[(32, 1, 0, &[1, 0x1000, 0x2000])]);
        assert_eq!(sparse_areas(&info, 32).unwrap(), [(0x1000, 0x2000)]);
    }

    #[test]
    fn d63_a_loop_or_a_count_beyond_the_buffer_ends_the_search() {
        let info = chain(64, &[(24, 9, 24, &[])]);
        assert_eq!(iova_ranges(&info, 24), None);
        let info = chain(64, &[(24, 1, 0, &[3, 1, 2])]);
        assert_eq!(iova_ranges(&info, 24), None);
        let info = chain(64, &[(24, 2, u32::MAX, &[])]);
        assert_eq!(iova_ranges(&info, 24), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(info: Vec<u8>, first: u32) {
            let _ = iova_ranges(&info, first);
            let _ = sparse_areas(&info, first % 128);
        }
    }
}
