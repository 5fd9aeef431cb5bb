//! The `vfnic` command from outside.

mod run;
mod traffic;
mod usage;
