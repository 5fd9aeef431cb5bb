//! What the traffic commands have in common: ports opened to share memory, an end by time, count or signal, figures.

pub mod capture_file;
mod clock;
mod command;
pub mod http;
pub mod packet;
mod port;
pub mod responder;
mod stop;
mod tally;

pub use clock::monotonic;
pub(crate) use command::Command;
pub use port::{Ports, counters};
pub(crate) use stop::has_signal;
pub use stop::{End, Stop};
pub use tally::{Meter, per_second, round};
