//! `vfnic set`: a PF's knobs for one VF.

use anyhow::{Context, bail};
use clap::Args as ClapArgs;

use crate::cli::{Outcome, UsageError};
use crate::host::At;
use crate::host::links::{LinkState, Setting, VfSettings};
use crate::output;

/// Turns a PF's knobs for a VF
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Knobs, as `ip link set` has them: mac ADDRESS, vlan ID [qos N] [proto 802.1Q|802.1ad],
spoofchk on|off, trust on|off, state auto|enable|disable, query_rss on|off,
max_tx_rate MBIT, min_tx_rate MBIT

Examples:
  vfnic set eth0 vf 1 mac 02:00:00:00:00:0a trust on
  vfnic set eth0 vf 1 vlan 100 qos 3 --dry-run")]
pub struct Args {
    /// The PF's interface
    #[arg(value_name = "PF")]
    pf: String,
    /// `vf`, its number, and knobs with their values
    #[arg(value_names = ["vf", "N", "KNOB", "VALUE"], required = true, num_args = 4..)]
    words: Vec<String>,
    /// Print what would be set, set nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: At,
}

/// Runs it.
///
/// # Errors
///
/// When the words make no sense, or the PF's driver refuses; what was set before is put back then.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let host = args.at.host()?;
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let (vf, rest) = match words.as_slice() {
        ["vf", number, rest @ ..] => match number.parse::<u16>() {
            Ok(number) if number < 256 => (number, rest),
            _ => return Err(UsageError(format!("`{number}` is no VF's number")).into()),
        },
        _ => return Err(UsageError("`vf N` is wanted behind the PF".to_owned()).into()),
    };
    parse(rest, &VfSettings::default()).map_err(UsageError)?;
    let interface = &args.pf;
    let read = || -> anyhow::Result<VfSettings> {
        let all = host
            .links()
            .read(interface)
            .with_context(|| format!("`{interface}` cannot be asked about its VFs"))?;
        all.get(&vf).cloned().with_context(|| match all.len() {
            0 => format!("`{interface}` has no VFs; `vfnic list` shows what has"),
            count => format!("`{interface}` has {count} VFs and no VF {vf}"),
        })
    };
    let before = read()?;
    // Again, for a rate not named is the one that was.
    let settings = parse(rest, &before).map_err(UsageError)?;
    if args.dry_run {
        for setting in &settings {
            output::line(format!("ip link set {interface} vf {vf} {setting}"))?;
        }
        return Ok(Outcome::Good);
    }
    let mut done: Vec<&Setting> = Vec::new();
    for setting in &settings {
        let result = host
            .links()
            .set(interface, vf, setting)
            .map_err(anyhow::Error::from)
            .and_then(|()| {
                if setting.holds_in(&read()?) {
                    Ok(())
                } else {
                    bail!("the PF's driver took it and did not do it")
                }
            });
        if let Err(error) = result {
            let mut left = Vec::new();
            for setting in done.into_iter().rev() {
                let undone = setting
                    .undo(&before)
                    .is_some_and(|undo| host.links().set(interface, vf, &undo).is_ok());
                if !undone {
                    left.push(setting.to_string());
                }
            }
            let back = if left.is_empty() {
                "nothing is changed".to_owned()
            } else {
                format!("could not be put back: {}", left.join(", "))
            };
            return Err(error.context(format!("`{interface}` vf {vf}: {setting} failed; {back}")));
        }
        done.push(setting);
    }
    for setting in done {
        output::line(format!("{interface} vf {vf}: {setting}"))?;
    }
    Ok(Outcome::Good)
}

fn parse(words: &[&str], before: &VfSettings) -> Result<Vec<Setting>, String> {
    let mut settings = Vec::new();
    let mut rest = words;
    let mut rates = None;
    while let [knob, value, tail @ ..] = rest {
        rest = tail;
        let number = |most: u32| match value.parse::<u32>() {
            Ok(number) if number <= most => Ok(number),
            _ => Err(format!("{knob}: `{value}` is no number up to {most}")),
        };
        let switch = || match *value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(format!("{knob}: `{value}` is neither `on` nor `off`")),
        };
        let old = (
            before.min_tx_rate.unwrap_or(0),
            before.max_tx_rate.unwrap_or(0),
        );
        let setting = match *knob {
            "mac" => Setting::Mac(value.parse().map_err(|error| format!("mac: {error}"))?),
            "spoofchk" => Setting::SpoofCheck(switch()?),
            "trust" => Setting::Trust(switch()?),
            "query_rss" => Setting::QueryRss(switch()?),
            "state" => Setting::State(match *value {
                "auto" => LinkState::Auto,
                "enable" => LinkState::Enable,
                "disable" => LinkState::Disable,
                _ => return Err(format!("state: `{value}` is none of auto, enable, disable")),
            }),
            "min_tx_rate" => {
                rates.get_or_insert(old).0 = number(u32::MAX)?;
                continue;
            }
            "max_tx_rate" => {
                rates.get_or_insert(old).1 = number(u32::MAX)?;
                continue;
            }
            "vlan" => {
                let id = u16::try_from(number(4094)?).map_err(|error| error.to_string())?;
                let (mut qos, mut ad) = (0, false);
                while let [key @ ("qos" | "proto"), value, tail @ ..] = rest {
                    rest = tail;
                    match (*key, *value) {
                        ("proto", "802.1Q") => ad = false,
                        ("proto", "802.1ad") => ad = true,
                        ("qos", value) if matches!(value.parse::<u8>(), Ok(0..=7)) => {
                            qos = value.parse().unwrap_or(0);
                        }
                        _ => return Err(format!("{key}: `{value}` cannot be")),
                    }
                }
                Setting::Vlan { id, qos, ad }
            }
            _ => return Err(format!("there is no knob `{knob}`")),
        };
        settings.push(setting);
    }
    if let [left] = rest {
        return Err(format!("`{left}` has no value"));
    }
    if let Some((least, most)) = rates {
        settings.push(Setting::Rate(least, most));
    }
    Ok(settings)
}
