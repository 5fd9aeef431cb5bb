//! Driver and card against each other, each with a partner that lies.

use std::sync::atomic::Ordering;
use std::time::Duration;

use vfnic::{MacAddr, PoolConfig, Port, PortConfig, Promisc};
use vfnic_hw::regs::{igbvf, ixgbevf};
use vfnic_hw::{DmaRequest, Event, Family, Model, PciFunction};
use vfnic_sim::data::{Fault, Point as DataPoint};
use vfnic_sim::uplink::pair;
use vfnic_sim::{Action, Card, PfPersonality, Point, Rule};

use super::Input;

/// Small: most of an execution would be zeroing memory otherwise.
fn config() -> PortConfig {
    let pool = PoolConfig {
        buffers: 256,
        ..PoolConfig::default()
    };
    PortConfig::default().rings(64, 64).pool(pool)
}

fn card(input: &mut Input<'_>, vfs: u16) -> Card {
    Card::builder(input.pick(&Model::ALL))
        .vfs(vfs)
        .personality(input.pick(&[PfPersonality::Linux, PfPersonality::Dpdk]))
        .build()
        .expect("a card")
}

/// When and how often a rule strikes, from the input.
fn rule(input: &mut Input<'_>, point: Point, action: Action) -> Rule {
    let rule = Rule::new(point, action)
        .on_vf(0)
        .after(u64::from(input.half() & 0x3ff))
        .times(1 + u64::from(input.byte() & 7));
    if input.byte() & 1 == 0 {
        rule
    } else {
        rule.only(u32::from(input.half()) & !3)
    }
}

fn bend(input: &mut Input<'_>) -> Action {
    match input.below(4) {
        0 => Action::Force(input.word()),
        1 => Action::Force(u32::MAX),
        2 => Action::Mask {
            and: input.word(),
            or: input.word(),
        },
        _ => Action::Random,
    }
}

/// Opens VF 0, changes settings, moves frames, closes. Whatever fails, fails in time.
fn life(card: &Card, input: &mut Input<'_>) {
    let clock = card.clock();
    let begin = clock.now();
    let Ok(function) = card.function(0) else {
        return;
    };
    let Ok(port) = Port::from_function(function, config()) else {
        assert!(clock.now() - begin < Duration::from_secs(6), "to open");
        return;
    };
    let mut pairs = port.start().unwrap_or_default();
    let mut batch = port.batch(64);
    for _ in 0..40 {
        if input.is_empty() {
            break;
        }
        let begin = clock.now();
        let _ = match input.below(10) {
            0 => port.add_vlan(input.half()),
            1 => port.remove_vlan(input.half()),
            2 => port.set_multicast(&vec![MacAddr([1, 0, 0x5e, 0, 0, 1]); input.below(40)]),
            3 => port.set_mac(MacAddr([2, 0, 0, 0, 0, input.byte()])),
            4 => port.set_promiscuous(input.pick(&[Promisc::Off, Promisc::AllMulticast])),
            5 => port.set_mtu(input.half()),
            6 => port.refresh_stats(),
            7 => port.poll_control().map(drop),
            _ => {
                for pair in &mut pairs {
                    let len = 60 + input.below(2000);
                    let _ = batch.push_bytes(&vec![input.byte(); len]);
                    let _ = pair.tx.send(&mut batch);
                    let _ = pair.rx.receive(&mut batch);
                    batch.clear();
                }
                Ok(())
            }
        };
        assert!(clock.now() - begin < Duration::from_secs(6), "a call");
        card.run_for(Duration::from_micros(u64::from(input.half())));
    }
    drop((batch, pairs));
    let _ = port.close();
}

/// Registers that read as anything.
pub(super) fn device_regs(data: &[u8]) {
    let mut input = Input::new(data);
    let card = card(&mut input, 1);
    for _ in 0..input.below(8) {
        let action = bend(&mut input);
        card.faults()
            .add(rule(&mut input, Point::RegisterRead, action));
    }
    life(&card, &mut input);
}

