//! A card, its stations, and traffic between them, step by step on a virtual clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use vfnic_hw::Model;
use vfnic_sim::{Card, ViolationKind};

use super::books::Books;
use super::station::{KINDS, Station, most_queues};
use super::trouble::{self, Trouble};
use crate::dice::Dice;
use crate::traffic::frame::body_block;
use crate::traffic::{CheckerConfig, FrameSizes, Generator, GeneratorConfig, Identity};

/// VFs of the card.
const STATIONS: u16 = 4;
/// The PF's MTU, and everybody's: frames of five buffers.
const MTU: u16 = 9000;
/// Frames of one length and another that a generator goes through before it begins again.
const LENGTHS: usize = 1024;
/// Most frames a station makes in a step.
const BURST: usize = 48;
/// TIMEOUT: everything that happens here is over, and recovered from, in this much of the card's time: three rounds of
/// mailbox timeouts (1 s each) and the pauses between a port's attempts.
const PATIENCE: Duration = Duration::from_secs(30);
/// Steps of which a failure tells.
const REMEMBERED: usize = 1000;

/// One card and all that is on it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) card: Card,
    pub(super) stations: Vec<Station>,
    dice: Dice,
    books: Books,
    step: u64,
    /// What was done, latest last.
    history: VecDeque<String>,
    /// How often each trouble struck.
    pub(super) troubles: BTreeMap<Trouble, u64>,
}

impl World {
    /// A card of `model` with everybody on it and up.
    pub(super) fn new(model: Model, seed: u64) -> anyhow::Result<Self> {
        let mut dice = Dice::new(seed);
        let card = Card::builder(model)
            .vfs(STATIONS)
            .seed(seed)
            .mailbox_delay(Duration::from_micros(dice.pick(&[0, 20, 500])))
            .build()
            .context("cannot simulate a card")?;
        card.pf().set_mtu(MTU)?;
        let macs: Vec<[u8; 6]> = (0..STATIONS)
            .map(|vf| [2, 0, 0x5a, 0, 0, u8::try_from(vf).unwrap_or(0)])
            .collect();
        let lengths = lengths(&mut dice);
        let body = body_block(seed);
        let mut stations = Vec::new();
        for (vf, mac) in (0..STATIONS).zip(&macs) {
            card.pf().set_vf_mac(vf, *mac)?;
            let mut station = Station::new(
                vf,
                MTU,
                CheckerConfig {
                    seed,
                    first_flow: vf * STATIONS * KINDS,
                    flows: STATIONS * KINDS,
                    private: true,
                },
            )?;
            // Flows are numbered by receiver, then sender, then kind.
            station.generators = (0..STATIONS)
                .zip(&macs)
                .map(|(to, destination)| {
                    let config = GeneratorConfig {
                        identity: Identity {
                            source: *mac,
                            destination: *destination,
                            seed,
                        },
                        sizes: FrameSizes::Imix,
                        first_flow: (to * STATIONS + vf) * KINDS,
                        flows: KINDS,
                    };
                    (to != vf).then(|| Generator::with_lengths(&config, &lengths, &body))
                })
                .collect();
            station.open(&card, most_queues(model))?;
            stations.push(station);
        }
        let mut world = Self {
            card,
            stations,
            dice,
            books: Books::default(),
            step: 0,
            history: VecDeque::new(),
            troubles: BTreeMap::new(),
        };
        world.recover("the beginning")?;
        Ok(world)
    }

    /// Frames that queues took so far.
    pub(super) fn sent(&self) -> u64 {
        self.books.sent()
    }

    /// Where in the run this is, and what led there.
    pub(super) fn position(&self) -> String {
        let history: Vec<_> = self.history.iter().map(String::as_str).collect();
        format!("step {}:\n  {}", self.step, history.join("\n  "))
    }

    fn tell(&mut self, what: String) {
        log::trace!("step {}: {what}", self.step);
        if self.history.len() == REMEMBERED {
            self.history.pop_front();
        }
        self.history.push_back(format!("{}: {what}", self.step));
    }

