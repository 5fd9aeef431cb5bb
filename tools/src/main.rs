//! The `vfnic` command.
fn main() {}