/// Configuration space that reads as anything, and takes anything.
pub(super) fn config_space(data: &[u8]) {
    let mut input = Input::new(data);
    let card = card(&mut input, 1);
    for _ in 0..input.below(6) {
        let action = bend(&mut input);
        card.faults()
            .add(rule(&mut input, Point::ConfigRead, action));
    }
    if let Ok(function) = card.function(0) {
        for _ in 0..input.below(64) {
            let offset = input.half();
            let mut bytes = vec![0; input.below(20)];
            let _ = function.read_config(offset, &mut bytes);
            let bytes = input.bytes(bytes.len());
            let _ = function.write_config(offset, bytes);
        }
    }
    life(&card, &mut input);
}

/// A PF that answers what it likes, or not at all.
pub(super) fn mailbox_vf(data: &[u8]) {
    let mut input = Input::new(data);
    let card = card(&mut input, 1);
    for _ in 0..1 + input.below(12) {
        let (point, action) = match input.below(7) {
            0 => (Point::MailboxRequest, Action::Drop),
            1 => (Point::MailboxRequest, Action::Nack),
            2 => (Point::MailboxReply, Action::Random),
            3 => (Point::MailboxReply, Action::Before(input.word())),
            4 => (
                Point::MailboxReply,
                Action::Delay(Duration::from_micros(u64::from(input.word() & 0x3f_ffff))),
            ),
            5 => (Point::MailboxLock, Action::Drop),
            _ => {
                let (index, value) = (input.byte() & 15, input.word());
                (Point::MailboxReply, Action::Word { index, value })
            }
        };
        let mut rule = rule(&mut input, point, action);
        rule.skip &= 15;
        rule.selector = None;
        card.faults().add(rule);
    }
    life(&card, &mut input);
}

/// Completions, DMA and interrupts that go wrong under traffic.
pub(super) fn driver_vs_device(data: &[u8]) {
    let mut input = Input::new(data);
    let card = card(&mut input, 2);
    for _ in 0..1 + input.below(8) {
        let point = input.pick(&[
            DataPoint::TxFetch,
            DataPoint::TxWriteBack,
            DataPoint::RxFetch,
            DataPoint::RxWriteBack,
            DataPoint::DmaRead,
            DataPoint::DmaWrite,
            DataPoint::Frame,
        ]);
        let ns = u64::from(input.word() & 0xff_ffff);
        let fault = match input.below(11) {
            0 => Fault::Rewrite {
                and: [input.long(), input.long()],
                or: [input.long(), input.long()],
            },
            1 => Fault::Swallow,
            2 => Fault::Tear { ns },
            3 => Fault::Displace(input.half().cast_signed()),
            4 => Fault::Delay { ns },
            5 => Fault::Refuse,
            6 => Fault::Late { ns },
            7 => Fault::Again { ns },
            8 => Fault::Corrupt(input.word()),
            9 => Fault::Duplicate,
            _ => Fault::Block,
        };
        let mut rule = rule(&mut input, Point::Data(point), Action::Data(fault));
        rule.selector = None;
        rule.skip &= 63;
        card.faults().add(rule);
    }
    life(&card, &mut input);
}

/// A VF whose driver does what it likes, from the first access on.
pub(super) fn guest_driver(data: &[u8]) {
    let mut input = Input::new(data);
    let card = card(&mut input, 2);
    let function = card.function(0).expect("free");
    let bar = function.bar(0).expect("there");
    let table = match card.model().family() {
        Family::Igbvf => igbvf::ALL,
        Family::Ixgbevf => ixgbevf::ALL,
    };
    let request = DmaRequest {
        len: 1 << 16,
        prefer_huge: false,
    };
    let memory = function.dma_space().map(request).expect("room");
    let low = u32::try_from(memory.iova().0).expect("low");
    let _ = function.set_bus_master(true);
    for _ in 0..400 {
        if input.is_empty() {
            break;
        }
        let reg = table[input.below(table.len())];
        let at = reg.at(u32::from(input.byte()) % reg.count.max(1));
        let value = match input.below(4) {
            0 => input.word(),
            1 => low + u32::from(input.half() & 0xff80),
            2 => 0x0200_0002 | u32::from(input.half()),
            _ => u32::from(input.byte()),
        };
        match input.below(10) {
            0..=4 => bar.write32(at, value),
            5 => drop(bar.read32(at)),
            6 => {
                if let Ok(bell) = bar.doorbell(at) {
                    bell.ring(value & 0x3ff);
                }
            }
            7 => {
                let words = memory.words();
                for _ in 0..1 + input.below(16) {
                    let word = match input.below(3) {
                        0 => input.long(),
                        1 => memory.iova().0 + u64::from(input.half()),
                        _ => u64::from(input.half()) | 0b1011_u64 << 24 | 3 << 20 | 1 << 29,
                    };
                    words[input.below(words.len())].store(word, Ordering::Relaxed);
                }
            }
            8 => {
                card.step();
            }
            _ => other(&*function, &mut input),
        }
    }
    card.run_for(Duration::from_millis(5));
    drop(function);
    // The neighbour's driver finds a card that works.
    card.run_for(Duration::from_secs(1));
    card.take_violations();
    let port = Port::from_function(card.function(1).expect("free"), config());
    drop(port.expect("the neighbour is none the worse"));
}

