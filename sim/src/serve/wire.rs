//! The vfio-user protocol's bytes: headers and requests in, replies out (protocol version 0.0, as in QEMU's
//! docs/interop/vfio-user.rst).
//!
//! Pure functions without I/O or allocation by anything a client says. A request is judged in two steps: what makes the
//! position in the stream doubtful ends the session, whatever else is wrong is answered with an errno.

use rustix::io::Errno;

/// Bytes of the header before every message.
pub const HEADER: usize = 16;
/// Most bytes of region data in one message: the protocol's default `max_data_xfer_size`.
pub const MAX_DATA: usize = 1 << 20;
/// Longest message either side may send.
pub const MAX_MESSAGE: usize = HEADER + 16 + MAX_DATA;
/// Most file descriptors with one message.
pub const MAX_FDS: usize = 8;
/// Most windows of client memory at a time, QEMU's and the protocol's default.
pub const MAX_MAPS: usize = 65_535;
/// The only page size that DMA windows are made of.
pub const PAGE: u64 = 4096;

/// Bits of the flags word.
const TYPE: u32 = 0xf;
const TYPE_COMMAND: u32 = 0;
const TYPE_REPLY: u32 = 1;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;

/// Command numbers.
pub mod command {
    /// Version and capabilities; first message of a session.
    pub const VERSION: u16 = 1;
    /// A window of client memory appears.
    pub const DMA_MAP: u16 = 2;
    /// Windows of client memory go away.
    pub const DMA_UNMAP: u16 = 3;
    /// Counts of regions and interrupt types.
    pub const DEVICE_GET_INFO: u16 = 4;
    /// One region's size and rights.
    pub const GET_REGION_INFO: u16 = 5;
    /// Doorbells as file descriptors.
    pub const GET_REGION_IO_FDS: u16 = 6;
    /// One interrupt type's count and abilities.
    pub const GET_IRQ_INFO: u16 = 7;
    /// Routes, triggers or masks interrupts.
    pub const SET_IRQS: u16 = 8;
    /// Reads a region.
    pub const REGION_READ: u16 = 9;
    /// Writes a region.
    pub const REGION_WRITE: u16 = 10;
    /// Server to client only.
    pub const DMA_READ: u16 = 11;
    /// Server to client only.
    pub const DMA_WRITE: u16 = 12;
    /// Resets the function.
    pub const DEVICE_RESET: u16 = 13;
    /// Several posted writes of at most 8 bytes.
    pub const REGION_WRITE_MULTI: u16 = 15;
}

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender's number for it, echoed in the reply.
    pub id: u16,
    /// What is asked.
    pub command: u16,
    /// Bytes that follow the header; never more than [`MAX_MESSAGE`] allows.
    pub body: usize,
    flags: u32,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    ///
    /// `EINVAL`, with the id and command to answer to, when the size is impossible or the message neither a command nor
    /// a reply: where the next message starts is then unknown.
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self, (Self, Errno)> {
        let mut fields = Fields(bytes);
        let id = fields.u16().unwrap_or(0);
        let command = fields.u16().unwrap_or(0);
        let size = fields.u32().unwrap_or(0) as usize;
        let flags = fields.u32().unwrap_or(0);
        let header = Self {
            id,
            command,
            body: size.saturating_sub(HEADER),
            flags,
        };
        let kind = flags & TYPE;
        if !(HEADER..=MAX_MESSAGE).contains(&size) || (kind != TYPE_COMMAND && kind != TYPE_REPLY) {
            return Err((Self { body: 0, ..header }, Errno::INVAL));
        }
        Ok(header)
    }

    /// A reply, to a command that was never sent.
    #[must_use]
    pub const fn is_reply(&self) -> bool {
        self.flags & TYPE == TYPE_REPLY
    }

    /// The sender wants no answer.
    #[must_use]
    pub const fn no_reply(&self) -> bool {
        self.flags & NO_REPLY != 0
    }

    /// The error flag, which only a reply may carry.
    #[must_use]
    pub const fn has_error(&self) -> bool {
        self.flags & ERROR != 0
    }
}

