//! Anything, in any order: registers, doorbells, messages, knobs, resets, time, with rings full of rubbish. Nothing may
//! panic, hang, or stop a well-behaved VF from working afterwards.

use std::sync::atomic::Ordering;
use std::time::Duration;

use vfnic_hw::regs::{Reg, igbvf, ixgbevf};
use vfnic_hw::{DmaRegion, DmaRequest, Event, Family, Model};
use vfnic_sim::{Card, PfPersonality, VfLink};

use super::raw::RawVf;
use super::station::Station;
use crate::dice::Dice;

impl Dice {
    fn word(&mut self) -> u32 {
        u32::try_from(self.roll() >> 32).expect("32 bits")
    }

    fn small(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("8 bits")
    }

    /// A value that means something more often than not.
    fn value(&mut self, memory: u32) -> u32 {
        match self.below(8) {
            0 => self.word(),
            1 => 1 << self.below(32),
            2 => 1 << 25 | self.word() & 0xffff,
            3 => memory + (self.word() & 0xff80),
            4 => self.word() & 0xff80,
            5 => self.word() & 0x3f,
            6 => 0,
            _ => 0x0200_0002 | self.word() & 0x7000_0f00,
        }
    }
}

pub(crate) struct Rogue {
    vf: RawVf,
    memory: DmaRegion,
    table: &'static [Reg],
    events: Vec<Event>,
}

impl Rogue {
    pub(crate) fn open(card: &Card, dice: &mut Dice) -> Self {
        let vf = RawVf::open(card, 0);
        let request = DmaRequest {
            len: 1 << 17,
            prefer_huge: false,
        };
        let memory = vf.function.dma_space().map(request).expect("room");
        let table = match card.model().family() {
            Family::Igbvf => igbvf::ALL,
            Family::Ixgbevf => ixgbevf::ALL,
        };
        let rogue = Self {
            vf,
            memory,
            table,
            events: (0..3).map(|_| Event::new().expect("an eventfd")).collect(),
        };
        rogue.scribble(dice);
        rogue
    }

    /// Descriptors of all kinds, with addresses that mostly exist.
    pub(crate) fn scribble(&self, dice: &mut Dice) {
        let base = self.memory.iova().0;
        for pair in self.memory.words().chunks_exact(2) {
            let address = match dice.below(8) {
                0 => dice.roll(),
                1 => 0,
                _ => base + dice.below(1 << 17),
            };
            let kind = dice.pick(&[2u64, 3, 3, 3, 3, 0, 15]);
            let len = dice.pick(&[0u64, 1, 17, 60, 64, 300, 1514, 9000, 65_535]);
            let command = match dice.below(4) {
                0 => dice.roll(),
                _ => {
                    len | kind << 20
                        | (dice.roll() & 0xf) << 24
                        | 1 << 29
                        | 1 << 39
                        | len << 46
                        | (dice.roll() & 3) << 30
                }
            };
            pair[0].store(address, Ordering::Relaxed);
            pair[1].store(command, Ordering::Relaxed);
        }
    }

    /// The handshake, and a queue pair that works, on rings of rubbish.
    fn bring_up(&self, dice: &mut Dice, low: u32) {
        let vf = &self.vf;
        vf.function.set_bus_master(true).expect("a config write");
        vf.read(vf.mailbox);
        vf.write(vf.mailbox, 4);
        vf.write(vf.memory, 1);
        vf.write(vf.mailbox, 1);
        vf.read(vf.mailbox);
        vf.write(vf.mailbox, 4);
        vf.write(vf.mailbox, 2);
        let igb = vf.mailbox == 0xc40;
        let bases = if igb {
            [0x2800, 0x3800]
        } else {
            [0x1000, 0x2000]
        };
        for base in bases {
            let size = dice.pick(&[8u32, 64, 512]);
            vf.write(base + 0x28, 0);
            vf.write(base, low + (dice.word() & 0xff80));
            vf.write(base + 4, 0);
            vf.write(base + 8, size * 16);
            vf.write(base + 0x10, 0);
            vf.write(base + 0x18, 0);
            vf.write(base + if igb { 0x0c } else { 0x14 }, 0x0200_0002);
            vf.write(base + 0x28, 1 << 25);
            vf.write(base + 0x18, dice.word() % size);
        }
    }

    /// Frames to `to` in the memory, as if from `from`, and some as if from others.
    pub(crate) fn forge(&self, to: [u8; 6], from: [u8; 6], kind: [u8; 2]) {
        for (index, place) in self.memory.bytes().chunks_exact(512).enumerate() {
            let mut head = [&to[..], &from, &kind].concat();
            if index % 4 == 3 {
                // As VF 0, which it may.
                head[11] = 0;
            }
            for (byte, value) in place.iter().zip(head) {
                byte.store(value, Ordering::Relaxed);
            }
        }
    }

