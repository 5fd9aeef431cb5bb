//! The last checks before bytes are moved by address: every place at and around both ends.

use vfnic_ring::{HeapDma, Iova};

use super::*;

/// Around and in the 32 bytes from 16 on.
fn places() -> impl Iterator<Item = usize> {
    (0..=40).chain([usize::MAX - 40, usize::MAX - 7, usize::MAX])
}

/// What `load` says, against a copy that cannot be wrong.
fn loads<const N: usize>() {
    let mut bytes: Vec<u8> = (0..64).collect();
    let inside: Vec<u8> = bytes[16..48].to_vec();
    let slice = VolatileSlice::from(&mut bytes[16..48]);
    for at in places() {
        let expected = at.checked_add(N).and_then(|end| inside.get(at..end));
        let got: [u8; N] = slice.load(at);
        assert_eq!(got[..], *expected.unwrap_or(&[0; N]), "{N} bytes at {at}");
    }
}

/// What `store` changes, likewise.
fn stores<const N: usize>() {
    for at in places() {
        let mut bytes = vec![0xaa; 64];
        VolatileSlice::from(&mut bytes[16..48]).store(at, &[0x55; N]);
        let mut expected = vec![0xaa; 64];
        let inside = &mut expected[16..48];
        if let Some(end) = at.checked_add(N)
            && let Some(written) = inside.get_mut(at..end)
        {
            written.fill(0x55);
        }
        assert_eq!(bytes, expected, "{N} bytes at {at}");
    }
}

#[test]
fn copies_of_a_known_size_stay_inside() {
    loads::<1>();
    loads::<8>();
    loads::<16>();
    loads::<32>();
    loads::<33>();
    stores::<1>();
    stores::<8>();
    stores::<16>();
    stores::<32>();
    stores::<33>();
}

/// A space in which only the last addresses there are lead anywhere.
#[derive(Debug)]
struct Last(Mapping);

impl Translate for Last {
    fn generation(&self) -> u64 {
        1
    }
    fn lookup(&self, iova: u64) -> Option<Mapping> {
        (iova >= self.0.iova()).then(|| self.0.clone())
    }
}

#[test]
fn an_access_may_end_where_the_addresses_do_and_not_beyond() {
    let start = u64::MAX - 4095;
    let memory = HeapDma::new(4096, Iova(start)).expect("memory");
    let space = Last(Mapping::new(start, Arc::new(memory)));
    let mut windows = Windows::default();
    assert!(windows.write(&space, start + 4000, &[7; 96]));
    let mut got = Vec::new();
    assert!(windows.read(&space, start + 4000, 96, &mut got));
    assert_eq!(got, [7; 96]);
    assert!(!windows.write(&space, start + 4000, &[8; 97]));
    assert!(!windows.read(&space, start + 4000, 97, &mut got));
}
