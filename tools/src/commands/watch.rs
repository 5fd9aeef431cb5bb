//! `vfnic watch`: holds a VF and prints what happens to it.

use std::time::Duration;

use clap::Args as ClapArgs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vfnic::{Event, Port, PortConfig, QueuePair};

use crate::apps::Stop;
use crate::cli::Outcome;
use crate::confine::{self, Keep};
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

A first Ctrl-C, or SIGTERM, ends it in good order.

Exit status 0 when the time is up, a signal came or the device was given back on request, 1 when it went away unasked.";

/// Runs it.
///
/// # Errors
///
/// When the device cannot be opened, started or closed, or signals not be caught.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let stop = Stop::new(Some(Duration::from_secs(args.seconds)))?;
    let port = args.device.open(PortConfig::default())?;
    let mut pairs = port.start()?;
    confine::enter(Keep::Nothing);
    let over = follow(&port, &mut pairs, &stop, output::line)?;
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
    /// The time was up, or a signal came.
    Due,
    Requested,
    Gone,
}

/// Tells every event of `port` until it is due to stop or there is nothing more to come.
fn follow(
    port: &Port,
    pairs: &mut [QueuePair],
    stop: &Stop,
    mut tell: impl FnMut(String) -> anyhow::Result<()>,
) -> anyhow::Result<Over> {
    let mut batch = port.batch(64);
    loop {
        let pause = match port.poll_control() {
            Ok(pause) => pause,
            // The event says so as well, and may be preceded by others.
            Err(vfnic::Error::Gone { .. }) => Duration::ZERO,
            Err(error) => return Err(error.into()),
        };
        for event in port.events() {
            tell(text(event))?;
            match event {
                Event::RemovalRequested => return Ok(Over::Requested),
                Event::Gone => return Ok(Over::Gone),
                _ => {}
            }
        }
        // Queues come back from a reset when their owner looks at them; what they received is nobody's.
        for pair in &mut *pairs {
            while matches!(pair.rx.receive(&mut batch), Ok(1..)) {
                batch.clear();
            }
            // Nothing to send: only for the look.
            let _ = pair.tx.send(&mut batch);
        }
        if stop.due().is_some() {
            return Ok(Over::Due);
        }
        wait(port, stop.left(pause));
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

#[cfg(test)]
mod tests {
    use vfnic_hw::Model;
    use vfnic_sim::{Card, Pf};

    use super::*;

    /// What is told of a VF of a 82599 that lives through `life`, and how it ends.
    fn told(life: impl FnOnce(&Pf) + Send) -> (Vec<String>, Over) {
        let card = Card::builder(Model::I82599)
            .threaded()
            .build()
            .expect("a card");
        let function = card.function(0).expect("a VF");
        let port = Port::from_function(function, PortConfig::default()).expect("opened");
        let mut pairs = port.start().expect("started");
        let mut lines = Vec::new();
        let pf = card.pf();
        let over = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                life(&pf);
            });
            let stop = Stop::new(Some(Duration::from_secs(3))).expect("signals");
            follow(&port, &mut pairs, &stop, |line| {
                lines.push(line);
                Ok(())
            })
        });
        (lines, over.expect("followed"))
    }

    #[test]
    fn a_pf_that_goes_down_and_up_is_followed() {
        let (lines, over) = told(|pf| {
            pf.down();
            std::thread::sleep(Duration::from_millis(300));
            pf.up();
        });
        assert_eq!(over, Over::Due);
        let kinds: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(
            lines.first().map(String::as_str),
            Some("LinkUp 10000"),
            "{lines:?}"
        );
        let reset = kinds.iter().position(|&kind| kind == "PfReset");
        let recovered = kinds.iter().position(|&kind| kind == "Recovered");
        assert!(reset.is_some() && recovered > reset, "{lines:?}");
        assert_eq!(
            lines.last().map(String::as_str),
            Some("LinkUp 10000"),
            "{lines:?}"
        );
    }

    #[test]
    fn a_request_ends_it() {
        let (lines, over) = told(|pf| pf.request_vf(0).expect("VF 0"));
        assert_eq!(over, Over::Requested);
        assert_eq!(lines.last().map(String::as_str), Some("RemovalRequested"));
    }

    #[test]
    fn so_does_a_removal_without_one() {
        let (lines, over) = told(|pf| pf.remove_vf(0).expect("VF 0"));
        assert_eq!(over, Over::Gone);
        assert_eq!(lines.last().map(String::as_str), Some("Gone"));
    }
}
