//! `vfnic sim show`: what a running card looks like.

use std::fmt::Write;

use clap::Args as ClapArgs;
use serde_json::Value;

use super::Served;
use crate::cli::Outcome;
use crate::output;

/// Shows a running card: its VFs, their settings and counters, and what its drivers did wrong
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    served: Served,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  vfnic sim show /run/card
  vfnic sim show /run/card --json";

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let card = super::request(&args.served.dir, "show")?;
    if args.json {
        output::json(&card)?;
    } else {
        output::line(text(&card).trim_end())?;
    }
    Ok(Outcome::Good)
}

/// As `ip link show PF` would say it, with the counters below.
fn text(card: &Value) -> String {
    let mut text = format!(
        "{}  mac {}\n",
        word(&card["model"]),
        word(&card["pf"]["mac"])
    );
    for vf in list(&card["vfs"]) {
        let _ = write!(text, "vf {}  mac {}", vf["vf"], word(&vf["mac"]));
        if vf["vlan"] != 0 {
            let _ = write!(text, "  vlan {} qos {}", vf["vlan"], vf["qos"]);
        }
        for knob in ["spoofchk", "trust"] {
            let on = if vf[knob] == true { "on" } else { "off" };
            let _ = write!(text, "  {knob} {on}");
        }
        let _ = write!(text, "  state {}", word(&vf["state"]));
        if vf["max_tx_rate"] != 0 {
            let _ = write!(text, "  max_tx_rate {}", vf["max_tx_rate"]);
        }
        let _ = writeln!(text);
        if let Some(sessions) = vf.get("sessions") {
            let numbers = sessions.as_object().into_iter().flatten();
            let numbers: Vec<String> = numbers
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            let _ = writeln!(text, "      clients: {}", numbers.join(", "));
        }
        let counters = &vf["counters"];
        let _ = writeln!(
            text,
            "      received {} frames ({} delivered), {} bytes; sent {} frames, {} bytes; interrupts {}",
            counters["gprc"],
            counters["delivered"],
            counters["gorc"],
            counters["gptc"],
            counters["gotc"],
            vf["interrupts"]
        );
        text.push_str(&drops(&counters["drops"]));
    }
    let wire = &card["wire"];
    let _ = writeln!(
        text,
        "wire  received {} frames, sent {}",
        wire["received"], wire["sent"]
    );
    text.push_str(&drops(&wire["drops"]));
    for violation in list(&card["violations"]) {
        let _ = writeln!(text, "violation: {}", word(violation));
    }
    text
}

fn drops(drops: &Value) -> String {
    let reasons: Vec<String> = drops
        .as_object()
        .into_iter()
        .flatten()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if reasons.is_empty() {
        String::new()
    } else {
        format!("      dropped: {}\n", reasons.join(", "))
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use vfnic_hw::Model;
    use vfnic_sim::Card;
    use vfnic_sim::serve::{execute, show};

    use super::*;

    #[test]
    fn a_card_is_shown_in_the_words_of_ip_link() {
        let card = Card::builder(Model::I82599).vfs(2).build().expect("a card");
        execute(&card, "vf 1 mac 02:00:00:00:00:0a vlan 7 qos 2 trust on").expect("turned");
        let text = text(&show(&card));
        assert!(text.starts_with("82599  mac "), "{text}");
        let line = "vf 1  mac 02:00:00:00:00:0a  vlan 7 qos 2  spoofchk on  trust on  state auto\n";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains('?'), "{text}");
    }
}
