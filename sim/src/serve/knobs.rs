//! What can be changed and read on a running card, in the words of `ip link`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::card::Card;
use crate::data::{Mac, VfStats};
use crate::fault::FaultPlan;
use crate::pf::{PfError, VfInfo, VfLink};

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnobError {
    /// It makes no sense.
    Usage(String),
    /// The card refuses it.
    Refused(String),
}

impl From<PfError> for KnobError {
    fn from(error: PfError) -> Self {
        Self::Refused(error.to_string())
    }
}

const VF_KNOBS: &str = "mac ADDRESS, vlan ID [qos N], spoofchk on|off, trust on|off, state auto|enable|disable, \
                        max_tx_rate MBPS, query_rss on|off, ping, request, remove, return";
const PF_KNOBS: &str = "up, down, reset [MILLISECONDS], mtu N, promisc on|off, link on|off, speed MBPS, \
                        fdb add|del ADDRESS";

/// Carries out one request: `show`, `vf N KNOB…` (several in a row, as with `ip link`), `pf KNOB…`,
/// `fault PLAN…` or `fault clear`. Gives what there is to show.
///
/// # Errors
///
/// [`KnobError`]; of several knobs in a row those before the refused one have been turned.
pub fn execute(card: &Card, request: &str) -> Result<Value, KnobError> {
    let words: Vec<&str> = request.split_whitespace().collect();
    match &words[..] {
        ["show"] => Ok(show(card)),
        ["vf", vf, knobs @ ..] if !knobs.is_empty() => {
            turn_vf(card, number(vf, "VF")?, knobs)?;
            Ok(Value::Null)
        }
        ["pf", knobs @ ..] if !knobs.is_empty() => {
            turn_pf(card, knobs)?;
            Ok(Value::Null)
        }
        ["fault", "clear"] => {
            card.faults().clear();
            Ok(Value::Null)
        }
        ["fault", plan @ ..] if !plan.is_empty() => {
            let plan: FaultPlan = plan.join(" ").parse().map_err(usage)?;
            card.faults().add_plan(&plan);
            Ok(Value::Null)
        }
        _ => Err(usage(
            "wanted: vf N KNOB…, pf KNOB…, fault PLAN, fault clear, or show",
        )),
    }
}

fn usage(text: impl ToString) -> KnobError {
    KnobError::Usage(text.to_string())
}

fn turn_vf(card: &Card, vf: u16, mut knobs: &[&str]) -> Result<(), KnobError> {
    let pf = card.pf();
    while !knobs.is_empty() {
        knobs = match knobs {
            ["mac", mac, rest @ ..] => {
                pf.set_vf_mac(vf, address(mac)?)?;
                rest
            }
            ["vlan", vlan, "qos", qos, rest @ ..] => {
                pf.set_vf_vlan(vf, number(vlan, "VLAN")?, number(qos, "priority")?)?;
                rest
            }
            ["vlan", vlan, rest @ ..] => {
                pf.set_vf_vlan(vf, number(vlan, "VLAN")?, 0)?;
                rest
            }
            ["spoofchk", on, rest @ ..] => {
                pf.set_vf_spoofchk(vf, switch(on)?)?;
                rest
            }
            ["trust", on, rest @ ..] => {
                pf.set_vf_trust(vf, switch(on)?)?;
                rest
            }
            ["state", state, rest @ ..] => {
                pf.set_vf_state(vf, link(state)?)?;
                rest
            }
            ["max_tx_rate", rate, rest @ ..] => {
                pf.set_vf_max_tx_rate(vf, number(rate, "rate")?)?;
                rest
            }
            ["query_rss", on, rest @ ..] => {
                pf.set_vf_rss_query(vf, switch(on)?)?;
                rest
            }
            ["ping", rest @ ..] => {
                pf.ping(vf)?;
                rest
            }
            ["request", rest @ ..] => {
                pf.request_vf(vf)?;
                rest
            }
            ["remove", rest @ ..] => {
                pf.remove_vf(vf)?;
                rest
            }
            ["return", rest @ ..] => {
                pf.return_vf(vf)?;
                rest
            }
            _ => {
                return Err(usage(format!(
                    "`{}`: the knobs of a VF are {VF_KNOBS}",
                    knobs.join(" ")
                )));
            }
        };
    }
    Ok(())
}

