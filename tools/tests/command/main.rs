//! The `vfnic` command from outside.

mod run;
mod sim;
mod traffic;
mod usage;
