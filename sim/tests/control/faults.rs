//! Planned faults at the control side's points.

use std::time::Duration;

use vfnic_hw::{Event, Model};
use vfnic_sim::{Action, Card, FaultPlan, Point, Rule};

use super::raw::{card_and_vf, one_vf};

#[test]
fn a_window_of_all_ones_ends() {
    let (card, vf) = one_vf(Model::X540);
    let window = Duration::from_millis(5);
    card.faults().add_for(
        window,
        Rule::new(Point::RegisterRead, Action::Force(u32::MAX)),
    );
    assert_eq!(vf.read(0x8), u32::MAX);
    vf.sleep(window);
    assert_ne!(vf.read(0x8), u32::MAX);
    assert_eq!(card.faults().struck(), [1]);
    card.assert_no_violations();
}

#[test]
fn what_is_late_for_ever_never_comes() {
    for model in [Model::X540, Model::I350] {
        for point in [
            Point::MailboxRequest,
            Point::MailboxReply,
            Point::Interrupt,
            Point::QueueEnable,
        ] {
            let (card, vf) = one_vf(model);
            vf.sleep(Duration::from_secs(1));
            let rule = Rule::new(point, Action::Delay(Duration::MAX));
            card.faults().add_for(Duration::MAX, rule);
            vf.write(vf.control, 1 << 26);
            vf.post(&[1]);
            let queue = if model == Model::X540 { 0x2000 } else { 0x2800 };
            vf.write(queue, 0x10_0000);
            vf.write(queue + 8, 1024);
            vf.write(queue + 0x28, 1 << 25);
            vf.sleep(Duration::from_secs(3600));
            let enabled = vf.read(queue + 0x28) == 1 << 25;
            assert_eq!(enabled, point != Point::QueueEnable, "{model} {point:?}");
            card.faults().clear();
            card.pf().reset(Duration::MAX);
            vf.sleep(Duration::from_secs(3600));
        }
    }
}

#[test]
fn rules_are_narrowed_by_vf_register_count_and_skip() {
    let rule = Rule::new(Point::RegisterRead, Action::Mask { and: !0x80, or: 1 })
        .on_vf(0)
        .only(0x8)
        .after(1)
        .times(2);
    let (card, vf) = card_and_vf(
        Card::builder(Model::X540)
            .vfs(2)
            .faults(FaultPlan::none().with(rule)),
    );
    let other = super::raw::RawVf::open(&card, 1);
    let plain = other.read(0x8);
    let seen: Vec<u32> = (0..4).map(|_| vf.read(0x8)).collect();
    let bent = (plain & !0x80) | 1;
    assert_eq!(seen, [plain, bent, bent, plain]);
    assert_eq!(other.read(0x8), plain);
    card.assert_no_violations();
}

#[test]
fn probability_is_drawn_from_the_seed() {
    let struck = |seed| {
        let rule = Rule::new(Point::RegisterRead, Action::Force(0)).with_ppm(250_000);
        let (card, vf) = card_and_vf(
            Card::builder(Model::X540)
                .seed(seed)
                .faults(FaultPlan::none().with(rule)),
        );
        let pattern: Vec<bool> = (0..400).map(|_| vf.read(0x8) == 0).collect();
        card.assert_no_violations();
        pattern
    };
    let first = struck(1);
    assert_eq!(first, struck(1), "the same seed gives the same run");
    assert_ne!(first, struck(2));
    let hits = first.iter().filter(|hit| **hit).count();
    assert!((60..140).contains(&hits), "{hits} of 400 at a quarter");
}

#[test]
fn enable_bits_stick_or_come_late() {
    let (card, vf) = one_vf(Model::X540);
    vf.write(0x2000, 0x10_0000);
    vf.write(0x2008, 1024);
    card.faults()
        .add(Rule::new(Point::QueueEnable, Action::Delay(Duration::from_millis(3))).only(8));
    vf.write(0x2028, 1 << 25);
    assert_eq!(vf.read(0x2028), 0);
    vf.sleep(Duration::from_micros(2999));
    assert_eq!(vf.read(0x2028), 0);
    vf.sleep(Duration::from_micros(1));
    assert_eq!(vf.read(0x2028), 1 << 25);
    card.faults().clear();
    card.faults()
        .add(Rule::new(Point::QueueDisable, Action::Drop).times(1));
    vf.write(0x2028, 0);
    assert_eq!(vf.read(0x2028), 1 << 25, "it sticks");
    vf.write(0x2028, 0);
    assert_eq!(vf.read(0x2028), 0);
    card.assert_no_violations();
}

