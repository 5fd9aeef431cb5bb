//! The books: at every hop, what went in has come out, or somebody owns to having dropped it.

use std::collections::BTreeMap;

use anyhow::ensure;
use vfnic_sim::Card;
use vfnic_sim::data::DropReason;

use super::station::Station;
use crate::drops;

/// Name of frames that were in a transmit ring when the device was reset, and never left.
pub(super) const UNSENT: &str = "driver_tx_not_confirmed";

/// Name of frames that left by the wire.
const BY_WIRE: &str = "card_left_by_wire";

/// Name of frames that the driver dropped because the card reported them as bad.
const BAD: &str = "driver_rx_card_error";

/// All counts at a moment when nothing was under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    sent: u64,
    received: u64,
    /// Frames in transmit rings that the card never took, of each station.
    behind: Vec<u64>,
    /// Frames not confirmed, as each station's driver counts them.
    not_confirmed: Vec<u64>,
    /// By reason.
    pub(super) lost: BTreeMap<String, u64>,
}

impl Books {
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// Closes the books anew: `self` is how they stood before.
    ///
    /// # Errors
    ///
    /// When something does not add up.
    pub(super) fn look(&self, card: &Card, stations: &[Station]) -> anyhow::Result<Self> {
        let (mut new, mut twice) = (Self::default(), 0);
        for (index, station) in stations.iter().enumerate() {
            let vf = station.vf;
            let counts = station.counts();
            let stats = card.vf_stats(vf).unwrap_or_default();
            new.sent += counts.sent;
            new.received += station.checker.tally().received;
            // Out: what the queue took, the card took, or the driver found in the ring after a reset.
            let not_confirmed = counts.driver.get("tx_not_confirmed").copied().unwrap_or(0);
            let behind = counts.sent.wrapping_sub(stats.taken);
            let grown = behind.wrapping_sub(self.behind.get(index).copied().unwrap_or(0));
            let owned = not_confirmed - self.not_confirmed.get(index).copied().unwrap_or(0);
            ensure!(
                grown <= owned,
                "VF {vf}: {grown} frames more were sent than the card took ({} and {}); the driver gave {owned} up",
                counts.sent,
                stats.taken,
            );
            new.behind.push(behind);
            new.not_confirmed.push(not_confirmed);
            // In: what the card delivered came, or was dropped by the driver under a name.
            let dropped: u64 = counts
                .driver
                .iter()
                .filter(|(name, _)| name.starts_with("rx_"))
                .map(|(_, count)| count)
                .sum();
            // A frame whose data the card could not write is in its own books, and reported to the driver as bad.
            let reported = (counts.came + dropped).wrapping_sub(stats.delivered);
            ensure!(
                reported <= stats.drops.get(DropReason::RxFault),
                "VF {vf}: {} frames were delivered, {} came and {dropped} were dropped: {:?}, {:?}",
                stats.delivered,
                counts.came,
                counts.driver,
                stats.drops,
            );
            twice += reported;
            for (name, count) in &counts.driver {
                if name.starts_with("rx_") {
                    *new.lost.entry(format!("driver_{name}")).or_default() += count;
                }
            }
            *new.lost.entry(UNSENT.to_owned()).or_default() += behind;
            for (name, count) in drops::of_card(&stats) {
                *new.lost.entry(format!("card_{name}")).or_default() += count;
            }
        }
        let stats = card.stats();
        for drops in [stats.pf.drops, stats.wire.drops] {
            for (reason, count) in drops.iter() {
                *new.lost
                    .entry(format!("card_{}", reason.name()))
                    .or_default() += count;
            }
        }
        // To an address that no VF had at the time, its owner being in reset: by the wire, where nobody is.
        new.lost.insert(BY_WIRE.to_owned(), stats.wire.sent);
        if let Some(count) = new.lost.get_mut(BAD) {
            *count -= twice.min(*count);
        }
        new.lost.retain(|_, count| *count > 0);
        let lost: u64 = new.lost.values().sum();
        ensure!(
            new.sent == new.received + lost,
            "{} frames were sent, {} received, {lost} lost for a reason: {:?}",
            new.sent,
            new.received,
            new.lost
        );
        Ok(new)
    }
}
