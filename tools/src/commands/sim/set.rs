//! `vfnic sim set`: changes a running card.

use clap::Args as ClapArgs;

use super::Served;
use crate::cli::Outcome;

/// Changes a running card, in the words of `ip link`
///
/// KNOBS are `vf N KNOB…`, `pf KNOB…`, `fault PLAN` or `fault clear`. Of a VF: mac ADDRESS, vlan ID [qos N], spoofchk
/// on|off, trust on|off, state auto|enable|disable, max_tx_rate MBPS, query_rss on|off, ping, request (ask for it back),
/// remove (off the bus), return. Of the PF: up, down, reset [MILLISECONDS], mtu N, promisc on|off, link on|off, speed
/// MBPS, fdb add|del ADDRESS.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    served: Served,
    /// What to turn, and to what
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "KNOBS"
    )]
    knobs: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  vfnic sim set /run/card vf 0 mac 02:00:00:00:00:01 vlan 7
  vfnic sim set /run/card pf down
  vfnic sim set /run/card fault 'mailbox-reply=drop,vf=0,times=1'";

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    super::request(&args.served.dir, &args.knobs.join(" "))?;
    Ok(Outcome::Good)
}
