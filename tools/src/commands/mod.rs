//! One file per command: its arguments, and `run`.

pub mod check;
pub mod demo;
pub mod ping;
pub mod probe;
pub mod sim;
pub mod watch;