#[test]
fn the_pf_can_be_silent_refuse_or_talk_nonsense() {
    let (card, vf) = one_vf(Model::X540);
    vf.handshake();
    let faults = card.faults();
    faults.add(
        Rule::new(Point::MailboxRequest, Action::Drop)
            .only(5)
            .times(1),
    );
    vf.post(&[5, 1518]);
    assert_eq!(vf.read(0x2fc), 0, "no PFACK");
    faults.add(
        Rule::new(Point::MailboxReply, Action::Drop)
            .only(5)
            .times(1),
    );
    vf.post(&[5, 1518]);
    assert_eq!(vf.read(0x2fc), 0x20, "PFACK and no reply");
    faults.add(
        Rule::new(Point::MailboxRequest, Action::Nack)
            .only(5)
            .times(1),
    );
    assert_eq!(vf.ask::<1>(&[5, 1518]), [0x6000_0005]);
    faults.add(
        Rule::new(Point::MailboxReply, Action::Force(0xa000_0002))
            .only(5)
            .times(1),
    );
    assert_eq!(
        vf.ask::<1>(&[5, 1518]),
        [0xa000_0002],
        "a reply of another type"
    );
    faults.add(
        Rule::new(
            Point::MailboxReply,
            Action::Word {
                index: 1,
                value: 255,
            },
        )
        .only(9),
    );
    vf.ask::<1>(&[8, 4, 0]);
    assert_eq!(vf.ask::<2>(&[9, 0, 0, 0, 0]), [0xa000_0009, 255]);
    faults.add(Rule::new(Point::MailboxReply, Action::Delay(Duration::from_millis(7))).only(8));
    vf.post(&[8, 4, 0]);
    assert_eq!(vf.read(0x2fc), 0x20);
    vf.sleep(Duration::from_millis(7));
    assert_eq!(vf.read(0x2fc), 0x10);
    assert_eq!(vf.take::<1>(), [0xa000_0008]);
    assert_eq!(
        vf.ask::<1>(&[5, 1518]),
        [0xa000_0005],
        "and all is well again"
    );
    card.assert_no_violations();
}

#[test]
fn the_mailbox_lock_can_be_withheld_and_an_acknowledgement_lost() {
    let (card, vf) = one_vf(Model::X540);
    card.faults()
        .add(Rule::new(Point::MailboxLock, Action::Drop).times(2));
    for _ in 0..2 {
        vf.write(0x2fc, 4);
        assert_eq!(vf.read(0x2fc), 0);
    }
    vf.handshake();
    card.pf().set_vf_trust(0, true).expect("VF 0");
    card.faults()
        .add(Rule::new(Point::MailboxAck, Action::Drop).times(1));
    vf.take::<1>();
    assert_eq!(vf.word0(), 0x100, "the PF did not see it");
    vf.take::<1>();
    assert_eq!(vf.word0(), 0x4000_0000);
    card.assert_no_violations();
}

#[test]
fn interrupts_can_be_lost_doubled_misdirected_and_made_up() {
    let (card, vf) = one_vf(Model::X540);
    let events: Vec<Event> = (0..3).map(|_| Event::new().expect("an eventfd")).collect();
    vf.function.enable_vectors(&events).expect("three vectors");
    vf.write(0x110, 7);
    vf.write(0x108, 7);
    let counts = || [events[0].take(), events[1].take(), events[2].take()];
    let faults = card.faults();
    faults.add(Rule::new(Point::Interrupt, Action::Drop).only(0).times(1));
    faults.add(
        Rule::new(Point::Interrupt, Action::Repeat(4))
            .only(1)
            .times(1),
    );
    faults.add(
        Rule::new(Point::Interrupt, Action::Divert(0))
            .only(2)
            .times(1),
    );
    vf.write(0x104, 1);
    assert_eq!(counts(), [0, 0, 0]);
    vf.write(0x104, 2);
    assert_eq!(counts(), [0, 5, 0]);
    vf.write(0x104, 4);
    assert_eq!(counts(), [1, 0, 0]);
    faults.spurious_interrupt(0, 2);
    assert_eq!(counts(), [0, 0, 1]);
    vf.write(0x104, 7);
    assert_eq!(counts(), [1, 1, 1]);
    assert_eq!(card.interrupts(0), [2, 6, 2]);
    card.assert_no_violations();
}