/// A request, its variable part borrowed from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// [`command::VERSION`].
    Version {
        /// Major version proposed.
        major: u16,
        /// Minor version proposed.
        minor: u16,
        /// JSON with its terminating NUL, or nothing.
        data: &'a [u8],
    },
    /// [`command::DMA_MAP`].
    DmaMap(MapRequest),
    /// [`command::DMA_UNMAP`].
    DmaUnmap(UnmapRequest),
    /// [`command::DEVICE_GET_INFO`].
    DeviceInfo {
        /// Reply payload the client has room for.
        argsz: u32,
    },
    /// [`command::GET_REGION_INFO`].
    RegionInfo {
        /// Reply payload the client has room for.
        argsz: u32,
        /// Region.
        index: u32,
    },
    /// [`command::GET_REGION_IO_FDS`].
    RegionIoFds {
        /// Region.
        index: u32,
    },
    /// [`command::GET_IRQ_INFO`].
    IrqInfo {
        /// Reply payload the client has room for.
        argsz: u32,
        /// Interrupt type.
        index: u32,
    },
    /// [`command::SET_IRQS`].
    SetIrqs(IrqRequest<'a>),
    /// [`command::REGION_READ`].
    RegionRead(Span),
    /// [`command::REGION_WRITE`].
    RegionWrite {
        /// Where.
        span: Span,
        /// What, `span.count` bytes.
        data: &'a [u8],
    },
    /// [`command::REGION_WRITE_MULTI`].
    RegionWriteMulti(Writes<'a>),
    /// [`command::DEVICE_RESET`].
    Reset,
    /// Anything else.
    Unknown,
}

/// A window of client memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// Length of the structure, as the client says.
    pub argsz: u32,
    /// Bit 0 readable, bit 1 writable by the device.
    pub flags: u32,
    /// Where in the file it starts.
    pub offset: u64,
    /// Where the device sees it.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// Windows of client memory to be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnmapRequest {
    /// Length of the structure, as the client says.
    pub argsz: u32,
    /// Bit 0 wants a dirty bitmap, bit 1 means everything.
    pub flags: u32,
    /// First device address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// A change of interrupt routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqRequest<'a> {
    /// Length of the structure with its data, as the client says.
    pub argsz: u32,
    /// One data bit (0 none, 1 booleans, 2 eventfds), one action bit (3 mask, 4 unmask, 5 trigger).
    pub flags: u32,
    /// Interrupt type.
    pub index: u32,
    /// First interrupt of the type.
    pub start: u32,
    /// How many.
    pub count: u32,
    /// Booleans, a byte each.
    pub data: &'a [u8],
}

/// Bytes of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where in the region they start.
    pub offset: u64,
    /// The region.
    pub region: u32,
    /// How many.
    pub count: u32,
}

/// Bytes of one entry of [`command::REGION_WRITE_MULTI`].
const WRITE: usize = 24;

/// Several small writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writes<'a>(&'a [u8]);

impl<'a> Writes<'a> {
    /// Each write in order; `None` where one claims more than its 8 bytes.
    pub fn iter(self) -> impl Iterator<Item = Option<(Span, &'a [u8])>> {
        self.0.chunks_exact(WRITE).map(|entry| {
            let mut fields = Fields(entry);
            let span = fields.span()?;
            let data = fields.0.get(..span.count as usize)?;
            Some((span, data))
        })
    }
}

impl<'a> Request<'a> {
    /// Reads the body of a message.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the body is not as long as its command and its own counts say.
    pub fn parse(number: u16, body: &'a [u8]) -> Result<Self, Errno> {
        Self::fields(number, body).ok_or(Errno::INVAL)
    }

