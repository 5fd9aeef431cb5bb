//! Captures of every sort, good and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use vfnic_tools::apps::capture_file::read;

use super::Scratch;

/// A capture of one frame: header and record from these words, then `data`.
fn classic(magic: [u8; 4], snap: u32, captured: u32, original: u32, data: &[u8]) -> Vec<u8> {
    let big = magic[0] == 0xa1;
    let word = |value: u32| {
        if big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let half = |value: u16| {
        if big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let mut bytes = magic.to_vec();
    bytes.extend(half(2));
    bytes.extend(half(4));
    for value in [0, 0, snap, 1, 7, 5, captured, original] {
        bytes.extend(word(value));
    }
    bytes.extend(data);
    bytes
}

const MICROS: [u8; 4] = [0xd4, 0xc3, 0xb2, 0xa1];

/// A pcapng of one frame.
fn ng(captured: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let len = 12 + u32::try_from(body.len()).expect("short");
        for part in [
            &kind.to_le_bytes()[..],
            &len.to_le_bytes(),
            body,
            &len.to_le_bytes(),
        ] {
            bytes.extend(part);
        }
    };
    block(
        0x0a0d_0d0a,
        &[
            0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
        ],
    );
    block(1, &[1, 0, 0, 0, 0, 0, 0, 0]);
    let mut packet = Vec::new();
    for word in [0, 0, 5_000_000, captured, captured] {
        packet.extend(u32::to_le_bytes(word));
    }
    packet.extend(data);
    block(6, &packet);
    bytes
}

/// Nanoseconds and bytes of each frame, or the error in full.
pub(crate) fn frames(path: &Path) -> Result<Vec<(u64, usize)>, String> {
    let mut all = Vec::new();
    read(path, |record| {
        all.push((record.nanoseconds, record.data.len()));
        Ok(())
    })
    .map_err(|error| format!("{error:#}"))?;
    Ok(all)
}

#[test]
fn t3_captures_of_every_sort_are_read_or_refused_with_the_place() {
    let scratch = Scratch::new("t3");
    let path = PathBuf::from(scratch.file("capture"));
    let whole = [0x5a; 64];
    let check = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        frames(&path)
    };
    // What can be read: both orders of bytes, both units, none at all, pcapng.
    assert_eq!(
        check(&classic(MICROS, 65_535, 64, 64, &whole)),
        Ok(vec![(7_000_005_000, 64)])
    );
    let swapped = classic([0xa1, 0xb2, 0xc3, 0xd4], 65_535, 64, 64, &whole);
    assert_eq!(check(&swapped), Ok(vec![(7_000_005_000, 64)]));
    let nanos = classic([0x4d, 0x3c, 0xb2, 0xa1], 65_535, 64, 64, &whole);
    assert_eq!(check(&nanos), Ok(vec![(7_000_000_005, 64)]));
    assert_eq!(check(&nanos[..24]), Ok(vec![]));
    assert_eq!(check(&ng(64, &whole)), Ok(vec![(5_000_000_000, 64)]));
    // What cannot: the place is in the error. A second record begins at 24 + 16 + 64.
    let two = [&classic(MICROS, 65_535, 64, 64, &whole)[..], &[7, 0, 0]].concat();
    for (bytes, words) in [
        (b"not a capture".to_vec(), &["neither pcapng nor pcap"][..]),
        (
            classic([1, 2, 3, 4], 65_535, 64, 64, &whole),
            &["neither pcapng nor pcap"],
        ),
        (nanos[..20].to_vec(), &["capture"]),
        (nanos[..30].to_vec(), &["frame 1", "byte 24"]),
        (nanos[..60].to_vec(), &["frame 1", "byte 24"]),
        (two, &["frame 2", "byte 104"]),
        (classic(MICROS, 32, 64, 64, &whole), &["frame 1", "byte 24"]),
        (
            classic(MICROS, u32::MAX, u32::MAX, u32::MAX, &whole),
            &["frame 1", "byte 24"],
        ),
        (ng(u32::MAX, &whole), &["block 2", "byte 48"]),
        (ng(64, &whole)[..100].to_vec(), &["block 2", "byte 48"]),
        (ng(64, &whole)[..30].to_vec(), &["block 1", "byte 28"]),
    ] {
        let error = check(&bytes).expect_err("damaged");
        for word in words {
            assert!(error.contains(word), "no `{word}` in: {error}");
        }
    }
}

/// Every byte of a capture turned round, every length cut: an error or other frames, and no panic or endless loop.
#[test]
fn t3_damage_anywhere_in_a_capture_is_survived() {
    let scratch = Scratch::new("t3-damage");
    let path = PathBuf::from(scratch.file("capture"));
    for bytes in [classic(MICROS, 65_535, 64, 64, &[0; 64]), ng(64, &[0; 64])] {
        for at in 0..bytes.len() {
            for value in [0, 0xff, bytes[at] ^ 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                fs::write(&path, &damaged).expect("written");
                if let Ok(frames) = frames(&path) {
                    // A length of nothing makes more records of the same bytes, of 16 at least each.
                    assert!(frames.len() <= bytes.len() / 16, "byte {at}: {frames:?}");
                }
            }
            fs::write(&path, &bytes[..at]).expect("written");
            let _ = frames(&path);
        }
    }
}
