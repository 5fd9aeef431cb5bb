//! The bytes of vfio-user messages, as a client sees them: requests out, replies in (QEMU's docs/interop/vfio-user.rst).
//!
//! No I/O here, no allocation by anything the server says, and no panic whatever it says: a reply is a slice of bytes of
//! bounded length, and every field is asked for by a function that may say there is none.

/// Bytes before every message.
pub(super) const HEADER: usize = 16;
/// Longest message taken from a server, header included: no reply to anything asked here is longer.
pub(super) const LONGEST: usize = 64 << 10;
/// Most descriptors taken with one message.
pub(super) const MOST_FDS: usize = 8;

/// Version proposed; the server's minor one must not be higher.
pub(super) const MAJOR: u16 = 0;
pub(super) const MINOR: u16 = 1;

const TYPE: u32 = 0xf;
const REPLY: u32 = 1;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;

/// What can be asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Command {
    Version = 1,
    DmaMap = 2,
    DmaUnmap = 3,
    DeviceGetInfo = 4,
    GetRegionInfo = 5,
    GetIrqInfo = 7,
    SetIrqs = 8,
    RegionRead = 9,
    RegionWrite = 10,
    DeviceReset = 13,
}

/// What arrived before the rest of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) command: u16,
    /// Bytes behind the header.
    pub(super) body: usize,
    flags: u32,
    error: u32,
}

impl Header {
    /// `None` when nothing behind this header can be found any more: its length is impossible.
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let header = Self {
            id: fields.u16()?,
            command: fields.u16()?,
            body: usize::try_from(fields.u32()?).ok()?.checked_sub(HEADER)?,
            flags: fields.u32()?,
            error: fields.u32()?,
        };
        (header.body <= LONGEST - HEADER).then_some(header)
    }

    pub(super) fn is_reply(&self) -> bool {
        self.flags & TYPE == REPLY
    }

    /// A request that must be answered, which a server may send too.
    pub(super) fn wants_reply(&self) -> bool {
        self.flags & TYPE == 0 && self.flags & NO_REPLY == 0
    }

    /// The errno of a request that was refused; 0 when the server does not say which.
    pub(super) fn refusal(&self) -> Option<u32> {
        (self.flags & ERROR != 0).then_some(self.error)
    }
}

/// A message to send.
#[derive(Debug)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn new(command: Command) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[2..4].copy_from_slice(&(command as u16).to_ne_bytes());
        Self(bytes)
    }

    /// The answer to a server's request that is not done here: the header again, with an errno.
    pub(super) fn refuse(request: &Header, errno: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend(request.id.to_ne_bytes());
        bytes.extend(request.command.to_ne_bytes());
        bytes.extend(16u32.to_ne_bytes());
        bytes.extend((REPLY | ERROR).to_ne_bytes());
        bytes.extend(errno.to_ne_bytes());
        bytes
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// The bytes on the wire.
    pub(super) fn finish(mut self, id: u16, posted: bool) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let flags = if posted { NO_REPLY } else { 0 };
        self.0[..2].copy_from_slice(&id.to_ne_bytes());
        self.0[4..8].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&flags.to_ne_bytes());
        self.0
    }
}

/// Reads a reply's fields one after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// What a server's VERSION reply allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Descriptors it takes with one message.
    pub(super) fds: usize,
    /// Bytes of region data it takes or gives in one message.
    pub(super) data: usize,
    /// Windows of memory it can have at a time.
    pub(super) maps: usize,
}

impl Limits {
    /// Reads the reply; the text of the error is what was wrong with it.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let mut fields = Fields(body);
        let version = fields.u16().zip(fields.u16());
        let Some((major, minor)) = version else {
            return Err(format!("a version reply of {} bytes", body.len()));
        };
        if major != MAJOR || minor > MINOR {
            return Err(format!(
                "it speaks version {major}.{minor}, wanted {MAJOR}.{MINOR} or lower"
            ));
        }
        let text = fields.rest();
        // The text ends with a NUL; servers have been seen to forget it, or to send nothing.
        let text = text.split(|&byte| byte == 0).next().unwrap_or(text);
        let capabilities = if text.is_empty() {
            serde_json::Value::Null
        } else {
            serde_json::from_slice::<serde_json::Value>(text)
                .map_err(|error| format!("its capabilities are no JSON ({error})"))?
        };
        let number = |name: &str, default: u64, most: usize| {
            let value = capabilities["capabilities"][name]
                .as_u64()
                .unwrap_or(default);
            usize::try_from(value).unwrap_or(most).min(most)
        };
        Ok(Self {
            fds: number("max_msg_fds", 1, 253),
            data: number("max_data_xfer_size", 1 << 20, LONGEST / 2),
            maps: number("max_dma_maps", 65_535, 65_535),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_posted_write_of_a_tail_byte_by_byte() {
        let message = Message::new(Command::RegionWrite)
            .u64(0x3818)
            .u32(0)
            .u32(4)
            .bytes(&[31, 0, 0, 0])
            .finish(0x1234, true);
        assert_eq!(
            message,
            [
                0x34, 0x12, 10, 0, 36, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, // header
                0x18, 0x38, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 31, 0, 0, 0,
            ]
        );
    }

    #[test]
    fn a_refusal_of_a_server_request_byte_by_byte() {
        let request = [7, 0, 11, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let header = Header::parse(&request).unwrap();
        assert!(header.wants_reply() && !header.is_reply());
        assert_eq!(
            Message::refuse(&header, 95),
            [7, 0, 11, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, 95, 0, 0, 0]
        );
    }

    #[test]
    fn impossible_lengths_are_the_end() {
        let header = |size: u32| {
            let mut bytes = [0; HEADER];
            bytes[4..8].copy_from_slice(&size.to_ne_bytes());
            Header::parse(&bytes)
        };
        assert_eq!(header(16).unwrap().body, 0);
        assert_eq!(header(65536).unwrap().body, 65520);
        for size in [0, 15, 65537, u32::MAX] {
            assert!(header(size).is_none(), "{size}");
        }
    }

    #[test]
    fn limits_default_and_are_limited() {
        let reply = |text: &str| {
            let mut body = vec![0, 0, 1, 0];
            body.extend(text.as_bytes());
            Limits::parse(&body)
        };
        let default = Limits {
            fds: 1,
            data: 32 << 10,
            maps: 65_535,
        };
        for text in [
            "",
            "\0",
            "{}\0",
            "[1,2]\0",
            "{\"capabilities\":7}",
            "{\"capabilities\":{\"max_msg_fds\":-3}}\0",
        ] {
            assert_eq!(reply(text).unwrap(), default, "{text}");
        }
        let limits = reply("{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":18446744073709551615,\"max_dma_maps\":2}}\0\0").unwrap();
        assert_eq!((limits.fds, limits.data, limits.maps), (8, 32 << 10, 2));
        for text in ["x\0", "{\0", &"[".repeat(10_000)] {
            assert!(reply(text).is_err(), "{}", &text[..1]);
        }
        assert!(Limits::parse(&[0, 0, 2, 0]).is_err());
        assert!(Limits::parse(&[1, 0, 0, 0]).is_err());
        assert!(Limits::parse(&[0, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(header: [u8; HEADER], body: Vec<u8>) {
            let _ = Header::parse(&header);
            let _ = Limits::parse(&body);
        }
    }
}
