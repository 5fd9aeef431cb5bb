//! Drivers and guests that break the rules, as registers, mailbox, interrupts and configuration space see them (rows G of
//! the fault catalogue; those about rings and frames are in the tests of the data path).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vfnic_hw::{Event, Family, Model};
use vfnic_sim::{Card, VfLink};

use super::raw::{RawVf, mac_words, one_vf};
use super::station::Station;

/// The VFs 1 and 2 of a card come up, find their addresses, and reach each other. What a third still had to say to everybody
/// may come before.
fn others_work(card: &Card) {
    let _ = card.take_violations();
    let (mut left, mut right) = (Station::patient(card, 1), Station::patient(card, 2));
    left.send(right.mac, 7);
    let end = Instant::now() + Duration::from_secs(10);
    let mut seen = None;
    while seen != Some(7) && Instant::now() < end {
        card.step();
        seen = right.receive().or(seen);
    }
    assert_eq!(seen, Some(7), "{}", card.model());
}

fn three(model: Model) -> (Card, RawVf) {
    let card = Card::builder(model).vfs(3).build().expect("a fine card");
    let vf = RawVf::open(&card, 0);
    (card, vf)
}

#[test]
fn g13_accesses_beside_the_registers_read_all_ones_and_change_nothing() {
    for model in Model::ALL {
        let (card, vf) = three(model);
        let places = (0..0x48).chain(0xffd..0x1032).chain(0x3ff0..0x4021);
        for offset in places.chain([0x8000_0000, u32::MAX - 3, u32::MAX]) {
            if offset % 4 == 0 && offset < 0x4000 {
                continue;
            }
            assert_eq!(vf.read(offset), u32::MAX, "{model} {offset:#x}");
            vf.write(offset, 0xa5a5_a5a5);
            assert!(vf.bar.doorbell(offset).is_err(), "{model} {offset:#x}");
        }
        let told = card.take_violations();
        assert!(
            told.iter()
                .all(|told| matches!(told.kind, vfnic_sim::ViolationKind::BadAccess { .. })),
            "{told:?}"
        );
        vf.handshake();
        others_work(&card);
        card.assert_no_violations();
    }
}

#[test]
fn g15_only_registered_events_are_signalled() {
    for model in Model::ALL {
        let (card, vf) = three(model);
        let [cause, mask, clear] = match model.family() {
            Family::Igbvf => [0x1520, 0x1524, 0x152c],
            Family::Ixgbevf => [0x104, 0x108, 0x110],
        };
        let (tables, other) = match model.family() {
            Family::Igbvf => ([0x1700, 0x1704], 0x1740),
            Family::Ixgbevf => ([0x120, 0x124], 0x140),
        };
        let bystander = RawVf::open(&card, 1);
        let theirs: Vec<Event> = (0..3).map(|_| Event::new().expect("an eventfd")).collect();
        bystander
            .function
            .enable_vectors(&theirs)
            .expect("three vectors");
        let ours: Vec<Event> = (0..3).map(|_| Event::new().expect("an eventfd")).collect();
        // Two registered, the third not.
        vf.function.enable_vectors(&ours[..2]).expect("two vectors");
        for vector in (0..128u32).chain([0xff]) {
            let entry = 0x80 | vector;
            for table in tables {
                vf.write(table, entry * 0x0101_0101);
            }
            vf.write(other, entry);
            vf.write(clear, u32::MAX);
            vf.write(mask, u32::MAX);
            for _ in 0..200 {
                vf.write(cause, u32::MAX);
            }
            // What the mailbox causes goes to whatever it is routed to, or nowhere.
            vf.write(vf.control, 1 << 26);
            vf.write(vf.mailbox, 1);
            vf.sleep(Duration::from_millis(1));
        }
        assert_eq!(ours[2].take(), 0, "{model}");
        assert!(theirs.iter().all(|event| event.take() == 0), "{model}");
        assert!(ours[0].take() > 0, "{model}: the control");
        drop(bystander);
        others_work(&card);
    }
}

