//! One file per command: its arguments, and `run`.

pub mod bench;
pub mod capture;
pub mod check;
pub mod bind;
pub mod demo;
pub mod echo;
pub mod fwd;
pub mod r#gen;
pub mod doctor;
pub mod list;
pub mod on_host;
pub mod provision;
pub mod set;
pub mod ping;
pub mod probe;
pub mod selftest;
pub mod sim;
pub mod sink;
pub mod stats;
pub mod watch;
