//! Resets of every kind: what goes, what stays, who is told (ixgbevf.md §5.2, igbvf.md §1.4, §7.6).

use std::time::Duration;

use vfnic_hw::{Event, Model};
use vfnic_sim::ViolationKind;

use super::raw::{RawVf, one_vf};

/// RX queue 0, TX queue 0: base registers of a family.
fn bases(model: Model) -> (u32, u32) {
    match model {
        Model::I82576 | Model::I350 => (0x2800, 0x3800),
        _ => (0x1000, 0x2000),
    }
}

fn enable_queues(vf: &RawVf, model: Model) {
    let (rx, tx) = bases(model);
    for base in [rx, tx] {
        vf.write(base, 0x10_0000);
        vf.write(base + 8, 1024);
        vf.write(base + 0x28, 1 << 25);
        assert_eq!(vf.read(base + 0x28) & 1 << 25, 1 << 25);
    }
}

#[test]
fn a_vf_reset_turns_queues_and_interrupts_off_and_keeps_the_rest() {
    for model in Model::ALL {
        let (card, vf) = one_vf(model);
        let (rx, tx) = bases(model);
        vf.handshake();
        enable_queues(&vf, model);
        vf.write(tx + 0x38, 0x1000_0001);
        vf.write(rx + 0x0c + if rx == 0x1000 { 8 } else { 0 }, 0x0200_0002);
        let (eims, ivar) = if rx == 0x1000 {
            (0x108, 0x120)
        } else {
            (0x1524, 0x1700)
        };
        vf.write(eims, 7);
        vf.write(ivar, 0x8081);
        vf.write(0, 1 << 26);
        assert_eq!(vf.read(rx + 0x28) & 1 << 25, 0, "{model}: RX is off");
        assert_eq!(vf.read(tx + 0x28) & 1 << 25, 0, "{model}: TX is off");
        assert_eq!((vf.read(eims), vf.read(ivar)), (0, 0), "{model}");
        assert_eq!(vf.read(rx), 0x10_0000, "{model}: the ring registers stay");
        assert_eq!(
            vf.read(tx + 0x38),
            0x1000_0001,
            "{model}: so does head write-back"
        );
        assert!(!card.pf().vf(0).expect("VF 0").clear_to_send || rx == 0x1000);
        let kinds: Vec<_> = card.take_violations().into_iter().map(|v| v.kind).collect();
        assert_eq!(
            kinds,
            [ViolationKind::ResetWithQueuesEnabled { queues: 2 }],
            "{model}"
        );
    }
}

#[test]
fn flr_takes_bus_mastering_and_msix_too() {
    for model in Model::ALL {
        let (card, vf) = one_vf(model);
        let (rx, tx) = bases(model);
        vf.handshake();
        enable_queues(&vf, model);
        vf.write(tx + 0x38, 0x1000_0001);
        vf.function.reset().expect("FLR");
        let mut command = [0; 2];
        vf.function.read_config(4, &mut command).expect("inside");
        assert_eq!(command, [0, 0], "{model}");
        assert_eq!(vf.read(rx + 0x28) & 1 << 25, 0, "{model}");
        assert_eq!(
            vf.read(tx + 0x38),
            0x1000_0001,
            "{model}: TDWBAL survives FLR"
        );
        card.assert_no_violations();
        let reply = vf.handshake();
        assert_eq!(reply[0], 0x4000_0001, "{model}");
        if rx == 0x1000 {
            assert_eq!(vf.read(tx + 0x38), 0, "ixgbe clears it at the handshake");
        }
        card.assert_no_violations();
    }
}

#[test]
fn opening_and_closing_reset_the_function() {
    let (card, vf) = one_vf(Model::X540);
    vf.handshake();
    assert!(card.pf().vf(0).expect("VF 0").clear_to_send);
    vf.ask::<1>(&[8, 4, 0]);
    assert_eq!(card.pf().vf(0).expect("VF 0").api, 4);
    enable_queues(&vf, Model::X540);
    assert!(card.function(0).is_err(), "somebody has it");
    drop(vf);
    assert_eq!(card.pf().vf(0).expect("VF 0").api, 0, "closing was a reset");
    let vf = RawVf::open(&card, 0);
    assert_eq!(vf.read(0x1028) & 1 << 25, 0);
    assert!(card.function(1).is_err(), "there is no VF 1");
    card.assert_no_violations();
}