#[test]
fn writes_and_config_reads_can_be_bent() {
    let (card, vf) = one_vf(Model::X540);
    let faults = card.faults();
    faults.add(
        Rule::new(Point::RegisterWrite, Action::Drop)
            .only(0x300)
            .times(1),
    );
    vf.write(0x300, 1);
    assert_eq!(vf.read(0x300), 0);
    vf.write(0x300, 1);
    assert_eq!(vf.read(0x300), 1);
    faults.add(Rule::new(Point::ConfigRead, Action::Force(u32::MAX)).only(0));
    let mut id = [0; 4];
    vf.function.read_config(0, &mut id).expect("inside");
    assert_eq!(id, [0xff; 4]);
    faults.clear_bus_master(0);
    let mut command = [0; 2];
    vf.function.read_config(4, &mut command).expect("inside");
    assert_eq!(command, [0, 0]);
    card.assert_no_violations();
}

#[test]
fn a_port_reset_can_strike_at_any_access() {
    // The k-th write of a bring-up finds the port in reset; afterwards all works.
    for step in 0..12 {
        let time = Duration::from_millis(1);
        let rule = Rule::new(Point::RegisterWrite, Action::ResetPort(time))
            .after(step)
            .times(1);
        let (card, vf) = one_vf(Model::X540);
        card.faults().add(rule);
        vf.write(0, 1 << 26);
        for value in [4, 1] {
            vf.write(0x2fc, value);
        }
        for offset in [
            0x1000, 0x1008, 0x2000, 0x2008, 0x300, 0x108, 0x10c, 0x120, 0x140,
        ] {
            vf.write(offset, 128);
        }
        assert_eq!(card.faults().struck(), [1]);
        vf.sleep(Duration::from_millis(2));
        vf.read(0x2fc);
        assert_eq!(vf.handshake()[0], 0x4000_0001, "step {step}");
        let _ = card.take_violations();
    }
}

#[test]
fn a_vf_can_be_reset_or_removed_behind_its_drivers_back() {
    let (card, vf) = one_vf(Model::I82576);
    vf.write(0x1524, 7);
    card.faults().add(
        Rule::new(Point::RegisterRead, Action::ResetVf)
            .after(1)
            .times(1),
    );
    assert_eq!((vf.read(0x1524), vf.read(0x1524)), (7, 0));
    card.faults().clear();
    card.faults().add(
        Rule::new(Point::RegisterRead, Action::Remove)
            .after(1)
            .times(1),
    );
    assert_eq!((vf.read(0x1524), vf.read(0x1524)), (0, u32::MAX));
    assert_eq!(vf.read(0x8), u32::MAX);
    card.assert_no_violations();
}

#[test]
fn random_values_come_from_the_seed() {
    let read = |seed| {
        let rule = Rule::new(Point::RegisterRead, Action::Random);
        let (_card, vf) = card_and_vf(
            Card::builder(Model::X540)
                .seed(seed)
                .faults(FaultPlan::none().with(rule)),
        );
        [vf.read(0x8), vf.read(0x8), vf.read(0x8)]
    };
    assert_eq!(read(3), read(3));
    assert_ne!(read(3), read(4));
    let [a, b, c] = read(3);
    assert!(a != b && b != c);
}

#[test]
fn interrupts_can_be_late() {
    let (card, vf) = one_vf(Model::X540);
    let events: Vec<Event> = (0..3).map(|_| Event::new().expect("an eventfd")).collect();
    vf.function.enable_vectors(&events).expect("three vectors");
    vf.write(0x110, 7);
    vf.write(0x108, 7);
    let late = Duration::from_micros(30);
    card.faults()
        .add(Rule::new(Point::Interrupt, Action::Delay(late)).times(1));
    vf.write(0x104, 1);
    vf.sleep(late - Duration::from_nanos(1));
    assert_eq!(events[0].take(), 0);
    vf.sleep(Duration::from_nanos(1));
    assert_eq!(events[0].take(), 1);
    card.assert_no_violations();
}

#[test]
fn a_vf_can_be_forgotten_and_queues_can_shrink() {
    let (card, vf) = one_vf(Model::X540);
    vf.handshake();
    vf.ask::<1>(&[8, 4, 0]);
    card.pf().set_queues(2).expect("a pool can have 2");
    assert_eq!(vf.ask(&[9, 0, 0, 0, 0]), [0xa000_0009, 2, 2, 0, 0]);
    assert!(card.pf().set_queues(3).is_err());
    card.pf().forget_vf(0).expect("VF 0");
    assert_eq!(vf.ask::<1>(&[5, 1518]), [0x4000_0005]);
    card.assert_no_violations();
}