fn turn_pf(card: &Card, mut knobs: &[&str]) -> Result<(), KnobError> {
    /// What Linux's PF takes for a reset, about.
    const RESET: Duration = Duration::from_millis(500);
    let pf = card.pf();
    while !knobs.is_empty() {
        knobs = match knobs {
            ["up", rest @ ..] => {
                pf.up();
                rest
            }
            ["down", rest @ ..] => {
                pf.down();
                rest
            }
            ["reset", time, rest @ ..]
                if time.starts_with(|first: char| first.is_ascii_digit()) =>
            {
                pf.reset(Duration::from_millis(u64::from(number::<u32>(
                    time,
                    "milliseconds",
                )?)));
                rest
            }
            ["reset", rest @ ..] => {
                pf.reset(RESET);
                rest
            }
            ["mtu", mtu, rest @ ..] => {
                pf.set_mtu(number(mtu, "MTU")?)?;
                rest
            }
            ["promisc", on, rest @ ..] => {
                pf.set_promiscuous(switch(on)?);
                rest
            }
            ["link", on, rest @ ..] => {
                pf.set_link(switch(on)?);
                rest
            }
            ["speed", mbps, rest @ ..] => {
                pf.set_speed(number(mbps, "speed")?)?;
                rest
            }
            ["fdb", "add", mac, rest @ ..] => {
                pf.fdb_add(address(mac)?)?;
                rest
            }
            ["fdb", "del", mac, rest @ ..] => {
                pf.fdb_remove(address(mac)?);
                rest
            }
            _ => {
                return Err(usage(format!(
                    "`{}`: the knobs of the PF are {PF_KNOBS}",
                    knobs.join(" ")
                )));
            }
        };
    }
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, KnobError> {
    text.parse()
        .map_err(|_| usage(format!("`{text}` is no {what}, or out of range")))
}

fn switch(text: &str) -> Result<bool, KnobError> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(usage(format!("`{text}` is neither on nor off"))),
    }
}

fn link(text: &str) -> Result<VfLink, KnobError> {
    match text {
        "auto" => Ok(VfLink::Auto),
        "enable" => Ok(VfLink::Enable),
        "disable" => Ok(VfLink::Disable),
        _ => Err(usage(format!("`{text}` is none of auto, enable, disable"))),
    }
}