    fn fields(number: u16, body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let request = match number {
            command::VERSION => Self::Version {
                major: fields.u16()?,
                minor: fields.u16()?,
                data: fields.rest(),
            },
            command::DMA_MAP => Self::DmaMap(MapRequest {
                argsz: fields.u32()?,
                flags: fields.u32()?,
                offset: fields.u64()?,
                address: fields.u64()?,
                size: fields.u64()?,
            }),
            command::DMA_UNMAP => Self::DmaUnmap(UnmapRequest {
                argsz: fields.u32()?,
                flags: fields.u32()?,
                address: fields.u64()?,
                size: fields.u64()?,
            }),
            command::DEVICE_GET_INFO => {
                let argsz = fields.u32()?;
                fields.skip(12)?;
                Self::DeviceInfo { argsz }
            }
            command::GET_REGION_INFO => {
                let argsz = fields.u32()?;
                fields.skip(4)?;
                let index = fields.u32()?;
                fields.skip(20)?;
                Self::RegionInfo { argsz, index }
            }
            command::GET_REGION_IO_FDS => {
                fields.skip(8)?;
                let index = fields.u32()?;
                fields.skip(4)?;
                Self::RegionIoFds { index }
            }
            command::GET_IRQ_INFO => {
                let argsz = fields.u32()?;
                fields.skip(4)?;
                let index = fields.u32()?;
                fields.skip(4)?;
                Self::IrqInfo { argsz, index }
            }
            command::SET_IRQS => Self::SetIrqs(IrqRequest {
                argsz: fields.u32()?,
                flags: fields.u32()?,
                index: fields.u32()?,
                start: fields.u32()?,
                count: fields.u32()?,
                data: fields.rest(),
            }),
            command::REGION_READ => Self::RegionRead(fields.span()?),
            command::REGION_WRITE => {
                let span = fields.span()?;
                let data = fields.rest();
                if data.len() != span.count as usize {
                    return None;
                }
                Self::RegionWrite { span, data }
            }
            command::REGION_WRITE_MULTI => {
                let count = usize::try_from(fields.u64()?).ok()?;
                let entries = fields.rest();
                if count.checked_mul(WRITE)? != entries.len() {
                    return None;
                }
                Self::RegionWriteMulti(Writes(entries))
            }
            command::DEVICE_RESET => Self::Reset,
            _ => return Some(Self::Unknown),
        };
        fields.0.is_empty().then_some(request)
    }
}

/// Little-endian fields off the front of a slice. (The protocol says the host's order; this server runs on
/// little-endian hosts only, and says so at compile time.)
#[derive(Clone, Copy, Debug)]
struct Fields<'a>(&'a [u8]);

#[cfg(target_endian = "big")]
compile_error!("vfio-user messages are in host order, which this codec takes to be little-endian");

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }
    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
    fn span(&mut self) -> Option<Span> {
        Some(Span {
            offset: self.u64()?,
            region: self.u32()?,
            count: self.u32()?,
        })
    }
}

/// A message being written: a reply to one request.
#[derive(Debug, Default)]
pub struct Reply(Vec<u8>);

impl Reply {
    /// Starts a successful reply to `header`, dropping what was there.
    pub fn start(&mut self, header: &Header) {
        self.begin(header, TYPE_REPLY, 0);
    }

    fn begin(&mut self, header: &Header, flags: u32, error: i32) {
        self.0.clear();
        // One big read must not keep its megabyte for the rest of the session.
        self.0.shrink_to(MAX_KEPT);
        self.0.extend_from_slice(&header.id.to_le_bytes());
        self.0.extend_from_slice(&header.command.to_le_bytes());
        // The size, which is known in the end.
        self.put32(&[0, flags]);
        self.put(&error.to_le_bytes());
    }

    /// Makes it an error reply instead: the header alone.
    pub fn fail(&mut self, header: &Header, errno: Errno) {
        self.begin(header, TYPE_REPLY | ERROR, errno.raw_os_error());
    }

    /// Appends fields.
    pub fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends 32-bit fields.
    pub fn put32(&mut self, fields: &[u32]) {
        fields
            .iter()
            .for_each(|field| self.put(&field.to_le_bytes()));
    }

    /// Appends a span.
    pub fn put_span(&mut self, span: Span) {
        self.put(&span.offset.to_le_bytes());
        self.put32(&[span.region, span.count]);
    }

    /// Appends `len` zero bytes to be filled in.
    pub fn space(&mut self, len: usize) -> &mut [u8] {
        let start = self.0.len();
        self.0.resize(start.saturating_add(len), 0);
        self.0.get_mut(start..).unwrap_or_default()
    }

    /// The whole message, its size filled in.
    pub fn finish(&mut self) -> &[u8] {
        let size = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if let Some([_, _, _, _, place @ .., _, _, _, _, _, _, _, _]) =
            self.0.first_chunk_mut::<HEADER>()
        {
            *place = size.to_le_bytes();
        }
        &self.0
    }
}

/// Most bytes of a buffer kept from one message to the next.
pub const MAX_KEPT: usize = 1 << 15;
