//! The `vfnic` command from outside.

mod bench;
mod run;
mod sim;
mod traffic;
mod usage;
