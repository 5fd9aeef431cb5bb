//! Causes, masks, auto-clear, auto-mask, throttling, MSI-X (ixgbevf.md §12, igbvf.md §10).

use std::time::Duration;

use vfnic_hw::{Event, Model};
use vfnic_sim::Card;

use super::raw::{RawVf, one_vf};

/// EICR, EICS, EIMS, EIMC, EIAC, EIAM, first EITR, IVAR_MISC.
struct Regs {
    icr: u32,
    ics: u32,
    ims: u32,
    imc: u32,
    iac: u32,
    iam: u32,
    itr: u32,
    misc: u32,
}

const IXGBE: Regs = Regs {
    icr: 0x100,
    ics: 0x104,
    ims: 0x108,
    imc: 0x10c,
    iac: 0x110,
    iam: 0x114,
    itr: 0x820,
    misc: 0x140,
};

const IGB: Regs = Regs {
    icr: 0x1580,
    ics: 0x1520,
    ims: 0x1524,
    imc: 0x1528,
    iac: 0x152c,
    iam: 0x1530,
    itr: 0x1680,
    misc: 0x1740,
};

fn ready(model: Model) -> (Card, RawVf, Vec<Event>) {
    let (card, vf) = one_vf(model);
    let events: Vec<Event> = (0..3).map(|_| Event::new().expect("an eventfd")).collect();
    vf.function.enable_vectors(&events).expect("three vectors");
    (card, vf, events)
}

fn both(test: impl Fn(&Regs, &RawVf, &[Event])) {
    for (model, regs) in [(Model::X540, &IXGBE), (Model::I82576, &IGB)] {
        let (card, vf, events) = ready(model);
        test(regs, &vf, &events);
        card.assert_no_violations();
    }
}

#[test]
fn a_masked_cause_waits_and_fires_when_let_through() {
    both(|r, vf, events| {
        vf.write(r.ics, 2);
        assert_eq!(events[1].take(), 0);
        vf.write(r.ims, 2);
        assert_eq!(events[1].take(), 1);
        assert_eq!(vf.read(r.ims), 2);
        assert_eq!(vf.read(r.icr), 2, "no auto-clear: the cause stands");
        assert_eq!(vf.read(r.icr), 0, "reading took it");
        vf.write(r.ics, 2);
        assert_eq!(events[1].take(), 1);
        vf.write(r.ics, 2);
        assert_eq!(
            events[1].take(),
            0,
            "one message for each edge of the cause"
        );
        vf.write(r.icr, 2);
        vf.write(r.ics, 2);
        assert_eq!(events[1].take(), 1, "written 1 clears it, too");
        vf.write(r.imc, 0xffff_ffff);
        assert_eq!(vf.read(r.ims), 0);
    });
}

#[test]
fn auto_clear_and_auto_mask_act_when_the_message_goes_out() {
    both(|r, vf, events| {
        vf.write(r.iac, 1);
        vf.write(r.iam, 1);
        vf.write(r.ims, 7);
        vf.write(r.ics, 1);
        assert_eq!(events[0].take(), 1);
        assert_eq!(vf.read(r.ims), 6, "masked itself");
        assert_eq!(vf.read(r.icr), 0, "cleared itself: DPDK expects to read 0");
        vf.write(r.ims, 1);
        assert_eq!(events[0].take(), 0, "nothing came meanwhile");
    });
}

#[test]
fn writing_the_cause_unmasks_an_auto_masked_vector_on_igb_only() {
    both(|r, vf, events| {
        vf.write(r.iac, 7);
        vf.write(r.iam, 7);
        vf.write(r.ics, 4);
        let igb = r.icr == IGB.icr;
        assert_eq!(events[2].take(), u64::from(igb));
    });
}

#[test]
fn reading_the_set_register_shows_the_cause_on_ixgbe() {
    let (card, vf, _events) = ready(Model::I82599);
    vf.write(0x104, 5);
    assert_eq!(vf.read(0x104), 5);
    assert_eq!(vf.read(0x104), 5, "and keeps it");
    assert_eq!(vf.read(0x100), 5);
    card.assert_no_violations();
}

