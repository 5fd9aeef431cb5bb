//! The `vfnic` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    vfnic_tools::cli::main()
}
