//! The `vfnic` command from outside.

mod bench;
mod manual;
mod options;
mod run;
mod sandbox;
mod sim;
mod soak;
mod syscalls;
mod traffic;
mod usage;
