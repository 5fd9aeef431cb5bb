//! Measuring the driver's own cost per packet, without a card.

pub mod null;
mod remote;
pub mod ring;