fn address(text: &str) -> Result<Mac, KnobError> {
    let wrong = || usage(format!("`{text}` is no address such as 02:00:00:00:00:01"));
    let mut mac = Mac::default();
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts
            .next()
            .filter(|part| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() {
        Err(wrong())
    } else {
        Ok(mac)
    }
}

fn address_text(mac: Mac) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// All there is to see of a card.
#[must_use]
pub fn show(card: &Card) -> Value {
    let stats = card.stats();
    let pf = card.pf();
    let vfs: Vec<Value> = (0..card.vf_count())
        .zip(&stats.vfs)
        .map(|(vf, stats)| {
            vf_value(
                vf,
                &pf.vf(vf).unwrap_or_default(),
                stats,
                card.interrupts(vf),
            )
        })
        .collect();
    let violations: Vec<String> = card.violations().iter().map(ToString::to_string).collect();
    json!({
        "model": card.model().name(),
        "cpu_seconds": card.cpu_time().as_secs_f64(),
        "pf": { "mac": address_text(pf.mac()), "counters": counters(&stats.pf) },
        "vfs": vfs,
        "wire": {
            "received": stats.wire.received,
            "sent": stats.wire.sent,
            "drops": drops(&stats.wire.drops),
        },
        "violations": violations,
        "faults_struck": card.faults().struck(),
    })
}

fn vf_value(vf: u16, info: &VfInfo, stats: &VfStats, interrupts: [u64; 3]) -> Value {
    json!({
        "vf": vf,
        "mac": address_text(info.mac),
        "mac_administered": info.mac_administered,
        "vlan": info.vlan,
        "qos": info.qos,
        "spoofchk": info.spoofchk,
        "trust": info.trust,
        "state": match info.state {
            VfLink::Auto => "auto",
            VfLink::Enable => "enable",
            VfLink::Disable => "disable",
        },
        "max_tx_rate": info.max_tx_rate,
        "clear_to_send": info.clear_to_send,
        "api": info.api,
        "spoofed": info.spoofed,
        "interrupts": interrupts,
        "counters": counters(stats),
    })
}

fn counters(stats: &VfStats) -> Value {
    json!({
        "gprc": stats.gprc,
        "gorc": stats.gorc,
        "mprc": stats.mprc,
        "gptc": stats.gptc,
        "gotc": stats.gotc,
        "delivered": stats.delivered,
        "taken": stats.taken,
        "drops": drops(&stats.drops),
    })
}

fn drops(drops: &crate::data::Drops) -> Value {
    drops
        .iter()
        .map(|(reason, count)| (reason.name().to_owned(), Value::from(count)))
        .collect()
}

#[cfg(test)]
mod tests {
    use vfnic_hw::Model;

    use super::*;

    fn card(model: Model) -> Card {
        Card::builder(model).vfs(2).build().expect("a card")
    }

    #[test]
    fn knobs_are_turned_in_the_words_of_ip_link() {
        let card = card(Model::I82599);
        let request = "vf 1 mac 02:00:00:00:00:0a vlan 7 qos 3 spoofchk off trust on state disable max_tx_rate 100";
        assert_eq!(execute(&card, request), Ok(Value::Null));
        let info = card.pf().vf(1).expect("a VF");
        assert_eq!(info.mac, [2, 0, 0, 0, 0, 10]);
        assert_eq!((info.vlan, info.qos, info.max_tx_rate), (7, 3, 100));
        assert_eq!(
            (info.spoofchk, info.trust, info.state),
            (false, true, VfLink::Disable)
        );
        for request in [
            "vf 1 vlan 0",
            "vf 0 query_rss on ping request remove return",
            "pf down",
            "pf up",
            "pf reset",
            "pf reset 20",
            "pf mtu 9000 promisc on link off link on speed 1000",
            "pf fdb add 02:00:00:00:00:0b",
            "pf fdb del 02:00:00:00:00:0b",
            "fault interrupt=drop,times=1; frame=duplicate",
            "fault clear",
        ] {
            assert_eq!(execute(&card, request), Ok(Value::Null), "{request}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_from_what_is_refused() {
        let card = card(Model::I82576);
        for request in [
            "",
            "vf",
            "vf 0",
            "vf x mac 02:00:00:00:00:01",
            "vf 0 mac 2:0:0:0:0:1",
            "vf 0 mac 02:00:00:00:00:01:02",
            "vf 0 mac 02:00:00:00:00",
            "vf 0 mac 02:00:00:00:00:+1",
            "vf 0 vlan",
            "vf 0 vlan -1",
            "vf 0 trust maybe",
            "vf 0 state up",
            "vf 0 colour red",
            "pf",
            "pf sideways",
            "pf mtu 70000",
            "pf fdb add",
            "fault",
            "fault interrupt=explode",
            "show me",
        ] {
            assert!(
                matches!(execute(&card, request), Err(KnobError::Usage(_))),
                "{request}"
            );
        }
        for request in [
            "vf 2 trust on",
            "vf 0 mac 01:00:00:00:00:01",
            "vf 0 vlan 4096",
            "vf 0 state disable",
            "pf mtu 20",
        ] {
            assert!(
                matches!(execute(&card, request), Err(KnobError::Refused(_))),
                "{request}"
            );
        }
    }

    #[test]
    fn everything_is_shown() {
        let card = card(Model::X550);
        execute(&card, "vf 0 mac 02:00:00:00:00:0a vlan 5").expect("turned");
        let value = execute(&card, "show").expect("shown");
        assert_eq!(value["model"], "x550");
        assert_eq!(value["vfs"][0]["mac"], "02:00:00:00:00:0a");
        assert_eq!(value["vfs"][0]["vlan"], 5);
        assert_eq!(value["vfs"].as_array().map(Vec::len), Some(2));
        assert_eq!(value["violations"], json!([]));
    }
}