    fn now(&self) -> u64 {
        u64::try_from(self.card.clock().now().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Traffic of about `frames` frames, then something that goes wrong in the middle of more of it, then the books. When it
    /// is `over` before that, or `left` were all that was left to send, only the books remain.
    pub(super) fn episode(
        &mut self,
        frames: u64,
        left: u64,
        over: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        let mut sent = 0;
        while sent < frames {
            if over() || sent >= left {
                return self.settle(None);
            }
            sent += self.traffic()?;
            if self.step.is_multiple_of(16) {
                let time = Duration::from_micros(self.dice.between(1, 2_000));
                self.pass(time)?;
            }
        }
        let vf = u16::try_from(self.dice.below(usize::from(STATIONS)))?;
        let mut dice = self.dice.clone();
        let trouble = Trouble::any(self.card.model(), &mut dice);
        *self.troubles.entry(trouble).or_default() += 1;
        self.tell(format!("{trouble:?} on VF {vf}"));
        trouble.strike(self, vf, &mut dice)?;
        let (steps, pause) = trouble::duration(&mut dice);
        self.dice = dice;
        for _ in 0..steps {
            self.traffic()?;
            self.pass(pause)?;
        }
        self.tell(format!("{trouble:?} mended"));
        trouble.mend(self, vf)?;
        self.recover(&format!("{trouble:?} on VF {vf}"))?;
        self.settle(Some(trouble))
    }

    /// One step: some send, the card works, all receive. Returns how many frames were sent.
    fn traffic(&mut self) -> anyhow::Result<u64> {
        self.step += 1;
        let now = self.now();
        let mut sent = 0;
        for index in 0..self.stations.len() {
            let to = self.dice.below(self.stations.len());
            let count = self.dice.below(BURST);
            sent += self.stations[index].send(to, count, now)?;
        }
        self.card.step();
        self.receive()?;
        Ok(sent)
    }

    fn receive(&mut self) -> anyhow::Result<u64> {
        let now = self.now();
        let mut came = 0;
        for station in &mut self.stations {
            came += station.receive(now)?;
            let tally = station.checker.tally();
            ensure!(
                tally.corrupted == 0 && tally.duplicated == 0 && tally.reordered == 0,
                "VF {} received frames it should not: {tally:?}",
                station.vf
            );
        }
        Ok(came)
    }

    /// Lets time pass, and the ports look after themselves.
    fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        self.card.run_for(time);
        for station in &self.stations {
            station.look_after()?;
        }
        Ok(())
    }

    /// Until every port is up; those that lost their device are opened again.
    fn recover(&mut self, from: &str) -> anyhow::Result<()> {
        let begin = self.card.clock().now();
        let model = self.card.model();
        loop {
            for station in &mut self.stations {
                if station.live.is_none()
                    && let Err(error) = station.open(&self.card, most_queues(model))
                {
                    log::debug!("opening VF {} again: {error}", station.vf);
                    station.close()?;
                }
            }
            self.pass(Duration::from_millis(2))?;
            self.traffic()?;
            if self.stations.iter().all(Station::is_up) {
                return Ok(());
            }
            if self.card.clock().now() - begin > PATIENCE {
                let stations: Vec<_> = self.stations.iter().map(Station::describe).collect();
                bail!(
                    "not recovered from {from} after {PATIENCE:?}: {}",
                    stations.join("; ")
                );
            }
        }
    }

    /// Sends nothing new until nothing is under way, then closes the books.
    fn settle(&mut self, trouble: Option<Trouble>) -> anyhow::Result<()> {
        let begin = self.card.clock().now();
        let mut quiet = 0;
        loop {
            let mut moved = self.card.step();
            for station in &mut self.stations {
                moved += station.flush()?;
            }
            moved += self.receive()?;
            self.pass(Duration::from_millis(1))?;
            // A queue that hangs is noticed after a while, and what is in it given up.
            quiet = if moved == 0 { quiet + 1 } else { 0 };
            let waiting: usize = self.stations.iter().map(Station::waiting).sum();
            if quiet > 8 && waiting == 0 && self.stations.iter().all(Station::is_up) {
                match self.books.look(&self.card, &self.stations) {
                    Ok(books) => {
                        self.books = books;
                        break;
                    }
                    Err(error) if self.card.clock().now() - begin > PATIENCE => {
                        return Err(error);
                    }
                    // Perhaps it is only late.
                    Err(_) => {}
                }
            }
            if self.card.clock().now() - begin > 2 * PATIENCE {
                let stations: Vec<_> = self.stations.iter().map(Station::describe).collect();
                bail!("no rest after {}: {}", after(trouble), stations.join("; "));
            }
        }
        for station in &self.stations {
            station.check()?;
            station.poison();
        }
        self.violations(trouble)
    }

    /// No breach of the hardware's rules but those that come with a trouble nobody can foresee.
    fn violations(&self, trouble: Option<Trouble>) -> anyhow::Result<()> {
        let worse: Vec<String> = self
            .card
            .take_violations()
            .into_iter()
            .filter(|violation| match violation.kind {
                // A tail written before its driver could know of somebody else's reset.
                ViolationKind::TailWhileDisabled { .. } | ViolationKind::NoBusMaster { .. } => {
                    false
                }
                // What was ordered.
                ViolationKind::DmaFault { .. } => {
                    !matches!(trouble, Some(Trouble::ReadRefused | Trouble::WriteRefused))
                }
                _ => true,
            })
            .map(|violation| violation.to_string())
            .collect();
        ensure!(
            worse.is_empty(),
            "after {}: {}",
            after(trouble),
            worse.join("; ")
        );
        Ok(())
    }

    /// Ends it: every port closed, every buffer back.
    pub(super) fn close(mut self) -> anyhow::Result<Books> {
        for station in &mut self.stations {
            station.close()?;
        }
        Ok(self.books)
    }
}

fn after(trouble: Option<Trouble>) -> String {
    trouble.map_or_else(|| "traffic".to_owned(), |trouble| format!("{trouble:?}"))
}

/// Lengths to go through, in bytes with CRC: many short ones, all sorts, some of the longest.
fn lengths(dice: &mut Dice) -> Vec<usize> {
    let longest = usize::from(MTU) + 18;
    let special = [64, 65, 127, 128, 1514, 1518, 2052, 2053, longest];
    let mut lengths: Vec<usize> = special.to_vec();
    while lengths.len() < LENGTHS {
        let (least, most) = match dice.below(16) {
            0..=10 => (64, 300),
            11..=14 => (64, 1518),
            _ => (64, longest),
        };
        lengths.push(least + dice.below(most - least + 1));
    }
    for place in (1..lengths.len()).rev() {
        lengths.swap(place, dice.below(place + 1));
    }
    lengths
}
