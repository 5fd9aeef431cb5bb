//! Hostile clients: regions and information (V11, V13, V23).

use crate::client::*;

#[test]
fn v11_region_access() {
    let bed = Bed::new();
    let mut client = bed.client();
    let impossible = [
        (0, 0x4000, 1),
        (0, 0x3fff, 2),
        (0, u64::MAX, 1),
        (0, u64::MAX - 3, 8),
        (0, 0, 0),
        (0, 0, 0x4001),
        (0, 0, (1 << 20) + 1),
        (0, 0, u32::MAX),
        (1, 0, 4),
        (6, 0, 4),
        (8, 0, 1),
        (9, 0, 4),
        (u32::MAX, 0, 4),
        (CONFIG, 4096, 1),
        (CONFIG, 4095, 2),
        (3, 0x4000, 4),
    ];
    for (region, offset, count) in impossible {
        assert_eq!(
            client.read(region, offset, count),
            Err(EINVAL),
            "region {region} {offset:#x}+{count:#x}"
        );
        if count <= 1 << 20 {
            let data = vec![0xff; count as usize];
            assert_eq!(client.write(region, offset, &data), Err(EINVAL));
        }
    }
    // The whole of each region at once.
    for (region, len) in [(0, 0x4000), (3, 0x4000), (CONFIG, 4096)] {
        assert_eq!(
            client.read(region, 0, len).map(|data| data.len()),
            Ok(len as usize)
        );
        assert_eq!(client.write(region, 0, &vec![0; len as usize]), Ok(()));
    }
}

#[test]
fn v13_information_with_any_argsz() {
    let bed = Bed::new();
    let mut client = bed.client();
    for argsz in [0, 1, 15] {
        assert_eq!(
            client.call(GET_INFO, &words(&[argsz, 0, 0, 0]), &[]),
            Err(EINVAL)
        );
        assert_eq!(
            client.call(GET_IRQ_INFO, &words(&[argsz, 0, 2, 0]), &[]),
            Err(EINVAL)
        );
    }
    for argsz in [0, 1, 31] {
        assert_eq!(
            client.call(GET_REGION_INFO, &words(&[argsz, 0, 0, 0, 0, 0, 0, 0]), &[]),
            Err(EINVAL)
        );
    }
    for argsz in [32, 33, 1 << 20, u32::MAX] {
        let info = client.call(GET_INFO, &words(&[argsz, 0, 0, 0]), &[]);
        assert_eq!(info, Ok(words(&[16, 3, 9, 5])));
        for (index, len) in [0x4000, 0, 0, 0x4000, 0, 0, 0, 4096, 0]
            .into_iter()
            .enumerate()
        {
            let index = index as u32;
            let flags = if len == 0 { 0 } else { 3 };
            let info = client.call(
                GET_REGION_INFO,
                &words(&[argsz, 0, index, 0, 0, 0, 0, 0]),
                &[],
            );
            assert_eq!(info, Ok(words(&[32, flags, index, 0, len, 0, 0, 0])));
        }
        for (index, count) in [0, 0, 3, 0, 1].into_iter().enumerate() {
            let index = index as u32;
            let info = client.call(GET_IRQ_INFO, &words(&[argsz, 0, index, 0]), &[]);
            assert_eq!(info, Ok(words(&[16, u32::from(count > 0), index, count])));
        }
    }
    for index in [9, 1000, u32::MAX] {
        assert_eq!(
            client.call(GET_REGION_INFO, &words(&[32, 0, index, 0, 0, 0, 0, 0]), &[]),
            Err(EINVAL)
        );
        assert_eq!(
            client.call(GET_IRQ_INFO, &words(&[16, 0, index, 0]), &[]),
            Err(EINVAL)
        );
        assert_eq!(
            client.call(GET_REGION_IO_FDS, &words(&[16, 0, index, 0]), &[]),
            Err(EINVAL)
        );
    }
    assert_eq!(
        client.call(GET_REGION_IO_FDS, &words(&[16, 0, 0, 0]), &[]),
        Err(ENOTSUP)
    );
}

#[test]
fn v23_configuration_space_and_msix_area() {
    let bed = Bed::new();
    let mut client = bed.client();
    for region in [3, CONFIG] {
        let len: u64 = if region == 3 { 0x4000 } else { 4096 };
        for size in [1, 2, 3, 4, 5, 7, 8, 16, 64] {
            for offset in (0..0x90).chain(0x1fe0..0x2020).chain(len - 70..len + 2) {
                let inside = offset + size <= len;
                for pattern in [0x00, 0xff, 0xa5] {
                    let written = client.write(region, offset, &vec![pattern; size as usize]);
                    assert_eq!(written.is_ok(), inside);
                }
                assert_eq!(client.read(region, offset, size as u32).is_ok(), inside);
            }
        }
    }
    // The table remembers what a table remembers, and no more.
    assert_eq!(client.write(3, 0, &[0xff; 64]), Ok(()));
    let table = client.read(3, 0, 64).expect("the table");
    let entry = words(&[0xffff_fffc, u32::MAX, u32::MAX, 1]);
    assert_eq!(table[..48], [&entry[..], &entry, &entry].concat());
    assert_eq!(table[48..], [0; 16]);
    // Pending bits cannot be written.
    assert_eq!(client.write(3, 0x2000, &[0xff; 8]), Ok(()));
    assert_eq!(client.read(3, 0x2000, 8), Ok(vec![0; 8]));
}

#[test]
fn v23_register_access_of_any_size() {
    let bed = Bed::new();
    let mut client = bed.client();
    client
        .write(0, 0x100, &words(&[0x4433_2211, 0x8877_6655]))
        .expect("two registers");
    // Reads give the bytes asked for.
    for (offset, size, expected) in [
        (0x100, 1, vec![0x11]),
        (0x103, 1, vec![0x44]),
        (0x102, 2, vec![0x33, 0x44]),
        (0x103, 2, vec![0x44, 0x55]),
        (0x101, 7, vec![0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]),
        (
            0x100,
            8,
            vec![0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88],
        ),
    ] {
        assert_eq!(
            client.read(0, offset, size),
            Ok(expected),
            "{offset:#x}+{size}"
        );
    }
    // Writes change whole registers or nothing.
    for (offset, size) in [
        (0x100, 1),
        (0x100, 3),
        (0x101, 4),
        (0x102, 2),
        (0x103, 1),
        (0x103, 4),
    ] {
        client
            .write(0, offset, &vec![0xee; size])
            .expect("no effect, no error");
        assert_eq!(
            client.read(0, 0x100, 8),
            Ok(words(&[0x4433_2211, 0x8877_6655])),
            "{offset:#x}+{size}"
        );
    }
    client
        .write(0, 0x0fe, &[0xee; 8])
        .expect("one whole register");
    assert_eq!(
        client.read(0, 0x0fc, 12),
        Ok(words(&[0, 0xeeee_eeee, 0x8877_6655]))
    );
    client
        .write(0, 0x3ffc, &[1, 2, 3, 4])
        .expect("the last register");
    assert_eq!(client.read(0, 0x3fff, 1), Ok(vec![4]));
}
