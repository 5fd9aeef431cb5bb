//! The `vfnic` command from outside.

mod bench;
mod manual;
mod options;
mod run;
mod sim;
mod syscalls;
mod traffic;
mod usage;
