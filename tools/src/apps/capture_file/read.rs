//! Reading captures: pcapng, or classic pcap.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader};

use super::Record;

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

#[cfg(test)]
mod tests {
    use super::*;

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
