//! The ports of a command, opened together and looked after together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use vfnic::{Event, Port, PortConfig, PortStats};

use crate::device::{Device, Spaces};

/// Longest time without a look at the ports.
const TICK: Duration = Duration::from_millis(100);

/// One port or several. Those that the same kind of backend reaches share memory, so that what one received another
/// can send without a copy.
#[derive(Debug)]
pub struct Ports {
    ports: Vec<Port>,
    next_look: Instant,
}

impl Ports {
    /// Opens `devices`. `config` must have a pool with room for all of them.
    ///
    /// # Errors
    ///
    /// What the driver says of the first that cannot be had.
    pub fn open(devices: &[Device], config: &PortConfig) -> anyhow::Result<Self> {
        let spaces = Spaces::default();
        let mut ports: Vec<Port> = Vec::new();
        let mut kinds: Vec<&'static str> = Vec::new();
        for device in devices {
            let mut config = config.clone();
            if let Some(at) = kinds.iter().position(|kind| *kind == device.kind()) {
                config = config.shared_pool(ports[at].pool().clone());
            }
            ports.push(device.open_in(&spaces, config)?);
            kinds.push(device.kind());
        }
        Ok(Self {
            ports,
            next_look: Instant::now(),
        })
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Port] {
        &self.ports
    }

    /// Waits until all links are up, at most for `limit`; then the names of those that are not.
    ///
    /// # Errors
    ///
    /// When a device goes away meanwhile.
    pub fn wait_for_links(&self, limit: Duration) -> anyhow::Result<Vec<&str>> {
        let start = Instant::now();
        loop {
            let mut pause = Duration::from_millis(5);
            for port in &self.ports {
                pause = pause.min(port.poll_control()?);
            }
            let down: Vec<&str> = self
                .ports
                .iter()
                .filter(|port| !port.link().is_up())
                .map(Port::name)
                .collect();
            if down.is_empty() || start.elapsed() >= limit {
                return Ok(down);
            }
            std::thread::sleep(pause);
        }
    }

    /// Looks after the ports if it is time to. To be called as often as is convenient, every 100 ms at least.
    ///
    /// # Errors
    ///
    /// When a device is gone.
    pub fn look_after(&mut self) -> Result<(), vfnic::Error> {
        let now = Instant::now();
        if now < self.next_look {
            return Ok(());
        }
        let mut pause = TICK;
        let mut result = Ok(());
        for port in &self.ports {
            match port.poll_control() {
                Ok(wanted) => pause = pause.min(wanted),
                Err(error) => result = Err(error),
            }
            for event in port.events() {
                tell(port.name(), event);
            }
        }
        self.next_look = now + pause.max(Duration::from_millis(1));
        result
    }

    /// Puts them to rest.
    ///
    /// # Errors
    ///
    /// When one cannot be stopped for certain.
    pub fn close(self) -> anyhow::Result<()> {
        for port in self.ports {
            let name = port.name().to_owned();
            port.close()
                .with_context(|| format!("{name}: cannot close"))?;
        }
        Ok(())
    }
}

/// What somebody who watches a run should know goes to the log, and what went well only when asked for.
fn tell(port: &str, event: Event) {
    match event {
        Event::LinkUp { .. } => log::info!("{port}: {event:?}"),
        Event::Recovered { took } => log::warn!("{port}: recovered after {took:?}"),
        _ => log::warn!("{port}: {event:?}"),
    }
}

/// Every counter of `stats` that is not zero, by name.
#[must_use]
pub fn counters(stats: &PortStats) -> BTreeMap<String, u64> {
    stats
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}
