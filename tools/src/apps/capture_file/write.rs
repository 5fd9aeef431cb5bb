//! Writing captures: pcapng with nanoseconds, in one file or a ring of them.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness};

use super::Record;

/// Exponent of a timestamp's unit, as pcapng has it: 10^-9 s.
const NANOSECONDS: u8 = 9;

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
