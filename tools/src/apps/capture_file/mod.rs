//! Captures on disk: written as pcapng with nanoseconds, read as pcapng or as classic pcap.
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

mod read;
mod write;

pub use read::read;
pub use write::{About, Files, Writer};

/// A captured frame.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When, in nanoseconds since 1970.
    pub nanoseconds: u64,
    /// Its bytes, as far as they were kept.
    pub data: &'a [u8],
    /// Its length on the wire, in bytes without CRC.
    pub original_len: u32,
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn about() -> About {
        About {
            interface: "vf".into(),
            description: "a test".into(),
            snap: 0,
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vfnic-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        dir
    }

    fn frames(path: &Path) -> Vec<(u64, Vec<u8>, u32)> {
        let mut all = Vec::new();
        read(path, |record| {
            all.push((
                record.nanoseconds,
                record.data.to_vec(),
                record.original_len,
            ));
            Ok(())
        })
        .expect("readable");
        all
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = scratch("capture");
        let files = Files {
            path: dir.join("one.pcapng"),
            limit: 0,
            count: 0,
        };
        let mut writer = Writer::create(files, about()).expect("created");
        let wanted: Vec<(u64, Vec<u8>, u32)> = (0..5u8)
            .map(|n| {
                let len = 60 + u32::from(n);
                (
                    1_700_000_000_123_456_789 + u64::from(n),
                    vec![n; len as usize],
                    len,
                )
            })
            .collect();
        for (nanoseconds, data, original_len) in &wanted {
            writer
                .frame(Record {
                    nanoseconds: *nanoseconds,
                    data,
                    original_len: *original_len,
                })
                .expect("written");
        }
        writer.flush().expect("written");
        let path = dir.join("one.pcapng");
        assert_eq!(frames(&path), wanted);
        let size = std::fs::metadata(&path).expect("there").len();
        assert_eq!(writer.bytes(), size, "it knows what it has written");
        std::fs::remove_dir_all(dir).expect("there");
    }

    #[test]
    fn a_ring_keeps_the_newest_files() {
        let dir = scratch("ring");
        let files = Files {
            path: dir.join("r.pcapng"),
            limit: 1000,
            count: 3,
        };
        let mut writer = Writer::create(files, about()).expect("created");
        for n in 0..40u64 {
            writer
                .frame(Record {
                    nanoseconds: n,
                    data: &[0; 100],
                    original_len: 100,
                })
                .expect("written");
        }
        writer.flush().expect("written");
        let mut left = Vec::new();
        for entry in std::fs::read_dir(&dir).expect("there") {
            let path = entry.expect("an entry").path();
            assert!(std::fs::metadata(&path).expect("there").len() <= 1000);
            left.extend(frames(&path).into_iter().map(|(at, ..)| at));
        }
        assert_eq!(std::fs::read_dir(&dir).expect("there").count(), 3);
        assert!(writer.files() > 3);
        left.sort_unstable();
        assert_eq!(left.last(), Some(&39));
        let oldest = 40 - left.len() as u64;
        assert_eq!(left, (oldest..40).collect::<Vec<_>>(), "without a gap");
        std::fs::remove_dir_all(dir).expect("there");
    }

    #[test]
    fn classic_captures_are_read_as_well() {
        let dir = scratch("classic");
        let path = dir.join("a.pcap");
        // Written by hand: microseconds, little-endian, one frame of 4 of 60 bytes.
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        bytes.extend([0; 8]);
        for word in [65_535u32, 1, 7, 5, 4, 60] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([1, 2, 3, 4]);
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(frames(&path), [(7_000_005_000, vec![1, 2, 3, 4], 60)]);
        // Cut anywhere, it is an error and nothing worse.
        for len in 0..bytes.len() {
            std::fs::write(&path, &bytes[..len]).expect("written");
            let result = read(&path, |_| Ok(()));
            assert!(result.is_err() || len == 24, "{len}");
        }
        std::fs::remove_dir_all(dir).expect("there");
    }
}
