//! Which counters are frames that somebody dropped, by name.

use vfnic::PortStats;
use vfnic_sim::data::VfStats;

/// Reasons for drops among a receive queue's counters; the rest counts frames that came through, or moments.
const RX: [&str; 6] = [
    "bad_len",
    "too_long",
    "too_many_segments",
    "card_error",
    "batch_too_small",
    "reset_partial",
];
/// The same of a transmit queue. Frames not confirmed at a reset may have left all the same; then the account shows
/// more drops than losses.
const TX: [&str; 2] = ["not_confirmed", "refused"];

/// The drops that a port's queues own to, named `PORT_rx_REASON` and `PORT_tx_REASON`, queues summed up.
pub fn of_port<'a>(
    port: &'a str,
    stats: &'a PortStats,
) -> impl Iterator<Item = (String, u64)> + 'a {
    stats.iter().filter_map(move |(name, count)| {
        let (queue, reason) = name.split_once('_')?;
        let (side, reasons): (&str, &[&str]) = match queue.get(..2)? {
            "rx" => ("rx", &RX),
            _ => ("tx", &TX),
        };
        let numbered = queue.get(2..)?.parse::<u16>().is_ok();
        (numbered && count > 0 && reasons.contains(&reason))
            .then(|| (format!("{port}_{side}_{reason}"), count))
    })
}

/// The drops that a simulated card owns to for one VF, named `card_PORT_REASON`.
pub fn of_card<'a>(port: &'a str, stats: &'a VfStats) -> impl Iterator<Item = (String, u64)> + 'a {
    stats
        .drops
        .iter()
        .map(move |(reason, count)| (format!("card_{port}_{}", reason.name()), count))
}
