//! Measuring the driver's own cost per packet, without a card.

mod clock;
pub mod null;
mod remote;
pub mod ring;
pub mod scale;
