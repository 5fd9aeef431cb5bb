//! `vfnic watch`: holds a VF and prints what happens to it.

use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vfnic::{Event, Port, PortConfig};

use crate::cli::Outcome;
use crate::device::Device;
use crate::output;

/// Holds a VF and prints what happens to it, one event a line
///
/// LinkUp MBPS, LinkDown, PfReset, Recovered MILLISECONDS, MacChanged, SettingsLost, RemovalRequested, Gone and others.
/// When the administrator asks for the device it is closed at once.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The VF
    #[arg(long, value_name = "SPEC")]
    device: Device,
    /// How long to watch
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
}

const EXAMPLES: &str = "\
Examples:
  vfnic watch --device 0000:31:10.1 --seconds 3600
  vfnic watch --device sim:82599 --seconds 1

Exit status 0 when the time is up or the device was given back on request, 1 when it went away unasked.";

/// Runs it.
///
/// # Errors
///
/// When the device cannot be opened, started or closed.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let port = args.device.open(PortConfig::default())?;
    let pairs = port.start()?;
    let over = follow(&port, end)?;
    drop(pairs);
    if over == Over::Gone {
        // There is nothing left to put to rest.
        drop(port);
        return Ok(Outcome::Bad);
    }
    port.close()?;
    Ok(Outcome::Good)
}

/// Why watching ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Time,
    Requested,
    Gone,
}

fn follow(port: &Port, end: Instant) -> anyhow::Result<Over> {
    loop {
        let pause = match port.poll_control() {
            Ok(pause) => pause,
            // The event says so as well, and may be preceded by others.
            Err(vfnic::Error::Gone { .. }) => Duration::ZERO,
            Err(error) => return Err(error.into()),
        };
        for event in port.events() {
            output::line(text(event))?;
            match event {
                Event::RemovalRequested => return Ok(Over::Requested),
                Event::Gone => return Ok(Over::Gone),
                _ => {}
            }
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Over::Time);
        }
        wait(port, pause.min(left));
    }
}

/// Until there is an event, or `pause` is over.
fn wait(port: &Port, pause: Duration) {
    let timeout = Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(pause.subsec_nanos()),
    };
    let fd = port.event_fd();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    // A signal only makes the next look come earlier.
    let _ = poll(&mut fds, Some(&timeout));
}

fn text(event: Event) -> String {
    match event {
        Event::LinkUp { mbps } => format!("LinkUp {mbps}"),
        Event::Recovered { took } => format!("Recovered {}", took.as_millis()),
        other => format!("{other:?}"),
    }
}
