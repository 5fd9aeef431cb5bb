//! The `vfnic` command from outside.

mod bench;
mod manual;
mod run;
mod sim;
mod syscalls;
mod traffic;
mod usage;
