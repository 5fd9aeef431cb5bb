//! The last checks before bytes are moved by address: every place at and around both ends.

use std::io;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
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

#[test]
fn an_access_is_inside_one_mapping_to_the_byte() {
    let memory = HeapDma::new(4096, Iova(0x10_0000)).expect("memory");
    let space = Last(Mapping::new(0x10_0000, Arc::new(memory)));
    let mut windows = Windows::default();
    assert!(windows.fill(&space, 0x10_0000));
    for (at, len, inside) in [
        (0, 4096, true),
        (0, 4097, false),
        (1, 4096, false),
        (4095, 1, true),
        (4095, 2, false),
        (4000, 96, true),
        (4000, 97, false),
        (4096, 1, false),
        (4096, 0, false),
    ] {
        for direction in [Direction::Read, Direction::Write] {
            let got = windows.get(0x10_0000 + at, len, direction);
            assert_eq!(got.is_some(), inside, "{len} bytes at {at}");
        }
    }
    assert!(windows.get(0xf_ffff, 1, Direction::Read).is_none());
    let descriptors = |at: u64, count| windows.descriptors(0x10_0000 + at, count).is_some();
    assert!(descriptors(0, 256) && descriptors(4080, 1));
    assert!(!descriptors(0, 257) && !descriptors(4080, 2) && !descriptors(4, 1));
}

#[test]
fn a_window_of_a_file_is_inside_it_and_whole_pages_from_its_start() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("window", flags).expect("a memory file");
    ftruncate(&fd, 8192).expect("two pages");
    let sealed = Sealed::check(&fd).expect("sealed");
    let file = SharedFile::map(&fd, &sealed).expect("mapped");
    for (offset, len, inside) in [
        (0, 8192, true),
        (4096, 4096, true),
        (0, 8193, false),
        (4096, 4097, false),
        (8192, 1, false),
        (512, 1024, false),
        (u64::MAX - 4095, 8192, false),
    ] {
        let window = file.window(offset, len, 0x7000);
        assert_eq!(window.is_some(), inside, "{len} bytes at {offset}");
        if let Some(window) = window {
            assert_eq!((window.iova(), window.len() as u64), (Iova(0x7000), len));
        }
    }
}

#[test]
fn what_cannot_be_the_name_of_an_interface_is_not_asked_for() {
    for name in ["", "0123456789abcdef", "a\0b"] {
        let error = open_tap(name).expect_err("no name");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        assert!(error.to_string().contains("no interface name"), "{error}");
    }
}

/// A page at every multiple of 64 KiB, and how often it was asked for one.
#[derive(Debug)]
struct Pages {
    pages: Vec<Mapping>,
    asked: AtomicU64,
    generation: AtomicU64,
}

impl Translate for Pages {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
    fn lookup(&self, iova: u64) -> Option<Mapping> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut pages = self.pages.iter();
        pages.find(|page| page.part(iova, 1).is_some()).cloned()
    }
}

/// The first address of page `number`.
const fn page(number: u64) -> u64 {
    number << 16
}

#[test]
fn the_last_four_translations_are_remembered_until_the_table_changes() {
    let mapping = |number| {
        let memory = HeapDma::new(4096, Iova(page(number))).expect("memory");
        Mapping::new(page(number), Arc::new(memory))
    };
    let space = Pages {
        pages: (0..5).map(mapping).collect(),
        asked: AtomicU64::new(0),
        generation: AtomicU64::new(1),
    };
    let mut windows = Windows::default();
    windows.refresh(&space);
    // Which are known: by their first and last byte, not a byte further.
    let known = |windows: &Windows| -> Vec<u64> {
        let known = |number: &u64| {
            let at = page(*number);
            let found = windows.mapping(at, Direction::Write);
            assert!(found.is_none_or(|mapping| mapping.iova() == at));
            let all = windows.get(at, 4096, Direction::Read).is_some();
            assert_eq!(all, found.is_some());
            assert!(windows.get(at, 4097, Direction::Read).is_none());
            assert!(windows.get(at + 4096, 1, Direction::Read).is_none());
            all
        };
        (0..5).filter(known).collect()
    };
    for number in 0..4 {
        assert!(windows.ensure(&space, page(number), 16, Direction::Write));
    }
    assert_eq!(known(&windows), [0, 1, 2, 3]);
    for number in 0..4 {
        assert!(windows.ensure(&space, page(number), 16, Direction::Read));
    }
    assert_eq!(space.asked.load(Ordering::Relaxed), 4);
    assert!(windows.ensure(&space, page(4), 1, Direction::Read));
    assert_eq!(known(&windows), [1, 2, 3, 4], "the oldest made room");
    windows.refresh(&space);
    assert_eq!(known(&windows), [1, 2, 3, 4]);
    space.generation.store(2, Ordering::Relaxed);
    windows.refresh(&space);
    assert!(known(&windows).is_empty());
}

#[test]
fn a_part_of_a_mapping_lies_inside_it() {
    let memory = HeapDma::new(4096, Iova(0x1000)).expect("memory");
    let mapping = Mapping::new(0x1000, Arc::new(memory));
    for (iova, len, inside) in [
        (0x1000, 4096, true),
        (0x1000, 4097, false),
        (0x0fff, 1, false),
        (0x1fff, 1, true),
        (0x1fff, 2, false),
        (0x2000, 1, false),
        (0x1800, usize::MAX, false),
    ] {
        let part = mapping.part(iova, len);
        assert_eq!(part.map(|part| part.len()), inside.then_some(len));
    }
}

#[test]
fn the_name_of_an_interface_has_1_to_15_bytes() {
    let refused = |name: &str| {
        let error = open_tap(name).err();
        error.is_some_and(|error| error.to_string().contains("no interface name"))
    };
    // Whether there is such an interface, or may be, is another matter.
    assert!(!refused("vfnic.name.of15"));
    for name in ["", "vfnic.name.of.16", "vf\0nic"] {
        assert!(refused(name), "{name}");
    }
}
