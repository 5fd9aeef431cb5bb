//! The vfio-user server: simulated VFs for QEMU guests and other processes.
//!
//! Clients are not trusted. The bytes are judged in [`wire`], which knows no I/O; what they ask is done in `session`,
//! which knows no sockets; the function behind is a [`VfBackend`]. Client memory is reached only through windows that the
//! client lent, in files that cannot shrink; eventfds are written by the session's own thread. A client can therefore
//! end or hold up its own session and nobody else's.
//!
//! ```text
//!  client ── socket ── client ── session ── VfBackend ── card
//!                         │         ├ dma      windows of client memory
//!            server ──────┘         ├ irq      eventfds
//!            (accepts, watches)     └ regions  BARs, configuration space
//! ```

mod backend;
mod blank;
mod card;
mod client;
mod control;
mod dma;
pub mod fuzz;
mod irq;
mod knobs;
mod listen;
mod regions;
mod server;
mod session;
mod socket;
mod trace;
mod version;
pub mod wire;

pub use backend::{VfBackend, VfSource};
pub use blank::Blank;
pub use card::CardVf;
pub use control::{Control, ask, control_path};
pub use knobs::{KnobError, execute, show};
pub use listen::ListenError;
pub use server::{Limits, ServeError, Server};
pub use session::Counters;
pub use trace::Trace;
