//! Requests to the hardware both ways, and whether what arrives is what software would have made.

use std::collections::{HashMap, HashSet};

use twox_hash::XxHash3_64;
use vfnic::{Batch, Port, QueueError, QueuePair, Verdict};

use super::offloads::{Ask, Case, Cases, Habits, insert_tag};
use super::{Args, BUFFER, Exchange, WINDOW};
use crate::roles::BURST;
use crate::traffic::{Accounts, Tally};

/// Subsystem vendor of the cards QEMU emulates.
const QEMU: u16 = 0x1af4;

/// One direction.
#[derive(Debug)]
struct Way {
    cases: Cases,
    next: u64,
    end: u64,
    /// A request that the queue has not taken yet.
    waiting: Option<Case>,
    /// Frames that must arrive, with their place.
    expected: HashMap<Vec<u8>, u64>,
    /// Hashes of those that did.
    seen: HashSet<u64>,
    place: u64,
    highest: u64,
    tally: Tally,
    descriptors: usize,
    sending: Batch,
    receiving: Batch,
}

/// Both directions: `ways[i]` leads from port `i` to the other.
#[derive(Debug)]
pub(super) struct Requests {
    ways: [Way; 2],
    tag: Option<u16>,
}

impl Requests {
    pub(super) fn new(args: &Args, ports: &[Port; 2], ask: Ask) -> Self {
        let way = |from: usize| {
            let (sender, receiver) = (&ports[from], &ports[1 - from]);
            Way {
                cases: Cases {
                    ask,
                    source: sender.mac().0.0,
                    destination: receiver.mac().0.0,
                    longest: args.traffic.frame.longest_len().max(1514),
                    tag: args.vlan,
                    habits: match sender.ids().subsystem_vendor {
                        QEMU => Habits::Qemu,
                        _ => Habits::Hardware,
                    },
                    seed: args.traffic.seed.wrapping_mul(2).wrapping_add(from as u64),
                },
                next: 0,
                end: args.frames,
                waiting: None,
                expected: HashMap::new(),
                seen: HashSet::new(),
                place: 0,
                highest: 0,
                tally: Tally::default(),
                descriptors: 0,
                sending: sender.batch(2 * BURST),
                receiving: receiver.batch(2 * BURST),
            }
        };
        Self {
            ways: [way(0), way(1)],
            tag: args.vlan,
        }
    }
}

impl Way {
    /// Sends requests while there is room for what they come to.
    fn send(&mut self, pair: &mut QueuePair) -> Result<usize, QueueError> {
        let mut sent = 0;
        loop {
            if self.sending.is_empty() {
                let case = match self.waiting.take() {
                    Some(case) => case,
                    None if self.next < self.end => {
                        self.next += 1;
                        self.cases.case(self.next - 1)
                    }
                    None => return Ok(sent),
                };
                let need: usize = case.expected.iter().map(|frame| buffers(frame)).sum();
                let fits = self.descriptors == 0 || self.descriptors + need <= WINDOW;
                if !fits || !self.queue(&case) {
                    self.waiting = Some(case);
                    return Ok(sent);
                }
                self.descriptors += need;
                for frame in case.expected {
                    self.expected.insert(frame, self.place);
                    self.place += 1;
                }
            }
            let taken = pair.tx.send(&mut self.sending)?;
            if taken == 0 {
                return Ok(sent);
            }
            sent += taken;
        }
    }

    fn queue(&mut self, case: &Case) -> bool {
        if self.sending.push_bytes(&case.frame).is_err() {
            return false;
        }
        let asked = self.sending.frames_mut().last().is_some_and(|mut frame| {
            match frame.request(case.offload) {
                Ok(()) => true,
                Err(error) => {
                    log::error!("{error}");
                    false
                }
            }
        });
        if !asked {
            self.sending.clear();
        }
        asked
    }

    /// Checks what has come.
    fn receive(&mut self, pair: &mut QueuePair, tag: Option<u16>) -> Result<usize, QueueError> {
        let count = pair.rx.receive(&mut self.receiving)?;
        for frame in self.receiving.frames() {
            let mut bytes = frame.to_vec();
            if let Some(tci) = frame.vlan() {
                insert_tag(&mut bytes, tci);
            }
            if bytes.get(6..12) != Some(&self.cases.source) {
                self.tally.foreign += 1;
                continue;
            }
            let sums = frame.checksums();
            let doubted = sums.ip == Verdict::Bad || sums.l4 == Verdict::Bad;
            match self.expected.remove(&bytes) {
                Some(place) if !doubted => {
                    self.tally.received += 1;
                    self.tally.bytes += bytes.len() as u64;
                    self.tally.reordered += u64::from(place < self.highest);
                    self.highest = self.highest.max(place);
                    self.seen.insert(XxHash3_64::oneshot(&bytes));
                }
                None if self.seen.contains(&XxHash3_64::oneshot(&bytes)) => {
                    self.tally.duplicated += 1;
                }
                _ => {
                    log::debug!(
                        "not as software makes it (tag wanted {tag:?}, card's verdict {sums:?}): {bytes:02x?}"
                    );
                    self.tally.corrupted += 1;
                }
            }
            self.descriptors = self.descriptors.saturating_sub(buffers(&bytes));
        }
        self.receiving.clear();
        Ok(count)
    }
}

/// Receive descriptors that a frame takes.
const fn buffers(frame: &[u8]) -> usize {
    frame.len().div_ceil(BUFFER as usize)
}

impl Exchange for Requests {
    fn work(&mut self, port: usize, pair: &mut QueuePair) -> Result<usize, QueueError> {
        let came = self.ways[1 - port].receive(pair, self.tag)?;
        Ok(came + self.ways[port].send(pair)?)
    }

    fn arrived(&self) -> u64 {
        let arrived = |tally: &Tally| tally.received + tally.duplicated + tally.corrupted;
        self.ways.iter().map(|way| arrived(&way.tally)).sum()
    }

    fn under_way(&self) -> u64 {
        self.ways
            .iter()
            .map(|way| {
                if way.descriptors > 0 {
                    way.expected.len() as u64
                } else {
                    0
                }
            })
            .sum()
    }

    fn all_sent(&self) -> bool {
        self.ways
            .iter()
            .all(|way| way.next >= way.end && way.waiting.is_none() && way.sending.is_empty())
    }

    fn write_off(&mut self) {
        for way in &mut self.ways {
            way.descriptors = 0;
        }
    }

    fn give_up(&mut self) {
        for way in &mut self.ways {
            way.next = way.end;
            way.waiting = None;
            way.sending.clear();
        }
    }

    fn close(&mut self, drops: [Vec<(String, u64)>; 2]) -> [Accounts; 2] {
        let [first, second] = &self.ways;
        let [first_drops, second_drops] = drops;
        [(first, first_drops), (second, second_drops)].map(|(way, drops)| {
            // A frame that came out wrong is still among the expected ones.
            let missing = way.expected.len() as u64;
            let lost = missing.saturating_sub(way.tally.corrupted);
            Accounts::new(way.place, lost, &way.tally, drops)
        })
    }
}
