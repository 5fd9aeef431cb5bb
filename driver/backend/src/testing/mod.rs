//! What tests have in place of a host: its files, its kernel.

pub(crate) mod calls;
mod host;
mod kernel;

pub(crate) use host::Host;