fn other(function: &dyn PciFunction, input: &mut Input<'_>) {
    match input.below(5) {
        0 => drop(function.set_bus_master(input.byte() & 1 == 0)),
        1 => {
            let offset = input.half();
            let bytes = input.bytes(4);
            drop(function.write_config(offset, bytes));
        }
        2 => drop(function.reset()),
        3 => {
            let events: Vec<_> = (0..input.below(4))
                .filter_map(|_| Event::new().ok())
                .collect();
            drop(function.enable_vectors(&events));
        }
        _ => drop(function.disable_vectors()),
    }
}

/// A VF that sends the PF what it likes.
pub(super) fn mailbox_pf(data: &[u8]) {
    let mut input = Input::new(data);
    let card = card(&mut input, 2);
    let function = card.function(0).expect("free");
    let bar = function.bar(0).expect("there");
    let (mailbox, memory) = match card.model().family() {
        Family::Igbvf => (0xc40, 0x800),
        Family::Ixgbevf => (0x2fc, 0x200),
    };
    let before = card.pf().vf(1).expect("there");
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        bar.write32(mailbox, 4);
        for offset in (memory..memory + 64).step_by(4).take(1 + input.below(16)) {
            bar.write32(offset, input.word());
        }
        if input.byte() & 3 != 0 {
            // A request there is.
            let kind = input.pick(&[1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 16, 18]);
            bar.write32(memory, kind | u32::from(input.byte()) << 16);
        }
        bar.write32(mailbox, u32::from(input.byte() & 7));
        bar.read32(mailbox);
        card.run_for(Duration::from_micros(u64::from(input.byte())));
    }
    let after = card.pf().vf(1).expect("there");
    assert_eq!(before, after, "the neighbour's settings are its own");
}

/// Frames of any bytes, from a VF and from the wire.
pub(super) fn switch_frames(data: &[u8]) {
    let mut input = Input::new(data);
    let card = card(&mut input, 2);
    let (wire, ours) = pair(64);
    card.set_uplink(Box::new(wire));
    let ports = [0, 1].map(|vf| {
        let function = card.function(vf).expect("free");
        Port::from_function(function, config()).expect("opens")
    });
    let mut pairs: Vec<_> = ports
        .iter()
        .map(|port| port.start().expect("starts").remove(0))
        .collect();
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        let to = input.below(4);
        let len = input.below(300);
        let mut frame = input.bytes(len).to_vec();
        frame.resize(frame.len().max(17), 0);
        // Mostly to somebody.
        if let Some(port) = ports.get(to) {
            frame[..6].copy_from_slice(&port.mac().0.0);
        }
        if input.byte() & 1 == 0 {
            let _ = ours.inject(&frame);
        } else {
            let mut batch = ports[0].batch(8);
            if batch.push_bytes(&frame).is_ok() {
                let _ = pairs[0].tx.send(&mut batch);
            }
        }
        card.step();
        for (pair, port) in pairs.iter_mut().zip(&ports) {
            let mut batch = port.batch(64);
            pair.rx.receive(&mut batch).expect("there");
            for frame in batch.frames() {
                let _ = (frame.to_vec(), frame.checksums(), frame.vlan(), frame.rss());
            }
        }
        drop(ours.collect());
    }
}
