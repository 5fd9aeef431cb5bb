//! Hostile clients: windows of client memory (V8-V10).

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};
use vfnic_sim::serve::Limits;

use crate::client::*;

#[test]
fn v8_windows_that_cannot_be() {
    let bed = Bed::new();
    let mut client = bed.client();
    let file = memory(1 << 20);
    let top = u64::MAX - 4095;
    let cases = [
        ("size 0", 3, 0, 0, 0),
        ("unaligned size", 3, 0, 0, 4095),
        ("unaligned address", 3, 0, 1, 4096),
        ("unaligned offset", 3, 512, 0, 4096),
        ("wraps", 3, 0, top, 8192),
        ("ends at 2^64", 3, 0, top, 4096),
        ("size past everything", 3, 0, 4096, top),
        ("offset overflows", 3, top, 0, 8192),
        ("past the file's end", 3, 1 << 20, 0, 4096),
        ("partly past the file's end", 3, (1 << 20) - 4096, 0, 8192),
        ("neither readable nor writable", 0, 0, 0, 4096),
        ("unknown flag", 0x13, 0, 0, 4096),
    ];
    for (what, flags, offset, address, size) in cases {
        assert_eq!(
            client.map(flags, offset, address, size, Some(&file)),
            Err(EINVAL),
            "{what}"
        );
    }
    let mut short = dma_map(3, 0, 0, 4096);
    short[0] = 31;
    assert_eq!(
        client.call(DMA_MAP, &short, &[file.as_fd()]),
        Err(EINVAL),
        "argsz"
    );
    assert!(bed.functions[0].mappings().is_empty());
    assert_eq!(
        client.map(3, 0, 0, 4096, Some(&memory(0))),
        Err(EINVAL),
        "an empty file"
    );

    assert_eq!(client.map(3, 0, 0x10000, 0x4000, Some(&file)), Ok(()));
    for (address, size) in [
        (0x10000, 0x4000),
        (0x10000, 0x1000),
        (0x13000, 0x1000),
        (0xf000, 0x2000),
        (0x13000, 0x2000),
        (0, 0x40000),
    ] {
        assert_eq!(
            client.map(3, 0, address, size, Some(&file)),
            Err(EEXIST),
            "{address:#x}+{size:#x}"
        );
        assert_eq!(
            client.map(3, 0, address, size, None),
            Err(EEXIST),
            "without a file"
        );
    }
    // Right beside it is fine, and so is the same memory at another address.
    assert_eq!(client.map(3, 0, 0xf000, 0x1000, Some(&file)), Ok(()));
    assert_eq!(client.map(1, 0x4000, 0x14000, 0x1000, Some(&file)), Ok(()));
    let expected = [(0xf000, 0x1000), (0x10000, 0x4000), (0x14000, 0x1000)];
    assert_eq!(bed.functions[0].mappings(), expected);
}

#[test]
fn v8_number_of_windows_is_limited() {
    let limits = Limits {
        windows: 100,
        files: 3,
        bytes: 1 << 24,
        ..Limits::default()
    };
    let bed = Bed::with(1, limits);
    let mut client = bed.client();
    let file = memory(1 << 20);
    for window in 0..100 {
        assert_eq!(client.map(3, 0, window << 12, 4096, Some(&file)), Ok(()));
    }
    assert_eq!(client.map(3, 0, 1 << 40, 4096, Some(&file)), Err(ENOSPC));
    assert_eq!(client.map(3, 0, 1 << 40, 4096, None), Err(ENOSPC));
    assert_eq!(client.unmap(2, 0, 0), Ok(()));
    // Files, and their bytes: what counts is what is mapped, not what was.
    let files: Vec<_> = (0..4).map(|_| memory(4096)).collect();
    for (at, file) in (0u64..).zip(&files[..3]) {
        assert_eq!(client.map(3, 0, at << 12, 4096, Some(file)), Ok(()));
    }
    assert_eq!(
        client.map(3, 0, 3 << 12, 4096, Some(&files[3])),
        Err(ENOSPC)
    );
    assert_eq!(client.unmap(0, 0, 4096), Ok(()));
    assert_eq!(client.map(3, 0, 3 << 12, 4096, Some(&files[3])), Ok(()));
    assert_eq!(client.unmap(0, 0, 1 << 30), Ok(()));
    assert_eq!(
        client.map(3, 0, 0, 4096, Some(&memory(1 << 25))),
        Err(ENOSPC)
    );
    assert_eq!(
        client.map(3, 0, 0, 4096, Some(&memory(1 << 60))),
        Err(ENOSPC)
    );
}

#[test]
fn v8_a_million_windows() {
    let bed = Bed::new();
    let mut client = bed.client();
    let file = memory(4096);
    let start = Instant::now();
    let mut taken = 0;
    let most = if cfg!(debug_assertions) {
        70_000
    } else {
        1_000_000
    };
    for window in 0..most {
        // Downwards, which is the worst for a sorted list.
        match client.map(3, 0, (most - window) << 12, 4096, Some(&file)) {
            Ok(()) => taken += 1,
            Err(error) => assert_eq!(error, ENOSPC),
        }
    }
    assert_eq!(taken, 65_535);
    assert_eq!(bed.functions[0].mappings().len(), 65_535);
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
    drop(client);
    bed.serves_the_next(SOON);
}