    /// Something that a VF's driver can do by itself.
    pub(crate) fn act_alone(&self, card: &Card, dice: &mut Dice) {
        let kind = match dice.below(40) {
            kind @ 0..=33 => kind,
            _ => 39,
        };
        self.act_as(card, dice, kind);
    }

    fn act(&self, card: &Card, dice: &mut Dice) {
        let kind = dice.below(46);
        self.act_as(card, dice, kind);
    }

    fn act_as(&self, card: &Card, dice: &mut Dice, kind: u64) {
        let low = u32::try_from(self.memory.iova().0).expect("low");
        let vf = &self.vf;
        let pf = card.pf();
        let index = dice.below(self.table.len() as u64);
        let reg = &self.table[usize::try_from(index).expect("small")];
        let number = u32::try_from(dice.below(u64::from(reg.count))).expect("small");
        let switch = dice.below(2) == 0;
        match kind {
            0..=15 => vf.write(reg.at(number), dice.value(low)),
            16..=19 => {
                vf.read(reg.at(number));
            }
            20..=22 => {
                let bell = vf.bar.doorbell(reg.at(number)).expect("inside");
                bell.ring(dice.value(low) & 0x1ff);
            }
            23..=25 => {
                vf.write(vf.mailbox, 4);
                for word in 0..4 {
                    let value = if word == 0 {
                        dice.pick(&[1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 16, 18, 99])
                            | dice.word() & 0x00ff_0000
                    } else {
                        dice.value(low)
                    };
                    vf.write(vf.memory + 4 * word, value);
                }
                vf.write(vf.mailbox, dice.pick(&[1, 2, 3, 5, 7]));
            }
            26 => vf.sleep(Duration::from_micros(dice.below(100_000))),
            27..=28 => {
                card.step();
            }
            29 => vf.function.set_bus_master(switch).expect("a config write"),
            30 => {
                let offset = u16::try_from(dice.below(4096)).expect("12 bits");
                let _ = vf.function.write_config(offset, &[dice.small()]);
            }
            31 => {
                let count = usize::try_from(dice.below(4)).expect("small");
                vf.function
                    .enable_vectors(&self.events[..count])
                    .expect("at most three");
            }
            32 => vf.function.disable_vectors().expect("always possible"),
            33 => {
                let _ = vf.function.reset();
            }
            34 => {
                let _ = pf.set_vf_mac(0, [dice.small(), 0, 0, 0, 0, dice.small()]);
                let _ = pf.set_vf_vlan(0, u16::from(dice.small()), dice.small() & 7);
                let _ = pf.set_vf_spoofchk(0, switch);
            }
            35 => {
                let _ = pf.set_vf_trust(0, switch);
                let _ = pf.set_vf_state(
                    0,
                    dice.pick(&[VfLink::Auto, VfLink::Enable, VfLink::Disable]),
                );
                let _ = pf.set_vf_max_tx_rate(0, dice.word() & 0x3fff);
            }
            36 => pf.set_link(switch),
            37 => pf.reset(Duration::from_micros(dice.below(1000))),
            38 => {
                let _ = pf.set_mtu(u16::try_from(dice.below(10_000)).expect("small"));
                pf.set_promiscuous(switch);
                if switch { pf.down() } else { pf.up() }
            }
            39..=44 => self.bring_up(dice, low),
            _ => {
                pf.remove_vf(0).expect("VF 0");
                if switch {
                    vf.read(0);
                }
                pf.return_vf(0).expect("VF 0");
            }
        }
    }
}

fn soak(model: Model, seed: u64, personality: PfPersonality) {
    let mut dice = Dice::new(seed);
    let card = Card::builder(model)
        .vfs(3)
        .seed(seed)
        .personality(personality)
        .mailbox_delay(Duration::from_micros(dice.pick(&[0, 0, 50, 5_000])))
        .build()
        .expect("a fine card");
    for _ in 0..4 {
        let rogue = Rogue::open(&card, &mut dice);
        for _ in 0..400 {
            rogue.act(&card, &mut dice);
        }
        rogue.scribble(&mut dice);
        card.step();
    }
    // The administrator puts things right, and two others have a card that works.
    let pf = card.pf();
    pf.set_promiscuous(false);
    pf.set_link(true);
    pf.up();
    let _ = pf.set_mtu(1500);
    card.run_for(Duration::from_secs(5));
    let _ = card.take_violations();
    if personality == PfPersonality::Linux {
        let delay_free = |vf| Station::patient(&card, vf);
        let (mut left, mut right) = (delay_free(1), delay_free(2));
        left.send(right.mac, 7);
        card.step();
        assert_eq!(right.receive(), Some(7), "{model}, seed {seed}");
        card.assert_no_violations();
    }
}

#[test]
fn rubbish_upsets_nothing() {
    // More with VFNIC_SOAK=seeds in the environment.
    let seeds = std::env::var("VFNIC_SOAK")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    for seed in 0..seeds {
        for model in Model::ALL {
            for personality in [PfPersonality::Linux, PfPersonality::Dpdk] {
                soak(model, seed, personality);
            }
        }
    }
}
