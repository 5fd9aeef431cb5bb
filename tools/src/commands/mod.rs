//! One file per command: its arguments, and `run`.

pub mod bench;
pub mod bind;
pub mod capture;
pub mod check;
pub mod demo;
pub mod doctor;
pub mod echo;
pub mod export;
pub mod fwd;
pub mod r#gen;
pub mod list;
pub mod manual;
pub mod on_host;
pub mod persist;
pub mod ping;
pub mod probe;
pub mod provision;
pub mod reset;
pub mod selftest;
pub mod set;
pub mod sim;
pub mod sink;
pub mod soak;
pub mod stats;
pub mod watch;