#[test]
fn v9_unmaps_of_every_kind() {
    let bed = Bed::new();
    let mut client = bed.client();
    let file = memory(1 << 20);
    let function = &bed.functions[0];
    for window in [0u64, 1, 2, 5] {
        assert_eq!(
            client.map(3, window << 14, window << 14, 1 << 14, Some(&file)),
            Ok(())
        );
    }
    assert_eq!(
        client.map(1, 0, 1 << 30, 4096, None),
        Ok(()),
        "a window without a file"
    );
    // Never mapped, in whole or in halves of the address space: as QEMU does.
    assert_eq!(client.unmap(0, 1 << 40, 1 << 12), Ok(()));
    assert_eq!(client.unmap(0, 1 << 63, 1 << 63), Ok(()));
    assert_eq!(client.unmap(0, (1 << 63) - 4096, 4096), Ok(()));
    // Cutting a window in two is refused and changes nothing.
    for (address, size) in [
        (0, 0x1000),
        (0x1000, 0x3000),
        (0x2000, 0x4000),
        (0x4000, 0x5000),
        (0x1000, 1 << 40),
    ] {
        assert_eq!(
            client.unmap(0, address, size),
            Err(EINVAL),
            "{address:#x}+{size:#x}"
        );
    }
    for (address, size) in [(0, 0), (u64::MAX, 2), (4096, u64::MAX)] {
        assert_eq!(client.unmap(0, address, size), Err(EINVAL));
    }
    assert_eq!(client.unmap(1, 0, 0x4000), Err(ENOTSUP), "dirty pages");
    assert_eq!(client.unmap(4, 0, 0x4000), Err(EINVAL), "unknown flag");
    assert_eq!(function.mappings().len(), 4);
    // One, several at once with a hole between them, and the same again.
    assert_eq!(client.unmap(0, 0x4000, 0x4000), Ok(()));
    assert_eq!(
        function.mappings(),
        [(0, 0x4000), (0x8000, 0x4000), (0x14000, 0x4000)]
    );
    assert_eq!(client.unmap(0, 0x8000, 1 << 20), Ok(()));
    assert_eq!(function.mappings(), [(0, 0x4000)]);
    assert_eq!(client.unmap(0, 0x8000, 1 << 20), Ok(()));
    assert_eq!(client.map(3, 0, 1 << 30, 4096, None), Err(EEXIST));
    // All.
    assert_eq!(client.unmap(2, 0, 0), Ok(()));
    assert!(function.mappings().is_empty());
    assert_eq!(client.map(3, 0, 1 << 30, 4096, None), Ok(()));
}

#[test]
fn v10_memory_that_can_be_taken_away_is_refused_or_sealed() {
    let bed = Bed::new();
    let mut client = bed.client();
    // A file that may be sealed is sealed by the server.
    let file = memory(1 << 16);
    assert_eq!(client.map(3, 0, 0, 1 << 16, Some(&file)), Ok(()));
    assert!(
        fcntl_get_seals(&file)
            .expect("seals")
            .contains(SealFlags::SHRINK)
    );
    assert!(ftruncate(&file, 4096).is_err());
    // It may still grow, and the rest be mapped.
    ftruncate(&file, 1 << 20).expect("growing");
    assert_eq!(
        client.map(3, 1 << 16, 1 << 16, 1 << 16, Some(&file)),
        Ok(())
    );
    // One that a good client sealed.
    let sealed = memory(1 << 16);
    fcntl_add_seals(
        &sealed,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )
    .expect("sealed");
    assert_eq!(client.map(3, 0, 1 << 20, 4096, Some(&sealed)), Ok(()));
    // Those that cannot be sealed, by choice, by kind and by file system.
    let unsealable = memfd_create("client", MemfdFlags::CLOEXEC).expect("memory");
    ftruncate(&unsealable, 1 << 16).expect("memory");
    assert_eq!(
        client.map(3, 0, 1 << 30, 4096, Some(&unsealable)),
        Err(EPERM)
    );
    let forbidden = memory(1 << 16);
    fcntl_add_seals(&forbidden, SealFlags::SEAL).expect("sealed");
    assert_eq!(
        client.map(3, 0, 1 << 30, 4096, Some(&forbidden)),
        Err(EPERM)
    );
    let path = bed.dir.path().join("file");
    let plain = std::fs::File::create_new(&path).expect("a file");
    plain.set_len(1 << 16).expect("a file");
    assert_eq!(
        client.map(3, 0, 1 << 30, 4096, Some(&plain.into())),
        Err(EPERM)
    );
    if let Ok(huge) = memfd_create(
        "huge",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB,
    ) {
        ftruncate(&huge, 1 << 21).expect("memory");
        assert_eq!(client.map(3, 0, 1 << 30, 1 << 21, Some(&huge)), Err(EPERM));
    }
    // Sealed against writing, it cannot be lent for writing.
    let frozen = memory(1 << 16);
    fcntl_add_seals(&frozen, SealFlags::SHRINK | SealFlags::WRITE).expect("sealed");
    assert_eq!(client.map(3, 0, 1 << 30, 4096, Some(&frozen)), Err(EPERM));
}
