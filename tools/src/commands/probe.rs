//! `vfnic probe`: opens a VF and says what it is and can do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use serde::Serialize;
use vfnic::{Availability, Link, MacAddr, MacChoice, MacOrigin, Port, PortConfig};

use crate::cli::Outcome;
use crate::device::Device;
use crate::output;

/// Opens a VF and says what it is, what it can do, and why not
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The VF
    #[arg(long, value_name = "SPEC")]
    device: Device,
    /// Ask the PF for this address
    #[arg(long, value_name = "MAC")]
    mac: Option<MacAddr>,
    /// Ask for this MTU, in bytes
    #[arg(long, value_name = "N", default_value_t = 1500)]
    mtu: u16,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  vfnic probe --device 0000:31:10.1
  vfnic probe --device sim:x550 --json";

/// What is found; the object that `--json` prints.
#[derive(Debug, Serialize)]
struct Findings {
    device: String,
    model: &'static str,
    ids: String,
    mac: String,
    mac_origin: &'static str,
    mtu: u16,
    mtu_min: u16,
    mtu_max: u16,
    link: LinkState,
    queue_pairs: u16,
    queue_pairs_max: u16,
    queue_pairs_limit: &'static str,
    mailbox_api: Option<String>,
    port_vlan: bool,
    capabilities: BTreeMap<&'static str, Capability>,
    #[serde(skip)]
    mac_note: String,
    #[serde(skip)]
    order: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct LinkState {
    up: bool,
    mbps: u32,
    full_duplex: bool,
    #[serde(skip)]
    text: String,
}

#[derive(Debug, Serialize)]
struct Capability {
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Runs it.
///
/// # Errors
///
/// When the device cannot be opened, started or closed.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut config = PortConfig::default().mtu(args.mtu);
    if let Some(mac) = args.mac {
        config = config.mac(MacChoice::Set(mac));
    }
    let port = args.device.open(config)?;
    let pairs = port.start()?;
    wait_for_link(&port, Duration::from_secs(2))?;
    let findings = Findings::of(&port);
    port.stop(pairs)?;
    port.close()?;
    if args.json {
        output::json(&findings)?;
    } else {
        output::line(findings.text())?;
    }
    Ok(Outcome::Good)
}

/// Looks after `port` until its link is up, at most for `limit`. True when it is.
pub(crate) fn wait_for_link(port: &Port, limit: Duration) -> anyhow::Result<bool> {
    let start = Instant::now();
    loop {
        let pause = port.poll_control()?;
        if port.link().is_up() {
            return Ok(true);
        }
        if start.elapsed() >= limit {
            return Ok(false);
        }
        std::thread::sleep(pause.min(Duration::from_millis(5)));
    }
}

impl Findings {
    fn of(port: &Port) -> Self {
        let (mac, origin) = port.mac();
        let (mac_origin, mac_note) = match origin {
            MacOrigin::Administered => ("administered", "assigned by the administrator".to_owned()),
            MacOrigin::Random => (
                "random",
                "random: the administrator assigned none".to_owned(),
            ),
            MacOrigin::Requested => ("requested", "as asked for".to_owned()),
            MacOrigin::Refused { requested } => (
                "refused",
                format!("assigned by the administrator; the PF refused {requested}"),
            ),
            _ => ("other", format!("{origin:?}")),
        };
        let capabilities = port.capabilities();
        let (mbps, full_duplex) = match port.link() {
            Link::Up { mbps, full_duplex } => (mbps, full_duplex),
            Link::Down => (0, false),
        };
        Self {
            device: port.name().to_owned(),
            model: port.model().name(),
            ids: format!("{:04x}:{:04x}", port.ids().vendor, port.ids().device),
            mac: mac.to_string(),
            mac_origin,
            mtu: port.mtu(),
            mtu_min: *capabilities.mtu.start(),
            mtu_max: *capabilities.mtu.end(),
            link: LinkState {
                up: port.link().is_up(),
                mbps,
                full_duplex,
                text: port.link().to_string(),
            },
            queue_pairs: port.queue_pairs(),
            queue_pairs_max: capabilities.max_queue_pairs,
            queue_pairs_limit: capabilities.max_queue_pairs_why,
            mailbox_api: capabilities.api.map(|api| api.to_string()),
            port_vlan: capabilities.port_vlan,
            order: capabilities.iter().map(|(name, _)| name).collect(),
            capabilities: capabilities
                .iter()
                .map(|(name, availability)| (name, Capability::from(availability)))
                .collect(),
            mac_note,
        }
    }

    fn text(&self) -> String {
        let api = self
            .mailbox_api
            .as_ref()
            .map_or_else(|| "the family's only one".to_owned(), String::clone);
        let mut lines = vec![
            format!("{}: {} VF, {}", self.device, self.model, self.ids),
            format!("  address      {} ({})", self.mac, self.mac_note),
            format!(
                "  MTU          {} (can be {} to {})",
                self.mtu, self.mtu_min, self.mtu_max
            ),
            format!("  link         {}", self.link.text),
            format!(
                "  queue pairs  {} of {} ({})",
                self.queue_pairs, self.queue_pairs_max, self.queue_pairs_limit
            ),
            format!("  mailbox API  {api}"),
        ];
        if self.port_vlan {
            lines
                .push("  VLAN         the administrator set one; the card tags every frame".into());
        }
        for name in &self.order {
            let verdict = match self.capabilities.get(name) {
                Some(Capability {
                    reason: Some(reason),
                    ..
                }) => format!("no: {reason}"),
                _ => "yes".to_owned(),
            };
            lines.push(format!("  {name:<20} {verdict}"));
        }
        lines.join("\n")
    }
}

impl From<&Availability> for Capability {
    fn from(availability: &Availability) -> Self {
        Self {
            available: availability.is_available(),
            reason: match availability {
                Availability::Available => None,
                Availability::Unavailable(reason) => Some(reason.clone()),
            },
        }
    }
}