#[test]
fn a_pf_reset_is_seen_as_rsti_then_rstd() {
    for model in Model::ALL {
        let (card, vf) = one_vf(model);
        let (rx, tx) = bases(model);
        vf.handshake();
        enable_queues(&vf, model);
        card.pf().reset(Duration::from_millis(100));
        assert_eq!(vf.word0(), 0x0000_0100, "{model}: the last ping had no CTS");
        assert_eq!(vf.read(vf.mailbox), 0x40, "{model}: RSTI alone");
        assert_eq!(vf.read(vf.mailbox), 0x40, "{model}: it is a level");
        assert_eq!(
            (vf.read(rx), vf.read(rx + 0x28) & 1 << 25),
            (0, 0),
            "{model}"
        );
        assert_eq!(vf.read(tx + 0x28) & 1 << 25, 0, "{model}");
        let linked = if rx == 0x1000 {
            vf.read(0x10) >> 30
        } else {
            vf.read(8) >> 1
        } & 1;
        assert_eq!(linked, 0, "{model}");
        vf.sleep(Duration::from_millis(99));
        assert_eq!(vf.read(vf.mailbox), 0x40, "{model}");
        vf.sleep(Duration::from_millis(2));
        assert_eq!(vf.read(vf.mailbox), 0x90, "{model}: RSTD, and a ping");
        assert_eq!(vf.read(vf.mailbox), 0, "{model}");
        assert_eq!(vf.handshake()[0], 0x4000_0001, "{model}");
        card.assert_no_violations();
    }
}

#[test]
fn a_pf_that_is_down_answers_nothing() {
    let (card, vf) = one_vf(Model::X540);
    vf.handshake();
    card.pf().down();
    assert_eq!(vf.read(0x2fc), 0x40);
    vf.sleep(Duration::from_secs(5));
    vf.write(0, 1 << 26);
    vf.post(&[1]);
    assert_eq!(vf.read(0x2fc), 0x40, "no PFACK");
    card.pf().up();
    let value = vf.read(0x2fc);
    assert_eq!(
        value & 0xb0,
        0xb0,
        "RSTD, and what was asked meanwhile is answered: {value:#x}"
    );
    assert_eq!(vf.handshake()[0], 0x4000_0001);
    assert_eq!(vf.read(0x10), 0x7000_0000, "the link is back");
    card.assert_no_violations();
}

#[test]
fn a_pf_reset_interrupts_through_the_mailbox_vector() {
    let (card, vf) = one_vf(Model::X540);
    let events: Vec<Event> = (0..3).map(|_| Event::new().expect("an eventfd")).collect();
    vf.function.enable_vectors(&events).expect("three vectors");
    vf.handshake();
    vf.write(0x140, 0x82);
    vf.write(0x110, 7);
    vf.write(0x108, 4);
    card.pf().reset(Duration::from_millis(10));
    assert!(events[2].take() > 0);
    assert_eq!(vf.read(0x108), 0, "the mask went with the reset");
    card.assert_no_violations();
}

#[test]
fn a_removed_vf_reads_all_ones_until_it_is_put_back() {
    for model in Model::ALL {
        let (card, vf) = one_vf(model);
        let (rx, _) = bases(model);
        vf.handshake();
        enable_queues(&vf, model);
        card.pf().request_vf(0).expect("VF 0");
        assert_eq!(vf.function.request_event().expect("there is one").take(), 1);
        card.pf().remove_vf(0).expect("VF 0");
        for offset in [0x0, 0x8, vf.mailbox, rx + 0x28] {
            vf.write(offset, 0);
            assert_eq!(vf.read(offset), u32::MAX, "{model} {offset:#x}");
        }
        vf.bar.doorbell(rx + 0x18).expect("RDT").ring(5);
        let mut id = [0; 4];
        vf.function
            .read_config(0, &mut id)
            .expect("reads are answered");
        assert_eq!(id, [0xff; 4]);
        assert!(vf.function.reset().is_err());
        drop(vf);
        assert!(card.function(0).is_err());
        card.pf().return_vf(0).expect("VF 0");
        let vf = RawVf::open(&card, 0);
        assert_eq!(vf.read(rx), 0, "{model}: as new");
        assert_eq!(vf.handshake()[0], 0x4000_0001);
        card.assert_no_violations();
    }
}
