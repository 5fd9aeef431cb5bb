//! Functions served by other processes over the vfio-user protocol: simulated cards, mostly.
//!
//! The client's side of a unix socket. A server is trusted no more than a device is: every message of its is bounded in
//! length, descriptors and time; whatever it says ends, at worst, the connection. From then on every request fails at
//! once, register reads give all-ones and writes go nowhere, as with a device that was pulled out.
//!
//! Registers are reached by messages: a read waits for its answer, a write (so every doorbell) is posted. Where the
//! server offers memory instead, sealed so that it cannot shrink, that is mapped.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

mod connection;
mod frame;
mod function;
mod region;
mod space;

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::socket_type;
use rustix::net::{SocketAddrUnix, SocketType, getpeername};
use vfnic_hw::{PciError, PciFunction};

use connection::{Connection, Failure};
use function::UserFunction;
pub use space::UserSpace;

/// How to talk to a server.
#[derive(Clone, Debug)]
pub struct UserOptions {
    /// How long a server may take for anything but a reset (which has 5 s). One that takes longer has lost the
    /// connection: its late answer could not be told from another.
    pub deadline: Duration,
}

impl Default for UserOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(1),
        }
    }
}

/// Opens the function that a server at `path` has, in an IOVA space of its own. That resets it; bus mastering is off.
///
/// # Errors
///
/// [`PciError::Protocol`] when there is no server, or none that speaks the protocol in time; [`PciError::Sys`] with the
/// server's errno when it refuses.
pub fn connect(
    path: impl AsRef<Path>,
    options: &UserOptions,
) -> Result<Arc<dyn PciFunction>, PciError> {
    connect_in(path, &UserSpace::new(), options)
}

/// Opens a function in a space that others share.
///
/// # Errors
///
/// As for [`connect`]; and when the server refuses memory that is in the space already.
pub fn connect_in(
    path: impl AsRef<Path>,
    space: &UserSpace,
    options: &UserOptions,
) -> Result<Arc<dyn PciFunction>, PciError> {
    let path = path.as_ref();
    let server = Connection::open(path, options.deadline);
    Ok(Arc::new(UserFunction::open(
        format!("vfio-user:{}", path.display()),
        server,
        space,
    )?))
}

/// Opens the function at the other end of a socket that somebody else has connected: a parent that may reach the server's
/// socket, say, for a child that may not. The socket is this connection's alone from here on, nothing has been said on it
/// before, and no copy of it is used elsewhere; a copy that a parent keeps keeps the server from noticing the end.
///
/// # Errors
///
/// As for [`connect`]; and [`PciError::Protocol`] for what is no stream socket.
pub fn connect_handed(
    socket: OwnedFd,
    options: &UserOptions,
) -> Result<Arc<dyn PciFunction>, PciError> {
    connect_handed_in(socket, &UserSpace::new(), options)
}

/// Opens a function on a connected socket in a space that others share.
///
/// # Errors
///
/// As for [`connect_handed`]; and when the server refuses memory that is in the space already.
pub fn connect_handed_in(
    socket: OwnedFd,
    space: &UserSpace,
    options: &UserOptions,
) -> Result<Arc<dyn PciFunction>, PciError> {
    let name = name_of(&socket);
    let server = prepare(&socket)
        .map_err(|error| Failure::Unconnected(format!("the descriptor handed over: {error}")))
        .and_then(|()| Connection::on(socket, options.deadline));
    Ok(Arc::new(UserFunction::open(name, server, space)?))
}

/// The server's path, where it has one.
fn name_of(socket: &OwnedFd) -> String {
    let address = getpeername(socket)
        .ok()
        .flatten()
        .and_then(|address| SocketAddrUnix::try_from(address).ok());
    match address.as_ref().and_then(SocketAddrUnix::path_bytes) {
        Some(path) => format!("vfio-user:{}", String::from_utf8_lossy(path)),
        None => "vfio-user:(a socket handed over)".to_owned(),
    }
}

/// Inherited descriptors outlive `exec`; this one is not for whatever this process may start.
fn prepare(socket: &OwnedFd) -> std::io::Result<()> {
    if socket_type(socket)? != SocketType::STREAM {
        return Err(std::io::Error::other("no stream socket"));
    }
    Ok(fcntl_setfd(socket, FdFlags::CLOEXEC)?)
}
