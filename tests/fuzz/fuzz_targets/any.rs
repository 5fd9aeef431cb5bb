//! One file for all targets: each binary is called as its target is.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vfnic_fuzz::run(env!("CARGO_BIN_NAME"), data));
