//! The card and its three ports.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use vfnic::{Port, PortConfig, QueueCount, QueuePair};
use vfnic_sim::Card;

use super::Args;
use super::worker::Done;
use crate::drops;

/// What the three VFs are for, by number.
pub(super) const ROLES: [&str; 3] = ["generator", "forwarder", "sink"];

/// Descriptors of a ring that the card may not have: the one between tail and head, and those refilled that it has not
/// been told of, which RX rings keep back up to 32 of.
const SPARE: usize = 1 + 32;
/// Bytes of a receive buffer. Longer frames come in several, as they would on hardware.
const BUFFER: u32 = 2048;
/// Descriptors in each ring, at least and at most.
const RING: (usize, usize) = (512, 4096);

/// A card with generator, forwarder and sink on VFs 0, 1 and 2.
#[derive(Debug)]
pub(super) struct Bed {
    // Ports before the card: they are put to rest first.
    ports: Vec<Port>,
    card: Card,
    window: usize,
    /// When the first port was about to be opened.
    opened: Instant,
    /// From then to all links being up.
    ready_after: Duration,
    /// CPU time that the card's thread had used by then.
    card_cpu_before: Duration,
}

impl Bed {
    /// Builds the card, opens and starts the ports, waits for the links.
    pub(super) fn build(args: &Args) -> anyhow::Result<(Self, Vec<Vec<QueuePair>>)> {
        let frame = args.traffic.frame;
        let card = Card::builder(args.model)
            .vfs(3)
            .seed(args.traffic.seed)
            .threaded()
            .build()
            .context("cannot simulate a card")?;
        let mtu = frame.mtu();
        if mtu > 1500 {
            // Larger frames take the PF's consent on most models.
            card.pf()
                .set_mtu(mtu)
                .context("cannot give the PF a larger MTU")?;
        }
        let buffers = frame.longest_len().div_ceil(BUFFER as usize);
        let ring = (usize::from(args.window) * buffers + SPARE)
            .next_multiple_of(8)
            .clamp(RING.0, RING.1);
        let window = usize::from(args.window).min((ring - SPARE) / buffers);
        let ring = u16::try_from(ring).unwrap_or(u16::MAX);
        let config = PortConfig::default()
            .queues(QueueCount::Exactly(args.queues))
            .rings(ring, ring)
            .buffer_size(BUFFER)
            .mtu(mtu);
        let start = Instant::now();
        let mut ports = Vec::new();
        let mut pairs = Vec::new();
        for (vf, role) in (0..).zip(ROLES) {
            let port = card
                .function(vf)
                .map_err(anyhow::Error::new)
                .and_then(|function| Ok(Port::from_function(function, config.clone())?))
                .with_context(|| format!("cannot open the {role}"))?;
            let started = port.start();
            pairs.push(started.with_context(|| format!("cannot start the {role}"))?);
            ports.push(port);
        }
        let mut bed = Self {
            ports,
            card,
            window,
            opened: start,
            ready_after: Duration::ZERO,
            card_cpu_before: Duration::ZERO,
        };
        bed.wait_for_links()?;
        bed.ready_after = start.elapsed();
        bed.card_cpu_before = bed.card.cpu_time();
        log::debug!("ports ready after {:?}", bed.ready_after);
        Ok((bed, pairs))
    }

    fn wait_for_links(&self) -> anyhow::Result<()> {
        const LIMIT: Duration = Duration::from_secs(5);
        let start = Instant::now();
        for port in &self.ports {
            while !port.link().is_up() {
                if start.elapsed() > LIMIT {
                    bail!(
                        "the link of {} did not come up within {LIMIT:?}",
                        port.name()
                    );
                }
                let pause = port.poll_control()?;
                if !port.link().is_up() {
                    std::thread::sleep(pause.min(Duration::from_micros(100)));
                }
            }
        }
        Ok(())
    }

    /// The port of `ROLES[role]`.
    pub(super) fn port(&self, role: usize) -> &Port {
        &self.ports[role]
    }

    /// Looks after the ports.
    pub(super) fn poll_control(&self) -> anyhow::Result<()> {
        for port in &self.ports {
            port.poll_control()?;
            for event in port.events() {
                log::debug!("{}: {event:?}", port.name());
            }
        }
        Ok(())
    }

    /// Bytes of a buffer of its pools.
    pub(super) const fn buffer_size(&self) -> u32 {
        BUFFER
    }

    /// Most frames that may be under way without any ring overflowing.
    pub(super) const fn window(&self) -> usize {
        self.window
    }

    /// CPU time of the card's thread since everything was ready.
    pub(super) fn card_cpu(&self) -> Duration {
        self.card.cpu_time().saturating_sub(self.card_cpu_before)
    }

    /// When the first port was about to be opened.
    pub(super) const fn opened(&self) -> Instant {
        self.opened
    }

    /// From opening the first port to all links being up.
    pub(super) const fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Puts the ports to rest.
    pub(super) fn close(self) -> anyhow::Result<()> {
        for port in self.ports {
            port.close()?;
        }
        Ok(())
    }

    /// Every drop that anybody owns to, by name.
    pub(super) fn drops(&self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        for ((vf, role), port) in (0..).zip(ROLES).zip(&self.ports) {
            let stats = port.stats();
            let queues = drops::of_receiver(&stats).chain(drops::of_sender(&stats));
            all.extend(queues.map(|(reason, count)| (format!("{role}_{reason}"), count)));
            if let Some(stats) = self.card.vf_stats(vf) {
                let card = drops::of_card(&stats);
                all.extend(card.map(|(reason, count)| (format!("card_{role}_{reason}"), count)));
            }
        }
        all
    }

    /// Where frames still are that were sent and have not arrived, by the counts of both sides. Empty when all is well.
    pub(super) fn still_queued(&self, done: &Done) -> BTreeMap<&'static str, u64> {
        let card = [0, 1, 2].map(|vf| self.card.vf_stats(vf).unwrap_or_default());
        let passed = done.passed;
        let places = [
            ("generator_transmit_ring", done.sent, card[0].taken),
            (
                "forwarder_receive_ring",
                card[1].delivered,
                passed.to_forwarder,
            ),
            ("forwarder", passed.to_forwarder, passed.forwarded),
            ("forwarder_transmit_ring", passed.forwarded, card[1].taken),
            ("sink_receive_ring", card[2].delivered, passed.to_sink),
        ];
        places
            .into_iter()
            .map(|(place, into, out)| (place, into.saturating_sub(out)))
            .filter(|(_, left)| *left > 0)
            .collect()
    }

    /// Logs every counter there is, to find out where frames went.
    pub(super) fn log_counters(&self) {
        for ((vf, role), port) in (0..).zip(ROLES).zip(&self.ports) {
            if let Err(error) = port.refresh_stats() {
                log::debug!("{role}: {error}");
            }
            let counters: Vec<String> = port
                .stats()
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            log::debug!("{role}: {}", counters.join(", "));
            log::debug!("{role} on the card: {:?}", self.card.vf_stats(vf));
        }
    }

    /// Breaches of the hardware's rules that the card recorded.
    pub(super) fn violations(&self) -> Vec<String> {
        self.card
            .violations()
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}
