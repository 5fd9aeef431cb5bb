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

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{Block, PcapNgBlock, PcapNgReader, PcapNgWriter};
use pcap_file::{DataLink, Endianness};

/// Exponent of a timestamp's unit, as pcapng has it: 10^-9 s.
const NANOSECONDS: u8 = 9;

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

/// Gives every frame of the capture at `path` to `take`, first to last.
///
/// # Errors
///
/// When the file cannot be read, is no capture of Ethernet frames, is damaged, or `take` fails.
pub fn read(
    path: &Path,
    mut take: impl FnMut(Record<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let name = path.display();
    let mut file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .with_context(|| format!("cannot read {name}"))?;
    let file = BufReader::new(file);
    if magic == [0x0a, 0x0d, 0x0d, 0x0a] {
        read_ng(file, path, &mut take)
    } else {
        read_classic(file, &name.to_string(), &mut take)
    }
}

fn read_classic(
    file: impl Read,
    name: &str,
    take: &mut dyn FnMut(Record<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut reader =
        PcapReader::new(file).with_context(|| format!("{name} is neither pcapng nor pcap"))?;
    check_link(name, reader.header().datalink)?;
    let mut number = 1u64;
    // Of the file's header, and of each record's.
    let mut offset = 24;
    while let Some(packet) = reader.next_packet() {
        let packet = packet
            .with_context(|| format!("{name}: frame {number}, at byte {offset}, is damaged"))?;
        offset += 16 + packet.data.len() as u64;
        take(Record {
            nanoseconds: u64::try_from(packet.timestamp.as_nanos()).unwrap_or(u64::MAX),
            data: &packet.data,
            original_len: packet.orig_len,
        })?;
        number += 1;
    }
    Ok(())
}

fn read_ng(
    file: impl Read,
    path: &Path,
    take: &mut dyn FnMut(Record<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let name = &path.display().to_string();
    let mut reader = PcapNgReader::new(file).with_context(|| format!("cannot read {name}"))?;
    // Units of each interface, in the present section.
    let mut units: Vec<Unit> = Vec::new();
    // The section's header is block 0, and read.
    let mut number = 1u64;
    while let Some(block) = reader.next_block() {
        let block = block.with_context(|| {
            let place = offset_of_block(path, number)
                .map_or_else(String::new, |offset| format!(", at byte {offset},"));
            format!("{name}: block {number}{place} is damaged")
        })?;
        number += 1;
        match block {
            Block::SectionHeader(_) => units.clear(),
            Block::InterfaceDescription(interface) => {
                check_link(name, interface.linktype)?;
                units.push(Unit::of(&interface));
            }
            Block::EnhancedPacket(packet) => {
                let interface = usize::try_from(packet.interface_id).unwrap_or(usize::MAX);
                let Some(unit) = units.get(interface) else {
                    bail!(
                        "{name}: block {} is of an interface that is not described",
                        number - 1
                    );
                };
                take(Record {
                    // The library takes all timestamps for nanoseconds; the interface says what they are.
                    nanoseconds: unit.nanoseconds(packet.timestamp),
                    data: &packet.data,
                    original_len: packet.original_len,
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where block `number` of a pcapng file begins: the reader does not tell, so the lengths before it are added up.
fn offset_of_block(path: &Path, number: u64) -> Option<u64> {
    let mut file = File::open(path).ok()?;
    let (mut offset, mut big) = (0u64, false);
    for _ in 0..number {
        file.seek(SeekFrom::Start(offset)).ok()?;
        let mut head = [0; 12];
        file.read_exact(&mut head).ok()?;
        let [a, b, c, d] = [head[4], head[5], head[6], head[7]];
        // A section says which way round its numbers are.
        if head[..4] == [0x0a, 0x0d, 0x0d, 0x0a] {
            big = head[8..] == [0x1a, 0x2b, 0x3c, 0x4d];
        }
        let len = if big {
            u32::from_be_bytes([a, b, c, d])
        } else {
            u32::from_le_bytes([a, b, c, d])
        };
        offset += u64::from(len);
    }
    Some(offset)
}

fn check_link(name: &str, link: DataLink) -> anyhow::Result<()> {
    if link != DataLink::ETHERNET {
        bail!("{name}: {link:?}; only captures of Ethernet frames will do");
    }
    Ok(())
}

/// What a timestamp counts.
#[derive(Clone, Copy, Debug)]
struct Unit {
    /// Units of a second.
    per_second: u128,
}

impl Unit {
    fn of(interface: &InterfaceDescriptionBlock<'_>) -> Self {
        let resolution = interface.options.iter().find_map(|option| match option {
            InterfaceDescriptionOption::IfTsResol(resolution) => Some(*resolution),
            _ => None,
        });
        // pcapng, 4.2: a power of ten, or with the top bit of two; 10^-6 when nothing is said.
        let resolution = resolution.unwrap_or(6);
        let exponent = u32::from(resolution & 0x7f);
        let base: u128 = if resolution & 0x80 == 0 { 10 } else { 2 };
        Self {
            per_second: base.checked_pow(exponent).unwrap_or(u128::MAX).max(1),
        }
    }

    fn nanoseconds(self, raw: Duration) -> u64 {
        let nanoseconds = raw.as_nanos().saturating_mul(1_000_000_000) / self.per_second;
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }
}

/// What a capture says about itself.
#[derive(Clone, Debug)]
pub struct About {
    /// The interface's name.
    pub interface: String,
    /// What it is.
    pub description: String,
    /// Most bytes of a frame that are kept; 0 for all.
    pub snap: u32,
}

/// A file with a limit, or a ring of files each with that limit.
#[derive(Clone, Debug)]
pub struct Files {
    /// The file, or what the names of the files of a ring are made of.
    pub path: PathBuf,
    /// Bytes after which the next file begins; 0 for no limit.
    pub limit: u64,
    /// Files of the ring; 0: as many as it takes.
    pub count: u32,
}

impl Files {
    /// Path of file `number`, from 0; in a ring a number comes back.
    #[must_use]
    pub fn path_of(&self, number: u32) -> PathBuf {
        if self.limit == 0 {
            return self.path.clone();
        }
        let number = number.checked_rem(self.count).unwrap_or(number);
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let name = match self.path.extension() {
            Some(extension) => format!("{stem}-{number:05}.{}", extension.to_string_lossy()),
            None => format!("{stem}-{number:05}"),
        };
        self.path.with_file_name(name)
    }
}

/// Writes captures.
pub struct Writer {
    files: Files,
    about: About,
    /// Files begun.
    begun: u32,
    out: PcapNgWriter<BufWriter<File>>,
    path: PathBuf,
    /// Bytes in the present file, and what it has before the first frame.
    size: u64,
    head: u64,
    bytes: u64,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("path", &self.path)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Begins the first file.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn create(files: Files, about: About) -> anyhow::Result<Self> {
        let path = files.path_of(0);
        let (out, head) = begin(&path, &about)?;
        Ok(Self {
            files,
            about,
            begun: 1,
            out,
            path,
            size: head,
            head,
            bytes: head,
        })
    }

    /// Appends a frame, to the next file if this one is full.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn frame(&mut self, record: Record<'_>) -> anyhow::Result<()> {
        // Fixed part of the block and padding, no options.
        let len = 32 + record.data.len().next_multiple_of(4) as u64;
        if self.files.limit > 0 && self.size > self.head && self.size + len > self.files.limit {
            self.flush()?;
            self.path = self.files.path_of(self.begun);
            (self.out, self.head) = begin(&self.path, &self.about)?;
            self.size = self.head;
            self.bytes += self.head;
            self.begun += 1;
        }
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(record.nanoseconds),
            original_len: record.original_len,
            data: Cow::Borrowed(record.data),
            options: Vec::new(),
        };
        self.out
            .write_pcapng_block(block)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.size += len;
        self.bytes += len;
        Ok(())
    }

    /// Hands everything to the system, so that whoever reads the file finds whole frames.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.out
            .get_mut()
            .flush()
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Files begun so far.
    #[must_use]
    pub const fn files(&self) -> u32 {
        self.begun
    }

    /// Bytes written so far, to all files.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file that is written at present.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Begins a file. Returns how many bytes it has.
fn begin(path: &Path, about: &About) -> anyhow::Result<(PcapNgWriter<BufWriter<File>>, u64)> {
    let name = path.display();
    let file = File::create(path).with_context(|| format!("cannot create {name}"))?;
    let section = SectionHeaderBlock {
        endianness: Endianness::native(),
        options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(
            concat!("vfnic ", env!("CARGO_PKG_VERSION")),
        ))],
        ..SectionHeaderBlock::default()
    };
    let interface = InterfaceDescriptionBlock {
        linktype: DataLink::ETHERNET,
        snaplen: about.snap,
        options: vec![
            InterfaceDescriptionOption::IfName(Cow::Owned(about.interface.clone())),
            InterfaceDescriptionOption::IfDescription(Cow::Owned(about.description.clone())),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ],
    };
    let begun = PcapNgWriter::with_section_header(BufWriter::new(file), section)
        .and_then(|mut out| out.write_block(&interface.into_block()).map(|_| out))
        .map_err(anyhow::Error::new)
        .and_then(|mut out| {
            out.get_mut().flush()?;
            let size = out.get_ref().get_ref().metadata()?.len();
            Ok((out, size))
        });
    begun.with_context(|| format!("cannot write {name}"))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn units_are_those_the_interface_names() {
        let unit = |resolution: Option<u8>| {
            let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
            interface
                .options
                .extend(resolution.map(InterfaceDescriptionOption::IfTsResol));
            Unit::of(&interface).nanoseconds(Duration::from_nanos(3))
        };
        assert_eq!(unit(None), 3000);
        assert_eq!(unit(Some(9)), 3);
        assert_eq!(unit(Some(0)), 3_000_000_000);
        assert_eq!(unit(Some(0x81)), 1_500_000_000);
        assert_eq!(unit(Some(0x7f)), 0, "nonsense is not a panic");
    }
}
