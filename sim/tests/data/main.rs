//! The data path by itself: raw descriptors in, raw write-backs out.
#![expect(
    clippy::cast_possible_truncation,
    reason = "fields are cut out of descriptors everywhere here"
)]

mod basics;
mod hostile;
mod hostile_rings;
mod offloads;
mod receive;
mod rig;
mod switching;
mod switching_model;
mod twins;
mod vf;
