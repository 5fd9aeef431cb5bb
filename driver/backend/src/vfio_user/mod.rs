//! Functions served by other processes over the vfio-user protocol: simulated cards, mostly.
//!
//! The client's side of a unix socket. A server is trusted no more than a device is: every message of its is bounded in
//! length, descriptors and time; whatever it says ends, at worst, the connection. From then on every request fails at
//! once, register reads give all-ones and writes go nowhere, as with a device that was pulled out.
//!
//! Registers are reached by messages: a read waits for its answer, a write (so every doorbell) is posted. Where the
//! server offers memory instead, sealed so that it cannot shrink, that is mapped.

mod connection;
mod frame;
mod function;
mod space;

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vfnic_hw::{PciError, PciFunction};

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
    let name = format!("vfio-user:{}", path.display());
    Ok(Arc::new(function::UserFunction::open(
        name, path, space, options,
    )?))
}
