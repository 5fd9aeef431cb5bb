//! A bench for tests: a stepped card of any model, and ports on its VFs.
#![allow(
    clippy::allow_attributes,
    dead_code,
    unreachable_pub,
    reason = "every test file uses its own part of this"
)]

use std::time::Duration;

use vfnic::{Batch, Event, MacAddr, Port, PortConfig, QueuePair};
use vfnic_hw::Model;
use vfnic_sim::{Card, CardBuilder};

/// A card, its VFs not yet opened.
pub fn card(model: Model, vfs: u16) -> Card {
    build(Card::builder(model).vfs(vfs))
}

pub fn build(builder: CardBuilder) -> Card {
    builder
        .build()
        .unwrap_or_else(|error| panic!("no card: {error}"))
}

/// Opens VF `vf`.
pub fn open(card: &Card, vf: u16, config: PortConfig) -> Port {
    let function = card
        .function(vf)
        .unwrap_or_else(|error| panic!("VF {vf}: {error}"));
    Port::from_function(function, config).unwrap_or_else(|error| panic!("VF {vf}: {error}"))
}

/// A port with its first queue pair.
pub struct Station {
    pub port: Port,
    pub pairs: Vec<QueuePair>,
    pub batch: Batch,
    pub arrived: Vec<Vec<u8>>,
}

impl Station {
    pub fn new(card: &Card, vf: u16, config: PortConfig) -> Self {
        let port = open(card, vf, config);
        let pairs = port
            .start()
            .unwrap_or_else(|error| panic!("VF {vf}: {error}"));
        Self::of(port, pairs)
    }

    pub fn of(port: Port, pairs: Vec<QueuePair>) -> Self {
        let batch = port.batch(256);
        Self {
            port,
            pairs,
            batch,
            arrived: Vec::new(),
        }
    }

    pub fn mac(&self) -> MacAddr {
        self.port.mac().0
    }

    /// Sends frames; all must be taken.
    pub fn send(&mut self, frames: &[Vec<u8>]) {
        assert_eq!(self.try_send(frames), frames.len(), "the ring took fewer");
    }

    pub fn try_send(&mut self, frames: &[Vec<u8>]) -> usize {
        for frame in frames {
            self.batch
                .push_bytes(frame)
                .unwrap_or_else(|error| panic!("{error}"));
        }
        let sent = self.pairs[0]
            .tx
            .send(&mut self.batch)
            .unwrap_or_else(|error| panic!("{error}"));
        self.batch.clear();
        sent
    }

    /// Everything that has arrived, on all queues.
    pub fn receive(&mut self) -> Vec<Vec<u8>> {
        self.collect();
        std::mem::take(&mut self.arrived)
    }

    /// Everything must have arrived as it was sent, and nothing else.
    pub fn expect(&mut self, sent: &[Vec<u8>]) {
        let got = self.receive();
        let lens = |frames: &[Vec<u8>]| frames.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens(&got), lens(sent), "lengths of what arrived");
        for (index, (got, sent)) in got.iter().zip(sent).enumerate() {
            assert!(
                got == sent,
                "frame {index} of {} arrived changed",
                lens(std::slice::from_ref(got))[0]
            );
        }
    }

    /// Takes what has arrived off the queues, which is also when they notice a recovery.
    fn collect(&mut self) {
        for pair in &mut self.pairs {
            loop {
                let count = pair
                    .rx
                    .receive(&mut self.batch)
                    .unwrap_or_else(|error| panic!("{error}"));
                self.arrived
                    .extend(self.batch.frames().map(|frame| frame.to_vec()));
                self.batch.clear();
                if count == 0 {
                    break;
                }
            }
        }
    }

    /// Lets the card run and the port look after itself for `time`.
    pub fn run(&mut self, card: &Card, time: Duration) {
        let step = Duration::from_millis(10);
        let mut left = time;
        while !left.is_zero() {
            let now = left.min(step);
            card.run_for(now);
            self.port
                .poll_control()
                .unwrap_or_else(|error| panic!("{error}"));
            self.touch();
            left -= now;
        }
    }

    /// Uses every queue once.
    pub fn touch(&mut self) {
        let mut empty = self.port.batch(8);
        for pair in &mut self.pairs {
            pair.tx
                .send(&mut empty)
                .unwrap_or_else(|error| panic!("{error}"));
        }
        self.collect();
    }

    pub fn events(&self) -> Vec<Event> {
        self.port.events().collect()
    }
}

/// No violations but of one sort: a tail written to a queue that somebody else's reset has switched off, or taken bus
/// mastering from, before its driver could know. No driver can help that; nothing comes of it either.
pub fn assert_nothing_but_late_tails(card: &Card) {
    let worse: Vec<_> = card
        .take_violations()
        .into_iter()
        .filter(|violation| {
            !matches!(
                violation.kind,
                vfnic_sim::ViolationKind::TailWhileDisabled { .. }
                    | vfnic_sim::ViolationKind::NoBusMaster { .. }
            )
        })
        .map(|violation| violation.to_string())
        .collect();
    assert!(worse.is_empty(), "{worse:#?}");
}

/// A frame of `len` bytes whose payload says `number`.
pub fn frame(to: MacAddr, from: MacAddr, number: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.max(60)];
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&from.0);
    // A type for local experiments.
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes[14..18].copy_from_slice(&number.to_be_bytes());
    for (index, byte) in bytes[18..].iter_mut().enumerate() {
        *byte = u8::try_from(index % 251).unwrap_or(0);
    }
    bytes
}

/// The same test once for each model.
#[macro_export]
macro_rules! for_every_model {
    ($($(#[$meta:meta])* fn $name:ident($model:ident) $body:block)*) => {
        $(mod $name {
            use super::*;
            fn case($model: vfnic_hw::Model) $body
            $(#[$meta])* #[test] fn on_82576() { case(vfnic_hw::Model::I82576) }
            $(#[$meta])* #[test] fn on_i350() { case(vfnic_hw::Model::I350) }
            $(#[$meta])* #[test] fn on_82599() { case(vfnic_hw::Model::I82599) }
            $(#[$meta])* #[test] fn on_x540() { case(vfnic_hw::Model::X540) }
            $(#[$meta])* #[test] fn on_x550() { case(vfnic_hw::Model::X550) }
        })*
    };
}