#[test]
fn throttling_spaces_messages_by_the_cards_clock() {
    both(|r, vf, events| {
        let igb = r.icr == IGB.icr;
        // 100 us on igb (value times 4), 51.2 us on ixgbe (0xc8).
        vf.write(r.itr + 4, if igb { 400 } else { 0x8000_00c8 });
        let interval = Duration::from_nanos(if igb { 100_000 } else { 51_200 });
        vf.write(r.iac, 7);
        vf.write(r.ims, 7);
        vf.write(r.ics, 2);
        assert_eq!(events[1].take(), 1, "the first goes at once");
        vf.write(r.ics, 2);
        vf.write(r.ics, 2);
        vf.sleep(interval - Duration::from_nanos(1));
        assert_eq!(events[1].take(), 0);
        vf.sleep(Duration::from_nanos(1));
        assert_eq!(events[1].take(), 1, "the others became one");
        vf.sleep(interval * 3);
        assert_eq!(events[1].take(), 0, "and no message without a cause");
        vf.write(r.ics, 1);
        vf.write(r.ics, 1);
        vf.sleep(Duration::from_nanos(1));
        vf.write(r.ics, 1);
        assert_eq!(
            events[0].take(),
            3,
            "another vector is not throttled by this one's interval"
        );
    });
}

#[test]
fn a_throttled_cause_that_is_masked_or_cleared_does_not_fire() {
    both(|r, vf, events| {
        vf.write(r.itr, 0x400);
        vf.write(r.iac, 7);
        vf.write(r.ims, 1);
        vf.write(r.ics, 1);
        vf.write(r.ics, 1);
        vf.write(r.imc, 1);
        vf.sleep(Duration::from_millis(2));
        assert_eq!(events[0].take(), 1);
        vf.write(r.ims, 1);
        assert_eq!(events[0].take(), 1, "the cause had stayed");
        vf.write(r.ics, 1);
        vf.write(r.icr, 1);
        vf.sleep(Duration::from_millis(2));
        assert_eq!(events[0].take(), 0);
    });
}

#[test]
fn the_mailbox_fires_on_acknowledgement_and_on_message() {
    both(|r, vf, events| {
        vf.write(r.misc, 0x82);
        vf.write(r.iac, 7);
        vf.write(r.ims, 4);
        vf.post(&[1]);
        assert_eq!(events[2].take(), 2, "PFACK and PFSTS");
        vf.write(r.misc, 0x02);
        vf.post(&[1]);
        assert_eq!(events[2].take(), 0, "not valid");
        vf.write(r.misc, 0x83);
        vf.post(&[1]);
        assert_eq!(vf.read(r.icr), 0, "there is no vector 3");
        vf.write(r.misc, 0x80);
        vf.post(&[1]);
        assert_eq!(
            (events[0].take(), vf.read(r.icr)),
            (0, 1),
            "masked: the cause alone"
        );
    });
}

#[test]
fn without_msix_or_bus_mastering_nothing_is_sent_and_nothing_is_lost() {
    both(|r, vf, events| {
        vf.write(r.iac, 7);
        vf.write(r.ims, 7);
        vf.function.set_bus_master(false).expect("a config write");
        vf.write(r.ics, 1);
        assert_eq!(events[0].take(), 0);
        vf.function.set_bus_master(true).expect("a config write");
        assert_eq!(events[0].take(), 1);
        vf.function.disable_vectors().expect("always possible");
        vf.write(r.ics, 1);
        assert_eq!(events[0].take(), 0);
        vf.function.enable_vectors(events).expect("three vectors");
        assert_eq!(events[0].take(), 1);
        assert!(
            vf.function
                .enable_vectors(&[events, events].concat())
                .is_err()
        );
    });
}

#[test]
fn fewer_events_than_vectors_leave_the_others_pending() {
    both(|r, vf, events| {
        vf.function
            .enable_vectors(&events[..1])
            .expect("one vector");
        vf.write(r.iac, 7);
        vf.write(r.ims, 7);
        vf.write(r.ics, 3);
        assert_eq!((events[0].take(), events[1].take()), (1, 0));
        let pba = if r.icr == IGB.icr { 0xf04 } else { 0x148 };
        assert_eq!(vf.read(pba), 2, "PBA");
        vf.write(pba, 2);
        assert_eq!(vf.read(pba), 0);
    });
}
