//! Getting traffic back after a reset, without the application's help.
//!
//! Whatever went wrong (the PF was reset, forgot us, went silent; somebody reset the function), there is one way back:
//! queues let go, VF reset, handshake, settings replayed, queues resume. It is a task, so that a PF that takes seconds
//! holds nobody up.

use std::sync::Arc;
use std::time::Duration;

use crate::family::Io;
use crate::port::control::{Cause, Control};
use crate::port::shared::{Shared, Slot, Task};
use crate::port::{Device, PortState, start};
use crate::registers::Gone;
use crate::wait::Patience;
use crate::{Error, Event};

impl Shared {
    /// Takes the control state out of its slot and begins a recovery.
    pub(crate) fn begin_recovery(self: &Arc<Self>, slot: &mut Slot, cause: Cause) {
        let Slot::Idle(control) = std::mem::replace(slot, Slot::Closed) else {
            return;
        };
        let since = self.ticker.now();
        log::info!("{}: recovering: {}", self.device.name, why(cause));
        self.events.push(match cause {
            Cause::TxHang => Event::TxHang,
            Cause::BusError => Event::BusError,
            Cause::PfReset
            | Cause::Forgotten
            | Cause::Silence
            | Cause::LostQueue
            | Cause::Absent => Event::PfReset,
        });
        let state = if cause == Cause::PfReset {
            PortState::PfResetting
        } else {
            PortState::Recovering
        };
        self.publish_link(state, crate::Link::Down);
        *slot = Slot::Recovering {
            task: recover(Arc::clone(self), control, since, cause),
            since,
        };
    }
}

const fn why(cause: Cause) -> &'static str {
    match cause {
        Cause::PfReset => "the PF was reset",
        Cause::Forgotten => "the PF no longer knows this VF",
        Cause::Silence => "the PF did not answer",
        Cause::LostQueue => "a queue was switched off from outside",
        Cause::TxHang => "a transmit queue does not move",
        Cause::BusError => "the bus reported an error",
        Cause::Absent => "its registers read all ones",
    }
}

fn recover(shared: Arc<Shared>, mut control: Box<Control>, since: Duration, cause: Cause) -> Task {
    Box::pin(async move {
        let result = try_until_done(&shared, &mut control, since, cause).await;
        if result.is_err() {
            // Only a device that is gone ends a recovery.
            control.trouble = None;
        }
        (control, result)
    })
}

/// Counters are taken once more before the reset puts them to zero, unless that has happened already: then a smaller
/// value would pass for a wrap.
const fn counters_are_sound(cause: Cause) -> bool {
    matches!(cause, Cause::TxHang | Cause::Silence)
}

async fn try_until_done(
    shared: &Arc<Shared>,
    control: &mut Control,
    since: Duration,
    cause: Cause,
) -> Result<(), Error> {
    let device = &shared.device;
    let io = device.io(&shared.ticker);
    if counters_are_sound(cause) {
        // All ones are dealt with below.
        let _ = control.totals.update(io.regs);
    }
    let run = shared.run();
    if let Some(run) = &run {
        run.suspend();
    }
    drop(run);
    let mut suspect = matches!(cause, Cause::LostQueue | Cause::TxHang | Cause::BusError);
    let mut failures = 0u32;
    loop {
        if device.regs.is_silent() {
            wait_for_return(device, io).await?;
            suspect = true;
        }
        // An FLR by somebody else takes more than registers.
        if std::mem::take(&mut suspect) || !device.is_bus_master() {
            device.rewire()?;
        }
        match attempt(shared, control, io).await {
            Ok(()) => break,
            Err(Error::Gone { .. }) if device.is_on_the_bus() => {}
            Err(error @ Error::Gone { .. }) => return Err(error),
            Err(error) => {
                failures = failures.saturating_add(1);
                // The first says why, every tenth that it is still so.
                if failures % 10 == 1 {
                    log::warn!("{}: recovery failed: {error}", device.name);
                }
                let patience = device.family.retry_after(failures);
                wait_for_a_sign(control, io, patience).await;
            }
        }
    }
    let took = shared.ticker.now().saturating_sub(since);
    shared.count_recovery();
    shared.publish_grant(control);
    shared.publish_link(PortState::LinkDown, crate::Link::Down);
    log::info!("{}: recovered after {took:?}", device.name);
    shared.events.push(Event::Recovered { took });
    control.hang.forget();
    control.looked = shared.ticker.now();
    Ok(())
}

/// One time through. A PF in reset is waited for without end: nothing else can be done, and looking costs nothing.
async fn attempt(shared: &Arc<Shared>, control: &mut Control, io: Io<'_>) -> Result<(), Error> {
    control
        .bring_up(&shared.device, &shared.ticker, Duration::MAX)
        .await?;
    shared.published().state = if shared.run().is_some() {
        PortState::Recovering
    } else {
        PortState::Stopped
    };
    let Some(run) = shared.run() else {
        return Ok(());
    };
    let refused = control.replay(&shared.device, io).await?;
    let lost: Vec<String> = refused.iter().map(ToString::to_string).collect();
    let pairs = run.pairs().min(control.grant.pairs);
    start::program_port(&shared.device, &shared.config, pairs).map_err(|Gone| io.gone())?;
    let tell = {
        let mut published = shared.published();
        let tell = published.lost != lost;
        published.lost = lost;
        tell
    };
    if pairs < run.pairs() {
        log::warn!(
            "{}: the PF grants {pairs} queue pairs now, {} were started; the others stand still",
            shared.device.name,
            run.pairs()
        );
    }
    if tell || pairs < run.pairs() {
        shared.events.push(Event::SettingsLost);
    }
    control.fresh = false;
    run.resume(pairs);
    Ok(())
}

/// Leaves the PF alone for `time`, but for looking whether it has something to say: then it is worth another try.
async fn wait_for_a_sign(control: &mut Control, io: Io<'_>, time: Duration) {
    let patience = Patience {
        first: Duration::from_millis(20),
        step: Duration::from_millis(20),
        limit: time,
    };
    let sign = io
        .ticker
        .poll_until(patience, || {
            let state = control.mailbox.pf_state(io.regs)?;
            Ok::<_, Gone>((state.in_reset || state.was_reset || state.message).then_some(()))
        })
        .await;
    // A device that answers no more is found out at the next attempt.
    if matches!(sign, Ok(Ok(()))) {
        log::debug!("{}: the PF gives a sign of life", io.device);
    }
}

/// Waits for a function that is on its bus and does not answer.
async fn wait_for_return(device: &Device, io: Io<'_>) -> Result<(), Error> {
    let patience = Patience {
        first: Duration::from_millis(1),
        step: Duration::from_millis(20),
        limit: ABSENT,
    };
    let returned = io
        .ticker
        .poll_until(patience, || {
            if !device.is_on_the_bus() {
                return Err(Gone);
            }
            Ok(device.regs.revive().then_some(()))
        })
        .await;
    match returned {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(Gone) => Err(io.gone()),
    }
}

/// TIMEOUT: an FLR settles in 100 ms, recovery from a bus error in about a second (PCI Express 5.0 §6.6.2, Linux
/// Documentation/PCI/pci-error-recovery.rst); what has not come back after twice that will not.
const ABSENT: Duration = Duration::from_secs(2);
