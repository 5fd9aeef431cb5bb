//! Which counters are frames that somebody dropped, by name.

use vfnic::PortStats;
use vfnic_sim::data::VfStats;

/// Reasons for drops among a receive queue's counters; the rest counts frames that came through, or moments.
const RX: &[&str] = &[
    "bad_len",
    "too_long",
    "too_many_segments",
    "card_error",
    "batch_too_small",
    "reset_partial",
    "reset_unread",
];
/// The same of a transmit queue. Frames not confirmed at a reset may have left all the same; then the account shows
/// more drops than losses.
const TX: &[&str] = &["not_confirmed", "refused"];

/// Frames that a port's receive queues dropped, as `rx_REASON`, each queue for itself.
pub fn of_receiver(stats: &PortStats) -> impl Iterator<Item = (String, u64)> {
    of_queues(stats, "rx", RX)
}

/// Frames that a port's transmit queues dropped, as `tx_REASON`, each queue for itself.
pub fn of_sender(stats: &PortStats) -> impl Iterator<Item = (String, u64)> {
    of_queues(stats, "tx", TX)
}

/// Frames that the card took for a port and had no descriptor for, since the port was started. The VFs of 82576 and I350 have
/// a counter of them. Those of ixgbevf have none, but their count of good packets includes them (82599 datasheet, statistics:
/// GPRC counts packets that are dropped later for want of descriptors): what it counts and no queue had, was missed. For
/// certain only when the port's queues are empty and its counters fresh.
#[must_use]
pub fn missed(stats: &PortStats) -> u64 {
    let of_queues: u64 = stats
        .iter()
        .filter(|(name, _)| {
            let parts = name
                .strip_prefix("rx")
                .and_then(|rest| rest.split_once('_'));
            parts.is_some_and(|(queue, what)| {
                queue.parse::<u16>().is_ok() && (what == "packets" || RX.contains(&what))
            })
        })
        .map(|(_, count)| count)
        .sum();
    let counted = stats.get("rx_packets").unwrap_or(0);
    let own = stats.get("rx_missed").unwrap_or(0);
    own.max(counted.saturating_sub(of_queues))
}

fn of_queues(
    stats: &PortStats,
    side: &'static str,
    reasons: &'static [&'static str],
) -> impl Iterator<Item = (String, u64)> {
    stats.iter().filter_map(move |(name, count)| {
        // `rx0_bad_len`; names without a number are the hardware's.
        let (queue, reason) = name.strip_prefix(side)?.split_once('_')?;
        let dropped = queue.parse::<u16>().is_ok() && reasons.contains(&reason);
        (dropped && count > 0).then(|| (format!("{side}_{reason}"), count))
    })
}

/// Frames that a simulated card dropped for one VF, as `REASON`.
pub fn of_card(stats: &VfStats) -> impl Iterator<Item = (String, u64)> {
    stats
        .drops
        .iter()
        .map(|(reason, count)| (reason.name().to_owned(), count))
}
