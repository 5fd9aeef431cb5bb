//! A thread that looks after a port, for applications that have no loop of their own to do it from.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Error;
use crate::port::shared::Shared;

/// The running thread; dropping it stops and joins it.
#[derive(Debug)]
pub(super) struct ControlThread {
    stop: vfnic_hw::Event,
    thread: Option<JoinHandle<()>>,
}

impl ControlThread {
    pub(super) fn spawn(shared: Arc<Shared>) -> Result<Self, Error> {
        let stop = vfnic_hw::Event::new().map_err(|source| Error::Sys {
            call: "eventfd for the control thread",
            source,
        })?;
        let wake = stop.clone();
        let thread = std::thread::Builder::new()
            .name("vfnic-control".to_owned())
            .spawn(move || run(&shared, &wake))
            .map_err(|source| Error::Sys {
                call: "starting the control thread",
                source,
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        self.stop.signal();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            log::error!("the control thread panicked");
        }
    }
}

fn run(shared: &Arc<Shared>, stop: &vfnic_hw::Event) {
    loop {
        let pause = match shared.poll_control() {
            Ok(pause) => pause,
            Err(error) => {
                log::debug!("{}: the control thread ends: {error}", shared.device.name);
                return;
            }
        };
        if sleep(shared, stop, pause) {
            return;
        }
    }
}

/// Sleeps until `pause` is over or something happens. True when it is time to stop.
fn sleep(shared: &Shared, stop: &vfnic_hw::Event, pause: Duration) -> bool {
    let device = &shared.device;
    let request = device.function.request_event();
    let error = device.function.error_event();
    // A mailbox vector that queues share is left to the queues: their thread would miss what is taken here.
    let mailbox = (device.plan.count > 1)
        .then(|| device.vectors.get(usize::from(device.plan.mailbox)))
        .flatten();
    let mut fds: Vec<PollFd<'_>> = [Some(stop), request.as_ref(), error.as_ref(), mailbox]
        .into_iter()
        .flatten()
        .map(|event| PollFd::new(event, PollFlags::IN))
        .collect();
    let timeout = Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: pause.subsec_nanos().into(),
    };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => {
            // Nothing to wait on: time alone has to do.
            log::debug!("{}: poll: {error}", device.name);
            std::thread::sleep(pause);
        }
    }
    stop.take() > 0
}