#[test]
fn g16_messages_of_every_kind_are_answered_and_leave_the_pf_sane() {
    const SUCCESS: u32 = 1 << 31;
    const FAILURE: u32 = 1 << 30;
    for model in Model::ALL {
        let known = match model.family() {
            Family::Igbvf => 0x02..=0x06,
            Family::Ixgbevf => 0x02..=0x12,
        };
        let (card, vf) = three(model);
        let before = card.pf().vf(1).expect("VF 1");
        // A reply's first word, if there was one: a PF may keep silent, and Linux's igb does for two seconds.
        let exchange = |words: &[u32]| {
            vf.read(vf.mailbox);
            vf.post(words);
            (vf.read(vf.mailbox) & 0x10 != 0).then(|| vf.take::<1>()[0])
        };
        for shaken in [false, true] {
            vf.write(vf.control, 1 << 26);
            vf.read(vf.mailbox);
            if shaken {
                vf.handshake();
            }
            for kind in 0..=0x1ffu32 {
                // The handshake itself is the one message that is always served.
                if kind == 1 {
                    continue;
                }
                for info in [0, 1, 30, 31, 0xff] {
                    for bits in [0, SUCCESS, FAILURE, 1 << 29, SUCCESS | FAILURE] {
                        for body in [0, 5000, 1 << 31, u32::MAX] {
                            let word = kind | info << 16 | bits;
                            let mut words = [body; 16];
                            words[0] = word;
                            let Some(reply) = exchange(&words) else {
                                continue;
                            };
                            let what = format!("{model} {word:#x} with {body:#x}: {reply:#x}");
                            // Set by the PF, unless the VF sent it.
                            let good = reply & SUCCESS != 0 && reply & FAILURE == 0;
                            if bits == 0 && (!shaken || !known.contains(&(kind & 0xffff))) {
                                assert!(!good && reply & FAILURE != 0, "{what}");
                            }
                            if bits == 0
                                && kind == 5
                                && model.family() == Family::Ixgbevf
                                && body != 5000
                            {
                                assert!(!good, "a frame size that cannot be: {what}");
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(card.pf().vf(1).expect("VF 1"), before, "{model}");
        // VLANs of VF 0 are 12 bits wide, whatever it asked for.
        vf.handshake();
        others_work(&card);
        card.assert_no_violations();
    }
}

#[test]
fn g18_another_vfs_administered_address_cannot_be_claimed() {
    for model in Model::ALL {
        let card = Card::builder(model).vfs(2).build().expect("a fine card");
        let pf = card.pf();
        let (ours, theirs) = ([2, 0, 0, 0, 1, 0], [2, 0, 0, 0, 1, 1]);
        pf.set_vf_mac(0, ours).expect("VF 0");
        pf.set_vf_mac(1, theirs).expect("VF 1");
        let vf = RawVf::open(&card, 0);
        vf.handshake();
        let [low, high] = mac_words(theirs);
        // As its own and as one more; igb's info 2 adds, ixgbe's message 6 does.
        for word in [0x0000_0002, 0x0002_0002, 0x0001_0006] {
            let [reply] = vf.ask::<1>(&[word, low, high]);
            assert_eq!(
                reply & 0xc000_0000,
                0x4000_0000,
                "{model} {word:#x}: {reply:#x}"
            );
        }
        assert_eq!(pf.vf(0).expect("VF 0").mac, ours, "{model}");
        assert_eq!(pf.vf(1).expect("VF 1").mac, theirs, "{model}");
        card.assert_no_violations();
    }
}

#[test]
fn g20_a_vf_disabled_reset_and_removed_in_the_middle_of_its_work() {
    for model in [Model::I82576, Model::X550] {
        let card = Card::builder(model)
            .vfs(3)
            .threaded()
            .build()
            .expect("a fine card");
        let stop = AtomicBool::new(false);
        let station = Station::new(&card, 0);
        let function = station.vf.function.clone();
        std::thread::scope(|scope| {
            // The driver: frames and messages without a pause.
            scope.spawn(|| {
                let mut station = station;
                let to = [2, 0, 0, 0, 0, 9];
                while !stop.load(Ordering::Relaxed) {
                    for number in 0..20 {
                        station.send(to, number);
                    }
                    station.vf.write(station.vf.mailbox, 4);
                    station.vf.write(station.vf.memory, 1);
                    station.vf.write(station.vf.mailbox, 1);
                    station.vf.write(0x3828, 1 << 25);
                    station.vf.write(0x2028, 1 << 25);
                }
            });
            // The kernel under it.
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = function.reset();
                    let _ = function.set_bus_master(true);
                    std::thread::yield_now();
                }
            });
            // The administrator above it.
            let pf = card.pf();
            let end = Instant::now() + Duration::from_millis(600);
            for round in 0u32.. {
                let _ = pf.set_vf_state(0, VfLink::Disable);
                let _ = pf.set_vf_state(0, VfLink::Auto);
                pf.remove_vf(0).expect("VF 0");
                std::thread::yield_now();
                pf.return_vf(0).expect("VF 0");
                if round % 16 == 0 {
                    pf.reset(Duration::from_micros(100));
                }
                if Instant::now() > end {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        drop(function);
        std::thread::sleep(Duration::from_millis(50));
        others_work(&card);
        // And the VF itself, opened anew.
        let vf = RawVf::open(&card, 0);
        vf.write(vf.control, 1 << 26);
        vf.ask_patiently::<1>(&[1]);
    }
}

#[test]
fn g21_configuration_space_takes_anything_anywhere() {
    for model in Model::ALL {
        let (card, vf) = one_vf(model);
        let ids = vf.function.ids();
        for size in [1usize, 2, 3, 4, 5, 7, 8, 16, 4096] {
            for offset in (0..4100u16).chain([u16::MAX - 7, u16::MAX]) {
                let inside = usize::from(offset) + size <= 4096;
                for pattern in [0u8, 0x5a, 0xff] {
                    let written = vf.function.write_config(offset, &vec![pattern; size]);
                    assert_eq!(written.is_ok(), inside, "{model} {offset:#x}+{size}");
                }
                let read = vf.function.read_config(offset, &mut vec![0; size]);
                assert_eq!(read.is_ok(), inside, "{model} {offset:#x}+{size}");
                if size == 4096 && offset > 8 {
                    break;
                }
            }
        }
        // It is who it was, has no BAR but its own, and works once its bus mastering is set right.
        let again = vf.function.ids();
        assert_eq!((again.vendor, again.device), (ids.vendor, ids.device));
        // Two BARs of 16 KiB, wherever somebody wants them, and nothing where there is none.
        for (bar, fixed) in [
            (0u16, Some(0xc)),
            (1, None),
            (2, Some(0)),
            (3, Some(0xc)),
            (4, None),
            (5, Some(0)),
        ] {
            let mut bytes = [0; 4];
            vf.function
                .read_config(0x10 + 4 * bar, &mut bytes)
                .expect("inside");
            let value = u32::from_le_bytes(bytes);
            match fixed {
                Some(0xc) => assert_eq!(value & 0x3fff, 0xc, "{model} BAR {bar}: {value:#x}"),
                Some(fixed) => assert_eq!(value, fixed, "{model} BAR {bar}: {value:#x}"),
                None => {}
            }
        }
        vf.function.reset().expect("a reset");
        vf.function.set_bus_master(true).expect("inside");
        vf.handshake();
        card.assert_no_violations();
    }
}

#[test]
fn g22_memory_that_changes_under_the_card() {
    for model in [Model::I350, Model::I82599, Model::X550] {
        let card = Card::builder(model)
            .vfs(3)
            .threaded()
            .build()
            .expect("a fine card");
        let mut station = Station::new(&card, 0);
        let regions = [
            station.tx_ring.clone(),
            station.tx_buffers.clone(),
            station.rx_ring.clone(),
        ];
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut word = 0x9e37_79b9_7f4a_7c15u64;
                while !stop.load(Ordering::Relaxed) {
                    for region in &regions {
                        for place in region.words() {
                            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                            // Every other word stays a descriptor that nearly makes sense.
                            if word >> 63 == 0 {
                                place.store(word, Ordering::Relaxed);
                            }
                        }
                    }
                }
            });
            let end = Instant::now() + Duration::from_millis(500);
            while Instant::now() < end {
                for number in 0..32 {
                    station.send([0xff; 6], number);
                }
                station.rx_bell.ring(station.tx_next);
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        others_work(&card);
    }
}

#[test]
fn g23_events_that_nobody_holds_or_takes_are_no_matter() {
    for (model, cause, mask, clear) in [
        (Model::I82576, 0x1520, 0x1524, 0x152c),
        (Model::X540, 0x104, 0x108, 0x110),
    ] {
        let (card, vf) = three(model);
        let events: Vec<Event> = (0..3).map(|_| Event::new().expect("an eventfd")).collect();
        vf.function.enable_vectors(&events).expect("three vectors");
        vf.write(clear, 7);
        let fire = || {
            let before = card.interrupts(0)[0];
            for _ in 0..100 {
                vf.write(mask, 1);
                vf.write(cause, 1);
                vf.sleep(Duration::from_millis(1));
            }
            card.interrupts(0)[0] - before
        };
        assert_eq!(fire(), 100, "{model}: the control");
        // One that holds as much as it can: writing to it would wait for a reader.
        events[0].take();
        rustix::io::write(&events[0], &(u64::MAX - 1).to_ne_bytes()).expect("room for all of it");
        let start = Instant::now();
        assert_eq!(fire(), 100, "{model}: counted all the same");
        // And one that is closed everywhere else.
        drop(events);
        assert_eq!(fire(), 100, "{model}: counted all the same");
        assert!(start.elapsed() < Duration::from_secs(5), "{model}");
        vf.function.disable_vectors().expect("always possible");
        others_work(&card);
    }
}
