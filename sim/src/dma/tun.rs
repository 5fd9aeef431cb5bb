//! Opening a TAP interface: the one system call with a structure of its own.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{Setter, ioctl, opcode};

/// `struct ifreq` as TUNSETIFF reads it.
#[repr(C)]
struct IfReq {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

const TAP: u16 = 0x0002;
/// No packet information before each frame.
const NO_PI: u16 = 0x1000;

/// Attaches to, or makes, the TAP interface `name`. Reads and writes of the descriptor are whole frames and never block.
///
/// # Errors
///
/// What the system says, or `InvalidInput` for a name that is empty, too long or has a NUL.
pub(crate) fn open_tap(name: &str) -> io::Result<OwnedFd> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > 15 || bytes.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{name}` is no interface name: 1 to 15 bytes"),
        ));
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = open("/dev/net/tun", flags, Mode::empty())?;
    let mut request = IfReq {
        name: [0; 16],
        flags: TAP | NO_PI,
        rest: [0; 22],
    };
    // The 16th byte stays NUL.
    for (place, &byte) in request.name.iter_mut().zip(bytes) {
        *place = byte;
    }
    // SAFETY: TUNSETIFF reads a `struct ifreq`, 40 bytes, of which this is the layout.
    let set = unsafe { Setter::<{ opcode::write::<i32>(b'T', 202) }, IfReq>::new(request) };
    // SAFETY: the request belongs to this device, and its value lives through the call.
    unsafe { ioctl(&fd, set) }?;
    Ok(fd)
}
